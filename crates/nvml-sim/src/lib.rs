//! A simulated `libnvidia-ml.so.1`, driven by a scenario file.
//!
//! A [`scenario`] describes a machine with GPUs; planning it gives a [`node`]. The node's live
//! state is a mapped file that every process shares. [`control`] changes it; [`engine`] answers
//! from it what NVML answers; [`host`] writes the files that a driver brings with it. The C
//! functions of nvml.h are a thin shell around the engine that only the shared library has
//! (feature `exports`), and [`library`] carries that library inside Rust programs (feature
//! `embedded`).
//!
//! ```
//! use mizzen_nvml_sim::control::{Fault, GpuRef, Simulator};
//! use mizzen_nvml_sim::scenario::Scenario;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let simulator = Simulator::create(directory.path(), &Scenario::short("8xh100-80gb")?)?;
//! simulator.inject(&GpuRef::Index(2).into(), &Fault::xid(79), None)?;
//! assert!(simulator.status()?.gpus[2].lost);
//! # Ok(())
//! # }
//! ```

pub mod control;
pub mod engine;
pub mod environment;
#[cfg(feature = "exports")]
mod exports;
pub mod host;
pub mod identity;
pub mod library;
pub mod mig;
pub mod model;
pub mod node;
pub mod scenario;
mod state;

pub use state::StateError;
pub use state::load::Program;
