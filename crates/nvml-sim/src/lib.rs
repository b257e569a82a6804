//! A simulated `libnvidia-ml.so.1`, driven by a scenario file.

pub mod control;
pub mod engine;
pub mod environment;
#[cfg(feature = "exports")]
mod exports;
pub mod host;
pub mod identity;
pub mod library;
pub mod model;
pub mod node;
pub mod scenario;
mod state;

pub use state::StateError;
pub use state::load::Program;
