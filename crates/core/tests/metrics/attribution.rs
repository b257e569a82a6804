//! Whose a series is, and that sums are right.

use mizzen_core::sample::GpuSample;

use crate::format::{self, Series};
use crate::nodes::{Node, START, at, cut, gpu, mig_sample, mig_uuid, process, sample, uuid};

const H100: &str = "NVIDIA H100 80GB HBM3";

/// The series of a family.
fn series(node: &Node, family: &str) -> Vec<Series> {
    let families = format::read(&node.page()).unwrap();
    let found = families.into_iter().find(|it| it.name == family);
    found.map_or_else(Vec::new, |family| family.series)
}

fn pods(node: &Node, family: &str) -> Vec<Option<String>> {
    let pod = |it: &Series| it.label("pod").map(str::to_owned);
    series(node, family).iter().map(pod).collect()
}

fn whole() -> Node {
    let mut node = Node::new("{}", vec![gpu(0, H100)]);
    node.sampled(0, sample(0, true), 99);
    node
}

#[test]
fn a_gpu_is_its_only_holders_and_of_several_nobodys() {
    let mut node = whole();
    assert_eq!(pods(&node, "DCGM_FI_DEV_GPU_UTIL"), [None]);
    node.hold("one", uuid(0).as_str());
    assert_eq!(
        pods(&node, "DCGM_FI_DEV_GPU_UTIL"),
        [Some("one".to_owned())]
    );
    // A kubelet that tells both the pod that goes and the one that comes.
    node.hold("two", uuid(0).as_str());
    assert_eq!(pods(&node, "DCGM_FI_DEV_GPU_UTIL"), [None]);
}

#[test]
fn a_replica_is_shared_though_nobody_holds_another() {
    let mut node = whole();
    node.hold("one", &format!("{}::2", uuid(0)));
    assert_eq!(pods(&node, "DCGM_FI_DEV_GPU_UTIL"), [None]);
    assert_eq!(
        pods(&node, "mizzen_gpu_allocated"),
        [Some("one".to_owned())]
    );
}

#[test]
fn a_device_that_is_named_by_its_index_is_found() {
    let mut node = whole();
    node.hold("one", "0");
    assert_eq!(
        pods(&node, "DCGM_FI_DEV_GPU_UTIL"),
        [Some("one".to_owned())]
    );
}

/// A GPU of two GPU instances, the first of which is split into two MIG devices.
fn split() -> Node {
    let devices = [
        (1, 0, "1c.3g.40gb"),
        (1, 1, "2c.3g.40gb"),
        (2, 0, "3g.40gb"),
    ];
    let gpus = vec![cut(gpu(0, H100), &devices)];
    let mut node = Node::new("flags: {migStrategy: mixed}", gpus);
    node.sampled(0, mig_sample(0, &[(1, 0), (1, 1), (2, 0)]), 99);
    node
}

#[test]
fn a_gpu_instance_has_one_series_however_many_devices_it_is_split_into() {
    let node = split();
    let used = series(&node, "DCGM_FI_DEV_FB_USED");
    let labels: Vec<_> = used
        .iter()
        .map(|it| (it.label("GPU_I_ID"), it.label("GPU_I_PROFILE")))
        .collect();
    assert_eq!(
        labels,
        [(Some("1"), Some("3g.40gb")), (Some("2"), Some("3g.40gb"))]
    );
}

#[test]
fn a_gpu_instance_is_one_containers_or_nobodys() {
    let mut node = split();
    node.hold("one", &mig_uuid(0, 1, 0));
    let one = Some("one".to_owned());
    assert_eq!(pods(&node, "DCGM_FI_DEV_FB_USED"), [one, None]);
    node.hold("two", "0:1");
    assert_eq!(pods(&node, "DCGM_FI_DEV_FB_USED"), [None, None]);
    let both = ["one", "two"].map(|pod| Some(pod.to_owned()));
    assert_eq!(pods(&node, "mizzen_gpu_allocated"), both);
}

#[test]
fn what_instances_count_is_not_told_of_the_gpu_as_well() {
    let node = split();
    let total: f64 = series(&node, "DCGM_FI_DEV_FB_USED")
        .iter()
        .map(|it| it.value)
        .sum();
    assert!((total - (20_100.0 + 20_200.0)).abs() < 1e-9);
    let power = series(&node, "DCGM_FI_DEV_POWER_USAGE");
    assert_eq!(power.len(), 1, "the GPU draws it once");
    assert_eq!(power[0].label("GPU_I_ID"), None);
}

#[test]
fn a_partitioned_gpu_that_is_held_whole_gives_its_instances_to_its_holder() {
    let mut node = split();
    node.hold("one", uuid(0).as_str());
    let one = Some("one".to_owned());
    assert_eq!(pods(&node, "DCGM_FI_DEV_FB_USED"), [one.clone(), one]);
}

#[test]
fn an_instance_that_was_made_a_moment_ago_waits_for_its_first_sample() {
    let mut node = split();
    node.sampled(0, mig_sample(0, &[(1, 0), (1, 1)]), 100);
    assert_eq!(series(&node, "DCGM_FI_DEV_FB_USED").len(), 1);
    let missing = series(&node, "mizzen_metric_supported");
    let of_new = missing.iter().find(|it| it.label("GPU_I_ID") == Some("2"));
    let reason = of_new.and_then(|it| it.label("reason"));
    assert_eq!(reason, Some("not-sampled"));
}

#[test]
fn idle_is_what_has_done_nothing_since_it_is_held() {
    let mut node = Node::new("{}", vec![gpu(0, H100)]);
    node.hold("one", uuid(0).as_str());
    let idle = |seconds, node: &mut Node| {
        let mut still = sample(0, true);
        let util = |(field, answer): (mizzen_core::metrics::Field, &Result<_, _>)| {
            let is_work = field == mizzen_core::metrics::Field::GpuUtil || field.is_profiled();
            let zero = Ok(mizzen_core::sample::Number::Whole(0));
            (field, if is_work { zero } else { answer.clone() })
        };
        still.readings = still.readings.iter().map(util).collect();
        node.sampled(0, still, seconds);
    };
    let seconds = |node: &Node| series(node, "mizzen_gpu_idle_seconds")[0].text.clone();
    idle(5, &mut node);
    idle(15, &mut node);
    assert_eq!(seconds(&node), "0.000000", "it is held from 20 on");
    idle(60, &mut node);
    assert_eq!(seconds(&node), "40.000000");
    node.sampled(0, sample(0, true), 70);
    assert_eq!(seconds(&node), "0.000000");
    idle(90, &mut node);
    assert_eq!(seconds(&node), "20.000000");
    // Nobody knows what it does while it does not answer.
    node.failed(0, mizzen_core::driver::DriverError::GpuLost, 95);
    assert_eq!(seconds(&node), "20.000000");
    assert_eq!(node.now, at(100));
    let since = series(&node, "mizzen_gpu_allocated_since_timestamp_seconds");
    assert_eq!(since[0].text, (START + 20).to_string());
}

#[test]
fn an_instance_without_gpm_is_idle_while_it_has_no_process() {
    let mut node = split();
    node.hold("one", &mig_uuid(0, 2, 0));
    let sampled = |pid: Option<u32>, node: &mut Node, second| {
        let mut cut = mig_sample(0, &[(2, 0)]);
        cut.mig[0].readings = cut.mig[0]
            .readings
            .iter()
            .filter(|(field, _)| !field.is_profiled())
            .map(|(field, answer)| (field, answer.clone()))
            .collect();
        cut.processes.extend(pid.map(|pid| {
            let mut process = process(pid, 100, 0);
            process.instance = Some((2, 0));
            process
        }));
        node.sampled(0, cut, second);
    };
    let seconds = |node: &Node| series(node, "mizzen_gpu_idle_seconds")[0].value;
    sampled(Some(7), &mut node, 110);
    sampled(None, &mut node, 140);
    assert!((seconds(&node) - 30.0).abs() < 1e-9);
    sampled(Some(7), &mut node, 150);
    assert!(seconds(&node).abs() < 1e-9);
}

#[test]
fn a_sample_that_is_too_old_is_not_told_as_what_is() {
    let mut node = whole();
    node.now = at(99 + 15);
    assert_eq!(series(&node, "DCGM_FI_DEV_GPU_UTIL").len(), 1);
    node.now = at(99 + 16);
    assert_eq!(series(&node, "DCGM_FI_DEV_GPU_UTIL").len(), 0);
    let age = series(&node, "mizzen_gpu_sample_age_seconds");
    assert_eq!(age[0].text, "16.000000");
    let missing = series(&node, "mizzen_metric_supported");
    assert_eq!(
        missing.len(),
        24,
        "all but the Xids, which are counted here"
    );
    assert!(missing.iter().all(|it| it.label("reason") == Some("stale")));
}

#[test]
fn a_container_that_does_nothing_is_told_and_what_is_not_counted_is_not() {
    let mut node = split();
    node.hold("one", &mig_uuid(0, 2, 0));
    let memory = series(&node, "mizzen_pod_gpu_memory_used_bytes");
    let own = memory.iter().find(|it| it.label("pod") == Some("one"));
    assert_eq!(own.map(|it| it.text.as_str()), Some("0"));
    assert_eq!(
        series(&node, "mizzen_pod_gpu_sm_utilization_percent").len(),
        0
    );
    let mut node = whole();
    node.hold("one", uuid(0).as_str());
    let busy = GpuSample {
        processes: vec![process(7, 100, 30)],
        ..sample(0, true)
    };
    node.sampled(0, busy, 99);
    let busy = pods(&node, "mizzen_pod_gpu_sm_utilization_percent");
    assert_eq!(busy, [None, Some("one".to_owned())]);
}
