//! The loaded library: its functions, one by one, and its error codes.
//!
//! A driver's library is as old as the driver, so each function is resolved for itself, under
//! its newest name first; one that is missing answers like one that NVML does not offer.
#![allow(
    unsafe_code,
    reason = "loads the library and names the types of its functions"
)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library as Handle, RTLD_LAZY, RTLD_LOCAL};
use mizzen_core::driver::DriverError;
use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstanceProfileInfo_t,
    nvmlDevice_t, nvmlDeviceAttributes_t, nvmlEnableState_t, nvmlEventData_t, nvmlEventSet_t,
    nvmlFieldValue_t, nvmlGpmMetricsGet_t, nvmlGpmSample_t, nvmlGpmSupport_t, nvmlGpuFabricInfo_t,
    nvmlGpuFabricInfo_v2_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t,
    nvmlGpuInstanceProfileInfo_t, nvmlGpuTopologyLevel_t, nvmlGridLicensableFeatures_t,
    nvmlIntNvLinkDeviceType_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessInfo_v2_t,
    nvmlProcessUtilizationSample_t, nvmlReturn_t, nvmlUtilization_t,
};
use rustix::fs::{MemfdFlags, memfd_create};

/// `nvmlReturn_t` values that decide something here (nvml.h).
pub(crate) mod code {
    pub(crate) const SUCCESS: u32 = 0;
    pub(crate) const INVALID_ARGUMENT: u32 = 2;
    pub(crate) const NOT_SUPPORTED: u32 = 3;
    pub(crate) const NO_PERMISSION: u32 = 4;
    pub(crate) const NOT_FOUND: u32 = 6;
    pub(crate) const INSUFFICIENT_SIZE: u32 = 7;
    pub(crate) const DRIVER_NOT_LOADED: u32 = 9;
    pub(crate) const TIMEOUT: u32 = 10;
    pub(crate) const FUNCTION_NOT_FOUND: u32 = 13;
    pub(crate) const GPU_IS_LOST: u32 = 15;
    pub(crate) const RESET_REQUIRED: u32 = 16;
    /// The device cgroup, or the file system, keeps the node from us.
    pub(crate) const OPERATING_SYSTEM: u32 = 17;
    pub(crate) const LIB_RM_VERSION_MISMATCH: u32 = 18;
    pub(crate) const IN_USE: u32 = 19;
    pub(crate) const NO_DATA: u32 = 21;
    pub(crate) const INSUFFICIENT_RESOURCES: u32 = 23;
    pub(crate) const DEPRECATED: u32 = 26;
    pub(crate) const UNKNOWN: u32 = 999;
}

/// Declares the functions used: field, type, names from newest to oldest.
macro_rules! functions {
    ($($field:ident: fn($($argument:ty),*) = $($name:literal)|+;)*) => {
        /// The library's functions, each if it is there.
        #[derive(Debug)]
        pub(crate) struct Functions {
            $(pub(crate) $field: Option<unsafe extern "C" fn($($argument),*) -> nvmlReturn_t>,)*
            /// `nvmlErrorString`, the one function that answers a text.
            error_string: Option<unsafe extern "C" fn(nvmlReturn_t) -> *const c_char>,
        }

        impl Functions {
            fn resolve(library: &Handle) -> Self {
                Self {
                    $($field: [$($name),+].into_iter().find_map(|name| {
                        // SAFETY: nvml.h declares each of these names with the field's type.
                        unsafe { library.get(name.as_bytes()) }.ok().map(|symbol| *symbol)
                    }),)*
                    // SAFETY: declared so in nvml.h.
                    error_string: unsafe { library.get(b"nvmlErrorString\0") }
                        .ok()
                        .map(|symbol| *symbol),
                }
            }
        }
    };
}

functions! {
    init: fn() = "nvmlInit_v2\0" | "nvmlInit\0";
    shutdown: fn() = "nvmlShutdown\0";
    driver_version: fn(*mut c_char, c_uint) = "nvmlSystemGetDriverVersion\0";
    nvml_version: fn(*mut c_char, c_uint) = "nvmlSystemGetNVMLVersion\0";
    cuda_version: fn(*mut c_int) = "nvmlSystemGetCudaDriverVersion_v2\0";
    cuda_version_v1: fn(*mut c_int) = "nvmlSystemGetCudaDriverVersion\0";
    count: fn(*mut c_uint) = "nvmlDeviceGetCount_v2\0" | "nvmlDeviceGetCount\0";
    handle_by_index: fn(c_uint, *mut nvmlDevice_t)
        = "nvmlDeviceGetHandleByIndex_v2\0" | "nvmlDeviceGetHandleByIndex\0";
    uuid: fn(nvmlDevice_t, *mut c_char, c_uint) = "nvmlDeviceGetUUID\0";
    name: fn(nvmlDevice_t, *mut c_char, c_uint) = "nvmlDeviceGetName\0";
    minor: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetMinorNumber\0";
    pci: fn(nvmlDevice_t, *mut nvmlPciInfo_t)
        = "nvmlDeviceGetPciInfo_v3\0" | "nvmlDeviceGetPciInfo_v2\0" | "nvmlDeviceGetPciInfo\0";
    memory_v2: fn(nvmlDevice_t, *mut nvmlMemory_v2_t) = "nvmlDeviceGetMemoryInfo_v2\0";
    memory: fn(nvmlDevice_t, *mut nvmlMemory_t) = "nvmlDeviceGetMemoryInfo\0";
    compute_capability: fn(nvmlDevice_t, *mut c_int, *mut c_int)
        = "nvmlDeviceGetCudaComputeCapability\0";
    common_ancestor: fn(nvmlDevice_t, nvmlDevice_t, *mut nvmlGpuTopologyLevel_t)
        = "nvmlDeviceGetTopologyCommonAncestor\0";
    link_state: fn(nvmlDevice_t, c_uint, *mut nvmlEnableState_t) = "nvmlDeviceGetNvLinkState\0";
    link_remote_type: fn(nvmlDevice_t, c_uint, *mut nvmlIntNvLinkDeviceType_t)
        = "nvmlDeviceGetNvLinkRemoteDeviceType\0";
    link_remote_pci: fn(nvmlDevice_t, c_uint, *mut nvmlPciInfo_t)
        = "nvmlDeviceGetNvLinkRemotePciInfo_v2\0" | "nvmlDeviceGetNvLinkRemotePciInfo\0";
    fabric_info_v2: fn(nvmlDevice_t, *mut nvmlGpuFabricInfo_v2_t) = "nvmlDeviceGetGpuFabricInfoV\0";
    fabric_info: fn(nvmlDevice_t, *mut nvmlGpuFabricInfo_t) = "nvmlDeviceGetGpuFabricInfo\0";
    field_values: fn(nvmlDevice_t, c_int, *mut nvmlFieldValue_t) = "nvmlDeviceGetFieldValues\0";
    temperature: fn(nvmlDevice_t, c_uint, *mut c_uint) = "nvmlDeviceGetTemperature\0";
    temperature_threshold: fn(nvmlDevice_t, c_uint, *mut c_uint)
        = "nvmlDeviceGetTemperatureThreshold\0";
    clock: fn(nvmlDevice_t, c_uint, *mut c_uint) = "nvmlDeviceGetClockInfo\0";
    max_clock: fn(nvmlDevice_t, c_uint, *mut c_uint) = "nvmlDeviceGetMaxClockInfo\0";
    clock_reasons: fn(nvmlDevice_t, *mut c_ulonglong)
        = "nvmlDeviceGetCurrentClocksEventReasons\0"
        | "nvmlDeviceGetCurrentClocksThrottleReasons\0";
    performance_state: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetPerformanceState\0";
    fan_speed: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetFanSpeed\0";
    power: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetPowerUsage\0";
    power_limit: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetPowerManagementLimit\0";
    enforced_power_limit: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetEnforcedPowerLimit\0";
    pcie_generation: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetCurrPcieLinkGeneration\0";
    pcie_width: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetCurrPcieLinkWidth\0";
    max_pcie_generation: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetMaxPcieLinkGeneration\0";
    max_pcie_width: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetMaxPcieLinkWidth\0";
    utilization: fn(nvmlDevice_t, *mut nvmlUtilization_t) = "nvmlDeviceGetUtilizationRates\0";
    encoder: fn(nvmlDevice_t, *mut c_uint, *mut c_uint) = "nvmlDeviceGetEncoderUtilization\0";
    decoder: fn(nvmlDevice_t, *mut c_uint, *mut c_uint) = "nvmlDeviceGetDecoderUtilization\0";
    licences: fn(nvmlDevice_t, *mut nvmlGridLicensableFeatures_t)
        = "nvmlDeviceGetGridLicensableFeatures_v4\0";
    compute_processes: fn(nvmlDevice_t, *mut c_uint, *mut nvmlProcessInfo_v2_t)
        = "nvmlDeviceGetComputeRunningProcesses_v3\0" | "nvmlDeviceGetComputeRunningProcesses_v2\0";
    graphics_processes: fn(nvmlDevice_t, *mut c_uint, *mut nvmlProcessInfo_v2_t)
        = "nvmlDeviceGetGraphicsRunningProcesses_v3\0"
        | "nvmlDeviceGetGraphicsRunningProcesses_v2\0";
    mps_processes: fn(nvmlDevice_t, *mut c_uint, *mut nvmlProcessInfo_v2_t)
        = "nvmlDeviceGetMPSComputeRunningProcesses_v3\0"
        | "nvmlDeviceGetMPSComputeRunningProcesses_v2\0";
    process_utilization: fn(
        nvmlDevice_t,
        *mut nvmlProcessUtilizationSample_t,
        *mut c_uint,
        c_ulonglong
    ) = "nvmlDeviceGetProcessUtilization\0";
    gpm_support: fn(nvmlDevice_t, *mut nvmlGpmSupport_t) = "nvmlGpmQueryDeviceSupport\0";
    gpm_sample_alloc: fn(*mut nvmlGpmSample_t) = "nvmlGpmSampleAlloc\0";
    gpm_sample_free: fn(nvmlGpmSample_t) = "nvmlGpmSampleFree\0";
    gpm_sample_get: fn(nvmlDevice_t, nvmlGpmSample_t) = "nvmlGpmSampleGet\0";
    gpm_mig_sample_get: fn(nvmlDevice_t, c_uint, nvmlGpmSample_t) = "nvmlGpmMigSampleGet\0";
    gpm_metrics_get: fn(*mut nvmlGpmMetricsGet_t) = "nvmlGpmMetricsGet\0";
    brand: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetBrand\0";
    serial: fn(nvmlDevice_t, *mut c_char, c_uint) = "nvmlDeviceGetSerial\0";
    inforom_version: fn(nvmlDevice_t, c_uint, *mut c_char, c_uint)
        = "nvmlDeviceGetInforomVersion\0";
    inforom_image: fn(nvmlDevice_t, *mut c_char, c_uint) = "nvmlDeviceGetInforomImageVersion\0";
    vbios: fn(nvmlDevice_t, *mut c_char, c_uint) = "nvmlDeviceGetVbiosVersion\0";
    total_ecc_errors: fn(nvmlDevice_t, c_uint, c_uint, *mut c_ulonglong)
        = "nvmlDeviceGetTotalEccErrors\0";
    remapped_rows: fn(nvmlDevice_t, *mut c_uint, *mut c_uint, *mut c_uint, *mut c_uint)
        = "nvmlDeviceGetRemappedRows\0";
    supported_events: fn(nvmlDevice_t, *mut c_ulonglong) = "nvmlDeviceGetSupportedEventTypes\0";
    register_events: fn(nvmlDevice_t, c_ulonglong, nvmlEventSet_t) = "nvmlDeviceRegisterEvents\0";
    event_set_create: fn(*mut nvmlEventSet_t) = "nvmlEventSetCreate\0";
    event_set_free: fn(nvmlEventSet_t) = "nvmlEventSetFree\0";
    event_set_wait_v2: fn(nvmlEventSet_t, *mut nvmlEventData_t, c_uint) = "nvmlEventSetWait_v2\0";
    event_set_wait: fn(nvmlEventSet_t, *mut nvmlEventData_t, c_uint) = "nvmlEventSetWait\0";
    mig_mode: fn(nvmlDevice_t, *mut c_uint, *mut c_uint) = "nvmlDeviceGetMigMode\0";
    set_mig_mode: fn(nvmlDevice_t, c_uint, *mut nvmlReturn_t) = "nvmlDeviceSetMigMode\0";
    most_mig_devices: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetMaxMigDeviceCount\0";
    mig_device: fn(nvmlDevice_t, c_uint, *mut nvmlDevice_t)
        = "nvmlDeviceGetMigDeviceHandleByIndex\0";
    gpu_instance_id: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetGpuInstanceId\0";
    compute_instance_id: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetComputeInstanceId\0";
    attributes_v2: fn(nvmlDevice_t, *mut nvmlDeviceAttributes_t) = "nvmlDeviceGetAttributes_v2\0";
    attributes: fn(nvmlDevice_t, *mut nvmlDeviceAttributes_t) = "nvmlDeviceGetAttributes\0";
    gpu_profile: fn(nvmlDevice_t, c_uint, *mut nvmlGpuInstanceProfileInfo_t)
        = "nvmlDeviceGetGpuInstanceProfileInfo\0";
    gpu_placements: fn(nvmlDevice_t, c_uint, *mut nvmlGpuInstancePlacement_t, *mut c_uint)
        = "nvmlDeviceGetGpuInstancePossiblePlacements_v2\0"
        | "nvmlDeviceGetGpuInstancePossiblePlacements\0";
    gpu_instances: fn(nvmlDevice_t, c_uint, *mut nvmlGpuInstance_t, *mut c_uint)
        = "nvmlDeviceGetGpuInstances\0";
    gpu_instance: fn(nvmlDevice_t, c_uint, *mut nvmlGpuInstance_t)
        = "nvmlDeviceGetGpuInstanceById\0";
    gpu_instance_info: fn(nvmlGpuInstance_t, *mut nvmlGpuInstanceInfo_t)
        = "nvmlGpuInstanceGetInfo\0";
    create_gpu_instance_at: fn(
        nvmlDevice_t,
        c_uint,
        *const nvmlGpuInstancePlacement_t,
        *mut nvmlGpuInstance_t
    ) = "nvmlDeviceCreateGpuInstanceWithPlacement\0";
    create_gpu_instance: fn(nvmlDevice_t, c_uint, *mut nvmlGpuInstance_t)
        = "nvmlDeviceCreateGpuInstance\0";
    destroy_gpu_instance: fn(nvmlGpuInstance_t) = "nvmlGpuInstanceDestroy\0";
    compute_profile: fn(nvmlGpuInstance_t, c_uint, c_uint, *mut nvmlComputeInstanceProfileInfo_t)
        = "nvmlGpuInstanceGetComputeInstanceProfileInfo\0";
    compute_instances: fn(nvmlGpuInstance_t, c_uint, *mut nvmlComputeInstance_t, *mut c_uint)
        = "nvmlGpuInstanceGetComputeInstances\0";
    compute_instance: fn(nvmlGpuInstance_t, c_uint, *mut nvmlComputeInstance_t)
        = "nvmlGpuInstanceGetComputeInstanceById\0";
    compute_instance_info_v2: fn(nvmlComputeInstance_t, *mut nvmlComputeInstanceInfo_t)
        = "nvmlComputeInstanceGetInfo_v2\0";
    compute_instance_info: fn(nvmlComputeInstance_t, *mut nvmlComputeInstanceInfo_t)
        = "nvmlComputeInstanceGetInfo\0";
    create_compute_instance: fn(nvmlGpuInstance_t, c_uint, *mut nvmlComputeInstance_t)
        = "nvmlGpuInstanceCreateComputeInstance\0";
    destroy_compute_instance: fn(nvmlComputeInstance_t) = "nvmlComputeInstanceDestroy\0";
}

/// The loaded library. Unloaded when dropped; whoever may still be inside one of its functions
/// keeps it alive.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) functions: Functions,
    /// Where it was found; a bare name where the dynamic linker found it.
    pub(crate) path: PathBuf,
    // After the functions, so that none outlives it.
    _handle: Handle,
    /// The file that it was loaded from, if that is a copy. Its name is that of the descriptor,
    /// which must name nothing else as long as the dynamic linker knows the library by it.
    _copy: Option<File>,
}

impl Library {
    /// Loads the library at `path`, or the one that the dynamic linker finds when `path` has
    /// no directory.
    ///
    /// # Errors
    /// [`DriverError::LibraryUnusable`], with what the dynamic linker said or the function
    /// without which nothing works.
    pub(crate) fn load(path: &Path) -> Result<Self, DriverError> {
        Self::load_file(path, path, None)
    }

    /// Loads the library at `path` beside itself: from a copy in memory, which the dynamic
    /// linker takes for another library. The two share nothing, so that this one lists the GPUs
    /// anew while the other one is still initialised.
    ///
    /// # Errors
    /// As [`load`](Self::load), and when there is no file of this path or it cannot be copied.
    pub(crate) fn load_apart(path: &Path) -> Result<Self, DriverError> {
        let copy = copied(path)
            .map_err(|error| unusable(path, format!("it cannot be copied: {error}")))?;
        let file = format!("/proc/self/fd/{}", copy.as_raw_fd());
        Self::load_file(path, Path::new(&file), Some(copy))
    }

    /// Loads `file`, which stands for the library at `path`.
    fn load_file(path: &Path, file: &Path, copy: Option<File>) -> Result<Self, DriverError> {
        // SAFETY: loading runs the library's initialisers. The caller names a libnvidia-ml,
        // whose initialisers are made for this.
        let handle = unsafe { Handle::open(Some(file), RTLD_LAZY | RTLD_LOCAL) }
            .map_err(|error| unusable(path, linker_words(&error)))?;
        let functions = Functions::resolve(&handle);
        for (present, name) in [
            (functions.init.is_some(), "nvmlInit_v2"),
            (functions.shutdown.is_some(), "nvmlShutdown"),
            (functions.count.is_some(), "nvmlDeviceGetCount_v2"),
            (
                functions.handle_by_index.is_some(),
                "nvmlDeviceGetHandleByIndex_v2",
            ),
        ] {
            if !present {
                return Err(unusable(path, format!("it has no function {name}")));
            }
        }
        Ok(Self {
            functions,
            path: path.to_owned(),
            _handle: handle,
            _copy: copy,
        })
    }

    /// Turns what the function `call` returned into a result.
    pub(crate) fn checked(
        &self,
        call: &'static str,
        code: nvmlReturn_t,
    ) -> Result<(), DriverError> {
        match code {
            code::SUCCESS => Ok(()),
            code::NOT_SUPPORTED | code::FUNCTION_NOT_FOUND => Err(DriverError::NotSupported),
            code::NO_PERMISSION | code::OPERATING_SYSTEM => Err(DriverError::NoPermission),
            code::DRIVER_NOT_LOADED | code::LIB_RM_VERSION_MISMATCH => {
                Err(DriverError::NotRunning(self.words(code)))
            }
            code::GPU_IS_LOST => Err(DriverError::GpuLost),
            code::IN_USE => Err(DriverError::InUse),
            code::INSUFFICIENT_RESOURCES => Err(DriverError::InsufficientResources),
            code => Err(DriverError::Nvml {
                call,
                code,
                message: self.words(code),
            }),
        }
    }

    /// NVML's own words for a code.
    fn words(&self, code: nvmlReturn_t) -> String {
        let Some(error_string) = self.functions.error_string else {
            return format!("error {code}");
        };
        // SAFETY: takes any code, needs no initialisation, and answers a static text or NULL.
        let text = unsafe { error_string(code) };
        if text.is_null() {
            return format!("error {code}");
        }
        // SAFETY: not NULL, and NVML's texts are static and end with NUL.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    }
}

fn unusable(path: &Path, reason: String) -> DriverError {
    DriverError::LibraryUnusable {
        path: path.display().to_string(),
        reason,
    }
}

/// The contents of a file, in memory.
fn copied(path: &Path) -> io::Result<File> {
    let mut original = File::open(path)?;
    let mut copy = File::from(memfd_create("libnvidia-ml.so.1", MemfdFlags::CLOEXEC)?);
    io::copy(&mut original, &mut copy)?;
    Ok(copy)
}

/// What the dynamic linker said, without our own library's words around it.
fn linker_words(error: &libloading::Error) -> String {
    use std::error::Error as _;
    error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string)
}
