//! Faults as a program sees them.

use std::ffi::c_uint;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mizzen_nvml_sim::control::{EccKind, Fault, LinkError, RecoveryAction, ThrottleReason};
use mizzen_nvml_sim::node::NvLinkError;
use mizzen_nvml_sim::scenario::{GpuGroup, Model};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlFieldValue_t, nvmlReturn_t};

use crate::support::{GPU_IS_LOST, Node, SUCCESS, device, value};

/// Simulated getters that take a device and one pointer.
fn getters() -> Vec<&'static str> {
    vec![
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetMinorNumber",
        "nvmlDeviceGetIndex",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetPciInfo_v3",
        "nvmlDeviceGetComputeMode",
        "nvmlDeviceGetBrand",
        "nvmlDeviceGetSupportedEventTypes",
        "nvmlDeviceGetTotalEnergyConsumption",
    ]
}

fn ask(node: &Node, device: nvmlDevice_t, name: &str) -> nvmlReturn_t {
    type Getter = unsafe extern "C" fn(nvmlDevice_t, *mut u8) -> nvmlReturn_t;
    let mut buffer = [0_u8; 4096];
    // SAFETY: The buffer is larger than any struct.
    unsafe {
        let getter = node.nvml.__library.get::<Getter>(name.as_bytes()).unwrap();
        getter(device, buffer.as_mut_ptr())
    }
}

fn field(node: &Node, device: nvmlDevice_t, id: c_uint) -> u64 {
    // SAFETY: Zeros are a field value, and the pointer is to one.
    unsafe {
        let mut value: nvmlFieldValue_t = std::mem::zeroed();
        value.fieldId = id;
        assert_eq!(
            node.nvmlDeviceGetFieldValues(device, 1, &raw mut value),
            SUCCESS
        );
        assert_eq!(value.nvmlReturn, SUCCESS, "field {id}");
        value.value.ullVal
    }
}

#[test]
fn a_lost_gpu_says_so_everywhere_and_the_others_work() {
    let node = Node::initialised("3xh100-80gb");
    let devices = [node.device(0), node.device(1), node.device(2)];
    node.simulator
        .inject(&Node::gpu(1), &Fault::Lost, None)
        .unwrap();
    for name in getters() {
        assert_eq!(ask(&node, devices[1], name), GPU_IS_LOST, "{name}");
        for device in [devices[0], devices[2]] {
            assert_ne!(ask(&node, device, name), GPU_IS_LOST, "{name}");
        }
    }
    let mut handle = std::ptr::null_mut();
    // SAFETY: Pointers are valid.
    unsafe {
        assert_eq!(
            node.nvmlDeviceGetHandleByIndex_v2(1, &raw mut handle),
            GPU_IS_LOST
        );
        let count: c_uint = value(|at| node.nvmlDeviceGetCount_v2(at));
        assert_eq!(count, 3);
        let mut level = 0;
        let at = &raw mut level;
        let both = node.nvmlDeviceGetTopologyCommonAncestor(devices[0], devices[1], at);
        assert_eq!(both, GPU_IS_LOST);
    }
    node.simulator.heal(&Node::gpu(1)).unwrap();
    assert_eq!(ask(&node, devices[1], "nvmlDeviceGetPowerUsage"), SUCCESS);
}

#[test]
fn a_hung_gpu_blocks_its_callers_until_it_is_healed() {
    let node = Node::initialised("2xt4");
    let (sick, well) = (node.device(0).addr(), node.device(1));
    node.simulator
        .inject(&Node::gpu(0), &Fault::Hang, None)
        .unwrap();
    let (done, answered) = mpsc::channel();
    std::thread::scope(|scope| {
        let node = &node;
        scope.spawn(move || {
            let sick = std::ptr::without_provenance_mut(sick);
            done.send(ask(node, sick, "nvmlDeviceGetPowerUsage"))
                .unwrap();
        });
        assert!(
            answered.recv_timeout(Duration::from_millis(200)).is_err(),
            "it did not block"
        );
        assert_eq!(ask(node, well, "nvmlDeviceGetPowerUsage"), SUCCESS);
        let start = Instant::now();
        node.simulator.heal(&Node::gpu(0)).unwrap();
        assert_eq!(
            answered.recv_timeout(Duration::from_secs(5)).unwrap(),
            SUCCESS
        );
        assert!(
            start.elapsed() < Duration::from_millis(300),
            "healing woke nobody"
        );
    });
}

#[test]
fn a_hang_with_an_end_ends_by_itself() {
    let node = Node::initialised("1xt4");
    let device = node.device(0);
    let lasting = Some(Duration::from_millis(100));
    let start = Instant::now();
    node.simulator
        .inject(&Node::gpu(0), &Fault::Hang, lasting)
        .unwrap();
    assert_eq!(ask(&node, device, "nvmlDeviceGetPowerUsage"), SUCCESS);
    assert!(start.elapsed() >= Duration::from_millis(90));
}

#[test]
fn initialisation_does_not_touch_gpus() {
    let node = Node::new("2xt4");
    node.simulator
        .inject(&Node::gpu(0), &Fault::Hang, None)
        .unwrap();
    node.simulator
        .inject(&Node::gpu(1), &Fault::Lost, None)
        .unwrap();
    assert_eq!(node.init(), SUCCESS);
}

#[test]
fn errors_and_actions_show_in_the_fields_that_programs_read() {
    let node = Node::initialised("1xh100-80gb");
    let device = node.device(0);
    let inject = |fault: Fault| node.simulator.inject(&Node::gpu(0), &fault, None).unwrap();
    inject(Fault::Ecc {
        kind: EccKind::Single,
        count: 5,
    });
    inject(Fault::Ecc {
        kind: EccKind::Double,
        count: 2,
    });
    inject(Fault::RecoveryAction(RecoveryAction::DrainAndReset));
    inject(Fault::Throttle(ThrottleReason::Thermal));
    assert_eq!(
        [3, 4, 5, 6].map(|id| field(&node, device, id)),
        [5, 2, 5, 2]
    );
    assert_eq!(field(&node, device, 230), 4);
    // SAFETY: The pointer is valid.
    let reasons: u64 =
        value(|at| unsafe { node.nvmlDeviceGetCurrentClocksEventReasons(device, at) });
    assert_eq!(reasons, ThrottleReason::Thermal.bits());
    node.simulator.heal(&Node::gpu(0)).unwrap();
    assert_eq!(
        [3, 4, 5, 6].map(|id| field(&node, device, id)),
        [0, 0, 5, 2]
    );
    assert_eq!(field(&node, device, 230), 0);
}

#[test]
fn errors_of_nvlinks_are_told_for_each_link_and_can_be_cleared() {
    let node = Node::initialised("1xh100-80gb");
    let device = node.device(0);
    let fault = Fault::Link {
        error: LinkError::NvLink(NvLinkError::Recovery),
        count: 7,
    };
    let all = Node::gpu(0);
    node.simulator.inject(&all, &fault, None).unwrap();
    let recoveries = |link| {
        value(|count| {
            // SAFETY: The pointer is to a number. 1 = recovery.
            unsafe { node.nvmlDeviceGetNvLinkErrorCounter(device, link, 1, count) }
        })
    };
    assert_eq!((recoveries(0), recoveries(1)), (7, 0));
    assert_eq!(field(&node, device, 59), 7);
    if rustix::process::geteuid().is_root() {
        // SAFETY: The device is this session's.
        let cleared = unsafe { node.nvmlDeviceResetNvLinkErrorCounters(device, 0) };
        assert_eq!((cleared, recoveries(0)), (SUCCESS, 0));
    }
}

#[test]
fn gpus_that_come_and_go_are_seen_by_the_next_session() {
    let node = Node::initialised("2xt4");
    let first = node.device(0);
    node.simulator.remove(&Node::gpu(0)).unwrap();
    node.simulator
        .add(&GpuGroup::new(Model::default(), 2))
        .unwrap();
    assert_eq!(ask(&node, first, "nvmlDeviceGetPowerUsage"), GPU_IS_LOST);
    // SAFETY: Pointers are valid.
    unsafe {
        let count: c_uint = value(|at| node.nvmlDeviceGetCount_v2(at));
        assert_eq!(count, 2);
        let second = node.second_library();
        let count: c_uint = value(|at| second.nvmlDeviceGetCount_v2(at));
        assert_eq!(count, 3);
        assert!(!device(&second, 2).is_null());
    }
}
