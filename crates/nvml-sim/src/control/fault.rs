//! Faults, and what follows from them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Affected, ControlError, Gpus, Simulator, affected};
use crate::node::NvLinkError;
use crate::state::{Event, EventKind, SlotGpu, Writer, clock, events::NO_INSTANCE};

/// Something that goes wrong with a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// An Xid: the event, and what a real GPU suffers with it.
    Xid {
        /// Number in NVIDIA's catalogue.
        xid: u64,
        /// GPU instance that it concerns; none = the whole GPU.
        gpu_instance: Option<u32>,
        /// Compute instance that it concerns, in that GPU instance; none = all of it.
        compute_instance: Option<u32>,
        /// Whether the GPU suffers what the Xid says (79: it is lost; 48: a double-bit error is
        /// counted and a reset is asked for; …), or the event comes alone.
        consequences: bool,
    },
    /// Memory errors.
    Ecc {
        /// Corrected or not.
        kind: EccKind,
        /// How many.
        count: u64,
    },
    /// Falls off the bus: every call answers `NVML_ERROR_GPU_IS_LOST`.
    Lost,
    /// Hangs: every call that touches it blocks.
    Hang,
    /// Clocks are held down.
    Throttle(ThrottleReason),
    /// The driver asks for something to be done.
    RecoveryAction(RecoveryAction),
    /// Registering for its events, or waiting for them, fails with an NVML return code.
    Events {
        /// Which call fails.
        call: EventCall,
        /// With what, `nvmlReturn_t`.
        code: u32,
    },
    /// Errors of links, which are counted and corrected.
    Link {
        /// Of which kind.
        error: LinkError,
        /// How many.
        count: u64,
    },
    /// A faulty row of memory, as `nvmlDeviceGetRemappedRows` tells it. The state alone: what the
    /// driver asks for comes with Xid 63 and 64.
    RowRemap(RowRemap),
}

impl Fault {
    /// An Xid of the whole GPU, with its consequences.
    pub fn xid(xid: u64) -> Self {
        Self::Xid {
            xid,
            gpu_instance: None,
            compute_instance: None,
            consequences: true,
        }
    }
}

/// Kinds of memory errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EccKind {
    /// Corrected.
    Single,
    /// Not correctable: data is lost.
    Double,
}

/// Errors of links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkError {
    /// A PCIe packet was sent again.
    PcieReplay,
    /// An error of NVLinks.
    NvLink(NvLinkError),
}

/// What becomes of a faulty row of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowRemap {
    /// It is replaced by a spare one at the next reset.
    Pending,
    /// No spare one was left.
    Failure,
}

/// Calls about events that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventCall {
    /// `nvmlDeviceRegisterEvents` for the GPU.
    Register,
    /// `nvmlEventSetWait` for every set that the GPU is in.
    Wait,
}

/// Why clocks are held down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThrottleReason {
    /// Heat: software and hardware thermal slowdown.
    Thermal,
    /// The power limit is reached.
    Power,
    /// Hardware slowdown.
    HwSlowdown,
    /// The power supply's brake.
    PowerBrake,
    /// GPUs that boost together wait for the slowest.
    SyncBoost,
}

impl ThrottleReason {
    /// The bits of `nvmlClocksEventReason*`.
    pub fn bits(self) -> u64 {
        match self {
            Self::Thermal => 0x20 | 0x40 | 0x8,
            Self::Power => 0x4,
            Self::HwSlowdown => 0x8,
            Self::PowerBrake => 0x80 | 0x8,
            Self::SyncBoost => 0x10,
        }
    }
}

/// What the driver asks for, numbered as `nvmlDeviceGpuRecoveryAction_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u32)]
pub enum RecoveryAction {
    /// Nothing.
    None = 0,
    /// Reset the GPU.
    GpuReset = 1,
    /// Reboot the node.
    NodeReboot = 2,
    /// Let peer-to-peer work end.
    DrainP2p = 3,
    /// Let work end, then reset the GPU.
    DrainAndReset = 4,
    /// Recover the IMEX domain.
    RecoverImexDomain = 5,
}

impl RecoveryAction {
    pub(super) fn from_code(code: u32) -> Self {
        match code {
            0 => Self::None,
            2 => Self::NodeReboot,
            3 => Self::DrainP2p,
            4 => Self::DrainAndReset,
            5 => Self::RecoverImexDomain,
            _ => Self::GpuReset,
        }
    }
}

impl Simulator {
    /// Lets something go wrong with GPUs. `lasting` ends a lost, hanging or throttled GPU's fault
    /// by itself; other faults last until they are healed.
    ///
    /// # Errors
    /// A GPU or an instance does not exist, or a GPU cannot have the fault, or the state cannot be
    /// written.
    pub fn inject(
        &self,
        gpus: &Gpus,
        fault: &Fault,
        lasting: Option<Duration>,
    ) -> Result<Vec<Affected>, ControlError> {
        let writer = self.store.write()?;
        let facts = writer.facts();
        let chosen = gpus.choose(&facts.gpus)?;
        if matches!(fault, Fault::RowRemap(_))
            && let Some((index, entry)) = chosen.iter().find(|(_, entry)| !remaps_rows(entry))
        {
            return Err(ControlError::NoRowRemapping {
                index: *index,
                name: entry.gpu.name.clone(),
            });
        }
        if matches!(
            fault,
            Fault::Link {
                error: LinkError::NvLink(_),
                ..
            }
        ) && let Some((index, entry)) = chosen.iter().find(|(_, entry)| !has_nvlinks(entry))
        {
            return Err(ControlError::NoNvLinks {
                index: *index,
                name: entry.gpu.name.clone(),
            });
        }
        if let Fault::Xid {
            gpu_instance: Some(instance),
            compute_instance,
            ..
        } = *fault
        {
            for (index, entry) in &chosen {
                self.check_instance(*index, entry, instance, compute_instance)?;
            }
        }
        let until = clock::deadline(lasting);
        for (_, entry) in &chosen {
            strike(&writer, entry, fault, until);
        }
        Ok(chosen
            .iter()
            .map(|(index, entry)| affected(*index, entry))
            .collect())
    }

    /// Ends every fault of GPUs, as a reset does: volatile counters are zero again, aggregate
    /// ones stay, blocked calls go on.
    ///
    /// # Errors
    /// A GPU does not exist, or the state cannot be written.
    pub fn heal(&self, gpus: &Gpus) -> Result<Vec<Affected>, ControlError> {
        let writer = self.store.write()?;
        let facts = writer.facts();
        let chosen = gpus.choose(&facts.gpus)?;
        for (_, entry) in &chosen {
            let had_action = writer.slot(entry.slot).recovery_action() != 0;
            writer.repartition(entry, |writer| writer.heal_slot(entry.slot));
            if had_action {
                publish(&writer, entry, EventKind::RecoveryAction, 0);
            }
        }
        Ok(chosen
            .iter()
            .map(|(index, entry)| affected(*index, entry))
            .collect())
    }
}

fn remaps_rows(entry: &SlotGpu) -> bool {
    entry.gpu.model.remaps_rows()
}

fn has_nvlinks(entry: &SlotGpu) -> bool {
    !entry.gpu.links.is_empty()
}

fn publish(writer: &Writer<'_>, entry: &SlotGpu, kind: EventKind, data: u64) {
    let slot = u32::try_from(entry.slot).unwrap_or(u32::MAX);
    writer.publish(Event::of_gpu(slot, entry.incarnation, kind, data));
}

fn strike(writer: &Writer<'_>, entry: &SlotGpu, fault: &Fault, until: u64) {
    let slot = entry.slot;
    match *fault {
        Fault::Xid {
            xid,
            gpu_instance,
            compute_instance,
            consequences,
        } => {
            let slot_number = u32::try_from(slot).unwrap_or(u32::MAX);
            writer.set_last_xid(slot, xid);
            if consequences {
                suffer_before(writer, entry, xid);
            }
            writer.publish(Event {
                gpu_instance: gpu_instance.unwrap_or(NO_INSTANCE),
                compute_instance: compute_instance.unwrap_or(NO_INSTANCE),
                ..Event::of_gpu(slot_number, entry.incarnation, EventKind::Xid, xid)
            });
            if consequences && xid == 79 {
                writer.lose(slot, until);
            }
        }
        Fault::Ecc { kind, count } => ecc(writer, entry, kind, count),
        Fault::Lost => {
            publish(writer, entry, EventKind::Unavailable, 0);
            writer.lose(slot, until);
        }
        Fault::Hang => writer.hang(slot, until),
        Fault::Throttle(reason) => {
            writer.set_throttle(slot, reason.bits(), until);
            publish(writer, entry, EventKind::Clock, 0);
        }
        Fault::RecoveryAction(action) => ask_for(writer, entry, action),
        Fault::Events { call, code } => {
            let (wait, register) = writer.slot(slot).event_errors();
            match call {
                EventCall::Wait => writer.fail_events(slot, code, register),
                EventCall::Register => writer.fail_events(slot, wait, code),
            }
        }
        Fault::Link {
            error: LinkError::PcieReplay,
            count,
        } => writer.count_pcie_replays(slot, count),
        Fault::Link {
            error: LinkError::NvLink(error),
            count,
        } => writer.count_nvlink_errors(slot, error, count),
        Fault::RowRemap(RowRemap::Pending) => {
            writer.retire_memory(slot, true, true);
        }
        Fault::RowRemap(RowRemap::Failure) => writer.fail_remapping(slot),
    }
}

fn ask_for(writer: &Writer<'_>, entry: &SlotGpu, action: RecoveryAction) {
    writer.set_recovery_action(entry.slot, action as u32);
    publish(writer, entry, EventKind::RecoveryAction, action as u64);
}

fn ecc(writer: &Writer<'_>, entry: &SlotGpu, kind: EccKind, count: u64) {
    let event = match kind {
        EccKind::Single => {
            writer.count_ecc(entry.slot, count, 0);
            EventKind::SingleBitEcc
        }
        EccKind::Double => {
            writer.count_ecc(entry.slot, 0, count);
            EventKind::DoubleBitEcc
        }
    };
    publish(writer, entry, event, 0);
}

/// What a GPU suffers with an Xid, by NVIDIA's catalogue; before the event is told, so that
/// whoever hears it finds it so.
fn suffer_before(writer: &Writer<'_>, entry: &SlotGpu, xid: u64) {
    let remaps = remaps_rows(entry);
    match xid {
        // Double-bit error.
        48 => {
            ecc(writer, entry, EccKind::Double, 1);
            ask_for(writer, entry, RecoveryAction::GpuReset);
        }
        // Memory is repaired at the next reset.
        63 => {
            writer.retire_memory(entry.slot, remaps, true);
            ask_for(writer, entry, RecoveryAction::DrainAndReset);
        }
        // The repair failed.
        64 => {
            writer.fail_remapping(entry.slot);
            ask_for(writer, entry, RecoveryAction::GpuReset);
        }
        // Contained: one application suffers, and the GPU wants a reset when it is idle.
        94 => ask_for(writer, entry, RecoveryAction::DrainAndReset),
        // NVLink error; uncontained error; GSP does not answer; GSP error.
        74 | 95 | 119 | 120 => ask_for(writer, entry, RecoveryAction::GpuReset),
        _ => {}
    }
}
