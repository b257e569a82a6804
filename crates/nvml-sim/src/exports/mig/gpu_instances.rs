//! GPU instances.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t,
    nvmlGpuInstanceProfileInfo_t, nvmlGpuInstanceProfileInfo_v2_t, nvmlGpuInstanceProfileInfo_v3_t,
    nvmlReturn_t,
};

use super::handles::{gpu_instance_handle, with_gpu_instance};
use super::{put_all, wanted};
use crate::engine::{Device, Failure};
use crate::exports::global::{device_handle, session, with_device};
use crate::exports::pointer::{fill, put, required, version_of, version_word};
use crate::exports::{answer, keyed_getters};
use crate::mig::GpuInstance;
use crate::model::mig::{GPU_PROFILES, GpuProfile, MigTable, Placement};

/// `NVML_GPU_INSTANCE_PROFILE_CAPS_GFX`.
const GRAPHICS: c_uint = 0x2;

/// The profile with NVML's number.
fn by_kind(device: &Device<'_>, kind: c_uint) -> Result<&'static GpuProfile, Failure> {
    if kind >= GPU_PROFILES {
        return Err(Failure::InvalidArgument);
    }
    let table = device.mig_table()?;
    table.by_kind(kind).ok_or(Failure::NotSupported)
}

/// The profile with the id that the driver gives it.
fn by_id(table: &MigTable, id: c_uint) -> Result<&'static GpuProfile, Failure> {
    table.by_id(id).ok_or(Failure::NotSupported)
}

keyed_getters! {
    nvmlDeviceGetGpuInstanceProfileInfo(device, profile: c_uint) -> nvmlGpuInstanceProfileInfo_t = {
        let profile = by_kind(device, profile)?;
        let table = device.mig_table()?;
        let engines = profile.engines;
        Ok(nvmlGpuInstanceProfileInfo_t {
            id: profile.id,
            isP2pSupported: 0,
            sliceCount: profile.kind.slices(),
            instanceCount: table.count(profile),
            multiprocessorCount: profile.multiprocessors,
            copyEngineCount: engines.copy,
            decoderCount: engines.decoders,
            encoderCount: engines.encoders,
            jpegCount: engines.jpeg,
            ofaCount: engines.ofa,
            memorySizeMB: profile.memory_mib,
        })
    };
    nvmlDeviceGetGpuInstanceRemainingCapacity(device, profile_id: c_uint) -> c_uint = {
        let partition = device.partition()?;
        Ok(partition.capacity(by_id(partition.table, profile_id)?))
    };
    nvmlDeviceCreateGpuInstance(device, profile_id: c_uint) -> nvmlGpuInstance_t = {
        let instance = device.create_gpu_instance(profile_id, None)?;
        gpu_instance_handle(device, &instance)
    };
    nvmlDeviceGetGpuInstanceById(device, id: c_uint) -> nvmlGpuInstance_t = {
        let partition = device.partition()?;
        gpu_instance_handle(device, partition.gpu_instance(id)?)
    };
}

/// Fills either version of the struct that begins with its version word.
///
/// # Safety
/// The pointer is null or points to a value of the version that its first word says.
unsafe fn fill_profile(
    table: &MigTable,
    profile: &GpuProfile,
    info: *mut nvmlGpuInstanceProfileInfo_v2_t,
) -> Result<(), Failure> {
    macro_rules! fill_common {
        ($info:ident) => {
            let engines = profile.engines;
            $info.id = profile.id;
            $info.sliceCount = profile.kind.slices();
            $info.instanceCount = table.count(profile);
            $info.multiprocessorCount = profile.multiprocessors;
            $info.copyEngineCount = engines.copy;
            $info.decoderCount = engines.decoders;
            $info.encoderCount = engines.encoders;
            $info.jpegCount = engines.jpeg;
            $info.ofaCount = engines.ofa;
            $info.memorySizeMB = profile.memory_mib;
            fill(&mut $info.name, &format!("MIG {}", profile.name));
        };
    }
    // SAFETY: The caller's promise.
    let version = unsafe { version_of(info)? };
    if version == version_word::<nvmlGpuInstanceProfileInfo_v2_t>(2) {
        // SAFETY: The version word says that the value is of this type.
        let info = unsafe { &mut *info };
        fill_common!(info);
        info.isP2pSupported = 0;
        Ok(())
    } else if version == version_word::<nvmlGpuInstanceProfileInfo_v3_t>(3) {
        // SAFETY: The version word says that the value is of this type.
        let info = unsafe { &mut *info.cast::<nvmlGpuInstanceProfileInfo_v3_t>() };
        fill_common!(info);
        info.capabilities = if profile.kind.graphics() { GRAPHICS } else { 0 };
        Ok(())
    } else {
        Err(Failure::ArgumentVersionMismatch)
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGpuInstanceProfileInfoV(
    device: nvmlDevice_t,
    profile: c_uint,
    info: *mut nvmlGpuInstanceProfileInfo_v2_t,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            required(info)?;
            let profile = by_kind(device, profile)?;
            // SAFETY: nvml.h: a pointer that is not null points to a value of its version.
            unsafe { fill_profile(device.mig_table()?, profile, info) }
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGpuInstanceProfileInfoByIdV(
    device: nvmlDevice_t,
    profile_id: c_uint,
    info: *mut nvmlGpuInstanceProfileInfo_v2_t,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            required(info)?;
            let table = device.mig_table()?;
            // SAFETY: nvml.h: a pointer that is not null points to a value of its version.
            unsafe { fill_profile(table, by_id(table, profile_id)?, info) }
        })
    })
}

fn placement(place: Placement) -> nvmlGpuInstancePlacement_t {
    nvmlGpuInstancePlacement_t {
        start: place.start,
        size: place.size,
    }
}

/// # Safety
/// The pointers are null or valid, the placements for as many as the profile has.
unsafe fn possible_placements(
    device: nvmlDevice_t,
    profile_id: c_uint,
    placements: *mut nvmlGpuInstancePlacement_t,
    count: *mut c_uint,
    only_counted: bool,
) -> Result<(), Failure> {
    with_device(device, |device| {
        required(count)?;
        if !only_counted {
            required(placements)?;
        }
        let table = device.partition()?.table;
        let places = table.placements(by_id(table, profile_id)?);
        let values: Vec<_> = places.into_iter().map(placement).collect();
        if only_counted {
            let length = c_uint::try_from(values.len()).unwrap_or(0);
            // SAFETY: The caller's promise.
            unsafe { put(required(count)?, length) };
            return Ok(());
        }
        // SAFETY: The caller's promise.
        unsafe { put_all(placements, count, values) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGpuInstancePossiblePlacements(
    device: nvmlDevice_t,
    profile_id: c_uint,
    placements: *mut nvmlGpuInstancePlacement_t,
    count: *mut c_uint,
) -> nvmlReturn_t {
    // SAFETY: nvml.h: the array has room for the placements of the profile.
    answer(|| unsafe { possible_placements(device, profile_id, placements, count, false) })
}

/// A null array asks for the number alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGpuInstancePossiblePlacements_v2(
    device: nvmlDevice_t,
    profile_id: c_uint,
    placements: *mut nvmlGpuInstancePlacement_t,
    count: *mut c_uint,
) -> nvmlReturn_t {
    let alone = placements.is_null();
    // SAFETY: nvml.h: the array has room for the placements of the profile.
    answer(|| unsafe { possible_placements(device, profile_id, placements, count, alone) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceCreateGpuInstanceWithPlacement(
    device: nvmlDevice_t,
    profile_id: c_uint,
    placement: *const nvmlGpuInstancePlacement_t,
    gpu_instance: *mut nvmlGpuInstance_t,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            let handle = required(gpu_instance)?;
            // SAFETY: nvml.h: a placement that is not null is a start and a size.
            let place = unsafe { wanted(placement.cast())? };
            let instance = device.create_gpu_instance(profile_id, Some(place))?;
            // SAFETY: nvml.h: a pointer that is not null points to a writable handle.
            unsafe { put(handle, gpu_instance_handle(device, &instance)?) };
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpuInstanceDestroy(gpu_instance: nvmlGpuInstance_t) -> nvmlReturn_t {
    answer(|| {
        with_gpu_instance(gpu_instance, |device, _, instance| {
            device.destroy_gpu_instance(instance.id)
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGpuInstances(
    device: nvmlDevice_t,
    profile_id: c_uint,
    gpu_instances: *mut nvmlGpuInstance_t,
    count: *mut c_uint,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            required(count)?;
            required(gpu_instances)?;
            let partition = device.partition()?;
            let profile = by_id(partition.table, profile_id)?;
            let all = partition.gpu_instances.iter();
            let handles = all
                .filter(|instance| instance.profile == profile)
                .map(|instance| gpu_instance_handle(device, instance))
                .collect::<Result<_, _>>()?;
            // SAFETY: nvml.h: the array has room for the instances that the profile allows.
            unsafe { put_all(gpu_instances, count, handles) }
        })
    })
}

fn info(device: &Device<'_>, instance: &GpuInstance) -> Result<nvmlGpuInstanceInfo_t, Failure> {
    Ok(nvmlGpuInstanceInfo_t {
        device: device_handle(session()?.1, device.index()),
        id: instance.id,
        profileId: instance.profile.id,
        placement: placement(instance.place),
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpuInstanceGetInfo(
    gpu_instance: nvmlGpuInstance_t,
    value: *mut nvmlGpuInstanceInfo_t,
) -> nvmlReturn_t {
    answer(|| {
        with_gpu_instance(gpu_instance, |device, _, instance| {
            // SAFETY: nvml.h: a pointer that is not null points to a writable value.
            unsafe { put(required(value)?, info(device, instance)?) };
            Ok(())
        })
    })
}
