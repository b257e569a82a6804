//! Framebuffer and BAR1.

use nvml_wrapper_sys::bindings::{nvmlBAR1Memory_t, nvmlMemory_t, nvmlMemory_v2_t};

use super::{getters, versioned_getters};

getters! {
    // The first version counts what the driver keeps as used.
    nvmlDeviceGetMemoryInfo(device) -> nvmlMemory_t = {
        let memory = device.framebuffer();
        Ok(nvmlMemory_t {
            total: memory.total,
            free: memory.free,
            used: memory.used + memory.reserved,
        })
    };
    nvmlDeviceGetBAR1MemoryInfo(device) -> nvmlBAR1Memory_t = {
        let (total, used) = device.bar1();
        Ok(nvmlBAR1Memory_t {
            bar1Total: total,
            bar1Free: total - used,
            bar1Used: used,
        })
    };
}

versioned_getters! {
    nvmlDeviceGetMemoryInfo_v2(device, value: nvmlMemory_v2_t, 2) = {
        let memory = device.framebuffer();
        value.total = memory.total;
        value.reserved = memory.reserved;
        value.free = memory.free;
        value.used = memory.used;
        Ok(())
    };
}
