//! A whole agent that labels its Node: what it sends to the API, and what it does not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::time::Duration;

use mizzen_core::config::{LabelsTo, MigStrategy};
use mizzen_core::mig::{Capabilities, Engines, GpuMig, MigDevice, MigMode};
use support::Node;
use support::api::{FakeApi, NODE};

const COUNT: &str = "nvidia.com/gpu.count";
const PROFILE: &str = "nvidia.com/mig-7g.80gb.count";

async fn labelled_node() -> Node {
    let mut node = Node::new(2).await;
    node.config.mig_strategy = MigStrategy::Mixed;
    node.config.source.node_name = Some(NODE.to_owned());
    node.config.labels.to = Some(LabelsTo::Node);
    node.driver
        .partition(&Node::uuid(0), Some(GpuMig::default()));
    node.api = Some(FakeApi::new());
    node
}

fn api(node: &Node) -> FakeApi {
    node.api.clone().unwrap()
}

/// All of a GPU in one piece.
fn in_one_piece() -> GpuMig {
    GpuMig {
        mode: MigMode {
            current: true,
            pending: true,
        },
        devices: vec![MigDevice {
            index: 0,
            uuid: "MIG-4d697a7a-656e-4000-8000-000000000001".parse().unwrap(),
            gpu_instance: 0,
            compute_instance: 0,
            profile: "7g.80gb".parse().unwrap(),
            memory_mib: 81_000,
            multiprocessors: 132,
            engines: Engines::default(),
            placement: None,
            capabilities: Capabilities::default(),
        }],
    }
}

#[tokio::test]
async fn a_change_of_partitions_is_one_patch_and_a_restart_is_none() {
    let mut node = labelled_node().await;
    node.start_agent();
    let first = api(&node).applies(1).await.remove(0);
    assert_eq!(first[COUNT], "2");
    assert!(!first.contains_key(PROFILE));
    assert_eq!(first["gpu.mizzen.dev/NVIDIA-H100-80GB-HBM3"], "2");

    node.driver.partition(&Node::uuid(0), Some(in_one_piece()));
    let second = api(&node).applies(2).await.remove(1);
    assert_eq!(second[PROFILE], "1");
    node.driver
        .partition(&Node::uuid(0), Some(GpuMig::default()));
    let third = api(&node).applies(3).await.remove(2);
    assert_eq!(third, first, "what is no longer true is gone");

    // What the API has is written down once it has answered.
    let record = node.config.state_dir.join("labels.json");
    support::within(async {
        while !fs::read_to_string(&record).is_ok_and(|text| !text.contains(PROFILE)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    node.stop_agent().await;
    let asked = api(&node).requests();
    assert_eq!(asked, 4, "one look and three patches");

    node.start_agent();
    node.allocatable(2).await;
    // Long after labels were told; what is written late is written at a time of its own.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(api(&node).requests(), asked);
    node.stop_agent().await;
}

#[tokio::test]
async fn an_agent_that_is_not_asked_to_makes_no_client_and_forgets_what_it_knew() {
    let mut node = labelled_node().await;
    node.config.labels.to = None;
    node.config.labels.use_node_feature_api = true;
    fs::create_dir_all(&node.config.state_dir).unwrap();
    let record = node.config.state_dir.join("labels.json");
    fs::write(&record, "{}").unwrap();
    node.start_agent();
    node.allocatable(2).await;
    assert!(!record.exists());
    assert_eq!(api(&node).requests(), 0);
}

#[tokio::test]
async fn labels_in_a_file_need_no_api() {
    let mut node = labelled_node().await;
    let file = node.path("gfd");
    node.config.labels.to = Some(LabelsTo::File);
    node.config.labels.output_file = Some(file.clone());
    node.start_agent();
    let has_count = || fs::read_to_string(&file).is_ok_and(|text| text.contains("gpu.count=2\n"));
    support::within(async {
        while !has_count() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    node.stop_agent().await;
    assert!(has_count(), "another agent mostly follows");
    assert_eq!(api(&node).requests(), 0);
}
