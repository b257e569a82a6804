//! The faults that can be given to simulated GPUs, by the names people type.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use mizzen_nvml_sim::control;
use mizzen_nvml_sim::node::NvLinkError;

/// A fault of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An Xid.
    Xid(Xid),
    /// So many memory errors.
    Ecc(EccKind, u64),
    /// The GPU has fallen off the bus.
    Lost,
    /// Calls about the GPU block.
    Hang,
    /// The clocks are held down.
    Throttle(ThrottleReason),
    /// The driver asks for something to be done to the GPU.
    RecoveryAction(RecoveryAction),
    /// So many errors of links.
    Link(LinkError, u64),
    /// A row of the memory is faulty.
    RowRemap(RowRemap),
    /// Calls about events answer with this NVML return code.
    Events(EventCall, u32),
}

/// An Xid of a GPU, or of one instance of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Xid {
    /// Number in NVIDIA's catalogue.
    pub(crate) number: u64,
    /// The event alone, without what a real GPU suffers with it.
    pub(crate) event_only: bool,
    /// The instance that it names.
    pub(crate) instance: Option<Instance>,
}

/// A GPU instance, or a compute instance in it: `2` or `2/0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instance {
    gpu_instance: u32,
    compute_instance: Option<u32>,
}

impl Instance {
    /// Whether it is this compute instance, or the GPU instance of it.
    pub(crate) fn has(self, gpu_instance: u32, compute_instance: u32) -> bool {
        let inside = self
            .compute_instance
            .is_none_or(|id| id == compute_instance);
        self.gpu_instance == gpu_instance && inside
    }
}

/// Why a text names no instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected the id of a GPU instance, or of a compute instance after it: 2 or 2/0")]
pub(crate) struct NotAnInstance;

impl FromStr for Instance {
    type Err = NotAnInstance;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = |text: &str| text.parse().map_err(|_| NotAnInstance);
        let (gpu_instance, compute_instance) = match text.split_once('/') {
            Some((instance, compute)) => (id(instance)?, Some(id(compute)?)),
            None => (id(text)?, None),
        };
        Ok(Self {
            gpu_instance,
            compute_instance,
        })
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.gpu_instance)?;
        self.compute_instance
            .map_or(Ok(()), |compute| write!(f, "/{compute}"))
    }
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.event_only { "the event of " } else { "" };
        write!(f, "{what}Xid {}", self.number)?;
        self.instance
            .map_or(Ok(()), |instance| write!(f, " of instance {instance}"))
    }
}

/// The two kinds of memory errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EccKind {
    /// Corrected by the memory controller: counted, and harmless in itself
    Single,
    /// Not correctable: data is lost
    Double,
}

/// Why a GPU runs slower than it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ThrottleReason {
    /// Too hot (software and hardware thermal slowdown)
    Thermal,
    /// At its power limit
    Power,
    /// Hardware slowdown
    HwSlowdown,
    /// The power supply's brake
    PowerBrake,
    /// GPUs that boost together wait for the slowest
    SyncBoost,
}

/// What the driver asks to be done to a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecoveryAction {
    /// Nothing: the GPU is fit for work
    None,
    /// Reset the GPU
    GpuReset,
    /// Reboot the node
    NodeReboot,
    /// Let peer-to-peer work end
    DrainP2p,
    /// Let all work end, then reset the GPU
    DrainAndReset,
    /// Recover the IMEX domain
    RecoverImexDomain,
}

/// What goes wrong on links, is corrected and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LinkError {
    /// A PCIe packet was sent again
    PcieReplay,
    /// An NVLink packet was damaged in its header
    NvlinkCrcFlit,
    /// An NVLink packet was damaged in its data
    NvlinkCrcData,
    /// An NVLink packet was sent again
    NvlinkReplay,
    /// An NVLink was brought up again
    NvlinkRecovery,
}

/// What becomes of a faulty row of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowRemap {
    /// It is replaced by a spare one at the next reset
    Pending,
    /// No spare one was left
    Failure,
}

/// Calls about events that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EventCall {
    /// Registering for the GPU's events
    Register,
    /// Waiting for events of any set that the GPU is in
    Wait,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xid(xid) => xid.fmt(f),
            Self::Ecc(kind, 1) => write!(f, "{}-bit ECC error", name(kind)),
            Self::Ecc(kind, count) => write!(f, "{count} {}-bit ECC errors", name(kind)),
            Self::Lost => f.write_str("lost"),
            Self::Hang => f.write_str("hang"),
            Self::Throttle(reason) => write!(f, "throttle {}", name(reason)),
            Self::RecoveryAction(action) => write!(f, "recovery action {}", name(action)),
            Self::Link(error, count) => write!(f, "{count} × {}", name(error)),
            Self::RowRemap(state) => write!(f, "row remap {}", name(state)),
            Self::Events(call, code) => write!(f, "NVML error {code} to {} events", name(call)),
        }
    }
}

/// The name that is typed for a value.
fn name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

impl From<Fault> for control::Fault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Xid(Xid {
                number,
                event_only,
                instance,
            }) => Self::Xid {
                xid: number,
                gpu_instance: instance.map(|instance| instance.gpu_instance),
                compute_instance: instance.and_then(|instance| instance.compute_instance),
                consequences: !event_only,
            },
            Fault::Ecc(kind, count) => Self::Ecc {
                kind: kind.into(),
                count,
            },
            Fault::Lost => Self::Lost,
            Fault::Hang => Self::Hang,
            Fault::Throttle(reason) => Self::Throttle(reason.into()),
            Fault::RecoveryAction(action) => Self::RecoveryAction(action.into()),
            Fault::Link(error, count) => Self::Link {
                error: error.into(),
                count,
            },
            Fault::RowRemap(state) => Self::RowRemap(state.into()),
            Fault::Events(call, code) => Self::Events {
                call: call.into(),
                code,
            },
        }
    }
}

impl From<EccKind> for control::EccKind {
    fn from(kind: EccKind) -> Self {
        match kind {
            EccKind::Single => Self::Single,
            EccKind::Double => Self::Double,
        }
    }
}

impl From<ThrottleReason> for control::ThrottleReason {
    fn from(reason: ThrottleReason) -> Self {
        match reason {
            ThrottleReason::Thermal => Self::Thermal,
            ThrottleReason::Power => Self::Power,
            ThrottleReason::HwSlowdown => Self::HwSlowdown,
            ThrottleReason::PowerBrake => Self::PowerBrake,
            ThrottleReason::SyncBoost => Self::SyncBoost,
        }
    }
}

impl From<RecoveryAction> for control::RecoveryAction {
    fn from(action: RecoveryAction) -> Self {
        match action {
            RecoveryAction::None => Self::None,
            RecoveryAction::GpuReset => Self::GpuReset,
            RecoveryAction::NodeReboot => Self::NodeReboot,
            RecoveryAction::DrainP2p => Self::DrainP2p,
            RecoveryAction::DrainAndReset => Self::DrainAndReset,
            RecoveryAction::RecoverImexDomain => Self::RecoverImexDomain,
        }
    }
}

impl From<LinkError> for control::LinkError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::PcieReplay => Self::PcieReplay,
            LinkError::NvlinkCrcFlit => Self::NvLink(NvLinkError::CrcFlit),
            LinkError::NvlinkCrcData => Self::NvLink(NvLinkError::CrcData),
            LinkError::NvlinkReplay => Self::NvLink(NvLinkError::Replay),
            LinkError::NvlinkRecovery => Self::NvLink(NvLinkError::Recovery),
        }
    }
}

impl From<RowRemap> for control::RowRemap {
    fn from(state: RowRemap) -> Self {
        match state {
            RowRemap::Pending => Self::Pending,
            RowRemap::Failure => Self::Failure,
        }
    }
}

impl From<EventCall> for control::EventCall {
    fn from(call: EventCall) -> Self {
        match call {
            EventCall::Register => Self::Register,
            EventCall::Wait => Self::Wait,
        }
    }
}

/// What is wrong with a simulated GPU, in words; nothing if it works.
pub(crate) fn in_words(gpu: &control::GpuStatus) -> Vec<String> {
    let errors = gpu.ecc.volatile_uncorrected;
    let action = gpu.recovery_action != control::RecoveryAction::None;
    let parts = [
        gpu.lost.then(|| "lost".to_owned()),
        gpu.hung.then(|| "hangs".to_owned()),
        gpu.last_xid.map(|number| format!("Xid {number}")),
        (errors > 0).then(|| format!("{errors} double-bit ECC")),
        gpu.repairs.pending.then(|| "memory to repair".to_owned()),
        gpu.repairs
            .failed
            .then(|| "memory repair failed".to_owned()),
        action.then(|| format!("wants {}", action_name(gpu.recovery_action))),
        (gpu.throttle_reasons != 0).then(|| "throttled".to_owned()),
        (gpu.link_errors > 0).then(|| format!("{} link errors", gpu.link_errors)),
        gpu.register_error
            .map(|code| format!("registering events fails ({code})")),
        gpu.wait_error
            .map(|code| format!("waiting for events fails ({code})")),
    ];
    parts.into_iter().flatten().collect()
}

fn action_name(action: control::RecoveryAction) -> String {
    let known = RecoveryAction::value_variants();
    let same = known
        .iter()
        .find(|known| control::RecoveryAction::from(**known) == action);
    same.map(name).unwrap_or_default()
}
