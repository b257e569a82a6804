//! A whole agent that tells the cluster how its GPUs are.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::time::Duration;

use mizzen_core::driver::{DriverError, GpuCondition, RecoveryAction};
use mizzen_testkit::WELL;
use support::Node;
use support::api::{FakeApi, NODE};

const RECORD: &str = "node-health.json";

async fn told_node(count: u32) -> Node {
    let mut node = Node::new(count).await;
    node.config.source.node_name = Some(NODE.to_owned());
    node.config.node_health.tell = true;
    node.api = Some(FakeApi::new());
    node
}

fn api(node: &Node) -> FakeApi {
    node.api.clone().unwrap()
}

/// Waits until a file of the state directory has this in it.
async fn is_written(node: &Node, file: &str, text: &str) {
    let path = node.config.state_dir.join(file);
    support::within(async {
        while !fs::read_to_string(&path).is_ok_and(|written| written.contains(text)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_xid_is_a_condition_and_an_event_and_a_restart_says_neither_again() {
    let mut node = told_node(8).await;
    node.start_agent();
    let well = api(&node).condition("GPUsHealthy").await;
    assert_eq!(well["status"], "True");

    let sick = Node::uuid(2);
    let reboot = GpuCondition {
        recovery_action: Some(RecoveryAction::NodeReboot),
        ..WELL
    };
    node.driver.set_condition(&sick, Ok(reboot));
    node.driver.xid(Some(&sick), 48);
    let condition = api(&node).condition("GPUUnhealthy").await;
    let message = condition["message"].as_str().unwrap();
    assert!(message.contains(sick.as_str()), "{message}");
    assert!(
        message.ends_with("drain the node and reboot it"),
        "{message}"
    );
    let event = api(&node).event("GPUUnhealthy").await;
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["involvedObject"]["name"], NODE);

    is_written(&node, RECORD, "GPUUnhealthy").await;
    is_written(&node, "health-told.json", "node-reboot").await;
    node.stop_agent().await;
    let asked = api(&node).requests();
    node.start_agent();
    node.allocatable(7).await;
    // Longer than changes wait for others.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(api(&node).requests(), asked);
    assert_eq!(api(&node).events().len(), 1);

    node.driver.heal(&sick);
    api(&node).event("GPUHealthy").await;
    assert_eq!(api(&node).events().len(), 2);
}

#[tokio::test]
async fn a_driver_that_goes_and_comes_back_is_told() {
    let mut node = told_node(2).await;
    node.start_agent();
    api(&node).condition("GPUsHealthy").await;
    let gone = DriverError::NotRunning("the module is not loaded".to_owned());
    node.driver.go_absent(gone);
    let condition = api(&node).condition("DriverGone").await;
    assert_eq!(condition["status"], "False");
    api(&node).event("GPUDriverGone").await;
    node.driver.come();
    api(&node).event("GPUDriverBack").await;
    api(&node).condition("GPUsHealthy").await;
}

#[tokio::test]
async fn an_agent_that_is_not_asked_to_makes_no_client() {
    let mut node = told_node(2).await;
    node.config.node_health.tell = false;
    node.start_agent();
    node.allocatable(2).await;
    assert_eq!(api(&node).requests(), 0);
}
