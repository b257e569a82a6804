//! The seam between Mizzen and the GPU driver: coarse questions, plain-data answers.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::gpu::GpuUuid;
use crate::inventory::Inventory;
use crate::mig::{GpuMig, Layout, MigStep, MigTable};
use crate::sample::{GpuSample, Texts, Wanted};
use crate::topology::FabricClique;

/// Finds and opens the driver. Kept by the agent for as long as it lives: a driver that is
/// absent now may be installed later.
pub trait DriverLoader: Send + Sync {
    /// Opens a new session, which lists the GPUs that there are now, also while a former one is
    /// about to be closed. Blocks up to the implementation's own deadline, never for ever.
    ///
    /// # Errors
    /// [`DriverError::LibraryNotFound`] and [`DriverError::NotRunning`] are states to wait out;
    /// the others say what is wrong.
    fn open(&self) -> Result<Arc<dyn GpuDriver>, DriverError>;
}

/// An open session with the GPU driver. Every call is bounded in time by the implementation:
/// a GPU that hangs costs an error, never the caller.
///
/// A session fixes the set of GPUs at its opening, as NVML does; to see GPUs that were added or
/// removed, open a new one.
pub trait GpuDriver: Send + Sync {
    /// Describes every GPU. One that does not answer is listed as broken; the others are whole.
    fn snapshot(&self) -> Result<Inventory, DriverError>;

    /// How the GPU is now. Answers `Ok` only if the GPU itself answered.
    fn check(&self, gpu: &GpuUuid, questions: Questions) -> Result<GpuCondition, DriverError>;

    /// How each of these GPUs is now, in their order; one that does not answer costs the others
    /// nothing. An implementation that can ask them in one go saves wake-ups of an idle node.
    fn check_all(
        &self,
        gpus: &[GpuUuid],
        questions: Questions,
    ) -> Vec<Result<GpuCondition, DriverError>> {
        let check = |gpu| self.check(gpu, questions);
        gpus.iter().map(check).collect()
    }

    /// How each of these GPUs is partitioned now, in their order; `None` for one that cannot be.
    /// Asked about once a second, so that changes made by others are noticed: an implementation
    /// makes it cheap where nothing has changed.
    fn partitions(&self, gpus: &[GpuUuid]) -> Vec<Result<Option<GpuMig>, DriverError>> {
        gpus.iter().map(|_| Ok(None)).collect()
    }

    /// Which fabric clique each of these GPUs is in, in their order; `None` for one that is in
    /// none, or not yet.
    fn fabric(&self, gpus: &[GpuUuid]) -> Vec<Result<Option<FabricClique>, DriverError>> {
        gpus.iter().map(|_| Ok(None)).collect()
    }

    /// What each of these GPUs measures now, in their order; one that does not answer costs the
    /// others nothing. Asked about once a second: an implementation asks the driver for no more
    /// than is wanted.
    fn sample(&self, gpus: &[GpuUuid], _wanted: Wanted) -> Vec<Result<GpuSample, DriverError>> {
        gpus.iter()
            .map(|_| Err(DriverError::NotSupported))
            .collect()
    }

    /// The words of each of these GPUs that stay the same, in their order. Asked once for a
    /// session.
    fn texts(&self, gpus: &[GpuUuid]) -> Vec<Result<Texts, DriverError>> {
        gpus.iter().map(|_| Ok(Texts::new())).collect()
    }

    /// What the GPU can be cut into and what it is cut into, empty GPU instances included.
    ///
    /// # Errors
    /// [`DriverError::NotSupported`] where it cannot be partitioned.
    fn mig_layout(&self, _gpu: &GpuUuid) -> Result<(MigTable, Layout), DriverError> {
        Err(DriverError::NotSupported)
    }

    /// Changes how the GPU is partitioned. Blocks as long as the driver takes, up to a deadline
    /// of its own that is far longer than that of questions; questions to other GPUs are answered
    /// meanwhile, and whether this one is well, or how it is partitioned, is answered
    /// [`DriverError::InUse`].
    ///
    /// # Errors
    /// [`DriverError::InUse`] where somebody uses what is to be taken away, or the GPU whose mode
    /// is to change; [`DriverError::InsufficientResources`] where it does not fit.
    fn change_mig(&self, _gpu: &GpuUuid, _step: &MigStep) -> Result<(), DriverError> {
        Err(DriverError::NotSupported)
    }

    /// Starts watching for events of `gpus`, replacing what was watched before, and says which
    /// of them cannot be watched and why.
    fn watch_events(&self, gpus: &[GpuUuid]) -> Result<Vec<(GpuUuid, DriverError)>, DriverError>;

    /// Waits for the next event of the watched GPUs; `None` when `timeout` passed without one.
    /// Only one thread may wait at a time.
    fn next_event(&self, timeout: Duration) -> Result<Option<DriverEvent>, DriverError>;
}

/// What a GPU is asked besides what it is always asked: each question is a call of the driver,
/// and most nodes have no use for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Questions {
    /// For [`GpuCondition::single_bit_ecc`].
    pub single_bit_ecc: bool,
    /// For [`GpuCondition::row_remap`].
    pub row_remap: bool,
}

/// What a GPU answers when asked how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GpuCondition {
    /// What the driver says must be done to it (field `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`,
    /// 230); `None` where the driver is too old to tell.
    pub recovery_action: Option<RecoveryAction>,
    /// Double-bit (uncorrectable) ECC errors since the driver was loaded; `None` without ECC.
    pub double_bit_ecc: Option<u64>,
    /// Single-bit (corrected) ECC errors since the driver was loaded; `None` without ECC, or if
    /// not asked for.
    pub single_bit_ecc: Option<u64>,
    /// How the remapping of faulty memory rows stands; `None` on GPUs before Ampere, which have
    /// none, or if not asked for.
    pub row_remap: Option<RowRemap>,
}

/// How the remapping of faulty memory rows stands (`nvmlDeviceGetRemappedRows`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RowRemap {
    /// A remapping waits for a reset of the GPU.
    pub pending: bool,
    /// A remapping has failed: there was no spare row left.
    pub failure: bool,
}

/// What the driver asks to be done to a GPU (`nvmlDeviceGpuRecoveryAction_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecoveryAction {
    /// Nothing: the GPU is fit for work.
    None,
    /// Reset the GPU.
    GpuReset,
    /// Reboot the node.
    NodeReboot,
    /// Let peer-to-peer work end, then the GPU recovers.
    DrainP2p,
    /// Let all work end, then reset the GPU.
    DrainAndReset,
    /// Recover the IMEX domain.
    RecoverImexDomain,
    /// A value this version does not know.
    Unknown(u32),
}

/// Something the driver reported unasked (`nvmlEventData_t`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverEvent {
    /// The GPU it is about; `None` when the driver could not say which.
    pub gpu: Option<GpuUuid>,
    /// What happened.
    pub kind: DriverEventKind,
    /// The MIG GPU instance, where the event names one.
    pub gpu_instance: Option<u32>,
    /// The MIG compute instance, where the event names one.
    pub compute_instance: Option<u32>,
}

/// The kinds of events that matter to health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DriverEventKind {
    /// An Xid, by number (`nvmlEventTypeXidCriticalError`).
    Xid(u64),
    /// Uncorrectable memory error (`nvmlEventTypeDoubleBitEccError`).
    DoubleBitEcc,
    /// Corrected memory error (`nvmlEventTypeSingleBitEccError`).
    SingleBitEcc,
    /// Somebody has changed how the GPU is partitioned (`nvmlEventMigConfigChange`).
    MigConfigChange,
}

/// Why the driver, or one GPU, did not answer as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// There is no `libnvidia-ml.so.1`.
    #[error("libnvidia-ml.so.1 was not found; searched {}", .searched.join(", "))]
    LibraryNotFound {
        /// Every path tried, in order.
        searched: Vec<String>,
    },
    /// The library is there but cannot be used.
    #[error("{path} cannot be used: {reason}")]
    LibraryUnusable {
        /// The library's path.
        path: String,
        /// What the dynamic linker said, or which needed function is missing.
        reason: String,
    },
    /// The library is there, the kernel driver is not running or its nodes are missing
    /// (`NVML_ERROR_DRIVER_NOT_LOADED`, `NVML_ERROR_LIB_RM_VERSION_MISMATCH`).
    #[error("the NVIDIA kernel driver does not answer: {0}")]
    NotRunning(String),
    /// The caller may not open the device nodes (`NVML_ERROR_NO_PERMISSION`).
    #[error("no permission to open the GPU's device nodes")]
    NoPermission,
    /// The GPU has fallen off the bus or is otherwise inaccessible (`NVML_ERROR_GPU_IS_LOST`).
    #[error("the GPU is lost (fallen off the bus)")]
    GpuLost,
    /// The call did not return in time and is still running on a thread of its own.
    #[error("no answer from the driver within {} ms", .after.as_millis())]
    Hung {
        /// The deadline that passed.
        after: Duration,
    },
    /// The GPU or driver does not offer this (`NVML_ERROR_NOT_SUPPORTED`,
    /// `NVML_ERROR_FUNCTION_NOT_FOUND`).
    #[error("not supported by this GPU or driver")]
    NotSupported,
    /// Somebody uses it (`NVML_ERROR_IN_USE`).
    #[error("it is in use")]
    InUse,
    /// What is wanted does not fit (`NVML_ERROR_INSUFFICIENT_RESOURCES`).
    #[error("there is no room for it on the GPU")]
    InsufficientResources,
    /// No GPU of that identity in this session.
    #[error("the driver knows no GPU {0}")]
    UnknownGpu(GpuUuid),
    /// Anything else, as NVML words it.
    #[error("{call}: {message} (NVML error {code})")]
    Nvml {
        /// The NVML function.
        call: &'static str,
        /// `nvmlReturn_t`.
        code: u32,
        /// `nvmlErrorString`.
        message: String,
    },
}
