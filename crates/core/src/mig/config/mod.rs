//! Configs: names for what all GPUs of a node are to be cut into.

mod builtin;
mod file;
mod targets;
#[cfg(test)]
mod tests;

pub use builtin::builtin_names;
pub use file::MigConfigFile;
pub use targets::{MigConfigError, MigGpu, MigTargets, targets};
