//! Which devices a container gets, and with what.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeSet;

use mizzen_kubelet_sim::{ContainerState, DeviceHealth, Phase, TopologyPolicy};
use support::{GPU, gpu_pod, node, node_with};
use tonic::Status;

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_container_gets_what_the_plugin_answered_once() {
    let node = node().await;
    let _plugin = node.plugin(1).await;
    node.apply(&gpu_pod("train", 1, "").replace(
        "    image: cuda",
        "    image: cuda\n    env: [{name: MODE, value: fast}, {name: POD, valueFrom: {}}]",
    ));
    let snapshot = node.wait_for_phase("train", Phase::Running).await;
    let container = &snapshot.pod("train").unwrap().containers[0];
    let given = container.given.as_ref().unwrap();
    assert_eq!(given.env["NVIDIA_VISIBLE_DEVICES"], "gpu-0");
    assert_eq!(given.env["MODE"], "fast");
    assert!(!given.env.contains_key("POD"));
    assert_eq!(
        given.mounts[0].container_path,
        "/var/run/nvidia-container-devices/gpu-0"
    );
    assert!(given.mounts[0].read_only);
    let nodes: Vec<&str> = given
        .devices
        .iter()
        .map(|node| node.host_path.as_str())
        .collect();
    assert_eq!(nodes, ["/dev/nvidiactl", "/dev/nvidia0"]);
    assert_eq!(given.annotations["cdi.k8s.io/plugin"], "gpu-0");
    assert_eq!(given.cdi_devices, ["n.com/gpu=gpu-0"]);
    assert_eq!(
        container.allocated_resources[GPU]["gpu-0"],
        DeviceHealth::Healthy
    );
}

#[tokio::test]
async fn a_variable_of_the_pod_wins_over_the_plugins() {
    let node = node().await;
    let _plugin = node.plugin(1).await;
    node.apply(&gpu_pod("train", 1, "").replace(
        "    image: cuda",
        "    image: cuda\n    env: [{name: NVIDIA_VISIBLE_DEVICES, value: none}]",
    ));
    let snapshot = node.wait_for_phase("train", Phase::Running).await;
    let given = snapshot.pod("train").unwrap().containers[0]
        .given
        .clone()
        .unwrap();
    assert_eq!(given.env["NVIDIA_VISIBLE_DEVICES"], "none");
}

#[tokio::test]
async fn two_pods_never_share_a_device() {
    let node = node().await;
    let _plugin = node.plugin(8).await;
    for name in ["a", "b", "c", "d"] {
        node.apply_gpu_pod(name, 2);
    }
    let snapshot = node.wait_for_phase("d", Phase::Running).await;
    let all: BTreeSet<String> = ["a", "b", "c", "d"]
        .iter()
        .flat_map(|name| snapshot.pod(name).unwrap().devices(GPU))
        .collect();
    assert_eq!(all.len(), 8);
    let holder = snapshot.resources[GPU].devices["gpu-0"]
        .holder
        .as_ref()
        .unwrap();
    assert!(
        snapshot
            .pod(&holder.pod)
            .unwrap()
            .devices(GPU)
            .contains(&"gpu-0".to_owned())
    );
}

#[tokio::test]
async fn a_plugin_that_offers_a_preference_is_asked_and_followed() {
    let node = node().await;
    let plugin = node.plugin(8).await;
    plugin.set(|behaviour| {
        behaviour.options.get_preferred_allocation_available = true;
        behaviour.prefers = vec!["gpu-2".into(), "gpu-5".into()];
    });
    // Options are asked for at registration.
    plugin.register(&node).await.unwrap();
    node.apply_gpu_pod("train", 2);
    let snapshot = node.wait_for_phase("train", Phase::Running).await;
    assert_eq!(
        snapshot.pod("train").unwrap().devices(GPU),
        ["gpu-2", "gpu-5"]
    );
    let asked = plugin.set(|behaviour| behaviour.preferred.clone());
    assert_eq!(asked.len(), 1);
    let (available, must_include, size) = &asked[0];
    assert_eq!(available.len(), 8);
    assert!(must_include.is_empty());
    assert_eq!(*size, 2);
}

#[tokio::test]
async fn a_preference_for_too_few_or_taken_devices_is_completed() {
    let node = node().await;
    let plugin = node.plugin(4).await;
    node.apply_gpu_pod("first", 1);
    let snapshot = node.wait_for_phase("first", Phase::Running).await;
    let taken = snapshot.pod("first").unwrap().devices(GPU).remove(0);
    let free = if taken == "gpu-1" { "gpu-2" } else { "gpu-1" };
    plugin.set(|behaviour| {
        behaviour.options.get_preferred_allocation_available = true;
        behaviour.prefers = vec![taken.clone(), free.into(), "unknown".into()];
    });
    plugin.register(&node).await.unwrap();
    node.apply_gpu_pod("second", 2);
    let snapshot = node.wait_for_phase("second", Phase::Running).await;
    let devices = snapshot.pod("second").unwrap().devices(GPU);
    assert_eq!(devices.len(), 2);
    assert!(
        devices.contains(&free.to_owned()) && !devices.contains(&taken),
        "{devices:?}"
    );
}

#[tokio::test]
async fn without_a_preference_the_order_is_arbitrary_but_repeatable() {
    let pick = async |seed| {
        let node = node_with(|config| config.seed = seed).await;
        let _plugin = node.plugin(8).await;
        node.apply_gpu_pod("train", 2);
        let snapshot = node.wait_for_phase("train", Phase::Running).await;
        snapshot.pod("train").unwrap().devices(GPU)
    };
    assert_eq!(pick(1).await, pick(1).await);
    let mut picks = BTreeSet::new();
    for seed in 0..8 {
        picks.insert(pick(seed).await);
    }
    assert!(picks.len() > 1, "{picks:?}");
}

#[tokio::test]
async fn an_error_of_allocate_fails_the_pod_for_good_and_frees_its_devices() {
    let node = node().await;
    let plugin = node.plugin(2).await;
    plugin.set(|behaviour| {
        behaviour.allocate_error = Some(Status::invalid_argument("no such device"));
    });
    node.apply_gpu_pod("train", 2);
    let snapshot = node.wait_for_phase("train", Phase::Failed).await;
    let pod = snapshot.pod("train").unwrap();
    assert_eq!(pod.reason, "UnexpectedAdmissionError");
    assert_eq!(
        pod.message,
        "Pod was rejected: Allocate failed due to rpc error: code = InvalidArgument \
         desc = no such device, which is unexpected"
    );
    plugin.set(|behaviour| behaviour.allocate_error = None);
    node.apply_gpu_pod("again", 2);
    node.wait_for_phase("again", Phase::Running).await;
}

#[tokio::test]
async fn pre_start_is_called_with_the_containers_devices_if_it_was_asked_for() {
    let node = node().await;
    let plugin = node.plugin(2).await;
    plugin.set(|behaviour| behaviour.options.pre_start_required = true);
    plugin.register(&node).await.unwrap();
    node.apply_gpu_pod("train", 2);
    node.wait_for_phase("train", Phase::Running).await;
    let called = plugin.set(|behaviour| behaviour.pre_started.clone());
    let called: Vec<BTreeSet<String>> = called
        .into_iter()
        .map(|ids| ids.into_iter().collect())
        .collect();
    assert_eq!(called, [set(&["gpu-0", "gpu-1"])]);
}

#[tokio::test]
async fn a_failed_pre_start_keeps_the_container_waiting_and_is_tried_again() {
    let node = node().await;
    let plugin = node.plugin(1).await;
    plugin.set(|behaviour| {
        behaviour.options.pre_start_required = true;
        behaviour.pre_start_error = Some(Status::internal("reset failed"));
    });
    plugin.register(&node).await.unwrap();
    node.apply_gpu_pod("train", 1);
    let is_waiting = |state: &ContainerState| matches!(state, ContainerState::Waiting { reason, .. } if !reason.is_empty());
    let snapshot = node
        .wait_for("the container to wait", |snapshot| {
            is_waiting(&snapshot.pod("train").unwrap().containers[0].state)
        })
        .await;
    assert_eq!(
        snapshot.pod("train").unwrap().containers[0].state,
        ContainerState::Waiting {
            reason: "CreateContainerConfigError".into(),
            message: "device plugin PreStartContainer rpc failed with err: \
                      rpc error: code = Internal desc = reset failed"
                .into()
        }
    );
    plugin.set(|behaviour| behaviour.pre_start_error = None);
    tokio::time::pause();
    node.wait_for_phase("train", Phase::Running).await;
}

#[tokio::test]
async fn an_init_containers_devices_are_used_again_and_must_be_included() {
    let node = node().await;
    let plugin = node.plugin(4).await;
    plugin.set(|behaviour| behaviour.options.get_preferred_allocation_available = true);
    plugin.register(&node).await.unwrap();
    let init = "initContainers: [{name: a-warm-up, image: i, \
                resources: {limits: {nvidia.com/gpu: 1}}}]";
    node.apply(&gpu_pod("train", 2, init));
    let snapshot = node.wait_for_phase("train", Phase::Running).await;
    let pod = snapshot.pod("train").unwrap();
    assert_eq!(
        pod.devices(GPU).len(),
        2,
        "the init container's is one of the two"
    );
    let asked = plugin.set(|behaviour| behaviour.preferred.clone());
    let warm_up: Vec<String> = pod.containers[0].allocated_resources[GPU]
        .keys()
        .cloned()
        .collect();
    assert_eq!(asked.last().unwrap().1, warm_up);
    let holder = snapshot.resources[GPU].devices[&warm_up[0]]
        .holder
        .as_ref()
        .unwrap();
    assert_eq!(holder.container, "main", "the one that runs");
    assert_eq!(
        pod.containers[0].state,
        ContainerState::Terminated { exit_code: 0 }
    );
}

#[tokio::test]
async fn a_sick_device_shows_in_the_status_of_the_pod_that_holds_it() {
    let node = node().await;
    let plugin = node.plugin(1).await;
    node.apply_gpu_pod("train", 1);
    node.wait_for_phase("train", Phase::Running).await;
    let health = |snapshot: &mizzen_kubelet_sim::Snapshot| {
        snapshot.pod("train").unwrap().containers[0].allocated_resources[GPU]["gpu-0"]
    };
    plugin.set_health("gpu-0", false);
    let snapshot = node
        .wait_for("the sick GPU", |seen| {
            health(seen) == DeviceHealth::Unhealthy
        })
        .await;
    assert_eq!(snapshot.pod("train").unwrap().phase, Phase::Running);
    plugin.set_health("gpu-0", true);
    node.wait_for("the healed GPU", |seen| {
        health(seen) == DeviceHealth::Healthy
    })
    .await;
}

#[tokio::test]
async fn a_topology_policy_keeps_devices_on_one_numa_node() {
    let node = node_with(|config| config.topology_policy = TopologyPolicy::SingleNumaNode).await;
    let _plugin = node.plugin(8).await;
    node.apply_gpu_pod("first", 3);
    node.apply_gpu_pod("second", 2);
    let snapshot = node.wait_for_phase("second", Phase::Running).await;
    let nodes_of = |name: &str| -> BTreeSet<i64> {
        let devices = snapshot.pod(name).unwrap().devices(GPU);
        devices
            .iter()
            .map(|id| snapshot.resources[GPU].devices[id].numa_nodes[0])
            .collect()
    };
    assert_eq!(nodes_of("first").len(), 1);
    assert_eq!(nodes_of("second").len(), 1);
    assert_ne!(nodes_of("first"), nodes_of("second"));

    node.apply_gpu_pod("third", 3);
    let snapshot = node.wait_for_phase("third", Phase::Failed).await;
    let pod = snapshot.pod("third").unwrap();
    assert_eq!(pod.reason, "TopologyAffinityError");
    assert_eq!(
        pod.message,
        "Pod was rejected: Resources cannot be allocated with Topology locality"
    );
}

#[tokio::test]
async fn a_loose_topology_policy_spills_over_only_when_it_must() {
    let node = node_with(|config| config.topology_policy = TopologyPolicy::BestEffort).await;
    let _plugin = node.plugin(8).await;
    node.apply_gpu_pod("five", 5);
    let snapshot = node.wait_for_phase("five", Phase::Running).await;
    assert_eq!(snapshot.pod("five").unwrap().devices(GPU).len(), 5);
}

#[tokio::test]
async fn an_error_of_the_preference_fails_the_pod() {
    let node = node().await;
    let plugin = node.plugin(2).await;
    plugin.set(|behaviour| {
        behaviour.options.get_preferred_allocation_available = true;
        behaviour.prefer_error = Some(Status::unknown("lost GPU"));
    });
    plugin.register(&node).await.unwrap();
    node.apply_gpu_pod("train", 1);
    let snapshot = node.wait_for_phase("train", Phase::Failed).await;
    assert_eq!(
        snapshot.pod("train").unwrap().message,
        "Pod was rejected: Allocate failed due to device plugin GetPreferredAllocation rpc \
         failed with err: rpc error: code = Unknown desc = lost GPU, which is unexpected"
    );
}

#[tokio::test]
async fn a_plugin_that_hangs_in_allocate_does_not_keep_the_kubelet_from_stopping() {
    let node = node().await;
    let plugin = node.plugin(2).await;
    plugin.set(|behaviour| behaviour.allocate_hangs = true);
    node.apply_gpu_pod("train", 1);
    node.wait_for("the pod to be scheduled", |snapshot| {
        snapshot.pod("train").unwrap().scheduled
    })
    .await;
    node.kubelet
        .restart(std::time::Duration::ZERO)
        .await
        .unwrap();
    drop(plugin);
    assert_eq!(
        node.kubelet.snapshot().pod("train").unwrap().devices(GPU),
        Vec::<String>::new()
    );
}
