//! NVML's return codes.

use serde::{Deserialize, Serialize};

/// Why NVML refuses, numbered as `nvmlReturn_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u32)]
#[allow(
    missing_docs,
    reason = "the names are NVML's; `message` says what each means"
)]
pub enum Failure {
    Uninitialized = 1,
    InvalidArgument = 2,
    NotSupported = 3,
    NoPermission = 4,
    AlreadyInitialized = 5,
    NotFound = 6,
    InsufficientSize = 7,
    InsufficientPower = 8,
    DriverNotLoaded = 9,
    Timeout = 10,
    IrqIssue = 11,
    LibraryNotFound = 12,
    FunctionNotFound = 13,
    CorruptedInforom = 14,
    GpuIsLost = 15,
    ResetRequired = 16,
    OperatingSystem = 17,
    LibRmVersionMismatch = 18,
    InUse = 19,
    Memory = 20,
    NoData = 21,
    VgpuEccNotSupported = 22,
    InsufficientResources = 23,
    FreqNotSupported = 24,
    ArgumentVersionMismatch = 25,
    Deprecated = 26,
    NotReady = 27,
    GpuNotFound = 28,
    InvalidState = 29,
    ResetTypeNotSupported = 30,
    Unknown = 999,
}

impl Failure {
    /// Every failure, by number.
    pub const ALL: [Self; 31] = [
        Self::Uninitialized,
        Self::InvalidArgument,
        Self::NotSupported,
        Self::NoPermission,
        Self::AlreadyInitialized,
        Self::NotFound,
        Self::InsufficientSize,
        Self::InsufficientPower,
        Self::DriverNotLoaded,
        Self::Timeout,
        Self::IrqIssue,
        Self::LibraryNotFound,
        Self::FunctionNotFound,
        Self::CorruptedInforom,
        Self::GpuIsLost,
        Self::ResetRequired,
        Self::OperatingSystem,
        Self::LibRmVersionMismatch,
        Self::InUse,
        Self::Memory,
        Self::NoData,
        Self::VgpuEccNotSupported,
        Self::InsufficientResources,
        Self::FreqNotSupported,
        Self::ArgumentVersionMismatch,
        Self::Deprecated,
        Self::NotReady,
        Self::GpuNotFound,
        Self::InvalidState,
        Self::ResetTypeNotSupported,
        Self::Unknown,
    ];

    /// The failure with this number; `Unknown` for a number that NVML does not have.
    pub fn from_code(code: u32) -> Self {
        let known = Self::ALL
            .into_iter()
            .find(|failure| *failure as u32 == code);
        known.unwrap_or(Self::Unknown)
    }

    /// What `nvmlErrorString` says.
    pub fn message(self) -> &'static std::ffi::CStr {
        match self {
            Self::Uninitialized => c"Uninitialized",
            Self::InvalidArgument => c"Invalid Argument",
            Self::NotSupported => c"Not Supported",
            Self::NoPermission => c"Insufficient Permissions",
            Self::AlreadyInitialized => c"Already Initialized",
            Self::NotFound => c"Not Found",
            Self::InsufficientSize => c"Insufficient Size",
            Self::InsufficientPower => c"Insufficient External Power",
            Self::DriverNotLoaded => c"Driver Not Loaded",
            Self::Timeout => c"Timeout",
            Self::IrqIssue => c"Interrupt Request Issue",
            Self::LibraryNotFound => c"NVML Shared Library Not Found",
            Self::FunctionNotFound => c"Function Not Found",
            Self::CorruptedInforom => c"Corrupted infoROM",
            Self::GpuIsLost => c"GPU is lost",
            Self::ResetRequired => c"GPU requires restart",
            Self::OperatingSystem => c"GPU access blocked by the operating system",
            Self::LibRmVersionMismatch => c"Driver/library version mismatch",
            Self::InUse => c"In use by another client",
            Self::Memory => c"Insufficient Memory",
            Self::NoData => c"No data",
            Self::VgpuEccNotSupported => c"vGPU operation not supported when ECC enabled",
            Self::InsufficientResources => c"Ran out of critical resources, other than memory",
            Self::FreqNotSupported => c"Requested frequency not supported",
            Self::ArgumentVersionMismatch => c"The provided version is invalid/unsupported",
            Self::Deprecated => c"The requested functionality has been deprecated",
            Self::NotReady => c"The system is not ready for the request",
            Self::GpuNotFound => c"No GPUs were found",
            Self::InvalidState => c"Resource not in correct state to perform requested operation",
            Self::ResetTypeNotSupported => c"Reset not supported for given device/parameters",
            Self::Unknown => c"Unknown Error",
        }
    }
}
