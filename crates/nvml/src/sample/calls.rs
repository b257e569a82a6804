//! NVML's functions about what a GPU measures, each as a function that answers plain data.
#![allow(unsafe_code, reason = "calls the library's functions")]

use std::ffi::{c_int, c_uint};
use std::mem;

use mizzen_core::driver::DriverError;
use mizzen_core::metrics::Field;
use mizzen_core::sample::Number;
use nvml_wrapper_sys::bindings::{
    nvmlFieldValue_t, nvmlGridLicensableFeature_t, nvmlGridLicensableFeatures_t, nvmlReturn_t,
    nvmlUtilization_t,
};

use crate::device::{Device, call, field_number, unexpected};
use crate::library::{Library, code};

/// `NVML_CLOCK_SM`, `NVML_CLOCK_MEM`, `NVML_CLOCK_VIDEO`
const SM: c_uint = 1;
const MEMORY: c_uint = 2;
const VIDEO: c_uint = 3;
/// `NVML_TEMPERATURE_THRESHOLD_SHUTDOWN`, `..._SLOWDOWN`
const SHUTDOWN: c_uint = 0;
const SLOWDOWN: c_uint = 1;
/// `NVML_GRID_LICENSE_FEATURE_CODE_VGPU`
const VGPU: c_uint = 1;

/// What to ask for a field value: its id, and its scope where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) id: u32,
    pub(super) scope: u32,
}

/// How vGPU software is licensed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Licence {
    /// The machine has no vGPUs, and needs none.
    NotNeeded,
    /// Whether it is licensed.
    Needed(bool),
}

impl Library {
    /// The number of a field that has a function of its own, in the field's unit.
    pub(super) fn ask(&self, device: Device, field: Field) -> Result<Number, DriverError> {
        let device = device.0;
        macro_rules! reading {
            ($name:expr, $function:ident $(, $kind:expr)?) => {
                self.reading($name, |value| call!(self, $function(device, $($kind,)? value)))
            };
        }
        match field {
            Field::SmClock => reading!("nvmlDeviceGetClockInfo", clock, SM).map(whole),
            Field::MemClock => reading!("nvmlDeviceGetClockInfo", clock, MEMORY).map(whole),
            Field::VideoClock => reading!("nvmlDeviceGetClockInfo", clock, VIDEO).map(whole),
            Field::MaxSmClock => reading!("nvmlDeviceGetMaxClockInfo", max_clock, SM).map(whole),
            Field::MaxMemClock => {
                reading!("nvmlDeviceGetMaxClockInfo", max_clock, MEMORY).map(whole)
            }
            Field::ClockThrottleReasons => {
                reading!("nvmlDeviceGetCurrentClocksEventReasons", clock_reasons).map(Number::Whole)
            }
            Field::GpuTemp => reading!("nvmlDeviceGetTemperature", temperature, 0).map(whole),
            Field::SlowdownTemp => {
                let call = "nvmlDeviceGetTemperatureThreshold";
                reading!(call, temperature_threshold, SLOWDOWN).map(whole)
            }
            Field::ShutdownTemp => {
                let call = "nvmlDeviceGetTemperatureThreshold";
                reading!(call, temperature_threshold, SHUTDOWN).map(whole)
            }
            Field::FanSpeed => reading!("nvmlDeviceGetFanSpeed", fan_speed).map(whole),
            Field::PowerUsage => reading!("nvmlDeviceGetPowerUsage", power).map(watts),
            Field::PowerLimit => {
                reading!("nvmlDeviceGetPowerManagementLimit", power_limit).map(watts)
            }
            Field::EnforcedPowerLimit => {
                reading!("nvmlDeviceGetEnforcedPowerLimit", enforced_power_limit).map(watts)
            }
            Field::Pstate => {
                reading!("nvmlDeviceGetPerformanceState", performance_state).map(whole)
            }
            Field::PcieLinkGen => {
                reading!("nvmlDeviceGetCurrPcieLinkGeneration", pcie_generation).map(whole)
            }
            Field::PcieLinkWidth => {
                reading!("nvmlDeviceGetCurrPcieLinkWidth", pcie_width).map(whole)
            }
            Field::PcieMaxLinkGen => {
                reading!("nvmlDeviceGetMaxPcieLinkGeneration", max_pcie_generation).map(whole)
            }
            Field::PcieMaxLinkWidth => {
                reading!("nvmlDeviceGetMaxPcieLinkWidth", max_pcie_width).map(whole)
            }
            Field::EncUtil => self
                .reading("nvmlDeviceGetEncoderUtilization", |percent| {
                    let mut period = 0;
                    call!(self, encoder(device, percent, &raw mut period))
                })
                .map(whole),
            Field::DecUtil => self
                .reading("nvmlDeviceGetDecoderUtilization", |percent| {
                    let mut period = 0;
                    call!(self, decoder(device, percent, &raw mut period))
                })
                .map(whole),
            // Fields of other sources are not asked so.
            _ => Err(DriverError::NotSupported),
        }
    }

    /// A number that NVML writes.
    fn reading<T: Default>(
        &self,
        call: &'static str,
        ask: impl FnOnce(*mut T) -> nvmlReturn_t,
    ) -> Result<T, DriverError> {
        let mut value = T::default();
        self.checked(call, ask(&raw mut value))?;
        Ok(value)
    }

    /// Field values, each with an answer of its own.
    ///
    /// # Errors
    /// The GPU answers none of them.
    pub(super) fn values(
        &self,
        device: Device,
        wanted: &[Value],
    ) -> Result<Vec<Result<u64, DriverError>>, DriverError> {
        let call = "nvmlDeviceGetFieldValues";
        // SAFETY: integers and a union of numbers, for which zero bytes are a value.
        let blank: nvmlFieldValue_t = unsafe { mem::zeroed() };
        let mut values: Vec<nvmlFieldValue_t> = wanted
            .iter()
            .map(|value| nvmlFieldValue_t {
                fieldId: value.id,
                scopeId: value.scope,
                ..blank
            })
            .collect();
        let count = c_int::try_from(values.len()).map_err(|error| unexpected(call, &error))?;
        self.checked(
            call,
            call!(self, field_values(device.0, count, values.as_mut_ptr())),
        )?;
        let number = |value: &nvmlFieldValue_t| {
            self.checked(call, value.nvmlReturn)?;
            field_number(value).ok_or_else(|| unexpected(call, &"a value that is no number"))
        };
        Ok(values.iter().map(number).collect())
    }

    /// Utilisation of the SMs and of the memory, %.
    pub(super) fn utilization(&self, device: Device) -> Result<[u32; 2], DriverError> {
        let mut rates = nvmlUtilization_t { gpu: 0, memory: 0 };
        let code = call!(self, utilization(device.0, &raw mut rates));
        self.checked("nvmlDeviceGetUtilizationRates", code)?;
        Ok([rates.gpu, rates.memory])
    }

    /// Whether vGPU software needs a licence here, and has it.
    pub(super) fn licence(&self, device: Device) -> Result<Licence, DriverError> {
        // SAFETY: integers and arrays of them, for which zero bytes are a value.
        let mut licences: nvmlGridLicensableFeatures_t = unsafe { mem::zeroed() };
        let code = call!(self, licences(device.0, &raw mut licences));
        self.checked("nvmlDeviceGetGridLicensableFeatures_v4", code)?;
        if licences.isGridLicenseSupported == 0 {
            return Ok(Licence::NotNeeded);
        }
        let count = licences.licensableFeaturesCount as usize;
        let mut features = licences.gridLicensableFeatures.iter().take(count);
        let licensed = |feature: &nvmlGridLicensableFeature_t| {
            feature.featureCode == VGPU && feature.featureState > 0
        };
        Ok(Licence::Needed(features.any(licensed)))
    }
}

/// Whether an answer says that the GPU, or its driver, does not have what was asked: an unknown
/// field is a bad argument to drivers that know fields but not this one.
pub(super) fn is_unsupported(error: &DriverError) -> bool {
    matches!(
        error,
        DriverError::NotSupported
            | DriverError::Nvml {
                code: code::INVALID_ARGUMENT | code::DEPRECATED,
                ..
            }
    )
}

fn whole(value: c_uint) -> Number {
    Number::Whole(u64::from(value))
}

fn watts(milliwatts: c_uint) -> Number {
    Number::Real(f64::from(milliwatts) / 1000.0)
}
