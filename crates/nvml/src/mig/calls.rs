//! NVML's functions about MIG, each as a function that answers plain data.
#![allow(unsafe_code, reason = "calls the library's functions")]

use std::ffi::c_uint;
use std::mem::{self, MaybeUninit};

use mizzen_core::driver::DriverError;
use mizzen_core::mig::{Engines, MigMode, MigUuid, Placement};
use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstanceProfileInfo_t,
    nvmlDeviceAttributes_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t,
    nvmlGpuInstanceProfileInfo_t, nvmlReturn_t,
};

use crate::device::{Device, call, unexpected};
use crate::library::{Library, code};

/// Room for a list whose length NVML tells together with the list; no GPU has more slices.
const MOST: usize = 64;

/// An NVML handle of a GPU instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct GpuInstanceHandle(nvmlGpuInstance_t);

/// An NVML handle of a compute instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct ComputeInstanceHandle(nvmlComputeInstance_t);

/// What a GPU instance says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct GpuInstanceInfo {
    pub(super) id: u32,
    /// `nvmlGpuInstanceProfileInfo_t.id` of its profile.
    pub(super) profile_id: u32,
    pub(super) placement: Placement,
}

/// What a compute instance says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct ComputeInstanceInfo {
    pub(super) id: u32,
    /// `None` where the driver tells it by the first version of the call alone.
    pub(super) placement: Option<Placement>,
}

/// The attributes of a MIG device; `slices` and memory are absent from their first version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub(super) multiprocessors: u32,
    /// Those of its GPU instance.
    pub(super) engines: Engines,
    pub(super) size: Option<Size>,
}

/// How large a MIG device is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) gpu_slices: u32,
    pub(super) compute_slices: u32,
    pub(super) memory_mib: u64,
}

/// `None` for what the GPU does not have or the driver does not know. Unlike elsewhere, a lack of
/// permission is an error: what cannot be seen may be there.
pub(super) fn had<T>(answer: Result<T, DriverError>) -> Result<Option<T>, DriverError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(
            DriverError::NotSupported
            | DriverError::Nvml {
                code: code::INVALID_ARGUMENT | code::NOT_FOUND,
                ..
            },
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Questions.
impl Library {
    /// Whether MIG is on and will be; `None` where the GPU cannot be partitioned or the driver is
    /// too old for it.
    pub(super) fn mig_mode(&self, device: Device) -> Result<Option<MigMode>, DriverError> {
        let (mut current, mut pending) = (0, 0);
        let code = call!(self, mig_mode(device.0, &raw mut current, &raw mut pending));
        match self.checked("nvmlDeviceGetMigMode", code) {
            Ok(()) => Ok(Some(MigMode {
                current: current == 1,
                pending: pending == 1,
            })),
            Err(DriverError::NotSupported) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many MIG devices the GPU can have.
    pub(super) fn most_mig_devices(&self, device: Device) -> Result<u32, DriverError> {
        let call = "nvmlDeviceGetMaxMigDeviceCount";
        self.number(call, |count| call!(self, most_mig_devices(device.0, count)))
    }

    /// The MIG device of an index; `None` where there is none.
    pub(super) fn mig_device(
        &self,
        device: Device,
        index: u32,
    ) -> Result<Option<Device>, DriverError> {
        let mut found = std::ptr::null_mut();
        let code = call!(self, mig_device(device.0, index, &raw mut found));
        let checked = self.checked("nvmlDeviceGetMigDeviceHandleByIndex", code);
        had(checked.map(|()| Device(found)))
    }

    pub(super) fn mig_uuid(&self, device: Device) -> Result<MigUuid, DriverError> {
        let call = "nvmlDeviceGetUUID";
        let text = self.text(call, |text, length| {
            call!(self, uuid(device.0, text, length))
        })?;
        text.parse().map_err(|error| unexpected(call, &error))
    }

    pub(super) fn gpu_instance_id(&self, device: Device) -> Result<u32, DriverError> {
        let call = "nvmlDeviceGetGpuInstanceId";
        self.number(call, |id| call!(self, gpu_instance_id(device.0, id)))
    }

    pub(super) fn compute_instance_id(&self, device: Device) -> Result<u32, DriverError> {
        let call = "nvmlDeviceGetComputeInstanceId";
        self.number(call, |id| call!(self, compute_instance_id(device.0, id)))
    }

    /// The attributes of a MIG device.
    pub(super) fn mig_attributes(&self, device: Device) -> Result<Attributes, DriverError> {
        let call = "nvmlDeviceGetAttributes_v2";
        // SAFETY: integers, for which zero bytes are a value. The first version fills less.
        let mut value: nvmlDeviceAttributes_t = unsafe { mem::zeroed() };
        let second = call!(self, attributes_v2(device.0, &raw mut value));
        if second == code::FUNCTION_NOT_FOUND {
            self.checked(call, call!(self, attributes(device.0, &raw mut value)))?;
        } else {
            self.checked(call, second)?;
        }
        Ok(Attributes {
            multiprocessors: value.multiprocessorCount,
            engines: Engines {
                copy: value.sharedCopyEngineCount,
                decoders: value.sharedDecoderCount,
                encoders: value.sharedEncoderCount,
                jpeg: value.sharedJpegCount,
                ofa: value.sharedOfaCount,
            },
            size: (value.gpuInstanceSliceCount > 0).then_some(Size {
                gpu_slices: value.gpuInstanceSliceCount,
                compute_slices: value.computeInstanceSliceCount,
                memory_mib: value.memorySizeMB,
            }),
        })
    }

    /// The profile of GPU instances of NVML's `number`; `None` where the GPU has none.
    pub(super) fn gpu_profile(
        &self,
        device: Device,
        number: u32,
    ) -> Result<Option<nvmlGpuInstanceProfileInfo_t>, DriverError> {
        // SAFETY: integers, for which zero bytes are a value.
        let mut info: nvmlGpuInstanceProfileInfo_t = unsafe { mem::zeroed() };
        let code = call!(self, gpu_profile(device.0, number, &raw mut info));
        let checked = self.checked("nvmlDeviceGetGpuInstanceProfileInfo", code);
        had(checked.map(|()| info))
    }

    /// Where GPU instances of the profile with this id may be; empty where the driver does not
    /// tell, as some do while MIG is off.
    pub(super) fn gpu_placements(
        &self,
        device: Device,
        profile_id: u32,
    ) -> Result<Vec<Placement>, DriverError> {
        let call = "nvmlDeviceGetGpuInstancePossiblePlacements_v2";
        let places = self.list::<nvmlGpuInstancePlacement_t>(call, |places, count| {
            call!(self, gpu_placements(device.0, profile_id, places, count))
        });
        let mut places: Vec<Placement> = had(places)?
            .unwrap_or_default()
            .into_iter()
            .map(placement)
            .collect();
        places.sort_unstable();
        Ok(places)
    }

    /// The GPU instances of the profile with this id.
    pub(super) fn gpu_instances(
        &self,
        device: Device,
        profile_id: u32,
    ) -> Result<Vec<GpuInstanceHandle>, DriverError> {
        let call = "nvmlDeviceGetGpuInstances";
        let found = self.list::<nvmlGpuInstance_t>(call, |found, count| {
            call!(self, gpu_instances(device.0, profile_id, found, count))
        });
        let found = had(found)?.unwrap_or_default().into_iter();
        Ok(found.map(GpuInstanceHandle).collect())
    }

    /// The GPU instance of this id.
    pub(super) fn gpu_instance(
        &self,
        device: Device,
        id: u32,
    ) -> Result<GpuInstanceHandle, DriverError> {
        let mut found: nvmlGpuInstance_t = std::ptr::null_mut();
        self.checked(
            "nvmlDeviceGetGpuInstanceById",
            call!(self, gpu_instance(device.0, id, &raw mut found)),
        )?;
        Ok(GpuInstanceHandle(found))
    }

    pub(super) fn gpu_instance_info(
        &self,
        instance: GpuInstanceHandle,
    ) -> Result<GpuInstanceInfo, DriverError> {
        // SAFETY: a pointer that may be NULL and integers, for which zero bytes are a value.
        let mut info: nvmlGpuInstanceInfo_t = unsafe { mem::zeroed() };
        self.checked(
            "nvmlGpuInstanceGetInfo",
            call!(self, gpu_instance_info(instance.0, &raw mut info)),
        )?;
        Ok(GpuInstanceInfo {
            id: info.id,
            profile_id: info.profileId,
            placement: placement(info.placement),
        })
    }

    /// The profile of compute instances of NVML's `number`, which share their GPU instance's
    /// engines; `None` where the GPU instance has none.
    pub(super) fn compute_profile(
        &self,
        instance: GpuInstanceHandle,
        number: u32,
    ) -> Result<Option<nvmlComputeInstanceProfileInfo_t>, DriverError> {
        const SHARED: c_uint = 0;
        // SAFETY: integers, for which zero bytes are a value.
        let mut info: nvmlComputeInstanceProfileInfo_t = unsafe { mem::zeroed() };
        let code = call!(
            self,
            compute_profile(instance.0, number, SHARED, &raw mut info)
        );
        let checked = self.checked("nvmlGpuInstanceGetComputeInstanceProfileInfo", code);
        had(checked.map(|()| info))
    }

    /// The compute instances of the profile with this id in a GPU instance.
    pub(super) fn compute_instances(
        &self,
        instance: GpuInstanceHandle,
        profile_id: u32,
    ) -> Result<Vec<ComputeInstanceHandle>, DriverError> {
        let call = "nvmlGpuInstanceGetComputeInstances";
        let found = self.list::<nvmlComputeInstance_t>(call, |found, count| {
            call!(
                self,
                compute_instances(instance.0, profile_id, found, count)
            )
        });
        let found = had(found)?.unwrap_or_default().into_iter();
        Ok(found.map(ComputeInstanceHandle).collect())
    }

    /// The compute instance of this id in a GPU instance.
    pub(super) fn compute_instance(
        &self,
        instance: GpuInstanceHandle,
        id: u32,
    ) -> Result<ComputeInstanceHandle, DriverError> {
        let mut found: nvmlComputeInstance_t = std::ptr::null_mut();
        self.checked(
            "nvmlGpuInstanceGetComputeInstanceById",
            call!(self, compute_instance(instance.0, id, &raw mut found)),
        )?;
        Ok(ComputeInstanceHandle(found))
    }

    pub(super) fn compute_instance_info(
        &self,
        instance: ComputeInstanceHandle,
    ) -> Result<ComputeInstanceInfo, DriverError> {
        let call = "nvmlComputeInstanceGetInfo_v2";
        // SAFETY: pointers that may be NULL and integers, for which zero bytes are a value. The
        // first version fills less.
        let mut info: nvmlComputeInstanceInfo_t = unsafe { mem::zeroed() };
        let second = call!(self, compute_instance_info_v2(instance.0, &raw mut info));
        let placed = second != code::FUNCTION_NOT_FOUND;
        let code = if placed {
            second
        } else {
            call!(self, compute_instance_info(instance.0, &raw mut info))
        };
        self.checked(call, code)?;
        Ok(ComputeInstanceInfo {
            id: info.id,
            placement: placed.then_some(Placement {
                start: info.placement.start,
                size: info.placement.size,
            }),
        })
    }

    /// A number that NVML writes.
    fn number(
        &self,
        call: &'static str,
        ask: impl FnOnce(*mut c_uint) -> nvmlReturn_t,
    ) -> Result<u32, DriverError> {
        let mut number = 0;
        self.checked(call, ask(&raw mut number))?;
        Ok(number)
    }

    /// A list of handles or placements that NVML writes together with its length.
    fn list<T: Copy>(
        &self,
        call: &'static str,
        ask: impl FnOnce(*mut T, *mut c_uint) -> nvmlReturn_t,
    ) -> Result<Vec<T>, DriverError> {
        let mut array = [const { MaybeUninit::<T>::zeroed() }; MOST];
        #[allow(clippy::cast_possible_truncation, reason = "64 fits")]
        let mut count = MOST as c_uint;
        self.checked(call, ask(array.as_mut_ptr().cast(), &raw mut count))?;
        let filled = array.get(..count as usize);
        let filled = filled.ok_or_else(|| unexpected(call, &format!("{count} of them")))?;
        // SAFETY: handles and placements, for which zero bytes are a value, so every one is one.
        let values = filled.iter().map(|value| unsafe { value.assume_init() });
        Ok(values.collect())
    }
}

/// Changes.
impl Library {
    /// Turns MIG on or off, at once or with the next reset of the GPU.
    ///
    /// # Errors
    /// [`DriverError::InUse`] also where the mode is set and waits for somebody to let go.
    pub(super) fn set_mig_mode(&self, device: Device, on: bool) -> Result<(), DriverError> {
        let call = "nvmlDeviceSetMigMode";
        let mut activation = code::SUCCESS;
        let code = call!(
            self,
            set_mig_mode(device.0, c_uint::from(on), &raw mut activation)
        );
        self.checked(call, code)?;
        match activation {
            code::RESET_REQUIRED => Ok(()),
            activation => self.checked(call, activation),
        }
    }

    /// Makes a GPU instance of the profile with this id; where the driver likes, if it is too old
    /// to be told a place.
    pub(super) fn create_gpu_instance(
        &self,
        device: Device,
        profile_id: u32,
        place: Placement,
    ) -> Result<GpuInstanceHandle, DriverError> {
        let mut made: nvmlGpuInstance_t = std::ptr::null_mut();
        let place = nvmlGpuInstancePlacement_t {
            start: place.start,
            size: place.size,
        };
        let mut code = call!(
            self,
            create_gpu_instance_at(device.0, profile_id, &raw const place, &raw mut made)
        );
        if code == code::FUNCTION_NOT_FOUND {
            code = call!(
                self,
                create_gpu_instance(device.0, profile_id, &raw mut made)
            );
        }
        self.checked("nvmlDeviceCreateGpuInstanceWithPlacement", code)?;
        Ok(GpuInstanceHandle(made))
    }

    pub(super) fn destroy_gpu_instance(
        &self,
        instance: GpuInstanceHandle,
    ) -> Result<(), DriverError> {
        let code = call!(self, destroy_gpu_instance(instance.0));
        self.checked("nvmlGpuInstanceDestroy", code)
    }

    /// Makes a compute instance of the profile with this id in a GPU instance.
    pub(super) fn create_compute_instance(
        &self,
        instance: GpuInstanceHandle,
        profile_id: u32,
    ) -> Result<(), DriverError> {
        let mut made: nvmlComputeInstance_t = std::ptr::null_mut();
        let code = call!(
            self,
            create_compute_instance(instance.0, profile_id, &raw mut made)
        );
        self.checked("nvmlGpuInstanceCreateComputeInstance", code)
    }

    pub(super) fn destroy_compute_instance(
        &self,
        instance: ComputeInstanceHandle,
    ) -> Result<(), DriverError> {
        let code = call!(self, destroy_compute_instance(instance.0));
        self.checked("nvmlComputeInstanceDestroy", code)
    }
}

fn placement(place: nvmlGpuInstancePlacement_t) -> Placement {
    Placement {
        start: place.start,
        size: place.size,
    }
}
