//! One GPU that answers.

use super::{Failure, Session};
use crate::control::rounded;
use crate::identity::{PciAddress, Uuid};
use crate::model::GpuModel;
use crate::node::Gpu;
use crate::state::load::Sample;
use crate::state::{Slot, SlotGpu};

/// One GPU that answered when it was asked for.
#[derive(Clone, Copy)]
pub struct Device<'a> {
    pub(super) session: &'a Session,
    pub(super) index: usize,
    pub(super) entry: &'a SlotGpu,
    pub(super) slot: &'a Slot,
}

impl std::fmt::Debug for Device<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Device").field(&self.entry.gpu.uuid).finish()
    }
}

impl Device<'_> {
    /// NVML's index in this session.
    pub fn index(&self) -> usize {
        self.index
    }

    pub(super) fn gpu(&self) -> &Gpu {
        &self.entry.gpu
    }

    /// The product.
    pub fn model(&self) -> &'static GpuModel {
        self.entry.gpu.model
    }

    /// Product name.
    pub fn name(&self) -> &str {
        &self.gpu().name
    }

    /// UUID.
    pub fn uuid(&self) -> Uuid {
        self.gpu().uuid
    }

    /// Board serial number.
    pub fn serial(&self) -> &str {
        &self.gpu().serial
    }

    /// The `<minor>` of `/dev/nvidia<minor>`.
    pub fn minor(&self) -> u32 {
        self.gpu().minor
    }

    /// Place on the PCI bus.
    pub fn pci(&self) -> PciAddress {
        self.gpu().pci
    }

    /// PCI device and vendor as one number, the device in the upper half.
    pub fn pci_device_id(&self) -> u32 {
        u32::from(self.gpu().device_id) << 16 | NVIDIA
    }

    /// PCI subsystem device and vendor as one number, the device in the upper half.
    pub fn pci_subsystem_id(&self) -> u32 {
        u32::from(self.gpu().subsystem_id) << 16 | NVIDIA
    }

    /// PCI base class and subclass.
    pub fn pci_class(&self) -> (u32, u32) {
        (3, if self.model().graphics { 0 } else { 2 })
    }

    /// CUDA compute capability.
    pub fn compute_capability(&self) -> (u32, u32) {
        self.gpu().compute_capability
    }

    /// Position on its baseboard.
    pub fn module_id(&self) -> u32 {
        self.gpu().module_id
    }

    /// NVML's board id: the bus and device number.
    pub fn board_id(&self) -> u32 {
        let pci = self.pci();
        pci.domain << 16 | u32::from(pci.bus) << 8 | u32::from(pci.device)
    }

    /// The NUMA node that the board hangs on.
    pub fn numa_node(&self) -> u32 {
        self.gpu().numa
    }

    /// Whether memory errors are detected; so on every data-centre GPU.
    pub fn has_ecc(&self) -> bool {
        true
    }

    /// What it does now.
    pub(crate) fn sample(&self) -> Sample {
        self.slot.load().sample(self.gpu())
    }

    /// Utilisation of the SMs and of the memory, %.
    pub fn utilization(&self) -> (u32, u32) {
        let sample = self.sample();
        (
            narrow(sample.utilization),
            narrow(sample.memory_utilization),
        )
    }

    /// Utilisation of the encoder and of the decoder, %.
    pub fn codec_utilization(&self) -> (u32, u32) {
        let sample = self.sample();
        (narrow(sample.encoder), narrow(sample.decoder))
    }

    /// Temperature of the GPU, °C.
    pub fn temperature(&self) -> u32 {
        narrow(self.sample().temperature)
    }

    /// Temperature of the memory, °C.
    ///
    /// # Errors
    /// The memory has no sensor of its own.
    pub fn memory_temperature(&self) -> Result<u32, Failure> {
        self.model()
            .thermal
            .max_memory
            .ok_or(Failure::NotSupported)?;
        Ok(narrow(self.sample().temperature + 8.0))
    }

    /// Power draw, mW.
    pub fn power(&self) -> u32 {
        narrow(self.sample().power * 1000.0)
    }

    /// Energy used since the GPU came, mJ.
    pub fn energy(&self) -> u64 {
        rounded(self.slot.load().energy_now(self.gpu()))
    }

    /// The action that the driver asks for, `nvmlDeviceGpuRecoveryAction_t`.
    pub fn recovery_action(&self) -> u32 {
        self.slot.recovery_action()
    }

    /// Nanoseconds for which power and heat have held the clocks down.
    pub fn throttled(&self) -> [u64; 2] {
        self.slot.throttled()
    }
}

const NVIDIA: u32 = 0x10de;

pub(super) fn narrow(value: f64) -> u32 {
    u32::try_from(rounded(value)).unwrap_or(u32::MAX)
}
