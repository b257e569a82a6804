//! The processes on a GPU, and what each of them uses.
#![allow(unsafe_code, reason = "calls the library's functions")]

use std::collections::BTreeMap;
use std::ffi::c_uint;
use std::mem;
use std::time::{Duration, Instant};

use mizzen_core::driver::DriverError;
use mizzen_core::sample::ProcessSample;
use nvml_wrapper_sys::bindings::{
    nvmlProcessInfo_v2_t, nvmlProcessUtilizationSample_t, nvmlReturn_t,
};

use super::calls::is_unsupported;
use crate::device::{Device, call};
use crate::library::{Library, code};
use crate::mig::Parts;

/// Room for more processes than there were when the list was asked for last.
const SPARE: usize = 16;
/// How often a list that has grown meanwhile is asked for again.
const TRIES: usize = 3;
/// `NVML_VALUE_NOT_AVAILABLE`
const UNKNOWN: u64 = u64::MAX;
/// No GPU or compute instance.
const WHOLE_GPU: c_uint = c_uint::MAX;
/// The driver samples utilisation every second, or more often: for so long the last one holds if
/// there is no new one.
const HOLDS: Duration = Duration::from_millis(1500);

/// Instances and process id.
type Key = (Option<(u32, u32)>, u32);

/// What is remembered of a GPU's processes.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// How long its lists were.
    longest: usize,
    /// Whether its driver does not list them, or does not count what each of them uses.
    unlisted: bool,
    uncounted: bool,
    /// The time of the youngest utilisation that was told, µs since the epoch.
    seen: u64,
    /// When there was a new one.
    at: Option<Instant>,
    /// Utilisation of SMs and memory, %, by process.
    used: BTreeMap<u32, (u32, u32)>,
}

impl Processes {
    /// The processes on the GPU; none where the driver does not tell.
    ///
    /// # Errors
    /// The GPU does not answer.
    pub(super) fn read(
        &mut self,
        library: &Library,
        device: Device,
        parts: &Parts,
    ) -> Result<Vec<ProcessSample>, DriverError> {
        if self.unlisted {
            return Ok(Vec::new());
        }
        let mut found = BTreeMap::new();
        match self.list(library, device, None, &mut found) {
            // A partitioned GPU tells all of them to the administrator alone.
            Err(DriverError::NoPermission) if parts.on => {
                for part in &parts.devices {
                    let instance = Some((part.gpu_instance, part.compute_instance));
                    self.list(library, part.handle, instance, &mut found)?;
                }
            }
            Err(error) if is_unsupported(&error) => {
                self.unlisted = true;
                return Ok(Vec::new());
            }
            listed => listed?,
        }
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let counted = !parts.on && self.count(library, device)?;
        let used = |pid| counted.then(|| self.used.get(&pid).copied().unwrap_or_default());
        let processes = found
            .into_iter()
            .map(|((instance, pid), memory)| ProcessSample {
                pid,
                instance,
                memory,
                sm_util: used(pid).map(|(sm, _)| sm),
                mem_util: used(pid).map(|(_, memory)| memory),
            });
        Ok(processes.collect())
    }

    /// Adds the processes on a device: those that compute, also through MPS, and those that draw.
    /// One that is on several lists is told with the same memory on each.
    fn list(
        &mut self,
        library: &Library,
        device: Device,
        instance: Option<(u32, u32)>,
        found: &mut BTreeMap<Key, Option<u64>>,
    ) -> Result<(), DriverError> {
        let room = self.longest + SPARE;
        let call = "nvmlDeviceGetComputeRunningProcesses_v3";
        let computing = library.processes(call, room, |count, list| {
            call!(library, compute_processes(device.0, count, list))
        })?;
        let call = "nvmlDeviceGetMPSComputeRunningProcesses_v3";
        let sharing = library.processes(call, SPARE, |count, list| {
            call!(library, mps_processes(device.0, count, list))
        });
        let call = "nvmlDeviceGetGraphicsRunningProcesses_v3";
        let drawing = library.processes(call, SPARE, |count, list| {
            call!(library, graphics_processes(device.0, count, list))
        });
        self.longest = computing.len();
        let mut lists = vec![computing];
        for more in [sharing, drawing] {
            match more {
                Ok(more) => lists.push(more),
                Err(error) if is_unsupported(&error) => {}
                Err(error) => return Err(error),
            }
        }
        for process in lists.iter().flatten() {
            let on = (process.gpuInstanceId, process.computeInstanceId);
            let on = Some(on).filter(|on| on.0 != WHOLE_GPU);
            let memory = Some(process.usedGpuMemory).filter(|memory| *memory != UNKNOWN);
            let known = found.entry((on.or(instance), process.pid)).or_default();
            *known = memory.max(*known);
        }
        Ok(())
    }

    /// Asks how busy each process keeps the GPU since the last time; whether that is counted.
    fn count(&mut self, library: &Library, device: Device) -> Result<bool, DriverError> {
        if self.uncounted {
            return Ok(false);
        }
        let now = Instant::now();
        let told = match library.process_utilization(device, self.longest + SPARE, self.seen) {
            Ok(told) => told,
            Err(error) if is_unsupported(&error) => {
                self.uncounted = true;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let held = self.at.is_some_and(|at| now.duration_since(at) < HOLDS);
        if told.is_empty() && held {
            return Ok(true);
        }
        self.at = Some(now);
        self.used.clear();
        let mut times = BTreeMap::new();
        for sample in told {
            let time = times.entry(sample.pid).or_insert(0);
            if sample.timeStamp >= *time {
                *time = sample.timeStamp;
                self.used
                    .insert(sample.pid, (sample.smUtil, sample.memUtil));
            }
            self.seen = self.seen.max(sample.timeStamp);
        }
        Ok(true)
    }
}

impl Library {
    /// A list of processes, for which there is `room` at first.
    fn processes(
        &self,
        call: &'static str,
        room: usize,
        ask: impl Fn(*mut c_uint, *mut nvmlProcessInfo_v2_t) -> nvmlReturn_t,
    ) -> Result<Vec<nvmlProcessInfo_v2_t>, DriverError> {
        // SAFETY: integers, for which zero bytes are a value.
        let blank: nvmlProcessInfo_v2_t = unsafe { mem::zeroed() };
        self.growing(call, room, blank, ask)
    }

    /// How busy each process keeps the GPU, told after the time `since`; empty if nothing is new.
    fn process_utilization(
        &self,
        device: Device,
        room: usize,
        since: u64,
    ) -> Result<Vec<nvmlProcessUtilizationSample_t>, DriverError> {
        let call = "nvmlDeviceGetProcessUtilization";
        // SAFETY: integers, for which zero bytes are a value.
        let blank: nvmlProcessUtilizationSample_t = unsafe { mem::zeroed() };
        let told = self.growing(call, room, blank, |count, list| {
            call!(self, process_utilization(device.0, list, count, since))
        });
        match told {
            Err(DriverError::Nvml {
                code: code::NOT_FOUND,
                ..
            }) => Ok(Vec::new()),
            told => told,
        }
    }

    /// A list of which NVML tells the length if there is no room for it.
    fn growing<T: Copy>(
        &self,
        call: &'static str,
        room: usize,
        blank: T,
        ask: impl Fn(*mut c_uint, *mut T) -> nvmlReturn_t,
    ) -> Result<Vec<T>, DriverError> {
        let mut list = vec![blank; room];
        let mut code = code::INSUFFICIENT_SIZE;
        for _ in 0..TRIES {
            let mut count = c_uint::try_from(list.len()).unwrap_or(c_uint::MAX);
            code = ask(&raw mut count, list.as_mut_ptr());
            if code != code::INSUFFICIENT_SIZE {
                list.truncate(count as usize);
                break;
            }
            list.resize(list.len().max(count as usize) + SPARE, blank);
        }
        self.checked(call, code)?;
        Ok(list)
    }
}
