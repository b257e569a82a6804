//! Compute instances.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstancePlacement_t,
    nvmlComputeInstanceProfileInfo_t, nvmlComputeInstanceProfileInfo_v2_t,
    nvmlComputeInstanceProfileInfo_v3_t, nvmlGpuInstance_t, nvmlReturn_t,
};

use super::handles::{
    compute_instance_handle, gpu_instance_handle, with_compute_instance, with_gpu_instance,
};
use super::{Device, Engines, put_all, wanted};
use crate::engine::Failure;
use crate::exports::answer;
use crate::exports::global::{device_handle, session};
use crate::exports::pointer::{fill, put, required, version_of, version_word};
use crate::mig::{ComputeInstance, GpuInstance, Partition};
use crate::model::mig::{COMPUTE_PROFILES, ComputeProfile, Placement, compute_placements};

/// `NVML_COMPUTE_INSTANCE_PROFILE_CAPS_GFX`.
const GRAPHICS: c_uint = 0x1;

/// Functions of the shape `(gpuInstance, unsigned int key, T *value)`.
macro_rules! instance_getters {
    ($($name:ident($device:pat, $partition:ident, $instance:ident, $key:ident) -> $type:ty = $value:expr;)+) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            gpu_instance: nvmlGpuInstance_t,
            $key: c_uint,
            value: *mut $type,
        ) -> nvmlReturn_t {
            answer(|| {
                with_gpu_instance(gpu_instance, |$device, $partition, $instance| {
                    let value = required(value)?;
                    let answer: Result<$type, Failure> = $value;
                    // SAFETY: nvml.h: a pointer that is not null points to a writable value.
                    unsafe { put(value, answer?) };
                    Ok(())
                })
            })
        }
    )+};
}

instance_getters! {
    nvmlGpuInstanceGetComputeInstanceRemainingCapacity(_device, partition, instance, profile_id) -> c_uint = {
        let profile = partition.compute_profile(instance, profile_id)?;
        Ok(c_uint::try_from(partition.compute_room(instance, &profile).len()).unwrap_or(0))
    };
    nvmlGpuInstanceCreateComputeInstance(device, _partition, instance, profile_id) -> nvmlComputeInstance_t = {
        let created = device.create_compute_instance(instance.id, profile_id, None)?;
        compute_instance_handle(device, &created)
    };
    nvmlGpuInstanceGetComputeInstanceById(device, partition, instance, id) -> nvmlComputeInstance_t = {
        let found = partition.inside(instance.id).find(|found| found.id == id);
        compute_instance_handle(device, found.ok_or(Failure::NotFound)?)
    };
}

/// The profile with NVML's number; every one shares its GPU instance's engines.
fn profile(
    partition: &Partition,
    instance: &GpuInstance,
    number: c_uint,
    engines: c_uint,
) -> Result<ComputeProfile, Failure> {
    if number >= COMPUTE_PROFILES || engines != 0 {
        return Err(Failure::InvalidArgument);
    }
    Ok(partition.compute_profile(instance, number)?)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpuInstanceGetComputeInstanceProfileInfo(
    gpu_instance: nvmlGpuInstance_t,
    number: c_uint,
    engine_profile: c_uint,
    info: *mut nvmlComputeInstanceProfileInfo_t,
) -> nvmlReturn_t {
    answer(|| {
        with_gpu_instance(gpu_instance, |_, partition, instance| {
            let info = required(info)?;
            let profile = profile(partition, instance, number, engine_profile)?;
            let engines: Engines = instance.profile.engines;
            let value = nvmlComputeInstanceProfileInfo_t {
                id: profile.id,
                sliceCount: profile.slices,
                instanceCount: profile.count,
                multiprocessorCount: profile.multiprocessors,
                sharedCopyEngineCount: engines.copy,
                sharedDecoderCount: engines.decoders,
                sharedEncoderCount: engines.encoders,
                sharedJpegCount: engines.jpeg,
                sharedOfaCount: engines.ofa,
            };
            // SAFETY: nvml.h: a pointer that is not null points to a writable value.
            unsafe { put(info, value) };
            Ok(())
        })
    })
}

/// Fills either version of the struct that begins with its version word.
///
/// # Safety
/// The pointer is null or points to a value of the version that its first word says.
unsafe fn fill_profile(
    instance: &GpuInstance,
    profile: &ComputeProfile,
    name: &str,
    info: *mut nvmlComputeInstanceProfileInfo_v2_t,
) -> Result<(), Failure> {
    macro_rules! fill_common {
        ($info:ident) => {
            let engines = instance.profile.engines;
            $info.id = profile.id;
            $info.sliceCount = profile.slices;
            $info.instanceCount = profile.count;
            $info.multiprocessorCount = profile.multiprocessors;
            $info.sharedCopyEngineCount = engines.copy;
            $info.sharedDecoderCount = engines.decoders;
            $info.sharedEncoderCount = engines.encoders;
            $info.sharedJpegCount = engines.jpeg;
            $info.sharedOfaCount = engines.ofa;
            fill(&mut $info.name, &format!("MIG {name}"));
        };
    }
    // SAFETY: The caller's promise.
    let version = unsafe { version_of(info)? };
    if version == version_word::<nvmlComputeInstanceProfileInfo_v2_t>(2) {
        // SAFETY: The version word says that the value is of this type.
        let info = unsafe { &mut *info };
        fill_common!(info);
        Ok(())
    } else if version == version_word::<nvmlComputeInstanceProfileInfo_v3_t>(3) {
        // SAFETY: The version word says that the value is of this type.
        let info = unsafe { &mut *info.cast::<nvmlComputeInstanceProfileInfo_v3_t>() };
        fill_common!(info);
        let graphics = instance.profile.kind.graphics();
        info.capabilities = if graphics { GRAPHICS } else { 0 };
        Ok(())
    } else {
        Err(Failure::ArgumentVersionMismatch)
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpuInstanceGetComputeInstanceProfileInfoV(
    gpu_instance: nvmlGpuInstance_t,
    number: c_uint,
    engine_profile: c_uint,
    info: *mut nvmlComputeInstanceProfileInfo_v2_t,
) -> nvmlReturn_t {
    answer(|| {
        with_gpu_instance(gpu_instance, |_, partition, instance| {
            required(info)?;
            let profile = profile(partition, instance, number, engine_profile)?;
            let name = crate::mig::name_of(instance, &profile);
            // SAFETY: nvml.h: a pointer that is not null points to a value of its version.
            unsafe { fill_profile(instance, &profile, &name, info) }
        })
    })
}

fn placement(place: Placement) -> nvmlComputeInstancePlacement_t {
    nvmlComputeInstancePlacement_t {
        start: place.start,
        size: place.size,
    }
}

/// A null array asks for the number alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpuInstanceGetComputeInstancePossiblePlacements(
    gpu_instance: nvmlGpuInstance_t,
    profile_id: c_uint,
    placements: *mut nvmlComputeInstancePlacement_t,
    count: *mut c_uint,
) -> nvmlReturn_t {
    answer(|| {
        with_gpu_instance(gpu_instance, |_, partition, instance| {
            let profile = partition.compute_profile(instance, profile_id)?;
            let all = instance.profile.kind.slices();
            let places = compute_placements(all, profile.slices);
            let values: Vec<_> = places.into_iter().map(placement).collect();
            if placements.is_null() {
                let length = c_uint::try_from(values.len()).unwrap_or(0);
                // SAFETY: nvml.h: a pointer that is not null points to a writable number.
                unsafe { put(required(count)?, length) };
                return Ok(());
            }
            // SAFETY: nvml.h: the array has room for the placements of the profile.
            unsafe { put_all(placements, count, values) }
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpuInstanceCreateComputeInstanceWithPlacement(
    gpu_instance: nvmlGpuInstance_t,
    profile_id: c_uint,
    placement: *const nvmlComputeInstancePlacement_t,
    compute_instance: *mut nvmlComputeInstance_t,
) -> nvmlReturn_t {
    answer(|| {
        with_gpu_instance(gpu_instance, |device, _, instance| {
            let handle = required(compute_instance)?;
            // SAFETY: nvml.h: a placement that is not null is a start and a size.
            let place = unsafe { wanted(placement.cast())? };
            let created = device.create_compute_instance(instance.id, profile_id, Some(place))?;
            // SAFETY: nvml.h: a pointer that is not null points to a writable handle.
            unsafe { put(handle, compute_instance_handle(device, &created)?) };
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlComputeInstanceDestroy(
    compute_instance: nvmlComputeInstance_t,
) -> nvmlReturn_t {
    answer(|| {
        with_compute_instance(compute_instance, |device, _, instance| {
            device.destroy_compute_instance(instance.gpu_instance, instance.id)
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpuInstanceGetComputeInstances(
    gpu_instance: nvmlGpuInstance_t,
    profile_id: c_uint,
    compute_instances: *mut nvmlComputeInstance_t,
    count: *mut c_uint,
) -> nvmlReturn_t {
    answer(|| {
        with_gpu_instance(gpu_instance, |device, partition, instance| {
            let profile = partition.compute_profile(instance, profile_id)?;
            let handles = partition
                .inside(instance.id)
                .filter(|found| found.profile == profile)
                .map(|found| compute_instance_handle(device, found))
                .collect::<Result<_, _>>()?;
            // SAFETY: nvml.h: the array has room for the instances that the profile allows.
            unsafe { put_all(compute_instances, count, handles) }
        })
    })
}

fn info(
    device: &Device<'_>,
    partition: &Partition,
    instance: &ComputeInstance,
) -> Result<nvmlComputeInstanceInfo_t, Failure> {
    let parent = partition.gpu_instance(instance.gpu_instance)?;
    Ok(nvmlComputeInstanceInfo_t {
        device: device_handle(session()?.1, device.index()),
        gpuInstance: gpu_instance_handle(device, parent)?,
        id: instance.id,
        profileId: instance.profile.id,
        placement: placement(instance.place),
    })
}

/// What the first version writes: everything but the placement.
#[repr(C)]
struct FirstInfo {
    device: nvml_wrapper_sys::bindings::nvmlDevice_t,
    gpu_instance: nvmlGpuInstance_t,
    id: c_uint,
    profile_id: c_uint,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlComputeInstanceGetInfo(
    compute_instance: nvmlComputeInstance_t,
    value: *mut nvmlComputeInstanceInfo_t,
) -> nvmlReturn_t {
    answer(|| {
        with_compute_instance(compute_instance, |device, partition, instance| {
            let value = required(value)?.cast::<FirstInfo>();
            let all = info(device, partition, instance)?;
            let first = FirstInfo {
                device: all.device,
                gpu_instance: all.gpuInstance,
                id: all.id,
                profile_id: all.profileId,
            };
            // SAFETY: nvml.h: a pointer that is not null points to a writable value.
            unsafe { put(value, first) };
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlComputeInstanceGetInfo_v2(
    compute_instance: nvmlComputeInstance_t,
    value: *mut nvmlComputeInstanceInfo_t,
) -> nvmlReturn_t {
    answer(|| {
        with_compute_instance(compute_instance, |device, partition, instance| {
            // SAFETY: nvml.h: a pointer that is not null points to a writable value.
            unsafe { put(required(value)?, info(device, partition, instance)?) };
            Ok(())
        })
    })
}
