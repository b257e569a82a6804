//! What processes do on MIG devices, and what a GPU that is partitioned does not tell.

use std::ffi::c_uint;

use mizzen_nvml_sim::Program;
use mizzen_nvml_sim::control::{ControlError, Gpus, InstanceLoad, LoadChange, ProcessLoad};
use nvml_wrapper_sys::bindings as b;
use nvml_wrapper_sys::bindings::nvmlDevice_t;

use super::{IN_USE, got, is_root, mig_device, partitioned};
use crate::support::{NOT_SUPPORTED, Node, SUCCESS};

/// A process on the first of the two instances (1/0), another one on the second (2/0).
fn used() -> Node {
    let node = partitioned("1xh100-80gb", &["3g.40gb", "3g.40gb"]);
    let process = |pid, gpu_instance| ProcessLoad {
        pid,
        memory_mib: 2048,
        utilization: 40,
        instance: Some((gpu_instance, 0)),
        ..ProcessLoad::default()
    };
    let change = LoadChange {
        processes: vec![process(11, 1), process(12, 2)],
        ..LoadChange::default()
    };
    node.simulator.load(&Gpus::All, &change).unwrap();
    node
}

/// The MIG device in the GPU instance of this id.
fn device_in(node: &Node, gpu_instance: c_uint) -> nvmlDevice_t {
    let mut devices = (0..2).map(|index| mig_device(node, 0, index).unwrap());
    // SAFETY: Pointers are valid.
    let id = |device| got(|at| unsafe { node.nvmlDeviceGetGpuInstanceId(device, at) });
    devices
        .find(|device| id(*device) == Ok(gpu_instance))
        .unwrap()
}

/// Ids and instances of the processes that compute.
fn processes(node: &Node, device: nvmlDevice_t) -> Vec<(u32, u32, u32)> {
    // SAFETY: Zeros are process infos, and the array is as long as said.
    unsafe {
        let mut infos: [b::nvmlProcessInfo_v2_t; 8] = std::mem::zeroed();
        let mut count = 8;
        let at = infos.as_mut_ptr();
        let code = node.nvmlDeviceGetComputeRunningProcesses_v3(device, &raw mut count, at);
        assert_eq!(code, SUCCESS);
        let told = infos.iter().take(count as usize);
        told.map(|info| (info.pid, info.gpuInstanceId, info.computeInstanceId))
            .collect()
    }
}

#[test]
fn a_process_is_listed_on_its_mig_device_and_on_the_gpu_with_its_instances() {
    let node = used();
    assert_eq!(processes(&node, device_in(&node, 1)), [(11, 1, 0)]);
    assert_eq!(processes(&node, device_in(&node, 2)), [(12, 2, 0)]);
    assert_eq!(processes(&node, node.device(0)), [(11, 1, 0), (12, 2, 0)]);
}

#[test]
fn a_mig_devices_memory_is_used_by_its_processes() {
    let node = used();
    let device = device_in(&node, 1);
    // SAFETY: Pointers are valid.
    let memory: b::nvmlMemory_t =
        got(|at| unsafe { node.nvmlDeviceGetMemoryInfo(device, at) }).unwrap();
    assert_eq!(memory.used, 2048 << 20);
    assert_eq!(memory.used + memory.free, memory.total);
}

#[test]
fn a_partitioned_gpu_tells_no_utilisation() {
    let node = used();
    let device = node.device(0);
    let mut rates = b::nvmlUtilization_t { gpu: 9, memory: 9 };
    let (mut percent, mut period, mut count) = (9, 9, 8);
    // SAFETY: Pointers are valid; no list is given.
    unsafe {
        let code = node.nvmlDeviceGetUtilizationRates(device, &raw mut rates);
        assert_eq!((code, rates.gpu), (NOT_SUPPORTED, 9));
        let (percent, period) = (&raw mut percent, &raw mut period);
        let code = node.nvmlDeviceGetEncoderUtilization(device, percent, period);
        assert_eq!(code, NOT_SUPPORTED);
        let null = std::ptr::null_mut();
        let code = node.nvmlDeviceGetProcessUtilization(device, null, &raw mut count, 0);
        assert_eq!(code, NOT_SUPPORTED);
    }
}

#[test]
fn a_process_holds_its_own_instance_and_no_other() {
    let node = used();
    if !is_root(&node) {
        return;
    }
    let end = LoadChange {
        end_processes: vec![12],
        ..LoadChange::default()
    };
    node.simulator.load(&Gpus::All, &end).unwrap();
    // SAFETY: Pointers are valid.
    let destroy = |id| unsafe {
        let instance = got(|at| node.nvmlDeviceGetGpuInstanceById(node.device(0), id, at)).unwrap();
        let part = got(|at| node.nvmlGpuInstanceGetComputeInstanceById(instance, 0, at)).unwrap();
        node.nvmlComputeInstanceDestroy(part)
    };
    assert_eq!(destroy(1), IN_USE);
    assert_eq!(destroy(2), SUCCESS);
}

#[test]
fn a_load_for_an_instance_that_is_not_there_is_refused_and_nothing_is_changed() {
    let node = used();
    let load = |gpu_instance| InstanceLoad {
        gpu_instance,
        utilization: Program::Constant(50.0),
    };
    let process = ProcessLoad {
        pid: 13,
        instance: Some((1, 1)),
        ..ProcessLoad::default()
    };
    let changes = [
        LoadChange {
            instances: vec![load(1), load(5)],
            ..LoadChange::default()
        },
        LoadChange {
            processes: vec![process],
            ..LoadChange::default()
        },
    ];
    for change in changes {
        let error = node.simulator.load(&Gpus::All, &change).unwrap_err();
        assert!(matches!(error, ControlError::Mig { .. }), "{error}");
    }
    let status = node.simulator.status().unwrap();
    assert_eq!(status.gpus[0].processes.len(), 2);
}
