//! Framebuffer and BAR1.

use nvml_wrapper_sys::bindings::{
    nvmlBAR1Memory_t, nvmlDevice_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlReturn_t,
};

use super::mig::{Either, with_either};
use super::pointer::check_version;
use super::{answer, getters, getters_of_either};
use crate::engine::Framebuffer;

getters_of_either! {
    // The first version counts what the driver keeps as used.
    nvmlDeviceGetMemoryInfo(either) -> nvmlMemory_t = {
        let memory = framebuffer(either);
        Ok(nvmlMemory_t {
            total: memory.total,
            free: memory.free,
            used: memory.used + memory.reserved,
        })
    };
}

getters! {
    nvmlDeviceGetBAR1MemoryInfo(device) -> nvmlBAR1Memory_t = {
        let (total, used) = device.bar1();
        Ok(nvmlBAR1Memory_t {
            bar1Total: total,
            bar1Free: total - used,
            bar1Used: used,
        })
    };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: nvmlDevice_t,
    value: *mut nvmlMemory_v2_t,
) -> nvmlReturn_t {
    answer(|| {
        with_either(device, |either| {
            // SAFETY: nvml.h: a pointer that is not null points to a value with a version word.
            unsafe { check_version(value, 2)? };
            // SAFETY: The version word says that the value is of this type.
            let value = unsafe { &mut *value };
            let memory = framebuffer(either);
            value.total = memory.total;
            value.reserved = memory.reserved;
            value.free = memory.free;
            value.used = memory.used;
            Ok(())
        })
    })
}

fn framebuffer(either: &Either<'_>) -> Framebuffer {
    match either {
        Either::Gpu(device) => device.framebuffer(),
        Either::Mig(device, mig) => device.mig_framebuffer(mig),
    }
}
