//! The library's C functions under their own names, and memory that notices a stray write.
#![allow(unsafe_code, reason = "calls the library, wrongly on purpose too")]
#![allow(non_snake_case, reason = "the functions keep their C names")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong};
use std::fmt;
use std::path::Path;

use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL};
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlDeviceAttributes_t, nvmlEventData_t, nvmlEventSet_t, nvmlFieldValue_t,
    nvmlGpmMetricsGet_t, nvmlGpmSample_t, nvmlGpmSupport_t, nvmlGpuInstance_t,
    nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t, nvmlGpuInstanceProfileInfo_t, nvmlMemory_t,
    nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessInfo_t, nvmlReturn_t, nvmlUUID_v1_t,
    nvmlUtilization_t,
};

use crate::check::{Stop, succeed};

/// What an NVML function answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) nvmlReturn_t);

/// The codes of nvml.h that the checks speak of.
macro_rules! codes {
    ($($name:ident = $value:literal,)+) => {
        impl Code {
            $(pub(crate) const $name: Self = Self($value);)+
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];
        }

        impl fmt::Display for Code {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$name => f.write_str(stringify!($name)),)+
                    Self(other) => write!(f, "code {other}"),
                }
            }
        }
    };
}

codes! {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    TIMEOUT = 10,
    FUNCTION_NOT_FOUND = 13,
    GPU_IS_LOST = 15,
    ARGUMENT_VERSION_MISMATCH = 25,
    UNKNOWN = 999,
}

/// The functions the checks call. One that is missing answers `FUNCTION_NOT_FOUND`.
macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*);)+) => {
        impl Nvml {
            $(pub(crate) fn $name(&self, $($argument: $type),*) -> Code {
                type Function = unsafe extern "C" fn($($type),*) -> nvmlReturn_t;
                let name = concat!(stringify!($name), "\0");
                // SAFETY: nvml.h declares this name with this type.
                let Ok(function) = (unsafe { self.library.get::<Function>(name.as_bytes()) })
                else {
                    return Code::FUNCTION_NOT_FOUND;
                };
                // SAFETY: pointers are NULL or to live memory that is large enough; that the
                // library takes the NULLs and the wrong numbers is what is being checked.
                Code(unsafe { function($($argument),*) })
            })+
        }
    };
}

functions! {
    nvmlInit();
    nvmlInit_v2();
    nvmlInitWithFlags(flags: c_uint);
    nvmlShutdown();
    nvmlSystemGetDriverVersion(text: *mut c_char, length: c_uint);
    nvmlSystemGetNVMLVersion(text: *mut c_char, length: c_uint);
    nvmlSystemGetCudaDriverVersion(version: *mut c_int);
    nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int);
    nvmlSystemGetProcessName(pid: c_uint, text: *mut c_char, length: c_uint);
    nvmlDeviceGetCount(count: *mut c_uint);
    nvmlDeviceGetCount_v2(count: *mut c_uint);
    nvmlDeviceGetHandleByIndex(index: c_uint, device: *mut nvmlDevice_t);
    nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut nvmlDevice_t);
    nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut nvmlDevice_t);
    nvmlDeviceGetHandleByUUIDV(uuid: *const nvmlUUID_v1_t, device: *mut nvmlDevice_t);
    nvmlDeviceGetHandleByPciBusId_v2(pci: *const c_char, device: *mut nvmlDevice_t);
    nvmlDeviceGetIndex(device: nvmlDevice_t, index: *mut c_uint);
    nvmlDeviceGetMinorNumber(device: nvmlDevice_t, minor: *mut c_uint);
    nvmlDeviceGetUUID(device: nvmlDevice_t, text: *mut c_char, length: c_uint);
    nvmlDeviceGetName(device: nvmlDevice_t, text: *mut c_char, length: c_uint);
    nvmlDeviceGetPciInfo_v3(device: nvmlDevice_t, info: *mut nvmlPciInfo_t);
    nvmlDeviceGetMemoryInfo(device: nvmlDevice_t, memory: *mut nvmlMemory_t);
    nvmlDeviceGetMemoryInfo_v2(device: nvmlDevice_t, memory: *mut nvmlMemory_v2_t);
    nvmlDeviceGetCudaComputeCapability(device: nvmlDevice_t, major: *mut c_int, minor: *mut c_int);
    nvmlDeviceGetUtilizationRates(device: nvmlDevice_t, rates: *mut nvmlUtilization_t);
    nvmlDeviceGetTemperature(device: nvmlDevice_t, sensor: c_uint, celsius: *mut c_uint);
    nvmlDeviceGetPowerUsage(device: nvmlDevice_t, milliwatts: *mut c_uint);
    nvmlDeviceGetEccMode(device: nvmlDevice_t, current: *mut c_uint, pending: *mut c_uint);
    nvmlDeviceGetTotalEccErrors(device: nvmlDevice_t, kind: c_uint, counter: c_uint, count: *mut c_ulonglong);
    nvmlDeviceGetRemappedRows(device: nvmlDevice_t, corrected: *mut c_uint, uncorrected: *mut c_uint, pending: *mut c_uint, failure: *mut c_uint);
    nvmlDeviceGetFieldValues(device: nvmlDevice_t, count: c_int, values: *mut nvmlFieldValue_t);
    nvmlDeviceGetComputeRunningProcesses_v3(device: nvmlDevice_t, count: *mut c_uint, infos: *mut nvmlProcessInfo_t);
    nvmlDeviceGetTopologyCommonAncestor(a: nvmlDevice_t, b: nvmlDevice_t, level: *mut c_uint);
    nvmlDeviceGetTopologyNearestGpus(device: nvmlDevice_t, level: c_uint, count: *mut c_uint, devices: *mut nvmlDevice_t);
    nvmlDeviceGetNvLinkState(device: nvmlDevice_t, link: c_uint, state: *mut c_uint);
    nvmlDeviceGetNvLinkRemoteDeviceType(device: nvmlDevice_t, link: c_uint, kind: *mut c_uint);
    nvmlDeviceGetNvLinkRemotePciInfo_v2(device: nvmlDevice_t, link: c_uint, info: *mut nvmlPciInfo_t);
    nvmlDeviceGetSupportedEventTypes(device: nvmlDevice_t, events: *mut c_ulonglong);
    nvmlDeviceRegisterEvents(device: nvmlDevice_t, events: c_ulonglong, set: nvmlEventSet_t);
    nvmlDeviceGetMigMode(device: nvmlDevice_t, current: *mut c_uint, pending: *mut c_uint);
    nvmlDeviceGetMaxMigDeviceCount(device: nvmlDevice_t, count: *mut c_uint);
    nvmlDeviceGetMigDeviceHandleByIndex(device: nvmlDevice_t, index: c_uint, mig: *mut nvmlDevice_t);
    nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig: nvmlDevice_t, device: *mut nvmlDevice_t);
    nvmlDeviceGetGpuInstanceId(mig: nvmlDevice_t, id: *mut c_uint);
    nvmlDeviceGetComputeInstanceId(mig: nvmlDevice_t, id: *mut c_uint);
    nvmlDeviceGetAttributes_v2(mig: nvmlDevice_t, attributes: *mut nvmlDeviceAttributes_t);
    nvmlDeviceGetGpuInstanceProfileInfo(device: nvmlDevice_t, number: c_uint, info: *mut nvmlGpuInstanceProfileInfo_t);
    nvmlDeviceGetGpuInstancePossiblePlacements_v2(device: nvmlDevice_t, profile: c_uint, places: *mut nvmlGpuInstancePlacement_t, count: *mut c_uint);
    nvmlDeviceGetGpuInstances(device: nvmlDevice_t, profile: c_uint, instances: *mut nvmlGpuInstance_t, count: *mut c_uint);
    nvmlGpuInstanceGetInfo(instance: nvmlGpuInstance_t, info: *mut nvmlGpuInstanceInfo_t);
    nvmlGpmQueryDeviceSupport(device: nvmlDevice_t, support: *mut nvmlGpmSupport_t);
    nvmlGpmSampleAlloc(sample: *mut nvmlGpmSample_t);
    nvmlGpmSampleFree(sample: nvmlGpmSample_t);
    nvmlGpmSampleGet(device: nvmlDevice_t, sample: nvmlGpmSample_t);
    nvmlGpmMetricsGet(metrics: *mut nvmlGpmMetricsGet_t);
    nvmlEventSetCreate(set: *mut nvmlEventSet_t);
    nvmlEventSetFree(set: nvmlEventSet_t);
    nvmlEventSetWait(set: nvmlEventSet_t, data: *mut nvmlEventData_t, milliseconds: c_uint);
    nvmlEventSetWait_v2(set: nvmlEventSet_t, data: *mut nvmlEventData_t, milliseconds: c_uint);
}

/// The loaded library.
pub(crate) struct Nvml {
    library: Library,
}

impl Nvml {
    pub(crate) fn load(path: &Path) -> Result<Self, libloading::Error> {
        // SAFETY: the caller names an NVML library, whose initialisers are made to be run.
        let library = unsafe { Library::open(Some(path), RTLD_LAZY | RTLD_LOCAL) }?;
        Ok(Self { library })
    }

    /// NVML's words for a code; `None` for NULL.
    pub(crate) fn error_string(&self, code: Code) -> Option<String> {
        type Function = unsafe extern "C" fn(nvmlReturn_t) -> *const c_char;
        // SAFETY: nvml.h declares this name with this type.
        let function = unsafe { self.library.get::<Function>(b"nvmlErrorString\0") }.ok()?;
        // SAFETY: takes any code.
        let text = unsafe { function(code.0) };
        if text.is_null() {
            return None;
        }
        // SAFETY: not NULL; NVML's texts are static and end with NUL.
        let text = unsafe { CStr::from_ptr(text) };
        Some(text.to_string_lossy().into_owned())
    }

    /// Initialises the library, or ends the check.
    pub(crate) fn start(&self) -> Result<(), Stop> {
        succeed("nvmlInit_v2", self.nvmlInit_v2())
    }

    /// Shuts down whatever a check left initialised.
    pub(crate) fn reset(&self) {
        let mut count = 0;
        for _ in 0..16 {
            if self.nvmlDeviceGetCount_v2(&raw mut count) == Code::UNINITIALIZED {
                return;
            }
            self.nvmlShutdown();
        }
    }

    /// Initialises the library and answers the handles of all GPUs that answer.
    pub(crate) fn devices(&self) -> Result<Vec<nvmlDevice_t>, Stop> {
        self.start()?;
        let mut count = 0;
        succeed(
            "nvmlDeviceGetCount_v2",
            self.nvmlDeviceGetCount_v2(&raw mut count),
        )?;
        let mut devices = Vec::new();
        for index in 0..count {
            let mut device = std::ptr::null_mut();
            if self.nvmlDeviceGetHandleByIndex_v2(index, &raw mut device) == Code::SUCCESS {
                devices.push(device);
            }
        }
        if devices.is_empty() {
            return Err(Stop::Skip("no GPU answers".to_owned()));
        }
        Ok(devices)
    }
}

/// What surrounds guarded memory.
const GUARD: u8 = 0xa5;
const GUARD_BYTES: usize = 64;

/// A value between two guards, as wide as any version of any of NVML's structures is apart
/// from the next.
#[repr(C)]
pub(crate) struct Guarded<T> {
    before: [u8; GUARD_BYTES],
    pub(crate) value: T,
    after: [u8; GUARD_BYTES],
}

impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            before: [GUARD; GUARD_BYTES],
            value,
            after: [GUARD; GUARD_BYTES],
        }
    }

    /// Of zero bytes.
    pub(crate) fn zeroed() -> Self
    where
        T: Copy,
    {
        // SAFETY: used for NVML's structures alone: integers, arrays and unions of them, and
        // handles that may be NULL.
        Self::new(unsafe { std::mem::zeroed() })
    }

    pub(crate) fn pointer(&mut self) -> *mut T {
        &raw mut self.value
    }

    /// Whether nothing was written beside the value.
    pub(crate) fn intact(&self) -> bool {
        self.before
            .iter()
            .chain(&self.after)
            .all(|&byte| byte == GUARD)
    }
}

/// A text buffer of a given length with a guard behind it.
pub(crate) struct Text {
    bytes: Vec<u8>,
    length: usize,
}

impl Text {
    pub(crate) fn new(length: usize) -> Self {
        Self {
            bytes: vec![GUARD; length + GUARD_BYTES],
            length,
        }
    }

    pub(crate) fn pointer(&mut self) -> *mut c_char {
        self.bytes.as_mut_ptr().cast()
    }

    pub(crate) fn length(&self) -> c_uint {
        c_uint::try_from(self.length).unwrap()
    }

    pub(crate) fn intact(&self) -> bool {
        self.bytes[self.length..].iter().all(|&byte| byte == GUARD)
    }

    /// The text up to its NUL, which must be within the length.
    pub(crate) fn read(&self) -> Option<String> {
        let text = CStr::from_bytes_until_nul(&self.bytes[..self.length]).ok()?;
        Some(text.to_string_lossy().into_owned())
    }
}

/// The version word of a structure (`NVML_STRUCT_VERSION`).
pub(crate) fn struct_version<T>(version: u32) -> u32 {
    u32::try_from(size_of::<T>()).unwrap() | version << 24
}

/// The text of a fixed array of characters.
pub(crate) fn text_of(chars: &[c_char]) -> String {
    let bytes = chars.iter().map(|char| char.cast_unsigned());
    let bytes: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
