//! The faults that can be given to simulated GPUs, by the names people type.

use std::fmt;

use clap::ValueEnum;

/// A fault of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An Xid of this number.
    Xid(u64),
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
}

/// The two kinds of memory errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EccKind {
    /// Corrected by the memory controller: counted, and harmless in itself
    Single,
    /// Uncorrectable: data is lost
    Double,
}

/// Why a GPU runs slower than it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ThrottleReason {
    /// Too hot (software and hardware thermal slowdown)
    Thermal,
    /// At its power limit
    Power,
    /// Hardware slowdown: half the clocks or less
    HwSlowdown,
    /// The machine's power supply asks for it
    PowerBrake,
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
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xid(number) => write!(f, "Xid {number}"),
            Self::Ecc(kind, 1) => write!(f, "{}-bit ECC error", name(kind)),
            Self::Ecc(kind, count) => write!(f, "{count} {}-bit ECC errors", name(kind)),
            Self::Lost => f.write_str("lost"),
            Self::Hang => f.write_str("hang"),
            Self::Throttle(reason) => write!(f, "throttle {}", name(reason)),
            Self::RecoveryAction(action) => write!(f, "recovery action {}", name(action)),
        }
    }
}

/// The name that is typed for a value.
fn name(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}
