//! Whole pages.

use std::time::Duration;

use mizzen_core::driver::DriverError;
use mizzen_core::metrics::{Counters, HostnameLabel};
use mizzen_core::sample::GpuSample;
use mizzen_core::state::Event;

use crate::format;
use crate::nodes::{Node, at, cut, gpu, mig_sample, mig_uuid, process, sample, uuid};

/// The exporter's file with the names of its versions 1, as far as they are on.
const OLD_COUNTERS: &str = "\
dcgm_sm_clock,     gauge, SM clock frequency (in MHz).
dcgm_gpu_temp,    gauge, GPU temperature (in C).
dcgm_power_usage,              gauge, Power draw (in W).
dcgm_xid_errors,            gauge, Value of the last XID error encountered.
dcgm_fb_used, gauge, Framebuffer memory used (in MiB).
dcgm_fi_prof_pcie_tx_bytes,  counter, Total number of bytes transmitted through PCIe TX via NVML.
";

/// The exporter's own counters.
const EXPORTERS: &str = "\
DCGM_FI_DEV_GPU_TEMP, gauge, GPU temperature (in C).
DCGM_EXP_CLOCK_EVENTS_COUNT, counter, reported clock events
DCGM_EXP_XID_ERRORS_COUNT, counter, reported XIDs during last window
DCGM_EXP_GPU_HEALTH_STATUS, counter, DCGM reported health status
DCGM_EXP_P2P_STATUS, counter, P2P NvLink status
DCGM_FI_DEV_UNHEARD_OF, gauge, nobody knows
DCGM_FI_DRIVER_VERSION,        label, Driver Version
DCGM_FI_DEV_SERIAL,            label, Device Serial Number
";

/// Two whole GPUs, one of them held.
pub(crate) fn whole() -> Node {
    let name = "NVIDIA A100-SXM4-40GB";
    let mut node = Node::new("{}", vec![gpu(0, name), gpu(1, name)]);
    let trainer = node.hold("trainer", uuid(0).as_str());
    node.holders.process(4100, trainer);
    let busy = GpuSample {
        processes: vec![process(4100, 19_000, 80)],
        ..sample(0, false)
    };
    node.sampled(0, busy, 99);
    node.sampled(1, sample(1, false), 99);
    node.xid(1, 31, 50);
    node
}

/// A GPU that is cut, and one that is not, each partly held.
pub(crate) fn mixed() -> Node {
    let name = "NVIDIA H100 80GB HBM3";
    let devices = [(1, 0, "3g.40gb"), (7, 0, "1g.10gb"), (9, 0, "1g.10gb")];
    let gpus = vec![cut(gpu(0, name), &devices), gpu(1, name)];
    let mut node = Node::new("flags: {migStrategy: mixed}", gpus);
    node.hold("notebook", &mig_uuid(0, 7, 0));
    let trainer = node.hold("trainer", uuid(1).as_str());
    node.holders.process(77, trainer);
    let mut cut = mig_sample(0, &[(1, 0), (7, 0), (9, 0)]);
    let mut stranger = process(501, 1200, 0);
    (stranger.instance, stranger.sm_util, stranger.mem_util) = (Some((9, 0)), None, None);
    cut.processes = vec![stranger];
    node.sampled(0, cut, 99);
    node.sampled(1, sample(1, true), 99);
    node
}

/// One GPU in four replicas, which two pods hold, and a process of nobody known.
pub(crate) fn shared() -> Node {
    let settings = "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}";
    let mut node = Node::new(settings, vec![gpu(0, "NVIDIA L40S")]);
    let first = node.hold("first", &format!("{}::0", uuid(0)));
    node.hold("first", &format!("{}::3", uuid(0)));
    let second = node.hold("second", &format!("{}::1", uuid(0)));
    node.holders.process(10, first);
    node.holders.process(11, first);
    node.holders.process(20, second);
    let processes = vec![
        process(10, 4000, 20),
        process(11, 1000, 5),
        process(20, 8000, 40),
        process(666, 500, 3),
    ];
    let sampled = GpuSample {
        processes,
        ..sample(0, false)
    };
    node.sampled(0, sampled, 99);
    node
}

/// A GPU that hangs beside one that is well.
pub(crate) fn hung() -> Node {
    let name = "NVIDIA H100 80GB HBM3";
    let mut node = Node::new("{}", vec![gpu(0, name), gpu(1, name)]);
    node.hold("victim", uuid(0).as_str());
    let error = || DriverError::Hung {
        after: Duration::from_secs(2),
    };
    node.sampled(0, sample(0, true), 60);
    for second in [70, 80, 90] {
        node.failed(0, error(), second);
    }
    node.state
        .apply(Event::Checked(uuid(0), Err(error())), at(71));
    node.sampled(1, sample(1, true), 99);
    node
}

/// The names of the exporter's versions 1, and its newest label for the node.
pub(crate) fn old() -> Node {
    let mut node = whole();
    node.options.counters = Counters::parse(OLD_COUNTERS).unwrap();
    node.options.old_namespace = true;
    node.options.hostname_label = HostnameLabel::Lower;
    node.options.pod_uid = true;
    node.options.model_name_without_blanks = true;
    node
}

/// The counters that the exporter makes itself.
pub(crate) fn exporters() -> Node {
    let name = "NVIDIA H100 80GB HBM3";
    let mut node = Node::new("{}", vec![gpu(0, name), gpu(1, name)]);
    node.options.counters = Counters::parse(EXPORTERS).unwrap();
    node.hold("trainer", uuid(0).as_str());
    for second in 90..100 {
        node.sampled(0, sample(0, true), second);
    }
    for (number, second) in [(31, 10), (31, 20), (79, 30)] {
        node.xid(0, number, second);
    }
    node
}

/// All of them, by name.
pub(crate) fn all() -> Vec<(&'static str, Node)> {
    vec![
        ("whole", whole()),
        ("mixed", mixed()),
        ("shared", shared()),
        ("hung", hung()),
        ("old", old()),
        ("exporters", exporters()),
    ]
}

#[test]
fn pages_are_what_they_were() {
    for (name, node) in all() {
        insta::assert_snapshot!(name, node.page());
    }
}

#[test]
fn every_page_keeps_to_the_format() {
    for (name, node) in all() {
        let page = node.page();
        if let Err(problem) = format::read(&page) {
            panic!("{name}: {problem}\n{page}");
        }
    }
}
