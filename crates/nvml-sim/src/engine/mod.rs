//! What NVML answers, in safe Rust: sessions, devices and event sets on the live state. The C
//! functions of the shared library are a thin shell around this.

mod clocks;
mod device;
mod events;
mod failure;
mod fields;
mod gpm;
mod memory;
mod mig;
mod nvlink;
mod processes;
mod session;
mod settings;
mod topology;

pub use clocks::ClockDomain;
pub use device::Device;
pub use events::{DeviceEvent, EventSet};
pub use failure::Failure;
pub use fields::{FieldValue, Reading};
pub use gpm::GpmSample;
#[cfg(feature = "exports")]
pub(crate) use gpm::METRICS;
pub use memory::{EccLocation, Framebuffer, RemappedRows};
pub(crate) use mig::mig_devices;
pub use mig::{Activation, MigDevice};
pub use nvlink::{LinkEnd, NvLink};
pub use processes::GpuProcess;
pub use session::{Session, SessionError};
pub use topology::AffinityScope;

#[cfg(test)]
mod tests;
