//! The page of metrics, as Prometheus reads it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what builds the nodes of the tests may fail as a test does"
)]

mod attribution;
mod docs;
mod exporter;
mod format;
mod goldens;
mod nodes;
mod properties;
