//! The way to containers that the agent chooses itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use mizzen_agent::Order;
use support::{Node, within};

const CONTAINERD: &str = "etc/containerd/config.toml";
const ON: &str = "version = 3\n";
const OFF: &str = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n";

/// A node whose containerd has this config, and no agent yet.
async fn node(config: &str) -> Node {
    let mut node = Node::new(1).await;
    node.host.file(CONTAINERD, config);
    // No program for hooks is on the node.
    node.config.cdi_disable_hooks = vec!["all".to_owned()];
    node
}

/// The CDI names and device nodes that a container with the GPU gets.
async fn given(node: &Node) -> (usize, usize) {
    let mut plugin = node.plugin().await;
    let given = plugin.allocate(&[Node::uuid(0).as_str()]).await.unwrap();
    (given.cdi_devices.len(), given.devices.len())
}

#[tokio::test]
async fn a_runtime_with_cdi_is_given_names_and_one_without_gets_nodes() {
    let mut node = node(ON).await;
    node.start_agent();
    node.allocatable(1).await;
    assert_eq!(given(&node).await, (1, 0));

    // Its settings are looked at again when ours are.
    node.host.file(CONTAINERD, OFF);
    node.order(Order::Reload(Box::new(node.config.clone())))
        .await;
    within(async {
        while given(&node).await.0 != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(given(&node).await.1 > 0);
}

#[tokio::test]
async fn names_whose_hooks_could_not_run_are_not_given() {
    let mut node = node(ON).await;
    node.config.cdi_disable_hooks.clear();
    node.config.cdi_hook_path = Some("/opt/no-such-hook".into());
    node.start_agent();
    node.allocatable(1).await;
    let (names, nodes) = given(&node).await;
    assert!(names == 0 && nodes > 0, "{names} names, {nodes} nodes");
}

#[tokio::test]
async fn a_node_without_a_runtime_goes_by_the_settings() {
    let mut node = Node::new(1).await;
    node.start_agent();
    node.allocatable(1).await;
    assert_eq!(given(&node).await, (0, 0));
}
