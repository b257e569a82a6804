//! A safe session with the NVIDIA driver through its management library, NVML.
//!
//! [`NvmlLoader`] finds `libnvidia-ml.so.1` and opens an [`NvmlDriver`], which implements
//! [`mizzen_core::driver::GpuDriver`]: coarse questions, plain-data answers, each bounded in
//! time, a broken GPU never in the way of the others. [`HostRoot`] is where the host's `/sys`
//! and `/proc` are read.

mod device;
mod driver;
mod events;
mod host;
mod identity;
mod library;
mod links;
mod loader;
mod mig;
mod residency;
mod session;
mod watched;

pub use driver::NvmlDriver;
pub use host::{DriverGpu, HostRoot};
pub use loader::ldcache::paths_of as ldcache_paths;
pub use loader::{LIBRARY_DIRECTORIES, NvmlLoader, NvmlLoaderBuilder};
pub use residency::release_start_code;
