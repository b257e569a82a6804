//! The functions of the library, each if it is there.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};

use libloading::os::unix::Library as Handle;
use nvml_wrapper_sys::bindings::{
    nvmlBAR1Memory_t, nvmlDevice_t, nvmlDeviceAttributes_t, nvmlMemory_t, nvmlMemory_v2_t,
    nvmlPciInfo_t, nvmlProcessInfo_v1_t, nvmlProcessInfo_v2_t, nvmlReturn_t, nvmlUtilization_t,
};

/// Declares the functions used: field, type, names from newest to oldest.
macro_rules! functions {
    ($($field:ident: fn($($argument:ty),*) = $($name:literal)|+;)*) => {
        /// The library's functions.
        #[derive(Debug)]
        pub(super) struct Functions {
            $(pub(super) $field: Option<unsafe extern "C" fn($($argument),*) -> nvmlReturn_t>,)*
            /// The one function that answers a text.
            pub(super) error_string: Option<unsafe extern "C" fn(nvmlReturn_t) -> *const c_char>,
        }

        impl Functions {
            pub(super) fn resolve(library: &Handle) -> Self {
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
    process_name: fn(c_uint, *mut c_char, c_uint) = "nvmlSystemGetProcessName\0";
    count: fn(*mut c_uint) = "nvmlDeviceGetCount_v2\0" | "nvmlDeviceGetCount\0";
    device: fn(c_uint, *mut nvmlDevice_t)
        = "nvmlDeviceGetHandleByIndex_v2\0" | "nvmlDeviceGetHandleByIndex\0";

    name: fn(nvmlDevice_t, *mut c_char, c_uint) = "nvmlDeviceGetName\0";
    uuid: fn(nvmlDevice_t, *mut c_char, c_uint) = "nvmlDeviceGetUUID\0";
    serial: fn(nvmlDevice_t, *mut c_char, c_uint) = "nvmlDeviceGetSerial\0";
    vbios_version: fn(nvmlDevice_t, *mut c_char, c_uint) = "nvmlDeviceGetVbiosVersion\0";
    inforom_version: fn(nvmlDevice_t, *mut c_char, c_uint)
        = "nvmlDeviceGetInforomImageVersion\0";
    pci: fn(nvmlDevice_t, *mut nvmlPciInfo_t)
        = "nvmlDeviceGetPciInfo_v3\0" | "nvmlDeviceGetPciInfo_v2\0" | "nvmlDeviceGetPciInfo\0";
    memory_v2: fn(nvmlDevice_t, *mut nvmlMemory_v2_t) = "nvmlDeviceGetMemoryInfo_v2\0";
    memory: fn(nvmlDevice_t, *mut nvmlMemory_t) = "nvmlDeviceGetMemoryInfo\0";
    bar1: fn(nvmlDevice_t, *mut nvmlBAR1Memory_t) = "nvmlDeviceGetBAR1MemoryInfo\0";
    utilization: fn(nvmlDevice_t, *mut nvmlUtilization_t) = "nvmlDeviceGetUtilizationRates\0";
    encoder_utilization: fn(nvmlDevice_t, *mut c_uint, *mut c_uint)
        = "nvmlDeviceGetEncoderUtilization\0";
    decoder_utilization: fn(nvmlDevice_t, *mut c_uint, *mut c_uint)
        = "nvmlDeviceGetDecoderUtilization\0";
    compute_capability: fn(nvmlDevice_t, *mut c_int, *mut c_int)
        = "nvmlDeviceGetCudaComputeCapability\0";
    temperature: fn(nvmlDevice_t, c_uint, *mut c_uint) = "nvmlDeviceGetTemperature\0";
    fan_speed: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetFanSpeed\0";
    performance_state: fn(nvmlDevice_t, *mut c_uint)
        = "nvmlDeviceGetPerformanceState\0" | "nvmlDeviceGetPowerState\0";
    power_usage: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetPowerUsage\0";
    power_limit: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetPowerManagementLimit\0";
    default_power_limit: fn(nvmlDevice_t, *mut c_uint)
        = "nvmlDeviceGetPowerManagementDefaultLimit\0";
    enforced_power_limit: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetEnforcedPowerLimit\0";
    power_limits: fn(nvmlDevice_t, *mut c_uint, *mut c_uint)
        = "nvmlDeviceGetPowerManagementLimitConstraints\0";
    persistence_mode: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetPersistenceMode\0";
    display_mode: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetDisplayMode\0";
    display_active: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetDisplayActive\0";
    compute_mode: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetComputeMode\0";
    clock: fn(nvmlDevice_t, c_uint, *mut c_uint) = "nvmlDeviceGetClockInfo\0";
    max_clock: fn(nvmlDevice_t, c_uint, *mut c_uint) = "nvmlDeviceGetMaxClockInfo\0";
    applications_clock: fn(nvmlDevice_t, c_uint, *mut c_uint)
        = "nvmlDeviceGetApplicationsClock\0";
    clock_event_reasons: fn(nvmlDevice_t, *mut c_ulonglong)
        = "nvmlDeviceGetCurrentClocksEventReasons\0"
        | "nvmlDeviceGetCurrentClocksThrottleReasons\0";
    link_generation: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetCurrPcieLinkGeneration\0";
    max_link_generation: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetMaxPcieLinkGeneration\0";
    link_width: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetCurrPcieLinkWidth\0";
    max_link_width: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetMaxPcieLinkWidth\0";
    ecc_mode: fn(nvmlDevice_t, *mut c_uint, *mut c_uint) = "nvmlDeviceGetEccMode\0";
    ecc_total: fn(nvmlDevice_t, c_uint, c_uint, *mut c_ulonglong)
        = "nvmlDeviceGetTotalEccErrors\0";
    ecc_counter: fn(nvmlDevice_t, c_uint, c_uint, c_uint, *mut c_ulonglong)
        = "nvmlDeviceGetMemoryErrorCounter\0";
    compute_processes: fn(nvmlDevice_t, *mut c_uint, *mut nvmlProcessInfo_v2_t)
        = "nvmlDeviceGetComputeRunningProcesses_v3\0"
        | "nvmlDeviceGetComputeRunningProcesses_v2\0";
    compute_processes_v1: fn(nvmlDevice_t, *mut c_uint, *mut nvmlProcessInfo_v1_t)
        = "nvmlDeviceGetComputeRunningProcesses\0";
    graphics_processes: fn(nvmlDevice_t, *mut c_uint, *mut nvmlProcessInfo_v2_t)
        = "nvmlDeviceGetGraphicsRunningProcesses_v3\0"
        | "nvmlDeviceGetGraphicsRunningProcesses_v2\0";
    graphics_processes_v1: fn(nvmlDevice_t, *mut c_uint, *mut nvmlProcessInfo_v1_t)
        = "nvmlDeviceGetGraphicsRunningProcesses\0";

    mig_mode: fn(nvmlDevice_t, *mut c_uint, *mut c_uint) = "nvmlDeviceGetMigMode\0";
    max_mig_devices: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetMaxMigDeviceCount\0";
    mig_device: fn(nvmlDevice_t, c_uint, *mut nvmlDevice_t)
        = "nvmlDeviceGetMigDeviceHandleByIndex\0";
    gpu_instance: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetGpuInstanceId\0";
    compute_instance: fn(nvmlDevice_t, *mut c_uint) = "nvmlDeviceGetComputeInstanceId\0";
    attributes: fn(nvmlDevice_t, *mut nvmlDeviceAttributes_t)
        = "nvmlDeviceGetAttributes_v2\0";
}
