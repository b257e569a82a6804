//! Memory errors and repairs.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEccCounterType_t, nvmlEccErrorCounts_t, nvmlEccSramErrorStatus_v1_t,
    nvmlEnableState_t, nvmlMemoryErrorType_t, nvmlMemoryLocation_t, nvmlPageRetirementCause_t,
    nvmlRepairStatus_v1_t, nvmlReturn_t, nvmlRowRemapperHistogramValues_t,
};

use super::global::with_device;
use super::pointer::{put, put_list, put_optional, required};
use super::{answer, getters, pair_getters, versioned_getters};
use crate::engine::{Device, EccLocation, Failure};

/// Banks with spare rows, as Hopper's histogram counts them.
const BANKS: c_uint = 2560;

getters! {
    nvmlDeviceGetDefaultEccMode(_device) -> nvmlEnableState_t = Ok(1);
    nvmlDeviceGetRetiredPagesPendingStatus(device) -> nvmlEnableState_t =
        Ok(u32::from(device.retired_pages()?.2));
    nvmlDeviceGetRowRemapperHistogram(device) -> nvmlRowRemapperHistogramValues_t = {
        let rows = device.remapped_rows()?;
        let used = (rows.corrected + rows.uncorrected).min(BANKS);
        Ok(nvmlRowRemapperHistogramValues_t {
            max: BANKS - used,
            high: used,
            partial: 0,
            low: 0,
            none: u32::from(rows.failed),
        })
    };
}

pair_getters! {
    nvmlDeviceGetEccMode(device) -> (nvmlEnableState_t, nvmlEnableState_t) = {
        let on = u32::from(device.has_ecc());
        Ok((on, on))
    };
}

versioned_getters! {
    nvmlDeviceGetSramEccErrorStatus(device, value: nvmlEccSramErrorStatus_v1_t, 1) = {
        if !device.model().remaps_rows() {
            return Err(Failure::NotSupported);
        }
        let version = value.version;
        // SAFETY: The struct is plain numbers, for which zero is a value: no SRAM errors.
        *value = unsafe { std::mem::zeroed() };
        value.version = version;
        Ok(())
    };
    nvmlDeviceGetRepairStatus(device, value: nvmlRepairStatus_v1_t, 1) = {
        if !device.model().has_gpm() {
            return Err(Failure::NotSupported);
        }
        value.bChannelRepairPending = 0;
        value.bTpcRepairPending = 0;
        Ok(())
    };
}

/// The kind of error and of counter, as NVML numbers them.
fn kinds(
    error: nvmlMemoryErrorType_t,
    counter: nvmlEccCounterType_t,
) -> Result<(bool, bool), Failure> {
    match (error, counter) {
        (0 | 1, 0 | 1) => Ok((error == 1, counter == 1)),
        _ => Err(Failure::InvalidArgument),
    }
}

fn location(code: nvmlMemoryLocation_t) -> Result<EccLocation, Failure> {
    match code {
        2 => Ok(EccLocation::Dram),
        0 | 1 | 3..=7 => Ok(EccLocation::Sram),
        _ => Err(Failure::InvalidArgument),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: nvmlDevice_t,
    error: nvmlMemoryErrorType_t,
    counter: nvmlEccCounterType_t,
    count: *mut c_ulonglong,
) -> nvmlReturn_t {
    // SAFETY: The caller's promise, passed on.
    unsafe { nvmlDeviceGetMemoryErrorCounter(device, error, counter, 2, count) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryErrorCounter(
    device: nvmlDevice_t,
    error: nvmlMemoryErrorType_t,
    counter: nvmlEccCounterType_t,
    place: nvmlMemoryLocation_t,
    count: *mut c_ulonglong,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            let count = required(count)?;
            let (uncorrected, aggregate) = kinds(error, counter)?;
            let errors = device.ecc_errors(uncorrected, aggregate, location(place)?);
            // SAFETY: nvml.h: a pointer that is not null points to a writable number.
            unsafe { put(count, errors) };
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetDetailedEccErrors(
    device: nvmlDevice_t,
    error: nvmlMemoryErrorType_t,
    counter: nvmlEccCounterType_t,
    counts: *mut nvmlEccErrorCounts_t,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            let counts = required(counts)?;
            let (uncorrected, aggregate) = kinds(error, counter)?;
            let answer = nvmlEccErrorCounts_t {
                l1Cache: 0,
                l2Cache: 0,
                deviceMemory: device.ecc_errors(uncorrected, aggregate, EccLocation::Dram),
                registerFile: 0,
            };
            // SAFETY: nvml.h: a pointer that is not null points to a writable struct.
            unsafe { put(counts, answer) };
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceClearEccErrorCounts(
    device: nvmlDevice_t,
    counter: nvmlEccCounterType_t,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            let (_, aggregate) = kinds(0, counter)?;
            device.clear_ecc(aggregate)
        })
    })
}

/// Addresses of retired pages: made up, but stable.
fn retired(
    device: &Device<'_>,
    cause: nvmlPageRetirementCause_t,
) -> Result<Vec<c_ulonglong>, Failure> {
    let (single, double, _) = device.retired_pages()?;
    let count = match cause {
        0 => single,
        1 => double,
        _ => return Err(Failure::InvalidArgument),
    };
    Ok((0..count)
        .map(|page| 0x10_0000 * (page + 1) + u64::from(cause))
        .collect())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetRetiredPages(
    device: nvmlDevice_t,
    cause: nvmlPageRetirementCause_t,
    count: *mut c_uint,
    addresses: *mut c_ulonglong,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            let pages = retired(device, cause)?;
            // SAFETY: nvml.h: the count is null or valid, the array null or as long as it says.
            unsafe { put_list(count, addresses, pages) }
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetRetiredPages_v2(
    device: nvmlDevice_t,
    cause: nvmlPageRetirementCause_t,
    count: *mut c_uint,
    addresses: *mut c_ulonglong,
    timestamps: *mut c_ulonglong,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            let pages = retired(device, cause)?;
            let length = pages.len();
            // SAFETY: nvml.h: the count is null or valid, the arrays null or as long as it says.
            unsafe {
                put_list(count, addresses, pages)?;
                for position in 0..length {
                    put_optional(
                        timestamps.wrapping_add(position * usize::from(!timestamps.is_null())),
                        0,
                    );
                }
            }
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetRemappedRows(
    device: nvmlDevice_t,
    corrected: *mut c_uint,
    uncorrected: *mut c_uint,
    pending: *mut c_uint,
    failed: *mut c_uint,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            let rows = device.remapped_rows()?;
            let values = [
                (required(corrected)?, rows.corrected),
                (required(uncorrected)?, rows.uncorrected),
                (required(pending)?, u32::from(rows.pending)),
                (required(failed)?, u32::from(rows.failed)),
            ];
            for (pointer, value) in values {
                // SAFETY: nvml.h: pointers that are not null point to writable numbers.
                unsafe { put(pointer, value) };
            }
            Ok(())
        })
    })
}
