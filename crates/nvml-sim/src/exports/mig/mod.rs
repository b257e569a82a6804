//! MIG: its mode, MIG devices, and what the functions about instances share.

mod compute_instances;
mod gpu_instances;
mod handles;

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlDeviceAttributes_t, nvmlReturn_t};

use super::global::{device_handle, session, with_device};
use super::pointer::{put, required};
use super::{answer, getters, getters_of_either, keyed_getters, pair_getters};
use crate::engine::{Activation, Device, Failure, MigDevice};
use crate::model::mig::{Engines, Placement};

pub(super) use handles::{Either, mig_handle, with_either};

pair_getters! {
    nvmlDeviceGetMigMode(device) -> (c_uint, c_uint) = {
        let (now, pending) = device.mig_mode()?;
        Ok((c_uint::from(now), c_uint::from(pending)))
    };
}

getters! {
    nvmlDeviceGetMaxMigDeviceCount(device) -> c_uint = Ok(device.mig_table()?.slices);
}

getters_of_either! {
    nvmlDeviceIsMigDeviceHandle(either) -> c_uint =
        Ok(c_uint::from(matches!(either, Either::Mig(..))));
    nvmlDeviceGetGpuInstanceId(either) -> c_uint = Ok(mig(either)?.gpu_instance.id);
    nvmlDeviceGetComputeInstanceId(either) -> c_uint = Ok(mig(either)?.compute_instance.id);
    nvmlDeviceGetDeviceHandleFromMigDeviceHandle(either) -> nvmlDevice_t = match either {
        Either::Mig(device, _) => Ok(device_handle(session()?.1, device.index())),
        Either::Gpu(_) => Err(Failure::InvalidArgument),
    };
    nvmlDeviceGetAttributes_v2(either) -> nvmlDeviceAttributes_t = attributes(either);
    nvmlDeviceGetAttributes(either) -> FirstAttributes = {
        let all = attributes(either)?;
        Ok([
            all.multiprocessorCount,
            all.sharedCopyEngineCount,
            all.sharedDecoderCount,
            all.sharedEncoderCount,
            all.sharedJpegCount,
            all.sharedOfaCount,
        ])
    };
}

/// The first version of the struct ends before the slices.
type FirstAttributes = [c_uint; 6];

keyed_getters! {
    nvmlDeviceGetMigDeviceHandleByIndex(device, index: c_uint) -> nvmlDevice_t = {
        if index >= device.mig_table()?.slices {
            return Err(Failure::InvalidArgument);
        }
        let devices = match device.mig_devices() {
            // With MIG off there are none.
            Err(Failure::NotSupported) => Vec::new(),
            devices => devices?,
        };
        let found = devices.get(index as usize).ok_or(Failure::NotFound)?;
        Ok(mig_handle(session()?.1, device.index(), found))
    };
}

fn mig<'a>(either: &'a Either<'_>) -> Result<&'a MigDevice, Failure> {
    match either {
        Either::Mig(_, device) => Ok(device),
        Either::Gpu(_) => Err(Failure::NotSupported),
    }
}

fn attributes(either: &Either<'_>) -> Result<nvmlDeviceAttributes_t, Failure> {
    let device = mig(either)?;
    let profile = device.gpu_instance.profile;
    let engines = profile.engines;
    Ok(nvmlDeviceAttributes_t {
        multiprocessorCount: device.compute_instance.profile.multiprocessors,
        sharedCopyEngineCount: engines.copy,
        sharedDecoderCount: engines.decoders,
        sharedEncoderCount: engines.encoders,
        sharedJpegCount: engines.jpeg,
        sharedOfaCount: engines.ofa,
        gpuInstanceSliceCount: profile.kind.slices(),
        computeInstanceSliceCount: device.compute_instance.profile.slices,
        memorySizeMB: profile.memory_mib,
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceSetMigMode(
    device: nvmlDevice_t,
    mode: c_uint,
    activation_status: *mut nvmlReturn_t,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            let status = required(activation_status)?;
            let activation = match mode {
                0 | 1 => device.set_mig_mode(mode == 1)?,
                _ => return Err(Failure::InvalidArgument),
            };
            let code = match activation {
                Activation::Active => super::SUCCESS,
                Activation::NeedsReset => Failure::ResetRequired as nvmlReturn_t,
                Activation::InUse => Failure::InUse as nvmlReturn_t,
            };
            // SAFETY: nvml.h: a pointer that is not null points to a writable value.
            unsafe { put(status, code) };
            Ok(())
        })
    })
}

/// Writes a list that NVML bounds by a profile's number of instances or placements: the caller
/// has room for all of them and `count` is only written.
///
/// # Safety
/// `count` is null or valid, and `array` is null or has room for the values.
unsafe fn put_all<T>(array: *mut T, count: *mut c_uint, values: Vec<T>) -> Result<(), Failure> {
    let count = required(count)?;
    let array = required(array)?;
    let length = c_uint::try_from(values.len()).map_err(|_| Failure::Unknown)?;
    for (position, value) in values.into_iter().enumerate() {
        // SAFETY: The caller's promise.
        unsafe { array.add(position).write_unaligned(value) };
    }
    // SAFETY: The caller's promise.
    unsafe { put(count, length) };
    Ok(())
}

/// Reads the placement that a caller asks for.
///
/// # Safety
/// The pointer is null or points to a start and a size.
unsafe fn wanted(placement: *const [c_uint; 2]) -> Result<Placement, Failure> {
    let placement = required(placement.cast_mut())?;
    // SAFETY: The caller's promise.
    let [start, size] = unsafe { placement.read_unaligned() };
    Ok(Placement { start, size })
}
