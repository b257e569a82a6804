//! Event sets.

use std::ptr;
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t};

use crate::check::{Stop, Verdict, checks, ensure, expect, offered, succeed};
use crate::nvml::{Code, Guarded, Nvml};

/// Changes of partitions, Xid, double-bit and single-bit ECC, as Mizzen registers them.
const WATCHED: u64 = 0x100 | 8 | 2 | 1;

checks! {
    "an event set can be made and freed, and NULL is refused" => create,
    "a wait without an event ends in TIMEOUT, after the time asked for" => timeout,
    "a wait on a set without any GPU ends too" => empty_set,
    "each GPU takes the events that it says it offers" => register,
    "events that do not exist are refused, and the set stays usable" => unknown_events,
    "many sets can be made and freed" => many_sets,
}

fn create_set(nvml: &Nvml) -> Result<nvmlEventSet_t, Stop> {
    let mut set = ptr::null_mut();
    offered("nvmlEventSetCreate", nvml.nvmlEventSetCreate(&raw mut set))?;
    ensure!(!set.is_null(), "the set is NULL");
    Ok(set)
}

/// Registers what of our events the GPU offers; false when it offers none.
fn watch(nvml: &Nvml, device: nvmlDevice_t, set: nvmlEventSet_t) -> Result<bool, Stop> {
    let mut events = Guarded::new(0);
    let code = nvml.nvmlDeviceGetSupportedEventTypes(device, events.pointer());
    offered("nvmlDeviceGetSupportedEventTypes", code)?;
    let wanted = events.value & WATCHED;
    if wanted == 0 {
        return Ok(false);
    }
    let code = nvml.nvmlDeviceRegisterEvents(device, wanted, set);
    succeed("nvmlDeviceRegisterEvents", code)?;
    Ok(true)
}

fn create(nvml: &Nvml) -> Verdict {
    nvml.start()?;
    let set = create_set(nvml)?;
    succeed("nvmlEventSetFree", nvml.nvmlEventSetFree(set))?;
    let code = nvml.nvmlEventSetCreate(ptr::null_mut());
    expect("NULL", code, &[Code::INVALID_ARGUMENT])
}

fn timeout(nvml: &Nvml) -> Verdict {
    let devices = nvml.devices()?;
    let set = create_set(nvml)?;
    watch(nvml, devices[0], set)?;
    // Two versions of the call, no time and some.
    for (newer, milliseconds) in [(true, 0), (true, 50), (false, 0), (false, 50)] {
        let mut data = Guarded::<nvmlEventData_t>::zeroed();
        let before = Instant::now();
        let code = if newer {
            nvml.nvmlEventSetWait_v2(set, data.pointer(), milliseconds)
        } else {
            nvml.nvmlEventSetWait(set, data.pointer(), milliseconds)
        };
        expect("the wait", code, &[Code::TIMEOUT])?;
        // An interrupt may end a wait early by nvml.h, but not by much on a quiet GPU.
        let least = Duration::from_millis(u64::from(milliseconds) * 9 / 10);
        let passed = before.elapsed();
        ensure!(passed >= least, "it took only {passed:?}");
        ensure!(passed < Duration::from_secs(5), "it took {passed:?}");
        ensure!(data.intact(), "a stray write");
    }
    let code = nvml.nvmlEventSetWait_v2(set, ptr::null_mut(), 0);
    expect("NULL for the data", code, &[Code::INVALID_ARGUMENT])?;
    succeed("nvmlEventSetFree", nvml.nvmlEventSetFree(set))
}

fn empty_set(nvml: &Nvml) -> Verdict {
    nvml.start()?;
    let set = create_set(nvml)?;
    let mut data = Guarded::<nvmlEventData_t>::zeroed();
    let before = Instant::now();
    let code = nvml.nvmlEventSetWait_v2(set, data.pointer(), 20);
    // What such a wait answers is not documented; that it ends is what matters.
    ensure!(code != Code::SUCCESS, "an event of no GPU");
    ensure!(before.elapsed() < Duration::from_secs(5), "it does not end");
    succeed("nvmlEventSetFree", nvml.nvmlEventSetFree(set))
}

fn register(nvml: &Nvml) -> Verdict {
    let devices = nvml.devices()?;
    let set = create_set(nvml)?;
    let mut watched = false;
    for &device in &devices {
        watched |= watch(nvml, device, set)?;
    }
    succeed("nvmlEventSetFree", nvml.nvmlEventSetFree(set))?;
    if !watched {
        return Err(Stop::Skip("no GPU offers Xid or ECC events".to_owned()));
    }
    Ok(())
}

fn unknown_events(nvml: &Nvml) -> Verdict {
    let device = nvml.devices()?[0];
    let set = create_set(nvml)?;
    let refusals = [Code::INVALID_ARGUMENT, Code::NOT_SUPPORTED];
    let code = nvml.nvmlDeviceRegisterEvents(device, 1 << 62, set);
    expect("an unknown event", code, &refusals)?;
    let code = nvml.nvmlDeviceRegisterEvents(ptr::null_mut(), WATCHED, set);
    expect("NULL for the GPU", code, &[Code::INVALID_ARGUMENT])?;
    let code = nvml.nvmlDeviceRegisterEvents(device, WATCHED, ptr::null_mut());
    expect("NULL for the set", code, &[Code::INVALID_ARGUMENT])?;
    watch(nvml, device, set)?;
    let mut data = Guarded::<nvmlEventData_t>::zeroed();
    let code = nvml.nvmlEventSetWait_v2(set, data.pointer(), 0);
    expect("the wait after it", code, &[Code::TIMEOUT])?;
    succeed("nvmlEventSetFree", nvml.nvmlEventSetFree(set))
}

fn many_sets(nvml: &Nvml) -> Verdict {
    let device = nvml.devices()?[0];
    for _ in 0..200 {
        let set = create_set(nvml)?;
        watch(nvml, device, set)?;
        succeed("nvmlEventSetFree", nvml.nvmlEventSetFree(set))?;
    }
    Ok(())
}
