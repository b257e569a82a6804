//! Field values.

use std::ffi::{c_int, c_longlong};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlFieldValue_t, nvmlReturn_t, nvmlValue_t};

use super::global::with_device;
use super::pointer::required;
use super::{SUCCESS, answer};
use crate::engine::{Device, Failure, FieldValue};
use crate::state::clock::wall_microseconds;

/// Types of values, numbered as `nvmlValueType_t`.
const UNSIGNED_INT: u32 = 1;
const UNSIGNED_LONG_LONG: u32 = 3;
const SIGNED_INT: u32 = 5;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetFieldValues(
    device: nvmlDevice_t,
    count: c_int,
    values: *mut nvmlFieldValue_t,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            let values = required(values)?;
            let count = usize::try_from(count).map_err(|_| Failure::InvalidArgument)?;
            if count == 0 {
                return Err(Failure::InvalidArgument);
            }
            // SAFETY: nvml.h: the array has `count` values.
            let values = unsafe { std::slice::from_raw_parts_mut(values.as_ptr(), count) };
            for value in values {
                fill(device, value);
            }
            Ok(())
        })
    })
}

/// Each value has a return code of its own.
fn fill(device: &Device<'_>, value: &mut nvmlFieldValue_t) {
    value.timestamp = c_longlong::try_from(wall_microseconds()).unwrap_or(0);
    value.latencyUsec = 0;
    match device.field(value.fieldId, value.scopeId) {
        Ok(reading) => {
            value.nvmlReturn = SUCCESS;
            (value.valueType, value.value) = match reading {
                FieldValue::Small(number) => (UNSIGNED_INT, wide(u64::from(number))),
                FieldValue::Big(number) => (UNSIGNED_LONG_LONG, wide(number)),
                FieldValue::Signed(number) => {
                    let mut union = wide(0);
                    union.siVal = number;
                    (SIGNED_INT, union)
                }
            };
        }
        Err(failure) => value.nvmlReturn = failure as nvmlReturn_t,
    }
}

/// The whole union is written, so that no bytes of the caller's stay in it.
fn wide(number: u64) -> nvmlValue_t {
    nvmlValue_t { ullVal: number }
}

/// The fields that can be cleared count nothing here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceClearFieldValues(
    device: nvmlDevice_t,
    count: c_int,
    values: *mut nvmlFieldValue_t,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |_| {
            required(values)?;
            if count <= 0 {
                return Err(Failure::InvalidArgument);
            }
            Err(Failure::NotSupported)
        })
    })
}
