//! The life of pods: created, pending, running, done, deleted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use mizzen_kubelet_api::connect;
use mizzen_kubelet_api::podresources::{
    AllocatableResourcesRequest, GetPodResourcesRequest, ListPodResourcesRequest,
    PodResourcesListerClient,
};
use mizzen_kubelet_sim::{ContainerState, Phase};
use support::{GPU, gpu_pod, node};

#[tokio::test]
async fn a_pod_that_breaks_the_rules_is_refused_and_not_kept() {
    let node = node().await;
    let manifest = gpu_pod("half", 1, "").replace("nvidia.com/gpu: 1", "nvidia.com/gpu: 0.5");
    let error = node.refusal(&manifest).to_string();
    assert!(
        error.contains("Invalid value: \"500m\": must be an integer"),
        "{error}"
    );
    assert!(node.kubelet.snapshot().pods.is_empty());
}

#[tokio::test]
async fn a_second_pod_of_the_same_name_is_refused() {
    let node = node().await;
    node.apply_gpu_pod("train", 1);
    let error = node.refusal(&gpu_pod("train", 1, "")).to_string();
    assert_eq!(error, "pods \"train\" already exists");
}

#[tokio::test]
async fn a_pod_waits_for_the_plugin() {
    let node = node().await;
    node.apply_gpu_pod("train", 1);
    let message = node.wait_for_pending("train").await;
    assert!(
        message.ends_with("1 Preemption is not helpful for scheduling."),
        "{message}"
    );
    let _plugin = node.plugin(1).await;
    node.wait_for_phase("train", Phase::Running).await;
}

#[tokio::test]
async fn one_pod_too_many_is_pending_until_another_is_deleted_and_holds_up_nobody() {
    let node = node().await;
    let _plugin = node.plugin(4).await;
    node.apply_gpu_pod("big", 3);
    node.wait_for_phase("big", Phase::Running).await;
    node.apply_gpu_pod("waiting", 2);
    node.apply_gpu_pod("small", 1);
    node.wait_for_phase("small", Phase::Running).await;
    assert_eq!(
        node.wait_for_pending("waiting").await,
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate, \
         preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
    assert!(node.kubelet.delete("big"));
    assert!(!node.kubelet.delete("big"));
    let snapshot = node.wait_for_phase("waiting", Phase::Running).await;
    assert!(snapshot.pod("big").is_none());
    assert_eq!(snapshot.pod("waiting").unwrap().message, "");
}

#[tokio::test]
async fn a_pod_that_names_its_node_is_refused_by_the_kubelet_when_there_is_no_room() {
    let node = node().await;
    let _plugin = node.plugin(2).await;
    node.apply(&gpu_pod("direct", 3, "nodeName: mizzen-node"));
    let snapshot = node.wait_for_phase("direct", Phase::Failed).await;
    let pod = snapshot.pod("direct").unwrap();
    assert_eq!(pod.reason, "OutOfnvidia.com/gpu");
    assert_eq!(
        pod.message,
        "Pod was rejected: Node didn't have enough resource: nvidia.com/gpu, \
         requested: 3, used: 0, capacity: 2"
    );
}

#[tokio::test]
async fn a_pod_that_has_run_its_time_succeeds_and_frees_its_devices() {
    let node = node().await;
    let _plugin = node.plugin(1).await;
    node.apply_gpu_pod("train", 1);
    node.apply_gpu_pod("next", 1);
    node.wait_for_phase("train", Phase::Running).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_hours(1)).await;
    tokio::time::resume();
    let snapshot = node.wait_for_phase("next", Phase::Running).await;
    let done = snapshot.pod("train").unwrap();
    assert_eq!(done.phase, Phase::Succeeded);
    assert_eq!(
        done.containers[0].state,
        ContainerState::Terminated { exit_code: 0 }
    );
    assert_eq!(done.devices(GPU), Vec::<String>::new());
}

#[tokio::test]
async fn a_container_that_is_to_run_always_is_started_again_after_a_pause() {
    let node = node().await;
    let plugin = node.plugin(1).await;
    let manifest = gpu_pod("serve", 1, "").replace("Policy: Never", "Policy: Always");
    node.apply(&manifest.replace("1h", "10ms"));
    let restarts = |snapshot: &mizzen_kubelet_sim::Snapshot| {
        snapshot
            .pod("serve")
            .map_or(0, |pod| pod.containers[0].restart_count)
    };
    let snapshot = node
        .wait_for("the exit", |snapshot| restarts(snapshot) == 1)
        .await;
    let pod = snapshot.pod("serve").unwrap();
    assert_eq!(pod.phase, Phase::Running);
    assert_eq!(pod.devices(GPU), ["gpu-0"], "it keeps its device");
    let ContainerState::Waiting { reason, .. } = &pod.containers[0].state else {
        panic!("{pod:?}")
    };
    assert_eq!(reason, "CrashLoopBackOff");
    tokio::time::pause();
    node.wait_for("the second exit", |snapshot| restarts(snapshot) == 2)
        .await;
    assert_eq!(
        plugin.set(|behaviour| behaviour.allocated.len()),
        1,
        "allocated once for all"
    );
}

#[tokio::test]
async fn pod_resources_tells_who_holds_what() {
    let node = node().await;
    let plugin = node.plugin(2).await;
    node.apply_gpu_pod("train", 1);
    let snapshot = node.wait_for_phase("train", Phase::Running).await;
    let held = snapshot.pod("train").unwrap().devices(GPU);
    let connection = connect(node.kubelet.pod_resources_socket()).await.unwrap();
    let mut client = PodResourcesListerClient::new(connection);

    let list = client
        .list(ListPodResourcesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.pod_resources.len(), 1);
    let pod = &list.pod_resources[0];
    assert_eq!(
        (pod.name.as_str(), pod.namespace.as_str()),
        ("train", "default")
    );
    let devices = &pod.containers[0].devices[0];
    assert_eq!(devices.resource_name, GPU);
    assert_eq!(devices.device_ids, held);
    let numa = snapshot.resources[GPU].devices[&held[0]].numa_nodes[0];
    assert_eq!(devices.topology.as_ref().unwrap().nodes[0].id, numa);

    let request = GetPodResourcesRequest {
        pod_name: "train".into(),
        pod_namespace: "default".into(),
    };
    let got = client.get(request).await.unwrap().into_inner();
    assert_eq!(got.pod_resources.as_ref(), Some(pod));
    let request = GetPodResourcesRequest {
        pod_name: "x".into(),
        pod_namespace: "y".into(),
    };
    let error = client.get(request).await.unwrap_err();
    assert_eq!(error.message(), "pod x in namespace y not found");

    plugin.set_health("gpu-0", false);
    node.wait_for_gpus(2, 1).await;
    let all = client
        .get_allocatable_resources(AllocatableResourcesRequest {})
        .await
        .unwrap();
    let ids: Vec<String> = all
        .into_inner()
        .devices
        .into_iter()
        .flat_map(|devices| devices.device_ids)
        .collect();
    assert_eq!(ids, ["gpu-1"]);
}
