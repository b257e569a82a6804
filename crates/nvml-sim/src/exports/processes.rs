//! Processes on a GPU.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEnableState_t, nvmlFBCStats_t, nvmlProcessDetail_v1_t,
    nvmlProcessDetailList_v1_t, nvmlProcessInfo_v1_t, nvmlProcessInfo_v2_t,
    nvmlProcessUtilizationInfo_v1_t, nvmlProcessUtilizationSample_t,
    nvmlProcessesUtilizationInfo_v1_t, nvmlReturn_t,
};

use super::global::with_device;
use super::mig::{Either, with_either};
use super::pointer::{put, put_list, required};
use super::{answer, getters, versioned_getters};
use crate::engine::{Device, Failure, GpuProcess};
use crate::state::clock::wall_microseconds;

/// No GPU or compute instance.
const WHOLE_GPU: c_uint = c_uint::MAX;

fn first_version(process: &GpuProcess) -> nvmlProcessInfo_v1_t {
    nvmlProcessInfo_v1_t {
        pid: process.pid,
        usedGpuMemory: process.memory,
    }
}

fn second_version(process: &GpuProcess) -> nvmlProcessInfo_v2_t {
    nvmlProcessInfo_v2_t {
        pid: process.pid,
        usedGpuMemory: process.memory,
        gpuInstanceId: instances(process).0,
        computeInstanceId: instances(process).1,
    }
}

/// The GPU instance and compute instance as NVML tells them.
fn instances(process: &GpuProcess) -> (c_uint, c_uint) {
    process.instance.unwrap_or((WHOLE_GPU, WHOLE_GPU))
}

/// Functions of the shape `(device, unsigned int *count, T *infos)`.
macro_rules! process_lists {
    ($($name:ident -> $type:ty = $list:expr, $convert:expr;)+) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            device: nvmlDevice_t,
            count: *mut c_uint,
            infos: *mut $type,
        ) -> nvmlReturn_t {
            answer(|| {
                with_either(device, |either| {
                    let list: fn(&Device<'_>) -> Vec<GpuProcess> = $list;
                    let processes = match either {
                        Either::Gpu(device) => list(device),
                        Either::Mig(device, mig) => {
                            let mut processes = list(device);
                            processes.retain(|process| mig.has(process));
                            processes
                        }
                    };
                    let values = processes.iter().map($convert).collect();
                    // SAFETY: nvml.h: the count is null or valid, the array null or as long.
                    unsafe { put_list(count, infos, values) }
                })
            })
        }
    )+};
}

/// No process runs under MPS.
fn none(_: &Device<'_>) -> Vec<GpuProcess> {
    Vec::new()
}

process_lists! {
    nvmlDeviceGetComputeRunningProcesses -> nvmlProcessInfo_v1_t =
        |device| device.compute_processes(), first_version;
    nvmlDeviceGetComputeRunningProcesses_v2 -> nvmlProcessInfo_v2_t =
        |device| device.compute_processes(), second_version;
    nvmlDeviceGetComputeRunningProcesses_v3 -> nvmlProcessInfo_v2_t =
        |device| device.compute_processes(), second_version;
    nvmlDeviceGetGraphicsRunningProcesses -> nvmlProcessInfo_v1_t =
        |device| device.graphics_processes(), first_version;
    nvmlDeviceGetGraphicsRunningProcesses_v2 -> nvmlProcessInfo_v2_t =
        |device| device.graphics_processes(), second_version;
    nvmlDeviceGetGraphicsRunningProcesses_v3 -> nvmlProcessInfo_v2_t =
        |device| device.graphics_processes(), second_version;
    nvmlDeviceGetMPSComputeRunningProcesses -> nvmlProcessInfo_v1_t = none, first_version;
    nvmlDeviceGetMPSComputeRunningProcesses_v2 -> nvmlProcessInfo_v2_t = none, second_version;
    nvmlDeviceGetMPSComputeRunningProcesses_v3 -> nvmlProcessInfo_v2_t = none, second_version;
}

/// The processes that do something: NVML tells of no others, and of none with MIG on.
fn busy_processes(device: &Device<'_>) -> Result<Vec<GpuProcess>, Failure> {
    let mut processes = device.as_a_whole()?.all_processes();
    processes.retain(|process| process.utilization != [0; 4]);
    Ok(processes)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetProcessUtilization(
    device: nvmlDevice_t,
    samples: *mut nvmlProcessUtilizationSample_t,
    count: *mut c_uint,
    _since: c_ulonglong,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            let now = wall_microseconds();
            let values: Vec<_> = busy_processes(device)?
                .iter()
                .map(|process| nvmlProcessUtilizationSample_t {
                    pid: process.pid,
                    timeStamp: now,
                    smUtil: process.utilization[0],
                    memUtil: process.utilization[1],
                    encUtil: process.utilization[2],
                    decUtil: process.utilization[3],
                })
                .collect();
            let length = required(count)?;
            if samples.is_null() {
                // SAFETY: nvml.h: a count that is not null is valid.
                unsafe { put(length, c_uint::try_from(values.len()).unwrap_or(0)) };
                return if values.is_empty() {
                    Ok(())
                } else {
                    Err(Failure::InsufficientSize)
                };
            }
            if values.is_empty() {
                // SAFETY: As above.
                unsafe { put(length, 0) };
                return Err(Failure::NotFound);
            }
            // SAFETY: nvml.h: the array is as long as the count says.
            unsafe { put_list(count, samples, values) }
        })
    })
}

versioned_getters! {
    nvmlDeviceGetProcessesUtilizationInfo(device, value: nvmlProcessesUtilizationInfo_v1_t, 1) = {
        let now = wall_microseconds();
        let values: Vec<_> = busy_processes(device)?
            .iter()
            .map(|process| nvmlProcessUtilizationInfo_v1_t {
                timeStamp: now,
                pid: process.pid,
                smUtil: process.utilization[0],
                memUtil: process.utilization[1],
                encUtil: process.utilization[2],
                decUtil: process.utilization[3],
                jpgUtil: 0,
                ofaUtil: 0,
            })
            .collect();
        if values.is_empty() {
            value.processSamplesCount = 0;
            return Err(Failure::NotFound);
        }
        if value.procUtilArray.is_null() {
            value.processSamplesCount = 0;
        }
        // SAFETY: nvml.h: the array is null or as long as its count says.
        unsafe { put_list(&raw mut value.processSamplesCount, value.procUtilArray, values) }
    };
    nvmlDeviceGetRunningProcessDetailList(device, value: nvmlProcessDetailList_v1_t, 1) = {
        let list = match value.mode {
            0 => device.compute_processes(),
            1 => device.graphics_processes(),
            2 => Vec::new(),
            _ => return Err(Failure::InvalidArgument),
        };
        let values: Vec<_> = list
            .iter()
            .map(|process| nvmlProcessDetail_v1_t {
                pid: process.pid,
                usedGpuMemory: process.memory,
                gpuInstanceId: instances(process).0,
                computeInstanceId: instances(process).1,
                usedGpuCcProtectedMemory: 0,
            })
            .collect();
        if value.procArray.is_null() {
            value.numProcArrayEntries = 0;
        }
        // SAFETY: nvml.h: the array is null or as long as its count says.
        unsafe { put_list(&raw mut value.numProcArrayEntries, value.procArray, values) }
    };
}

getters! {
    // Accounting is off, with room for as many processes as the driver has.
    nvmlDeviceGetAccountingMode(_device) -> nvmlEnableState_t = Ok(0);
    nvmlDeviceGetAccountingBufferSize(_device) -> c_uint = Ok(4000);
    nvmlDeviceGetFBCStats(_device) -> nvmlFBCStats_t = Ok(nvmlFBCStats_t {
        sessionsCount: 0,
        averageFPS: 0,
        averageLatency: 0,
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetAccountingPids(
    device: nvmlDevice_t,
    count: *mut c_uint,
    pids: *mut c_uint,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |_| {
            // SAFETY: nvml.h: the count is null or valid, the array null or as long as it says.
            unsafe { put_list(count, pids, Vec::new()) }
        })
    })
}
