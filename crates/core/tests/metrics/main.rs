//! The page of metrics, as Prometheus reads it.

mod format;
mod goldens;
mod nodes;
