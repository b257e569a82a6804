//! `--query-gpu`: what can be asked of a GPU.

mod table;
mod value;

pub(crate) use table::COLUMNS;
