//! A safe session with the NVIDIA driver through its management library, NVML.
//!
//! [`NvmlLoader`] finds `libnvidia-ml.so.1` and opens an [`NvmlDriver`], which implements
//! [`mizzen_core::driver::GpuDriver`]: coarse questions, plain-data answers, each bounded in
//! time, a broken GPU never in the way of the others. [`HostRoot`] is where the host's `/sys`
//! and `/proc` are read.
//!
//! [`direct`] is NVML call by call, for small programs; it is all there is without the feature
//! `session`.

#[cfg(feature = "session")]
mod device;
pub mod direct;
#[cfg(feature = "session")]
mod driver;
#[cfg(feature = "session")]
mod events;
#[cfg(feature = "session")]
mod host;
#[cfg(feature = "session")]
mod identity;
#[cfg(feature = "session")]
mod library;
#[cfg(feature = "session")]
mod links;
#[cfg(feature = "session")]
mod loader;
#[cfg(feature = "session")]
mod mig;
#[cfg(feature = "session")]
mod residency;
#[cfg(feature = "session")]
mod sample;
#[cfg(feature = "session")]
mod session;
#[cfg(feature = "session")]
mod watched;

#[cfg(feature = "session")]
pub use driver::NvmlDriver;
#[cfg(feature = "session")]
pub use host::{DriverGpu, HostRoot};
#[cfg(feature = "session")]
pub use loader::{LIBRARY_DIRECTORIES, NvmlLoader, NvmlLoaderBuilder};
#[cfg(feature = "session")]
pub use residency::{keep_one_heap, release_start_code};
