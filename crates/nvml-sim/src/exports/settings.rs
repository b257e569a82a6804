//! Modes that can be set.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    nvmlComputeMode_t, nvmlDevice_t, nvmlEnableState_t, nvmlRestrictedAPI_t, nvmlReturn_t,
};

use super::global::with_device;
use super::{answer, getters, keyed_getters, pair_getters};
use crate::engine::Failure;

getters! {
    nvmlDeviceGetComputeMode(device) -> nvmlComputeMode_t = Ok(device.compute_mode());
    nvmlDeviceGetPersistenceMode(device) -> nvmlEnableState_t = Ok(u32::from(device.persistence()));
}

pair_getters! {
    // Windows has driver models.
    nvmlDeviceGetDriverModel(_device) -> (c_uint, c_uint) = Err(Failure::NotSupported);
    nvmlDeviceGetDriverModel_v2(_device) -> (c_uint, c_uint) = Err(Failure::NotSupported);
    nvmlDeviceGetGpuOperationMode(_device) -> (c_uint, c_uint) = Err(Failure::NotSupported);
}

keyed_getters! {
    nvmlDeviceGetAPIRestriction(_device, api: nvmlRestrictedAPI_t) -> nvmlEnableState_t = match api {
        0 => Ok(0),
        1 => Err(Failure::NotSupported),
        _ => Err(Failure::InvalidArgument),
    };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceSetComputeMode(
    device: nvmlDevice_t,
    mode: nvmlComputeMode_t,
) -> nvmlReturn_t {
    answer(|| with_device(device, |device| device.set_compute_mode(mode)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceSetPersistenceMode(
    device: nvmlDevice_t,
    mode: nvmlEnableState_t,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| match mode {
            0 | 1 => device.set_persistence(mode == 1),
            _ => Err(Failure::InvalidArgument),
        })
    })
}
