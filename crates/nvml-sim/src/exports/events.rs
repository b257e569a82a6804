//! Event sets.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlReturn_t};

use super::global::{device_handle, event_set, free_event_set, index_of, new_event_set, session};
use super::pointer::{put, required};
use super::{answer, getters};
use crate::engine::DeviceEvent;

/// What the first version of the function wrote: no instances.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EventDataV1 {
    device: nvmlDevice_t,
    kind: c_ulonglong,
    data: c_ulonglong,
}

getters! {
    nvmlDeviceGetSupportedEventTypes(device) -> c_ulonglong = Ok(device.supported_events());
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetCreate(set: *mut nvmlEventSet_t) -> nvmlReturn_t {
    answer(|| {
        session()?;
        let set = required(set)?;
        // SAFETY: nvml.h: a pointer that is not null points to a writable handle.
        unsafe { put(set, new_event_set()?) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceRegisterEvents(
    device: nvmlDevice_t,
    kinds: c_ulonglong,
    set: nvmlEventSet_t,
) -> nvmlReturn_t {
    answer(|| {
        let index = index_of(device)?;
        let (set, _) = event_set(set)?;
        set.register(index, kinds)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> nvmlReturn_t {
    answer(|| free_event_set(set))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetWait(
    set: nvmlEventSet_t,
    data: *mut EventDataV1,
    timeout: c_uint,
) -> nvmlReturn_t {
    // SAFETY: The caller's promise, passed on.
    unsafe {
        wait(set, data, timeout, |device, event| EventDataV1 {
            device,
            kind: event.kind,
            data: event.data,
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    data: *mut nvmlEventData_t,
    timeout: c_uint,
) -> nvmlReturn_t {
    // SAFETY: The caller's promise, passed on.
    unsafe {
        wait(set, data, timeout, |device, event| nvmlEventData_t {
            device,
            eventType: event.kind,
            eventData: event.data,
            gpuInstanceId: event.gpu_instance,
            computeInstanceId: event.compute_instance,
        })
    }
}

unsafe fn wait<T>(
    set: nvmlEventSet_t,
    data: *mut T,
    timeout: c_uint,
    convert: impl FnOnce(nvmlDevice_t, DeviceEvent) -> T,
) -> nvmlReturn_t {
    answer(|| {
        let (set, epoch) = event_set(set)?;
        let data = required(data)?;
        let event = set.wait(timeout)?;
        // SAFETY: nvml.h: a pointer that is not null points to a writable struct.
        unsafe { put(data, convert(device_handle(epoch, event.device), event)) };
        Ok(())
    })
}
