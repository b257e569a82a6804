//! Clocks, performance and utilisation.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    nvmlClockId_t, nvmlClockType_t, nvmlDevice_t, nvmlEnableState_t, nvmlEncoderType_t,
    nvmlGpuDynamicPstatesInfo_t, nvmlPerfPolicyType_t, nvmlPstates_t, nvmlReturn_t,
    nvmlUtilization_t, nvmlViolationTime_t,
};

use super::global::with_device;
use super::pointer::{put, put_list, required};
use super::{answer, getters, keyed_getters, pair_getters};
use crate::engine::{ClockDomain, Device, Failure};
use crate::state::clock::wall_microseconds;

/// `nvmlClocksEventReason*` bits that data-centre GPUs report.
const SUPPORTED_REASONS: c_ulonglong = 0x1ff;
/// How long a utilisation is averaged over, µs.
const SAMPLING_PERIOD: c_uint = 167_000;

getters! {
    nvmlDeviceGetUtilizationRates(device) -> nvmlUtilization_t = {
        let (gpu, memory) = device.as_a_whole()?.utilization();
        Ok(nvmlUtilization_t { gpu, memory })
    };
    nvmlDeviceGetPerformanceState(device) -> nvmlPstates_t = Ok(device.performance_state());
    nvmlDeviceGetPowerState(device) -> nvmlPstates_t = Ok(device.performance_state());
    nvmlDeviceGetCurrentClocksEventReasons(device) -> c_ulonglong = Ok(device.clock_reasons());
    nvmlDeviceGetCurrentClocksThrottleReasons(device) -> c_ulonglong = Ok(device.clock_reasons());
    nvmlDeviceGetSupportedClocksEventReasons(_device) -> c_ulonglong = Ok(SUPPORTED_REASONS);
    nvmlDeviceGetSupportedClocksThrottleReasons(_device) -> c_ulonglong = Ok(SUPPORTED_REASONS);
    nvmlDeviceGetDynamicPstatesInfo(device) -> nvmlGpuDynamicPstatesInfo_t = Ok(domains(device));
}

pair_getters! {
    nvmlDeviceGetEncoderUtilization(device) -> (c_uint, c_uint) =
        Ok((device.as_a_whole()?.codec_utilization().0, SAMPLING_PERIOD));
    nvmlDeviceGetDecoderUtilization(device) -> (c_uint, c_uint) =
        Ok((device.as_a_whole()?.codec_utilization().1, SAMPLING_PERIOD));
    nvmlDeviceGetJpgUtilization(_device) -> (c_uint, c_uint) = Ok((0, SAMPLING_PERIOD));
    nvmlDeviceGetOfaUtilization(_device) -> (c_uint, c_uint) = Ok((0, SAMPLING_PERIOD));
    nvmlDeviceGetAutoBoostedClocksEnabled(_device) -> (nvmlEnableState_t, nvmlEnableState_t) =
        Err(Failure::NotSupported);
}

keyed_getters! {
    nvmlDeviceGetClockInfo(device, domain: nvmlClockType_t) -> c_uint =
        Ok(device.clock(ClockDomain::from_code(domain)?));
    nvmlDeviceGetMaxClockInfo(device, domain: nvmlClockType_t) -> c_uint =
        Ok(device.max_clock(ClockDomain::from_code(domain)?));
    nvmlDeviceGetApplicationsClock(device, domain: nvmlClockType_t) -> c_uint =
        application_clock(device, domain);
    nvmlDeviceGetDefaultApplicationsClock(device, domain: nvmlClockType_t) -> c_uint =
        application_clock(device, domain);
    nvmlDeviceGetMaxCustomerBoostClock(device, domain: nvmlClockType_t) -> c_uint =
        application_clock(device, domain);
    nvmlDeviceGetEncoderCapacity(_device, kind: nvmlEncoderType_t) -> c_uint = match kind {
        0..=2 => Ok(100),
        _ => Err(Failure::InvalidArgument),
    };
    nvmlDeviceGetViolationStatus(device, policy: nvmlPerfPolicyType_t) -> nvmlViolationTime_t = {
        let time = match policy {
            0 => device.throttled()[0],
            1 => device.throttled()[1],
            2..=5 | 10 | 11 => 0,
            _ => return Err(Failure::InvalidArgument),
        };
        Ok(nvmlViolationTime_t {
            referenceTime: wall_microseconds(),
            violationTime: time,
        })
    };
}

/// Applications choose the clocks of graphics and memory.
fn application_clock(device: &Device<'_>, domain: nvmlClockType_t) -> Result<c_uint, Failure> {
    match ClockDomain::from_code(domain)? {
        ClockDomain::Video => Err(Failure::NotSupported),
        domain => Ok(device.max_clock(domain)),
    }
}

/// Utilisation of graphics, framebuffer, video and bus; the first and the third have their bits.
fn domains(device: &Device<'_>) -> nvmlGpuDynamicPstatesInfo_t {
    // SAFETY: The struct is plain numbers, for which zero is a value.
    let mut info: nvmlGpuDynamicPstatesInfo_t = unsafe { std::mem::zeroed() };
    let (gpu, memory) = device.utilization();
    let (encoder, decoder) = device.codec_utilization();
    for (domain, percent) in info
        .utilization
        .iter_mut()
        .zip([gpu, memory, encoder.max(decoder), 0])
    {
        domain.bIsPresent = 1;
        domain.percentage = percent;
    }
    info.flags = 1;
    info
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetClock(
    device: nvmlDevice_t,
    domain: nvmlClockType_t,
    id: nvmlClockId_t,
    clock: *mut c_uint,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            let clock = required(clock)?;
            let domain = ClockDomain::from_code(domain)?;
            let value = match id {
                0 => device.clock(domain),
                1..=3 => device.max_clock(domain),
                _ => return Err(Failure::InvalidArgument),
            };
            // SAFETY: nvml.h: a pointer that is not null points to a writable number.
            unsafe { put(clock, value) };
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetSupportedMemoryClocks(
    device: nvmlDevice_t,
    count: *mut c_uint,
    clocks: *mut c_uint,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            // SAFETY: nvml.h: the count is null or valid, the array null or as long as it says.
            unsafe { put_list(count, clocks, device.supported_memory_clocks()) }
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetSupportedGraphicsClocks(
    device: nvmlDevice_t,
    memory: c_uint,
    count: *mut c_uint,
    clocks: *mut c_uint,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            required(count)?;
            let supported = device.supported_graphics_clocks(memory)?;
            // SAFETY: nvml.h: the count is null or valid, the array null or as long as it says.
            unsafe { put_list(count, clocks, supported) }
        })
    })
}

/// No encoding session is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetEncoderStats(
    device: nvmlDevice_t,
    sessions: *mut c_uint,
    frames: *mut c_uint,
    latency: *mut c_uint,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |_| {
            for value in [required(sessions)?, required(frames)?, required(latency)?] {
                // SAFETY: nvml.h: pointers that are not null point to writable numbers.
                unsafe { put(value, 0) };
            }
            Ok(())
        })
    })
}
