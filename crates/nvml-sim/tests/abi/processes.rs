//! Processes and loads as a program sees them.

use std::ffi::c_uint;
use std::time::Duration;

use mizzen_nvml_sim::Program;
use mizzen_nvml_sim::control::{Gpus, LoadChange, ProcessLoad};
use nvml_wrapper_sys::bindings::{
    nvmlFieldValue_t, nvmlProcessInfo_v2_t, nvmlProcessUtilizationSample_t, nvmlUtilization_t,
};

use crate::support::{INSUFFICIENT_SIZE, INVALID_ARGUMENT, Node, SUCCESS, pass, value};

fn busy() -> Node {
    let node = Node::initialised("1xh100-80gb");
    let process = |pid, graphics| ProcessLoad {
        pid,
        memory_mib: 512,
        utilization: 30,
        graphics,
        ..ProcessLoad::default()
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

#[test]
fn only_processes_that_do_something_have_a_utilisation() {
    let node = busy();
    let idle = ProcessLoad {
        pid: 400,
        memory_mib: 1,
        ..ProcessLoad::default()
    };
    let change = LoadChange {
        processes: vec![idle],
        ..LoadChange::default()
    };
    node.simulator.load(&Gpus::All, &change).unwrap();
    // SAFETY: Zeros are samples, and the array is as long as said.
    unsafe {
        let mut samples: [nvmlProcessUtilizationSample_t; 8] = std::mem::zeroed();
        let mut count: c_uint = 8;
        let at = samples.as_mut_ptr();
        let device = node.device(0);
        let code = node.nvmlDeviceGetProcessUtilization(device, at, &raw mut count, 0);
        assert_eq!((code, count), (SUCCESS, 3));
        assert_eq!(
            (samples[0].pid, samples[0].smUtil, samples[0].memUtil),
            (100, 30, 15)
        );
    }
}

#[test]
fn nvlink_traffic_grows_with_the_work_and_all_links_are_the_sum_of_each() {
    let node = busy();
    pass(Duration::from_millis(20));
    // Data sent over one link, over all of them, and with the protocol.
    let fields = [(138, 0), (138, u32::MAX), (140, u32::MAX), (138, 18)];
    let read = || {
        // SAFETY: Zeros are field values, and the array is as long as said.
        unsafe {
            let mut values: [nvmlFieldValue_t; 4] = std::mem::zeroed();
            for (value, (field, scope)) in values.iter_mut().zip(fields) {
                (value.fieldId, value.scopeId) = (field, scope);
            }
            let code = node.nvmlDeviceGetFieldValues(node.device(0), 4, values.as_mut_ptr());
            assert_eq!(code, SUCCESS);
            assert_eq!(
                values.map(|value| value.nvmlReturn),
                [0, 0, 0, INVALID_ARGUMENT]
            );
            values.map(|value| value.value.ullVal)
        }
    };
    let [one, all, raw, _] = read();
    assert!(one > 0 && all > one * 17 && raw > all, "{one} {all} {raw}");
    pass(Duration::from_millis(5));
    assert!(read()[1] > all);
}
