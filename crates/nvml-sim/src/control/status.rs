//! What the simulated node looks like now.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::change::{is_persistent, rounded, used_mib};
use super::{ControlError, MigStatus, RecoveryAction, Simulator};
use crate::identity::{PciAddress, Uuid};
use crate::node::DeviceNodes;
use crate::state::{SlotGpu, Source};

/// A GPU that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Affected {
    /// NVML's index for a process that starts now.
    pub index: u32,
    /// UUID.
    pub uuid: Uuid,
    /// Place on the PCI bus.
    pub pci: PciAddress,
    /// Product name.
    pub name: String,
}

/// The node now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Directory of the live state.
    pub state: PathBuf,
    /// Scenario file that is followed, if any.
    pub scenario: Option<PathBuf>,
    /// Changes whenever a GPU comes or goes, or the scenario changes.
    pub generation: u64,
    /// Driver version.
    pub driver_version: String,
    /// CUDA version, `13.0`.
    pub cuda_version: String,
    /// Name of the node.
    pub hostname: String,
    /// Whether device nodes matter.
    pub device_nodes: DeviceNodes,
    /// The GPUs by index.
    pub gpus: Vec<GpuStatus>,
}

/// One GPU now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GpuStatus {
    /// NVML's index for a process that starts now.
    pub index: u32,
    /// UUID.
    pub uuid: Uuid,
    /// Place on the PCI bus.
    pub pci: PciAddress,
    /// The `<minor>` of `/dev/nvidia<minor>`.
    pub minor: u32,
    /// Key of the model.
    pub model: &'static str,
    /// Product name.
    pub name: String,
    /// NUMA node.
    pub numa: u32,
    /// Total framebuffer, MiB.
    pub memory_mib: u64,
    /// Used framebuffer, MiB.
    pub memory_used_mib: u64,
    /// GPU utilisation, %.
    pub utilization: u64,
    /// °C.
    pub temperature: u64,
    /// W.
    pub power: f64,
    /// Power limit, W.
    pub power_limit: u32,
    /// Whether it has fallen off the bus.
    pub lost: bool,
    /// Whether calls that touch it block.
    pub hung: bool,
    /// What the driver asks for.
    pub recovery_action: RecoveryAction,
    /// The last Xid since it was healed.
    pub last_xid: Option<u64>,
    /// `nvmlClocksEventReason*` bits.
    pub throttle_reasons: u64,
    /// Return code that waiting for its events answers with.
    pub wait_error: Option<u32>,
    /// Return code that registering for its events answers with.
    pub register_error: Option<u32>,
    /// Whether the driver stays loaded without clients.
    pub persistence: bool,
    /// Memory errors.
    pub ecc: EccCounts,
    /// Memory that was taken out of service.
    pub repairs: MemoryRepairs,
    /// Errors of its links since the last reset, PCIe replays among them.
    pub link_errors: u64,
    /// How it is partitioned; none if it cannot be.
    pub mig: Option<MigStatus>,
    /// Processes.
    pub processes: Vec<ProcessStatus>,
}

impl GpuStatus {
    /// Whether nothing is wrong with it.
    pub fn is_healthy(&self) -> bool {
        !self.lost
            && !self.hung
            && self.recovery_action == RecoveryAction::None
            && self.last_xid.is_none()
            && self.ecc.volatile_uncorrected == 0
            && !self.repairs.pending
            && !self.repairs.failed
    }
}

/// Memory errors: since the last reset, and for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EccCounts {
    /// Corrected since the last reset.
    pub volatile_corrected: u64,
    /// Not correctable, since the last reset.
    pub volatile_uncorrected: u64,
    /// Corrected, for ever.
    pub aggregate_corrected: u64,
    /// Not correctable, for ever.
    pub aggregate_uncorrected: u64,
}

/// Memory that was taken out of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryRepairs {
    /// Pages retired, or rows remapped, for corrected errors.
    pub corrected: u64,
    /// Pages retired, or rows remapped, for errors that could not be corrected.
    pub uncorrected: u64,
    /// Whether a reset is needed for it to take effect.
    pub pending: bool,
    /// Whether no spare row was left.
    pub failed: bool,
}

/// A process on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessStatus {
    /// Process id on the host.
    pub pid: u32,
    /// Framebuffer that it uses, MiB.
    pub memory_mib: u64,
    /// SM utilisation, %.
    pub utilization: u16,
    /// Whether it draws rather than computes.
    pub graphics: bool,
    /// The GPU instance and compute instance that it is on; none = the whole GPU.
    pub instance: Option<(u32, u32)>,
}

impl Simulator {
    /// What the node looks like now.
    ///
    /// # Errors
    /// The state cannot be repaired after a writer was killed.
    pub fn status(&self) -> Result<Status, ControlError> {
        let facts = self.store.facts()?;
        let gpus = facts.gpus.iter().zip(0..);
        Ok(Status {
            state: self.store.directory().to_owned(),
            scenario: match self.store.source() {
                Source::File => self.place.scenario.clone(),
                Source::Default | Source::Given => None,
            },
            generation: facts.generation,
            driver_version: facts.driver_version.clone(),
            cuda_version: format!("{}.{}", facts.cuda_version.0, facts.cuda_version.1),
            hostname: facts.hostname.clone(),
            device_nodes: facts.device_nodes,
            gpus: gpus
                .map(|(entry, index)| self.gpu_status(index, entry, &facts.driver_version))
                .collect(),
        })
    }

    fn gpu_status(&self, index: u32, entry: &SlotGpu, driver_version: &str) -> GpuStatus {
        let (slot, gpu) = (self.store.slot(entry.slot), &entry.gpu);
        let sample = slot.load().sample(gpu);
        let (wait_error, register_error) = slot.event_errors();
        let code = |code: u32| Some(code).filter(|code| *code != 0);
        GpuStatus {
            index,
            uuid: gpu.uuid,
            pci: gpu.pci,
            minor: gpu.minor,
            model: gpu.model.key,
            name: gpu.name.clone(),
            numa: gpu.numa,
            memory_mib: gpu.memory_mib,
            memory_used_mib: used_mib(slot, entry),
            utilization: rounded(sample.utilization),
            temperature: rounded(sample.temperature),
            power: sample.power,
            power_limit: gpu.power_limit,
            lost: slot.is_lost(),
            hung: slot.is_hung(),
            recovery_action: RecoveryAction::from_code(slot.recovery_action()),
            last_xid: Some(slot.last_xid()).filter(|xid| *xid != 0),
            throttle_reasons: slot.throttle(),
            wait_error: code(wait_error),
            register_error: code(register_error),
            persistence: is_persistent(slot),
            ecc: EccCounts {
                volatile_corrected: slot.ecc.volatile_corrected.load(Relaxed),
                volatile_uncorrected: slot.ecc.volatile_uncorrected.load(Relaxed),
                aggregate_corrected: slot.ecc.aggregate_corrected.load(Relaxed),
                aggregate_uncorrected: slot.ecc.aggregate_uncorrected.load(Relaxed),
            },
            repairs: self.repairs(entry),
            link_errors: slot.link_errors(),
            mig: self.mig_status(entry, driver_version),
            processes: slot
                .processes()
                .iter()
                .map(|process| ProcessStatus {
                    pid: process.pid,
                    memory_mib: process.memory >> 20,
                    utilization: process.utilization[0],
                    graphics: process.graphics,
                    instance: process
                        .instance
                        .map(|(gpu, compute)| (gpu.into(), compute.into())),
                })
                .collect(),
        }
    }

    fn repairs(&self, entry: &SlotGpu) -> MemoryRepairs {
        let pages = &self.store.slot(entry.slot).pages;
        let sum = |retired: &std::sync::atomic::AtomicU64,
                   remapped: &std::sync::atomic::AtomicU64| {
            retired.load(Relaxed) + remapped.load(Relaxed)
        };
        MemoryRepairs {
            corrected: sum(&pages.retired_single, &pages.remapped_corrected),
            uncorrected: sum(&pages.retired_double, &pages.remapped_uncorrected),
            pending: pages.pending.load(Relaxed) == 1,
            failed: pages.failed.load(Relaxed) == 1,
        }
    }
}
