//! GPM: samples, and the metrics between two of them.

use std::ffi::c_uint;
use std::time::Duration;

use mizzen_nvml_sim::Program;
use mizzen_nvml_sim::control::{Fault, Gpus, InstanceLoad, LoadChange, ProcessLoad};
use mizzen_nvml_sim::scenario::{MigSetup, Scenario};
use nvml_wrapper_sys::bindings as b;
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlGpmSample_t, nvmlReturn_t};

use crate::support::{
    ARGUMENT_VERSION_MISMATCH, GPU_IS_LOST, INVALID_ARGUMENT, NOT_SUPPORTED, Node, SUCCESS,
    UNINITIALIZED, pass,
};

/// `NVML_GPM_METRIC_GRAPHICS_UTIL`, `..._DRAM_BW_UTIL`, `..._PCIE_RX_PER_SEC`, `..._NVDEC_0_UTIL`,
/// `..._NVLINK_TOTAL_TX_PER_SEC`
const GRAPHICS: u32 = 1;
const DRAM: u32 = 10;
const PCIE_RX: u32 = 21;
const DECODER: u32 = 30;
const NVLINK_TX: u32 = 61;

fn alloc(node: &Node) -> nvmlGpmSample_t {
    let mut sample = std::ptr::null_mut();
    // SAFETY: The pointer is valid.
    let code = unsafe { node.nvmlGpmSampleAlloc(&raw mut sample) };
    assert_eq!(code, SUCCESS);
    sample
}

fn supported(node: &Node, device: nvmlDevice_t, version: c_uint) -> (nvmlReturn_t, c_uint) {
    let mut support = b::nvmlGpmSupport_t {
        version,
        isSupportedDevice: 7,
    };
    // SAFETY: The pointer is valid.
    let code = unsafe { node.nvmlGpmQueryDeviceSupport(device, &raw mut support) };
    (code, support.isSupportedDevice)
}

/// Asks for metrics; the code, and each metric's own code and value.
fn metrics<const COUNT: usize>(
    node: &Node,
    version: c_uint,
    samples: [nvmlGpmSample_t; 2],
    ids: [u32; COUNT],
) -> (nvmlReturn_t, [(nvmlReturn_t, f64); COUNT]) {
    // SAFETY: Numbers and pointers, for which zero is a value.
    let mut get: b::nvmlGpmMetricsGet_t = unsafe { std::mem::zeroed() };
    get.version = version;
    get.numMetrics = u32::try_from(COUNT).unwrap();
    [get.sample1, get.sample2] = samples;
    for (metric, id) in get.metrics.iter_mut().zip(ids) {
        metric.metricId = id;
    }
    // SAFETY: The pointer is valid.
    let code = unsafe { node.nvmlGpmMetricsGet(&raw mut get) };
    let answers = std::array::from_fn(|at| (get.metrics[at].nvmlReturn, get.metrics[at].value));
    (code, answers)
}

/// Two samples with some time in between.
fn pair(take: impl Fn(nvmlGpmSample_t) -> nvmlReturn_t, node: &Node) -> [nvmlGpmSample_t; 2] {
    let samples = [alloc(node), alloc(node)];
    assert_eq!(take(samples[0]), SUCCESS);
    pass(Duration::from_millis(5));
    assert_eq!(take(samples[1]), SUCCESS);
    samples
}

fn load(node: &Node, change: &LoadChange) {
    node.simulator.load(&Gpus::All, change).unwrap();
}

fn busy(percent: f64) -> LoadChange {
    LoadChange {
        utilization: Some(Program::Constant(percent)),
        memory_utilization: Some(Program::Constant(percent / 2.0)),
        ..LoadChange::default()
    }
}

#[test]
fn metrics_are_those_of_the_load_between_two_samples() {
    let node = Node::initialised("2xh100-80gb");
    load(&node, &busy(80.0));
    let device = node.device(0);
    // SAFETY: The handles are the library's own.
    let samples = pair(|at| unsafe { node.nvmlGpmSampleGet(device, at) }, &node);
    let ids = [GRAPHICS, DRAM, PCIE_RX, NVLINK_TX, DECODER, 0, 332];
    let (code, answers) = metrics(&node, 1, samples, ids);
    assert_eq!(code, SUCCESS);
    let codes = answers.map(|(code, _)| code);
    assert_eq!(
        codes,
        [
            SUCCESS,
            SUCCESS,
            SUCCESS,
            SUCCESS,
            NOT_SUPPORTED,
            INVALID_ARGUMENT,
            NOT_SUPPORTED
        ]
    );
    let values = answers.map(|(_, value)| value);
    assert!((values[0] - 80.0).abs() < 0.1, "{values:?}");
    assert!((values[1] - 40.0).abs() < 0.1, "{values:?}");
    assert!(values[2] > 100.0 && values[3] > 100_000.0, "{values:?}");
}

#[test]
fn gpus_before_hopper_have_none_and_say_so() {
    let node = Node::initialised("1xa100-80gb");
    let device = node.device(0);
    assert_eq!(supported(&node, device, 1), (SUCCESS, 0));
    let sample = alloc(&node);
    // SAFETY: The handles are the library's own.
    let code = unsafe { node.nvmlGpmSampleGet(device, sample) };
    assert_eq!(code, NOT_SUPPORTED);
}

#[test]
fn a_wrong_version_is_refused_and_nothing_is_written() {
    let node = Node::initialised("1xh100-80gb");
    let device = node.device(0);
    assert_eq!(supported(&node, device, 1), (SUCCESS, 1));
    // SAFETY: The handles are the library's own.
    let samples = pair(|at| unsafe { node.nvmlGpmSampleGet(device, at) }, &node);
    for wrong in [0, 2, 8 | 1 << 24, u32::MAX] {
        let answer = supported(&node, device, wrong);
        assert_eq!(answer, (ARGUMENT_VERSION_MISMATCH, 7), "{wrong:#x}");
        let (code, answers) = metrics(&node, wrong, samples, [GRAPHICS]);
        assert_eq!(code, ARGUMENT_VERSION_MISMATCH, "{wrong:#x}");
        assert_eq!(answers, [(SUCCESS, 0.0)], "it wrote");
    }
}

#[test]
fn what_is_no_pair_of_samples_is_refused() {
    let node = Node::initialised("2xh100-80gb");
    // SAFETY: The handles are the library's own, or numbers that are never followed.
    unsafe {
        let first = pair(|at| node.nvmlGpmSampleGet(node.device(0), at), &node);
        let other = pair(|at| node.nvmlGpmSampleGet(node.device(1), at), &node);
        let one = |samples| metrics(&node, 1, samples, [GRAPHICS]);
        let refused = (SUCCESS, [(INVALID_ARGUMENT, 0.0)]);
        assert_eq!(one([first[1], first[0]]), refused, "backwards");
        assert_eq!(one([first[0], other[1]]), refused, "of two GPUs");
        let empty = alloc(&node);
        assert_eq!(one([first[0], empty]).0, INVALID_ARGUMENT, "never taken");
        let made_up = std::ptr::without_provenance_mut(0x1234);
        assert_eq!(one([first[0], made_up]).0, INVALID_ARGUMENT);
        assert_eq!(metrics(&node, 1, first, []).0, INVALID_ARGUMENT);
        assert_eq!(node.nvmlGpmSampleFree(empty), SUCCESS);
        assert_eq!(node.nvmlGpmSampleFree(empty), INVALID_ARGUMENT, "twice");
        assert_eq!(
            node.nvmlGpmSampleFree(std::ptr::null_mut()),
            INVALID_ARGUMENT
        );
        assert_eq!(
            node.nvmlGpmSampleAlloc(std::ptr::null_mut()),
            INVALID_ARGUMENT
        );
        assert_eq!(
            alloc(&node),
            empty,
            "the lowest free place is given away first"
        );
    }
}

#[test]
fn samples_need_a_session_and_a_gpu_that_is_there() {
    let node = Node::new("1xh100-80gb");
    let mut sample = std::ptr::null_mut();
    // SAFETY: The pointers are valid.
    unsafe {
        assert_eq!(node.nvmlGpmSampleAlloc(&raw mut sample), UNINITIALIZED);
        assert_eq!(node.init(), SUCCESS);
        let sample = alloc(&node);
        let device = node.device(0);
        node.simulator
            .inject(&Node::gpu(0), &Fault::Lost, None)
            .unwrap();
        assert_eq!(node.nvmlGpmSampleGet(device, sample), GPU_IS_LOST);
    }
}

fn partitioned() -> Node {
    let mut scenario = Scenario::short("1xh100-80gb").unwrap();
    scenario.gpus[0].mig = Some(MigSetup {
        enabled: true,
        instances: vec!["3g.40gb".to_owned(), "3g.40gb".to_owned()],
    });
    let node = Node::of(&scenario);
    assert_eq!(node.init(), SUCCESS);
    node
}

#[test]
fn each_instance_has_a_load_of_its_own_and_the_gpu_the_sum() {
    let node = partitioned();
    let process = ProcessLoad {
        pid: 7,
        memory_mib: 1024,
        utilization: 35,
        instance: Some((2, 0)),
        ..ProcessLoad::default()
    };
    let instance = InstanceLoad {
        gpu_instance: 1,
        utilization: Program::Constant(70.0),
    };
    let change = LoadChange {
        instances: vec![instance],
        processes: vec![process],
        ..LoadChange::default()
    };
    load(&node, &change);
    let device = node.device(0);
    let value = |take: &dyn Fn(nvmlGpmSample_t) -> nvmlReturn_t| {
        let samples = pair(take, &node);
        let (code, [busy, pcie]) = metrics(&node, 1, samples, [GRAPHICS, PCIE_RX]);
        assert_eq!((code, busy.0), (SUCCESS, SUCCESS));
        (busy.1.round(), pcie.0)
    };
    // SAFETY: The handles are the library's own.
    unsafe {
        let instance = |id| value(&|at| node.nvmlGpmMigSampleGet(device, id, at));
        assert_eq!(instance(1), (70.0, NOT_SUPPORTED));
        assert_eq!(instance(2), (35.0, NOT_SUPPORTED));
        // Three of seven slices each.
        assert_eq!(
            value(&|at| node.nvmlGpmSampleGet(device, at)),
            (45.0, SUCCESS)
        );
        let sample = alloc(&node);
        assert_eq!(
            node.nvmlGpmMigSampleGet(device, 3, sample),
            INVALID_ARGUMENT
        );
    }
}
