//! Why a GPU is not fit for work, and the words for it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::driver::{DriverError, RecoveryAction};
use crate::xid::Xid;

/// Why a GPU is not fit for work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The driver reported an Xid that the policy does not ignore.
    Xid(Xid),
    /// The driver reported an uncorrectable memory error.
    DoubleBitEcc,
    /// The memory has corrected errors.
    SingleBitEcc,
    /// There was no spare row for a faulty one of the memory.
    RowRemapFailure,
    /// A faulty row of the memory is replaced at the next reset only.
    RowRemapPending,
    /// It has fallen off the bus.
    Lost,
    /// It does not answer in time.
    Hung,
    /// The driver asks for something to be done to it.
    RecoveryAction(RecoveryAction),
    /// It answers with an error, which is given.
    Broken(String),
    /// It is on the bus, but the driver does not list it any more.
    Missing,
}

impl Reason {
    /// What an error to a question about one GPU says of that GPU; `None` for an error that says
    /// nothing of it.
    pub fn from_error(error: &DriverError) -> Option<Self> {
        match error {
            DriverError::GpuLost => Some(Self::Lost),
            DriverError::Hung { .. } => Some(Self::Hung),
            DriverError::UnknownGpu(_) => Some(Self::Missing),
            DriverError::NoPermission | DriverError::Nvml { .. } => {
                Some(Self::Broken(error.to_string()))
            }
            // The whole driver's affair, and what an old GPU cannot be asked or a busy one do.
            DriverError::LibraryNotFound { .. }
            | DriverError::LibraryUnusable { .. }
            | DriverError::NotRunning(_)
            | DriverError::NotSupported
            | DriverError::InUse
            | DriverError::InsufficientResources => None,
        }
    }

    /// Whether the driver cannot describe a GPU of which this holds. Xid 79 says that it is lost.
    pub fn hides_the_gpu(&self) -> bool {
        matches!(
            self,
            Self::Lost | Self::Hung | Self::Broken(_) | Self::Missing | Self::Xid(Xid(79))
        )
    }

    /// Whether the driver cannot reach the GPU any more.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Lost | Self::Missing | Self::Xid(Xid(79)))
    }

    /// Whether a GPU of which this holds stays unfit until the node is rebooted or somebody mends
    /// the machine: a reset of the GPU is not enough.
    pub fn is_beyond_recovery(&self) -> bool {
        let reboot = Self::RecoveryAction(RecoveryAction::NodeReboot);
        self.hides_the_gpu() || *self == Self::RowRemapFailure || *self == reboot
    }

    /// Whether an answer of the GPU is proof enough that this no longer holds.
    pub(super) fn is_disproved_by_an_answer(&self) -> bool {
        !matches!(self, Self::Xid(_) | Self::DoubleBitEcc)
    }

    /// Whether `other` is this reason again.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            // In other words; and Xid 79 says that the GPU is lost.
            (Self::Broken(_), Self::Broken(_)) | (Self::Xid(Xid(79)), Self::Lost) => true,
            _ => self == other,
        }
    }

    /// A word for it, for labels of metrics: one that does not change from time to time.
    pub fn word(&self) -> String {
        let word = match self {
            Self::Xid(Xid(number)) => return format!("xid-{number}"),
            Self::DoubleBitEcc => "double-bit-ecc",
            Self::SingleBitEcc => "single-bit-ecc",
            Self::RowRemapFailure => "row-remap-failure",
            Self::RowRemapPending => "row-remap-pending",
            Self::Lost => "lost",
            Self::Hung => "hung",
            Self::RecoveryAction(action) => match action {
                RecoveryAction::None => "recovery-none",
                RecoveryAction::GpuReset => "recovery-gpu-reset",
                RecoveryAction::NodeReboot => "recovery-node-reboot",
                RecoveryAction::DrainP2p => "recovery-drain-p2p",
                RecoveryAction::DrainAndReset => "recovery-drain-and-reset",
                RecoveryAction::RecoverImexDomain => "recovery-imex-domain",
                RecoveryAction::Unknown(number) => return format!("recovery-{number}"),
            },
            Self::Broken(_) => "broken",
            Self::Missing => "missing",
        };
        word.to_owned()
    }

    /// What happened, for a log line.
    pub fn headline(&self) -> String {
        match self {
            Self::Xid(xid) => match xid.info() {
                Some(info) => format!("{xid}: {}", info.title),
                None => xid.to_string(),
            },
            Self::DoubleBitEcc => "uncorrectable (double-bit) memory error".to_owned(),
            Self::SingleBitEcc => "corrected (single-bit) memory errors".to_owned(),
            Self::RowRemapFailure => "a row of the memory could not be remapped".to_owned(),
            Self::RowRemapPending => "a row of the memory waits to be remapped".to_owned(),
            Self::Lost => "lost: it has fallen off the bus".to_owned(),
            Self::Hung => "hung: the driver does not answer for it".to_owned(),
            Self::RecoveryAction(action) => format!("the driver asks for {}", action_name(*action)),
            Self::Broken(error) => error.clone(),
            Self::Missing => "the driver no longer lists it".to_owned(),
        }
    }

    /// What it means; NVIDIA's catalogue where it is an Xid.
    pub fn meaning(&self) -> &'static str {
        match self {
            Self::Xid(xid) => match xid.info() {
                Some(info) => info.meaning,
                None => "not in the catalogue of this version",
            },
            Self::DoubleBitEcc => "data in the GPU's memory was lost",
            Self::SingleBitEcc => "no data was lost; many of them foretell worse",
            Self::RowRemapFailure => "it is faulty, and no spare row is left to replace it",
            Self::RowRemapPending => "it is faulty, and replaced by a spare row at the next reset",
            Self::Lost => "the driver can no longer reach the GPU over PCIe",
            Self::Hung => "a call to the driver about this GPU has not returned",
            Self::RecoveryAction(_) => "the GPU is not fit for work until that is done",
            Self::Broken(_) => "the GPU is there, but the driver cannot use it",
            Self::Missing => "the GPU is on the bus, but the driver does not use it",
        }
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Xid(xid) => match xid.info() {
                Some(info) => info.action.advice(),
                None => "see the kernel log (dmesg) and NVIDIA's list of Xid errors",
            },
            Self::DoubleBitEcc | Self::RowRemapPending => {
                "drain the GPU and reset it (nvidia-smi --gpu-reset)"
            }
            Self::SingleBitEcc => {
                "see nvidia-smi -q -d ECC,ROW_REMAPPER; if they go on, drain the GPU and reset it"
            }
            Self::RowRemapFailure => {
                "drain the GPU and run NVIDIA's field diagnostics: it is due to be replaced"
            }
            Self::Lost | Self::Hung => {
                "drain the node and reboot it; if it comes back, check seating, power and cooling"
            }
            Self::RecoveryAction(action) => action_advice(*action),
            Self::Broken(_) | Self::Missing => {
                "see the kernel log (dmesg) for NVRM lines about its bus id; reboot the node"
            }
        }
    }
}

/// Writes the headline.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())
    }
}

fn action_name(action: RecoveryAction) -> String {
    match action {
        RecoveryAction::None => "nothing".to_owned(),
        RecoveryAction::GpuReset => "a reset of the GPU".to_owned(),
        RecoveryAction::NodeReboot => "a reboot of the node".to_owned(),
        RecoveryAction::DrainP2p => "peer-to-peer work to be drained".to_owned(),
        RecoveryAction::DrainAndReset => "the GPU to be drained and reset".to_owned(),
        RecoveryAction::RecoverImexDomain => "the IMEX domain to be recovered".to_owned(),
        RecoveryAction::Unknown(number) => format!("recovery action {number}"),
    }
}

fn action_advice(action: RecoveryAction) -> &'static str {
    match action {
        RecoveryAction::None => "nothing needs to be done",
        RecoveryAction::GpuReset | RecoveryAction::DrainAndReset => {
            "drain the GPU and reset it (nvidia-smi --gpu-reset)"
        }
        RecoveryAction::NodeReboot => "drain the node and reboot it",
        RecoveryAction::DrainP2p => "end the jobs that use the GPU together with others",
        RecoveryAction::RecoverImexDomain => "recover the IMEX domain (nvidia-imex-ctl)",
        RecoveryAction::Unknown(_) => "see GPU Recovery Action in nvidia-smi -q",
    }
}
