//! Events as programs wait for them.

use std::time::{Duration, Instant};

use mizzen_nvml_sim::control::{EventCall, Fault, GpuRef, Gpus};
use nvml_wrapper_sys::bindings::{NvmlLib, nvmlEventData_t, nvmlEventSet_t, nvmlReturn_t};

use crate::support::{
    GPU_IS_LOST, INVALID_ARGUMENT, NOT_SUPPORTED, Node, SUCCESS, TIMEOUT, device,
};

const XID: u64 = 0x8;
const DOUBLE_BIT: u64 = 0x2;

fn new_set(nvml: &NvmlLib) -> nvmlEventSet_t {
    let mut set = std::ptr::null_mut();
    // SAFETY: The pointer is valid.
    assert_eq!(unsafe { nvml.nvmlEventSetCreate(&raw mut set) }, SUCCESS);
    set
}

fn listening(nvml: &NvmlLib, gpus: &[u32], kinds: u64) -> nvmlEventSet_t {
    let set = new_set(nvml);
    for gpu in gpus {
        // SAFETY: Handles are the library's.
        let result = unsafe { nvml.nvmlDeviceRegisterEvents(device(nvml, *gpu), kinds, set) };
        assert_eq!(result, SUCCESS);
    }
    set
}

fn wait(
    nvml: &NvmlLib,
    set: nvmlEventSet_t,
    timeout: u32,
) -> Result<nvmlEventData_t, nvmlReturn_t> {
    // SAFETY: Zeros are event data, and the pointer is valid.
    unsafe {
        let mut data: nvmlEventData_t = std::mem::zeroed();
        match nvml.nvmlEventSetWait_v2(set, &raw mut data, timeout) {
            SUCCESS => Ok(data),
            failure => Err(failure),
        }
    }
}

fn xid(number: u64) -> Fault {
    Fault::Xid {
        xid: number,
        gpu_instance: None,
        compute_instance: None,
        consequences: false,
    }
}

#[test]
fn an_event_wakes_a_waiting_process_within_milliseconds() {
    let node = Node::initialised("8xh100-80gb");
    let set = listening(&node, &[0, 1, 2, 3, 4, 5, 6, 7], XID).addr();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let set = std::ptr::without_provenance_mut(set);
            let data = wait(&node, set, 10_000).unwrap();
            (Instant::now(), data.eventData, data.device.addr())
        });
        // The event may come before the wait begins or while it sleeps: both must do.
        std::thread::park_timeout(Duration::from_millis(50));
        let before = Instant::now();
        node.simulator
            .inject(&Node::gpu(5), &xid(31), None)
            .unwrap();
        let (woken, data, device) = waiter.join().unwrap();
        assert_eq!((data, device), (31, node.device(5).addr()));
        assert!(
            woken - before < Duration::from_millis(100),
            "{:?}",
            woken - before
        );
    });
}

#[test]
fn a_set_gets_only_what_it_registered_and_every_set_gets_it() {
    let node = Node::initialised("3xh100-80gb");
    let other = node.second_library();
    let first = listening(&node, &[0, 1], XID);
    let second = listening(&other, &[1], XID | DOUBLE_BIT);
    for gpu in 0..3 {
        node.simulator
            .inject(&Node::gpu(gpu), &xid(13), None)
            .unwrap();
    }
    let heard = |nvml: &NvmlLib, set| {
        let mut devices = Vec::new();
        while let Ok(data) = wait(nvml, set, 0) {
            devices.push(data.device);
        }
        devices
    };
    assert_eq!(heard(&node, first), vec![node.device(0), node.device(1)]);
    assert_eq!(heard(&other, second), vec![device(&other, 1)]);
}

#[test]
fn events_before_the_registration_are_not_told() {
    let node = Node::initialised("1xt4");
    node.simulator.inject(&Gpus::All, &xid(13), None).unwrap();
    let set = listening(&node, &[0], XID);
    assert_eq!(wait(&node, set, 0).unwrap_err(), TIMEOUT);
}

#[test]
fn every_event_is_told_once_and_in_order() {
    let node = Node::initialised("1xt4");
    let set = listening(&node, &[0], XID);
    for number in 1..=100 {
        node.simulator
            .inject(&Gpus::All, &xid(number), None)
            .unwrap();
    }
    let told: Vec<u64> = (1..=100)
        .map(|_| wait(&node, set, 0).unwrap().eventData)
        .collect();
    assert_eq!(told, (1..=100).collect::<Vec<_>>());
    assert_eq!(wait(&node, set, 0).unwrap_err(), TIMEOUT);
}

#[test]
fn a_timeout_takes_its_time() {
    let node = Node::initialised("1xt4");
    let set = listening(&node, &[0], XID);
    let start = Instant::now();
    assert_eq!(wait(&node, set, 50).unwrap_err(), TIMEOUT);
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[test]
fn a_lost_gpu_is_told_after_its_last_event() {
    let node = Node::initialised("2xh100-80gb");
    let set = listening(&node, &[0, 1], XID);
    node.simulator
        .inject(&Node::gpu(1), &Fault::xid(79), None)
        .unwrap();
    assert_eq!(wait(&node, set, 0).unwrap().eventData, 79);
    assert_eq!(wait(&node, set, 1000).unwrap_err(), GPU_IS_LOST);
    node.simulator.heal(&Gpus::All).unwrap();
    assert_eq!(wait(&node, set, 0).unwrap_err(), TIMEOUT);
}

#[test]
fn registering_and_waiting_can_be_made_to_fail() {
    let node = Node::initialised("1xt4");
    let set = listening(&node, &[0], XID);
    let fail = |call, code| Fault::Events { call, code };
    node.simulator
        .inject(&Gpus::All, &fail(EventCall::Wait, 999), None)
        .unwrap();
    assert_eq!(wait(&node, set, 1000).unwrap_err(), 999);
    node.simulator
        .inject(&Gpus::All, &fail(EventCall::Register, 3), None)
        .unwrap();
    // SAFETY: Handles are the library's.
    unsafe {
        let other = new_set(&node);
        assert_eq!(
            node.nvmlDeviceRegisterEvents(node.device(0), XID, other),
            NOT_SUPPORTED
        );
    }
    node.simulator.heal(&Gpus::All).unwrap();
    assert_eq!(wait(&node, set, 0).unwrap_err(), TIMEOUT);
}

#[test]
fn freed_and_foreign_sets_are_invalid() {
    let node = Node::initialised("1xt4");
    let set = listening(&node, &[0], XID);
    // SAFETY: Wrong handles are what is tested.
    unsafe {
        assert_eq!(node.nvmlEventSetFree(set), SUCCESS);
        assert_eq!(node.nvmlEventSetFree(set), INVALID_ARGUMENT);
        assert_eq!(wait(&node, set, 0).unwrap_err(), INVALID_ARGUMENT);
        assert_eq!(
            wait(&node, node.device(0).cast(), 0).unwrap_err(),
            INVALID_ARGUMENT
        );
        let fresh = new_set(&node);
        assert_ne!(fresh, set, "a freed handle stands for another set at once");
        assert_eq!(
            node.nvmlDeviceRegisterEvents(node.device(0), 1 << 40, fresh),
            NOT_SUPPORTED
        );
    }
}

#[test]
fn the_first_version_of_the_wait_writes_no_instances() {
    type Wait = unsafe extern "C" fn(nvmlEventSet_t, *mut [u64; 4], u32) -> nvmlReturn_t;
    let node = Node::initialised("1xt4");
    let set = listening(&node, &[0], XID);
    node.simulator.inject(&Gpus::All, &xid(43), None).unwrap();
    let mut data = [0xa5; 4];
    // SAFETY: The struct has three words, and the array four.
    let result = unsafe {
        node.nvml
            .__library
            .get::<Wait>(b"nvmlEventSetWait")
            .unwrap()(set, &raw mut data, 0)
    };
    assert_eq!(result, SUCCESS);
    assert_eq!(data, [node.device(0).addr() as u64, XID, 43, 0xa5]);
}

const MIG_CONFIG_CHANGE: u64 = 0x100;

#[test]
fn changes_of_partitions_are_told_to_who_asked_and_only_where_something_changed() {
    let node = Node::initialised("1xh100-80gb,1xa100-40gb,1xt4");
    for (gpu, offered) in [(0, true), (1, true), (2, false)] {
        let mut kinds = 0;
        // SAFETY: The pointer is valid.
        let code =
            unsafe { node.nvmlDeviceGetSupportedEventTypes(node.device(gpu), &raw mut kinds) };
        assert_eq!((code, kinds & MIG_CONFIG_CHANGE != 0), (SUCCESS, offered));
    }
    let other = node.second_library();
    let set = listening(&other, &[0, 1], MIG_CONFIG_CHANGE | XID);
    let told = || {
        let mut devices = Vec::new();
        while let Ok(data) = wait(&other, set, 0) {
            assert_eq!(
                (data.eventType, data.gpuInstanceId),
                (MIG_CONFIG_CHANGE, u32::MAX)
            );
            devices.push(data.device);
        }
        devices
    };
    let (hopper, ampere) = (device(&other, 0), device(&other, 1));
    let simulator = &node.simulator;
    let both = Gpus::These(vec![GpuRef::Index(0), GpuRef::Index(1)]);
    simulator.set_mig_mode(&both, true).unwrap();
    assert_eq!(told(), [hopper]);
    simulator.heal(&both).unwrap();
    assert_eq!(told(), [ampere]);
    simulator.set_mig_mode(&both, true).unwrap();
    simulator.heal(&Gpus::All).unwrap();
    assert_eq!(told(), []);
    simulator
        .create_mig_devices(&Node::gpu(0), &["1g.10gb", "1g.10gb"])
        .unwrap();
    assert_eq!(told(), [hopper]);
    simulator
        .create_mig_devices(&Node::gpu(0), &["7g.80gb"])
        .unwrap_err();
    assert_eq!(told(), []);
    // As root by a program, too.
    if rustix::process::geteuid().is_root() {
        let mut made = std::ptr::null_mut();
        // SAFETY: The pointer is valid.
        let code = unsafe { node.nvmlDeviceCreateGpuInstance(node.device(1), 0, &raw mut made) };
        assert_eq!((code, told()), (SUCCESS, vec![ampere]));
    }
    simulator
        .destroy_gpu_instances(&Node::gpu(0), None)
        .unwrap();
    assert_eq!(told(), [hopper]);
}

#[test]
fn an_xid_of_an_instance_names_it_and_one_of_no_instance_is_refused() {
    let node = Node::initialised("2xh100-80gb");
    node.simulator.set_mig_mode(&Node::gpu(0), true).unwrap();
    node.simulator
        .create_mig_devices(&Node::gpu(0), &["3g.40gb"])
        .unwrap();
    let set = listening(&node, &[0, 1], XID);
    let of = |gpu_instance, compute_instance| Fault::Xid {
        xid: 94,
        gpu_instance,
        compute_instance,
        consequences: false,
    };
    for (gpu_instance, compute_instance) in [(2, None), (2, Some(0))] {
        let fault = of(Some(gpu_instance), compute_instance);
        node.simulator.inject(&Node::gpu(0), &fault, None).unwrap();
        let data = wait(&node, set, 0).unwrap();
        let ids = (data.gpuInstanceId, data.computeInstanceId);
        assert_eq!(ids, (gpu_instance, compute_instance.unwrap_or(u32::MAX)));
    }
    let refused = |gpu: &Gpus, gpu_instance, compute_instance| {
        let fault = of(Some(gpu_instance), compute_instance);
        let refused = node.simulator.inject(gpu, &fault, None);
        refused.unwrap_err().to_string()
    };
    let name = "(NVIDIA H100 80GB HBM3)";
    assert_eq!(
        refused(&Node::gpu(0), 3, None),
        format!("GPU 0 {name}: there is no GPU instance 3; there are 2")
    );
    assert_eq!(
        refused(&Node::gpu(0), 2, Some(1)),
        format!("GPU 0 {name}: there is no compute instance 1 in GPU instance 2; there are 0")
    );
    // No GPU has it unless all do.
    assert_eq!(
        refused(&Gpus::All, 2, None),
        format!("GPU 1 {name}: MIG is disabled")
    );
    assert_eq!(wait(&node, set, 0).unwrap_err(), TIMEOUT);
}
