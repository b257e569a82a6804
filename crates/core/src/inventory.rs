//! The one picture of a node's GPUs that everything else is a function of.

use serde::{Deserialize, Serialize};

use crate::driver::DriverError;
use crate::gpu::{Gpu, GpuUuid, PciBusId};
use crate::topology::LinkMatrix;

/// A node's driver and GPUs at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// Versions of the driver that answered.
    pub driver: DriverVersions,
    /// The GPUs that could be described, by ascending index.
    pub gpus: Vec<Gpu>,
    /// The GPUs that are there but could not be described, by ascending index.
    pub broken: Vec<BrokenGpu>,
    /// Links between [`gpus`](Self::gpus), by position.
    pub links: LinkMatrix,
}

/// The versions NVML reports of itself and the driver.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DriverVersions {
    /// The kernel driver's version, for example `550.54.15`.
    pub driver: String,
    /// The NVML library's own version, for example `12.550.54.15`.
    pub nvml: String,
    /// The newest CUDA the driver supports, major and minor.
    pub cuda: (u32, u32),
}

/// A GPU that NVML counts but cannot describe; whatever is known of it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenGpu {
    /// NVML's index.
    pub index: u32,
    /// Its UUID, where NVML still told it.
    pub uuid: Option<GpuUuid>,
    /// Its place on the bus, where known.
    pub pci: Option<PciBusId>,
    /// What NVML answered.
    pub error: DriverError,
}
