//! Shared GPUs, as the kubelet sees them, and changes of the config while it looks.

#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it")]

mod support;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use mizzen_agent::Order;
use mizzen_core::config::{Config, file};
use mizzen_core::driver::{GpuCondition, RecoveryAction};
use support::{GPU, Node};
use tonic::Code;

/// The node's settings with what a config file says.
fn with_file(base: &Config, text: &str) -> Config {
    let file = file::parse(text).validate().unwrap();
    Config {
        naming: file.naming,
        sharing: file.sharing,
        gpus: file.gpus,
        ..base.clone()
    }
}

fn time_slicing(entries: &str) -> String {
    format!("sharing: {{timeSlicing: {{resources: [{entries}]}}}}")
}

async fn node_with(gpus: u32, text: &str) -> Node {
    let mut node = Node::new(gpus).await;
    node.config = with_file(&node.config, text);
    node.start_agent();
    node
}

async fn reload(node: &Node, text: &str) {
    let config = with_file(&node.config, text);
    node.order(Order::Reload(Box::new(config))).await;
}

async fn amounts(node: &Node, resource: &str, wanted: (i64, i64)) {
    node.kubelet_sees(|snapshot| snapshot.amounts(resource) == wanted)
        .await;
}

#[tokio::test]
async fn every_replica_of_a_sick_gpu_is_marked_and_comes_back_with_it() {
    let node = node_with(8, &time_slicing("{name: gpu, replicas: 1000}")).await;
    node.allocatable(8000).await;
    let sick = Node::uuid(3);
    let needs_reset = GpuCondition {
        recovery_action: Some(RecoveryAction::GpuReset),
        double_bit_ecc: Some(0),
    };
    let mut plugin = node.plugin().await;
    let mut lists = plugin.lists().await;
    assert_eq!(lists.next().await, Some((8000, 0)));
    node.driver.set_condition(&sick, Ok(needs_reset));
    node.driver.xid(Some(&sick), 79);
    assert_eq!(lists.next().await, Some((7000, 1000)), "all in one list");
    node.driver.heal(&sick);
    assert_eq!(lists.next().await, Some((8000, 0)));
    node.allocatable(8000).await;
}

#[tokio::test]
async fn a_container_gets_the_gpu_behind_its_replicas_and_no_more_of_them_than_allowed() {
    let entry = "{name: gpu, replicas: 4, failRequestsGreaterThanOne: true}";
    let node = node_with(2, &time_slicing(entry)).await;
    node.allocatable(8).await;
    let mut plugin = node.plugin().await;
    let replica = |gpu, number| format!("{}::{number}", Node::uuid(gpu));
    let given = plugin.allocate(&[&replica(1, 3)]).await.unwrap();
    assert_eq!(
        given.envs["NVIDIA_VISIBLE_DEVICES"],
        Node::uuid(1).to_string()
    );
    let two = [replica(0, 0), replica(0, 1)];
    let refused = plugin.allocate(&[&two[0], &two[1]]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("maximum request size"),
        "{refused}"
    );
}

/// What identifies a socket's file for as long as nobody makes it anew.
fn inode(path: &Path) -> u64 {
    path.metadata().unwrap().ino()
}

#[tokio::test]
async fn a_change_of_the_config_leaves_other_resources_their_streams_and_sockets() {
    let half = "{name: gpu, devices: [0, 1], rename: slice, replicas: 4}";
    let node = node_with(4, &time_slicing(half)).await;
    amounts(&node, GPU, (2, 2)).await;
    amounts(&node, "nvidia.com/slice", (8, 8)).await;
    let before = inode(&node.socket());
    let mut lists = node.plugin().await.lists().await;
    assert_eq!(lists.next().await, Some((2, 0)));

    let other = "{name: gpu, devices: [0, 1], rename: slice, replicas: 10}";
    reload(&node, &time_slicing(other)).await;
    amounts(&node, "nvidia.com/slice", (20, 20)).await;
    let renamed = "{name: gpu, devices: [0, 1], rename: bit, replicas: 10}";
    reload(&node, &time_slicing(renamed)).await;
    amounts(&node, "nvidia.com/bit", (20, 20)).await;
    node.kubelet_sees(|snapshot| snapshot.amounts("nvidia.com/slice").1 == 0)
        .await;
    assert_eq!(inode(&node.socket()), before);

    // The stream was open all along, and had nothing to tell before this.
    reload(
        &node,
        &time_slicing("{name: gpu, devices: [0], rename: bit, replicas: 10}"),
    )
    .await;
    assert_eq!(lists.next().await, Some((3, 0)));
    amounts(&node, GPU, (3, 3)).await;
    assert_eq!(inode(&node.socket()), before);
}

#[tokio::test]
async fn gpus_are_offered_by_model_and_left_out_by_choice() {
    let node = node_with(
        4,
        "resources: {gpus: [{pattern: '*', name: fast}]}\ngpus: {exclude: ['2']}",
    )
    .await;
    amounts(&node, "nvidia.com/fast", (3, 3)).await;
    reload(&node, "").await;
    amounts(&node, GPU, (4, 4)).await;
    node.kubelet_sees(|snapshot| snapshot.amounts("nvidia.com/fast").1 == 0)
        .await;
}
