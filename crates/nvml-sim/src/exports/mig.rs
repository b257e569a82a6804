//! MIG: capable GPUs say so, and none is partitioned.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlGpmSupport_t};

use super::{getters, keyed_getters, pair_getters, versioned_getters};
use crate::engine::Failure;

pair_getters! {
    nvmlDeviceGetMigMode(device) -> (c_uint, c_uint) = {
        if device.is_mig_capable() { Ok((0, 0)) } else { Err(Failure::NotSupported) }
    };
}

getters! {
    nvmlDeviceGetMaxMigDeviceCount(device) -> c_uint = {
        let slices = match device.model().key {
            "a30" | "rtx-pro-6000" => 4,
            _ => 7,
        };
        if device.is_mig_capable() { Ok(slices) } else { Err(Failure::NotSupported) }
    };
    nvmlDeviceIsMigDeviceHandle(_device) -> c_uint = Ok(0);
    nvmlDeviceGetGpuInstanceId(_device) -> c_uint = Err(Failure::NotSupported);
    nvmlDeviceGetComputeInstanceId(_device) -> c_uint = Err(Failure::NotSupported);
    nvmlDeviceGetDeviceHandleFromMigDeviceHandle(_device) -> nvmlDevice_t =
        Err(Failure::InvalidArgument);
}

keyed_getters! {
    nvmlDeviceGetMigDeviceHandleByIndex(device, _index: c_uint) -> nvmlDevice_t =
        Err(if device.is_mig_capable() { Failure::NotFound } else { Failure::NotSupported });
}

versioned_getters! {
    // GPM samples are not simulated, so no device offers them.
    nvmlGpmQueryDeviceSupport(_device, value: nvmlGpmSupport_t, 1) = {
        value.isSupportedDevice = 0;
        Ok(())
    };
}
