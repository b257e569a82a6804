//! CDI specs before the kubelet's eyes: nothing is offered that a runtime would not find.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::PathBuf;

use mizzen_agent::cdi::read_catalog;
use mizzen_core::config::{
    DeviceIdStrategy, DeviceListStrategies, DeviceListStrategy, MigStrategy,
};
use mizzen_core::mig::{Capabilities, Engines, GpuMig, MigDevice, MigMode};
use support::{Node, within};

/// A node whose devices are named by CDI, and no agent yet.
async fn cdi_node(count: u32) -> Node {
    let mut node = Node::new(count).await;
    node.config.device_list_strategies = DeviceListStrategies::new([DeviceListStrategy::CdiCri]);
    node.config.device_id_strategy = DeviceIdStrategy::Index;
    node
}

fn directory(node: &Node) -> PathBuf {
    node.host.path().join("var/run/cdi")
}

fn resolves(node: &Node, device: &str) -> bool {
    let name = format!("k8s.device-plugin.nvidia.com/gpu={device}");
    read_catalog(&[directory(node)]).resolves(&name)
}

#[tokio::test]
async fn a_gpu_without_its_node_is_offered_when_the_node_comes() {
    let mut node = cdi_node(2).await;
    node.host.remove("dev/nvidia1");
    node.start_agent();
    node.allocatable(1).await;
    assert!(resolves(&node, "0") && !resolves(&node, "1"));
    let mut plugin = node.plugin().await;
    let given = plugin.allocate(&[Node::uuid(0).as_str()]).await.unwrap();
    assert_eq!(
        given.cdi_devices[0].name,
        "k8s.device-plugin.nvidia.com/gpu=0"
    );

    node.host.file("dev/nvidia1", "");
    node.allocatable(2).await;
    assert!(resolves(&node, "1"));
}

#[tokio::test]
async fn a_rival_with_the_same_names_takes_the_gpus_from_the_kubelet_until_it_goes() {
    let mut node = cdi_node(1).await;
    node.start_agent();
    node.allocatable(1).await;
    let ours = directory(&node).join("k8s.device-plugin.nvidia.com-gpu.json");
    let rival = directory(&node).join("rival.json");
    fs::copy(&ours, &rival).unwrap();
    node.allocatable(0).await;
    fs::remove_file(&rival).unwrap();
    node.allocatable(1).await;
}

#[tokio::test]
async fn specs_follow_the_partitions_of_gpus() {
    let mut node = cdi_node(1).await;
    node.config.mig_strategy = MigStrategy::Single;
    let whole = Some(GpuMig::default());
    node.driver.partition(&Node::uuid(0), whole);
    for minor in [11, 12] {
        node.host
            .file(&format!("dev/nvidia-caps/nvidia-cap{minor}"), "");
    }
    node.start_agent();
    node.allocatable(1).await;
    assert!(resolves(&node, "0"));

    let device = MigDevice {
        index: 0,
        uuid: "MIG-4d697a7a-656e-4000-8000-000000000001".parse().unwrap(),
        gpu_instance: 1,
        compute_instance: 0,
        profile: "3g.40gb".parse().unwrap(),
        memory_mib: 40_000,
        multiprocessors: 60,
        engines: Engines::default(),
        placement: None,
        capabilities: Capabilities {
            gpu_instance: Some(11),
            compute_instance: Some(12),
        },
    };
    let cut = GpuMig {
        mode: MigMode {
            current: true,
            pending: true,
        },
        devices: vec![device],
    };
    node.driver.partition(&Node::uuid(0), Some(cut));
    let follows = async {
        while !resolves(&node, "0:0") || resolves(&node, "0") {
            tokio::task::yield_now().await;
        }
    };
    within(follows).await;
    node.allocatable(1).await;
}
