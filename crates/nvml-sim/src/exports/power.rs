//! Power, energy, temperature and fans.

use std::ffi::{c_int, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEnableState_t, nvmlMarginTemperature_v1_t, nvmlReturn_t, nvmlTemperature_t,
    nvmlTemperatureSensors_t, nvmlTemperatureThresholds_t,
};

use super::global::with_device;
use super::{answer, getters, keyed_getters, pair_getters, versioned_getters};
use crate::engine::{Device, Failure};

getters! {
    nvmlDeviceGetPowerUsage(device) -> c_uint = Ok(device.power());
    nvmlDeviceGetPowerManagementLimit(device) -> c_uint = Ok(device.power_limit());
    nvmlDeviceGetPowerManagementDefaultLimit(device) -> c_uint = Ok(device.default_power_limit());
    nvmlDeviceGetEnforcedPowerLimit(device) -> c_uint = Ok(device.power_limit());
    nvmlDeviceGetPowerManagementMode(_device) -> nvmlEnableState_t = Ok(1);
    nvmlDeviceGetTotalEnergyConsumption(device) -> c_ulonglong = Ok(device.energy());
    // Data-centre GPUs are cooled by the machine's fans.
    nvmlDeviceGetNumFans(_device) -> c_uint = Ok(0);
    nvmlDeviceGetFanSpeed(_device) -> c_uint = Err(Failure::NotSupported);
}

pair_getters! {
    nvmlDeviceGetPowerManagementLimitConstraints(device) -> (c_uint, c_uint) =
        Ok(device.power_limits());
    nvmlDeviceGetMinMaxFanSpeed(_device) -> (c_uint, c_uint) = Err(Failure::NotSupported);
}

keyed_getters! {
    nvmlDeviceGetFanSpeed_v2(_device, _fan: c_uint) -> c_uint = Err(Failure::NotSupported);
    nvmlDeviceGetTargetFanSpeed(_device, _fan: c_uint) -> c_uint = Err(Failure::NotSupported);
    nvmlDeviceGetTemperature(device, sensor: nvmlTemperatureSensors_t) -> c_uint = match sensor {
        0 => Ok(device.temperature()),
        _ => Err(Failure::InvalidArgument),
    };
    nvmlDeviceGetTemperatureThreshold(device, kind: nvmlTemperatureThresholds_t) -> c_uint =
        threshold(device, kind);
}

versioned_getters! {
    nvmlDeviceGetTemperatureV(device, value: nvmlTemperature_t, 1) = match value.sensorType {
        0 => {
            value.temperature = c_int::try_from(device.temperature()).unwrap_or(0);
            Ok(())
        }
        _ => Err(Failure::InvalidArgument),
    };
    nvmlDeviceGetMarginTemperature(device, value: nvmlMarginTemperature_v1_t, 1) = {
        let limit = c_int::try_from(device.model().thermal.max_operating).unwrap_or(0);
        value.marginTemperature = limit - c_int::try_from(device.temperature()).unwrap_or(0);
        Ok(())
    };
}

fn threshold(device: &Device<'_>, kind: nvmlTemperatureThresholds_t) -> Result<c_uint, Failure> {
    let thermal = device.model().thermal;
    match kind {
        0 => Ok(thermal.shutdown),
        1 => Ok(thermal.slowdown),
        2 => thermal.max_memory.ok_or(Failure::NotSupported),
        3 => Ok(thermal.max_operating),
        4..=7 => Err(Failure::NotSupported),
        _ => Err(Failure::InvalidArgument),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceSetPowerManagementLimit(
    device: nvmlDevice_t,
    limit: c_uint,
) -> nvmlReturn_t {
    answer(|| with_device(device, |device| device.set_power_limit(limit)))
}
