//! Partitions of GPUs that processes use.

use mizzen_nvml_sim::control::{Gpus, LoadChange, ProcessLoad};

use super::{IN_USE, RESET_REQUIRED, create, got, is_root, mig_device, partitioned};
use crate::support::{Node, SUCCESS};

/// A node whose only GPU a process uses.
fn used(short: &str, instances: &[&str]) -> Node {
    let node = partitioned(short, instances);
    let process = ProcessLoad {
        pid: 4711,
        memory_mib: 2048,
        utilization: 0,
        graphics: false,
        ..ProcessLoad::default()
    };
    let change = LoadChange {
        processes: vec![process],
        ..LoadChange::default()
    };
    node.simulator.load(&Gpus::All, &change).unwrap();
    node
}

fn end_the_processes(node: &Node) {
    let change = LoadChange {
        end_all_processes: true,
        ..LoadChange::default()
    };
    node.simulator.load(&Gpus::All, &change).unwrap();
}

#[test]
fn the_mode_of_a_gpu_that_a_process_uses_is_pending_until_it_is_set_again() {
    for (short, when_idle) in [("1xh100-80gb", SUCCESS), ("1xa100-80gb", RESET_REQUIRED)] {
        let node = used(short, &[]);
        if !is_root(&node) {
            return;
        }
        let set = |mode| {
            let mut status = 99;
            // SAFETY: The pointer is valid.
            let code = unsafe { node.nvmlDeviceSetMigMode(node.device(0), mode, &raw mut status) };
            (code, status)
        };
        let mode = || {
            let (mut now, mut pending) = (9, 9);
            let device = node.device(0);
            // SAFETY: Pointers are valid.
            let code = unsafe { node.nvmlDeviceGetMigMode(device, &raw mut now, &raw mut pending) };
            (code, now, pending)
        };
        assert_eq!(set(1), (SUCCESS, SUCCESS), "it is on");
        assert_eq!(set(0), (SUCCESS, IN_USE));
        assert_eq!(mode(), (SUCCESS, 1, 0));
        end_the_processes(&node);
        assert_eq!(mode(), (SUCCESS, 1, 0));
        assert_eq!(set(0), (SUCCESS, when_idle), "{short}");
    }
}

#[test]
fn instances_of_a_gpu_that_a_process_uses_are_created_and_not_destroyed() {
    let node = used("1xh100-80gb", &["3g.40gb"]);
    if !is_root(&node) {
        return;
    }
    assert!(create(&node, 19).is_ok());
    // SAFETY: Pointers are valid.
    unsafe {
        let device = mig_device(&node, 0, 0).unwrap();
        let id = got(|at| node.nvmlDeviceGetGpuInstanceId(device, at)).unwrap();
        let half = got(|at| node.nvmlDeviceGetGpuInstanceById(node.device(0), id, at)).unwrap();
        let part = got(|at| node.nvmlGpuInstanceGetComputeInstanceById(half, 0, at)).unwrap();
        assert_eq!(node.nvmlComputeInstanceDestroy(part), IN_USE);
        assert_eq!(node.nvmlGpuInstanceDestroy(half), IN_USE);
        end_the_processes(&node);
        assert_eq!(node.nvmlComputeInstanceDestroy(part), SUCCESS);
        assert_eq!(node.nvmlGpuInstanceDestroy(half), SUCCESS);
    }
}

#[test]
fn the_simulators_own_control_partitions_a_gpu_whoever_uses_it() {
    let node = used("1xh100-80gb", &["3g.40gb"]);
    let gpus = Gpus::All;
    node.simulator.destroy_gpu_instances(&gpus, None).unwrap();
    assert!(node.simulator.set_mig_mode(&gpus, false).unwrap()[0].active);
    let status = node.simulator.status().unwrap();
    assert_eq!(status.gpus[0].processes.len(), 1, "it is there still");
}
