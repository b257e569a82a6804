//! What a GPU is measured by.
//!
//! Names, types and help are those of dcgm-exporter, so that dashboards and alert rules written
//! for it go on working.

mod field;

pub use field::{Field, FieldKind, Fields, TextField, UnknownField};
