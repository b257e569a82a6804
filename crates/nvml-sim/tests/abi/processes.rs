//! Processes and loads as a program sees them.

use std::ffi::c_uint;

use mizzen_nvml_sim::Program;
use mizzen_nvml_sim::control::{Gpus, LoadChange, ProcessLoad};
use nvml_wrapper_sys::bindings::{nvmlProcessInfo_v2_t, nvmlUtilization_t};

use crate::support::{INSUFFICIENT_SIZE, INVALID_ARGUMENT, Node, SUCCESS, value};

fn busy() -> Node {
    let node = Node::initialised("1xh100-80gb");
    let process = |pid, graphics| ProcessLoad {
        pid,
        memory_mib: 512,
        utilization: 30,
        graphics,
    };
    let change = LoadChange {
        utilization: Some(Program::Constant(90.0)),
        processes: vec![process(100, false), process(200, false), process(300, true)],
        ..LoadChange::default()
    };
    node.simulator.load(&Gpus::All, &change).unwrap();
    node
}

#[test]
fn processes_are_listed_by_what_they_do() {
    let node = busy();
    let device = node.device(0);
    // SAFETY: Zeros are process infos, and the array is as long as said.
    unsafe {
        let mut infos: [nvmlProcessInfo_v2_t; 8] = std::mem::zeroed();
        let mut count: c_uint = 8;
        let at = infos.as_mut_ptr();
        let result = node.nvmlDeviceGetComputeRunningProcesses_v3(device, &raw mut count, at);
        assert_eq!((result, count), (SUCCESS, 2));
        assert_eq!((infos[0].pid, infos[0].usedGpuMemory), (100, 512 << 20));
        assert_eq!(infos[0].gpuInstanceId, u32::MAX);
        count = 8;
        let result = node.nvmlDeviceGetGraphicsRunningProcesses_v3(device, &raw mut count, at);
        assert_eq!((result, count, infos[0].pid), (SUCCESS, 1, 300));
    }
}

#[test]
fn a_list_that_is_too_short_gets_its_length_told() {
    let node = busy();
    let device = node.device(0);
    // SAFETY: Zeros are process infos, and the array is as long as said.
    unsafe {
        let mut infos: [nvmlProcessInfo_v2_t; 2] = std::mem::zeroed();
        for room in [0, 1] {
            let mut count: c_uint = room;
            let at = if room == 0 {
                std::ptr::null_mut()
            } else {
                infos.as_mut_ptr()
            };
            let result = node.nvmlDeviceGetComputeRunningProcesses_v3(device, &raw mut count, at);
            assert_eq!((result, count), (INSUFFICIENT_SIZE, 2));
            assert_eq!(infos[0].pid, 0, "wrote into a list that is too short");
        }
        let mut count: c_uint = 2;
        let null = std::ptr::null_mut();
        let result = node.nvmlDeviceGetComputeRunningProcesses_v3(device, &raw mut count, null);
        assert_eq!(result, INVALID_ARGUMENT);
    }
}

#[test]
fn a_load_shows_in_utilisation_memory_clocks_and_power() {
    let node = busy();
    let device = node.device(0);
    // SAFETY: Pointers are valid.
    unsafe {
        let mut rates: nvmlUtilization_t = std::mem::zeroed();
        assert_eq!(
            node.nvmlDeviceGetUtilizationRates(device, &raw mut rates),
            SUCCESS
        );
        assert_eq!(rates.gpu, 90);
        let power: c_uint = value(|at| node.nvmlDeviceGetPowerUsage(device, at));
        assert!(power > 600_000, "{power} mW");
        let mut clock = 0;
        assert_eq!(
            node.nvmlDeviceGetClockInfo(device, 0, &raw mut clock),
            SUCCESS
        );
        assert_eq!(clock, 1980);
    }
}
