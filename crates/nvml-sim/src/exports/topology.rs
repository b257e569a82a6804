//! What is near what.

use std::ffi::{c_int, c_uint, c_ulong};

use nvml_wrapper_sys::bindings::{
    nvmlAffinityScope_t, nvmlDevice_t, nvmlGpuTopologyLevel_t, nvmlReturn_t,
};

use super::answer;
use super::global::{device_handle, session, with_device, with_devices};
use super::pointer::{put, required};
use crate::engine::{AffinityScope, Device, Failure};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTopologyCommonAncestor(
    first: nvmlDevice_t,
    second: nvmlDevice_t,
    level: *mut nvmlGpuTopologyLevel_t,
) -> nvmlReturn_t {
    answer(|| {
        with_devices(first, second, |_, first, second| {
            let level = required(level)?;
            // SAFETY: nvml.h: a pointer that is not null points to a writable level.
            unsafe { put(level, first.common_ancestor(second)) };
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceOnSameBoard(
    first: nvmlDevice_t,
    second: nvmlDevice_t,
    same: *mut c_int,
) -> nvmlReturn_t {
    answer(|| {
        with_devices(first, second, |_, first, second| {
            let same = required(same)?;
            // SAFETY: nvml.h: a pointer that is not null points to a writable number.
            unsafe { put(same, c_int::from(first.index() == second.index())) };
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTopologyNearestGpus(
    device: nvmlDevice_t,
    level: nvmlGpuTopologyLevel_t,
    count: *mut c_uint,
    devices: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    answer(|| {
        let (session, epoch) = session()?;
        with_devices(device, device, |_, device, _| {
            if !matches!(level, 0 | 10 | 20 | 30 | 40 | 50) {
                return Err(Failure::InvalidArgument);
            }
            let near = session.nearest(device, level);
            // SAFETY: nvml.h: the count is null or valid, the array null or as long as it says.
            unsafe { put_near(&near, epoch, count, devices) }
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetTopologyGpuSet(
    cpu: c_uint,
    count: *mut c_uint,
    devices: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    answer(|| {
        let (session, epoch) = session()?;
        let near = session.near_cpu(cpu);
        // SAFETY: nvml.h: the count is null or valid, the array null or as long as it says.
        unsafe { put_near(&near, epoch, count, devices) }
    })
}

/// Unlike other lists, these fill as much as there is room for.
unsafe fn put_near(
    near: &[usize],
    epoch: u32,
    count: *mut c_uint,
    devices: *mut nvmlDevice_t,
) -> Result<(), Failure> {
    let count = required(count)?;
    // SAFETY: The caller's promise.
    let room = unsafe { count.read_unaligned() } as usize;
    if room > 0 && devices.is_null() {
        return Err(Failure::InvalidArgument);
    }
    for (position, index) in near.iter().take(room).enumerate() {
        // SAFETY: `position` is below `room`, for which the array is valid.
        let place = unsafe { devices.add(position) };
        // SAFETY: As above.
        unsafe { place.write_unaligned(device_handle(epoch, *index)) };
    }
    let told = if room == 0 {
        near.len()
    } else {
        near.len().min(room)
    };
    // SAFETY: The caller's promise.
    unsafe { put(count, c_uint::try_from(told).unwrap_or(0)) };
    Ok(())
}

fn cpus(device: &Device<'_>, words: usize) -> Vec<u64> {
    device.cpu_mask(words)
}

fn nodes(device: &Device<'_>, words: usize) -> Vec<u64> {
    device.node_mask(words)
}

/// Writes a mask into the caller's words.
unsafe fn put_mask(
    device: nvmlDevice_t,
    words: c_uint,
    set: *mut c_ulong,
    mask: impl FnOnce(&Device<'_>, usize) -> Vec<u64>,
) -> Result<(), Failure> {
    with_device(device, |device| {
        let set = required(set)?;
        if words == 0 {
            return Err(Failure::InvalidArgument);
        }
        let mask = mask(device, words as usize);
        for (position, word) in mask.into_iter().enumerate().take(words as usize) {
            // SAFETY: nvml.h: the set has room for `words` words.
            unsafe { set.add(position).write_unaligned(word as c_ulong) };
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCpuAffinity(
    device: nvmlDevice_t,
    words: c_uint,
    set: *mut c_ulong,
) -> nvmlReturn_t {
    // SAFETY: The caller's promise, passed on.
    answer(|| unsafe { put_mask(device, words, set, cpus) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCpuAffinityWithinScope(
    device: nvmlDevice_t,
    words: c_uint,
    set: *mut c_ulong,
    scope: nvmlAffinityScope_t,
) -> nvmlReturn_t {
    answer(|| {
        AffinityScope::from_code(scope)?;
        // SAFETY: The caller's promise, passed on.
        unsafe { put_mask(device, words, set, cpus) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryAffinity(
    device: nvmlDevice_t,
    words: c_uint,
    set: *mut c_ulong,
    scope: nvmlAffinityScope_t,
) -> nvmlReturn_t {
    answer(|| {
        AffinityScope::from_code(scope)?;
        // SAFETY: The caller's promise, passed on.
        unsafe { put_mask(device, words, set, nodes) }
    })
}

/// The GPU's own memory is a NUMA node on Grace machines alone, which is not simulated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNumaNodeId(
    device: nvmlDevice_t,
    node: *mut c_uint,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |_| {
            required(node)?;
            Err(Failure::NotSupported)
        })
    })
}
