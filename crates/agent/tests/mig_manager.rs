//! The MIG manager with a kubelet, an API and a driver that partitions: what a relabelled node goes
//! through.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::config::{MigManagerConfig, MigStrategy, OwnPod};
use mizzen_core::driver::DriverError;
use mizzen_core::mig::{MigStep, MigTarget};
use mizzen_kubelet_sim::pod::parse_manifest;
use mizzen_kubelet_sim::{Kubelet, Snapshot};
use mizzen_testkit::{ChangeTrouble, h100_table};
use support::api::{FakeApi, NODE};
use support::{GPU, Node, within};

const SMALL: &str = "nvidia.com/mig-1g.10gb";
const MEDIUM: &str = "nvidia.com/mig-3g.40gb";

/// Layouts of more than one profile.
const LAYOUTS: &str = "version: v1
mig-configs:
  half:
  - {devices: all, mig-enabled: true, mig-devices: {3g.40gb: 1, 1g.10gb: 2}}
  first:
  - {devices: [0], mig-enabled: true, mig-devices: {1g.10gb: 7}}
  too-much:
  - {devices: [0], mig-enabled: true, mig-devices: {3g.40gb: 3}}
  - {devices: [1], mig-enabled: true, mig-devices: {3g.40gb: 2}}
";

/// A node whose GPUs can be partitioned, and no agent yet.
async fn mig_node(count: u32) -> Node {
    let mut node = Node::new(count).await;
    node.config.mig_strategy = MigStrategy::Mixed;
    node.config.source.node_name = Some(NODE.to_owned());
    let layouts = node.path("layouts.yaml");
    fs::write(&layouts, LAYOUTS).unwrap();
    node.config.mig_manager = MigManagerConfig {
        enabled: true,
        config_file: Some(layouts),
        ..MigManagerConfig::default()
    };
    for index in 0..count {
        node.driver
            .make_partitionable(&Node::uuid(index), h100_table());
    }
    node.api = Some(FakeApi::new());
    node
}

/// The same, with an agent that offers the whole GPUs.
async fn running(count: u32) -> Node {
    let mut node = mig_node(count).await;
    node.start_agent();
    node.allocatable(count.into()).await;
    node
}

fn api(node: &Node) -> &FakeApi {
    node.api.as_ref().unwrap()
}

/// Waits until the kubelet can give out exactly so many devices of each resource.
async fn offered(node: &Node, expected: &[(&str, i64)]) -> Arc<Snapshot> {
    let expected: BTreeMap<&str, i64> = expected.iter().copied().collect();
    let as_expected = |snapshot: &Snapshot| {
        let resources = snapshot.resources.iter();
        let healthy = resources.filter(|(_, view)| view.allocatable > 0);
        let seen = healthy.map(|(name, view)| (name.as_str(), view.allocatable));
        seen.collect::<BTreeMap<_, _>>() == expected
    };
    node.kubelet_sees(as_expected).await
}

/// Starts a pod that holds one device, and waits until it runs.
async fn hold(kubelet: &Kubelet, name: &str, resource: &str) {
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - name: \
         main\n    image: none\n    resources: {{limits: {{{resource}: 1}}}}\n"
    );
    kubelet
        .create(parse_manifest(&manifest).unwrap().remove(0))
        .unwrap();
    let runs = |snapshot: &Snapshot| held_by(snapshot, name).is_some();
    within(kubelet.wait_for(runs)).await;
}

/// The device that a pod holds.
fn held_by(snapshot: &Snapshot, pod: &str) -> Option<String> {
    let devices = snapshot.resources.values().flat_map(|one| &one.devices);
    let mut held = devices.filter(|(_, device)| {
        let holder = device.holder.as_ref();
        holder.is_some_and(|holder| holder.pod == format!("default/{pod}"))
    });
    held.next().map(|(id, _)| id.clone())
}

fn is_cut(node: &Node, gpu: u32, target: &str) -> bool {
    let target: MigTarget = target.parse().unwrap();
    target.is_met_by(&node.driver.mig_layout(&Node::uuid(gpu)))
}

async fn until(mut wanted: impl FnMut() -> bool) {
    within(async {
        while !wanted() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The journal on the disk.
fn journal(node: &Node) -> String {
    fs::read_to_string(node.config.state_dir.join("mig.json")).unwrap_or_default()
}

#[tokio::test]
async fn a_label_partitions_the_gpus_and_another_changes_no_more_than_it_must() {
    let node = running(2).await;
    api(&node).set_mig_config(Some("all-1g.10gb"));
    offered(&node, &[(SMALL, 14)]).await;
    api(&node).mig_state_is(Some("success")).await;
    assert_eq!(api(&node).mig_states(), ["pending", "success"]);
    let applied = api(&node).event("MigConfigApplied").await;
    let message = applied["message"].as_str().unwrap();
    assert!(message.contains("GPUs 0, 1 are 1g.10gb x7"), "{message}");
    assert_eq!(
        api(&node).event("MigConfigApplying").await["type"],
        "Normal"
    );
    let before = node.kubelet.snapshot();

    // Two of the seven stay on each GPU.
    api(&node).set_mig_config(Some("half"));
    let after = offered(&node, &[(SMALL, 4), (MEDIUM, 2)]).await;
    let ids = |snapshot: &Snapshot| -> Vec<String> {
        let devices = &snapshot.resources[SMALL].devices;
        devices.keys().cloned().collect()
    };
    let kept = ids(&after)
        .into_iter()
        .filter(|id| ids(&before).contains(id));
    assert_eq!(kept.count(), 4);

    api(&node).set_mig_config(Some("all-disabled"));
    offered(&node, &[(GPU, 2)]).await;
    api(&node).mig_state_is(Some("success")).await;
    assert!(!journal(&node).contains("GPU-"), "nothing is under way");

    // Without the label nothing is said of GPUs, and nothing done to them.
    let done = node.driver.changes_done().len();
    api(&node).set_mig_config(None);
    api(&node).mig_state_is(None).await;
    assert_eq!(node.driver.changes_done().len(), done);
}

#[tokio::test]
async fn what_a_pod_holds_is_not_touched_until_it_lets_go_and_the_other_gpus_do_not_wait() {
    let node = running(2).await;
    hold(&node.kubelet, "train", GPU).await;
    let held = held_by(&node.kubelet.snapshot(), "train").unwrap();
    let busy = u32::from(held == Node::uuid(1).as_str());
    api(&node).set_mig_config(Some("all-1g.10gb"));
    let waiting = api(&node).event("MigConfigWaiting").await;
    let message = waiting["message"].as_str().unwrap();
    assert!(message.contains("default/train"), "{message}");
    assert!(message.contains(&format!("GPU {busy}")), "{message}");
    // The held GPU is offered as it is, and the other one is done.
    offered(&node, &[(GPU, 1), (SMALL, 7)]).await;
    api(&node).mig_state_is(Some("pending")).await;
    assert!(is_cut(&node, busy, "MIG off"));

    node.kubelet.delete("train");
    offered(&node, &[(SMALL, 14)]).await;
    api(&node).mig_state_is(Some("success")).await;
    api(&node).event("MigConfigApplied").await;
}

#[tokio::test]
async fn an_instance_that_a_pod_holds_survives_a_change_of_the_others() {
    let node = running(1).await;
    api(&node).set_mig_config(Some("all-1g.10gb"));
    offered(&node, &[(SMALL, 7)]).await;
    hold(&node.kubelet, "serve", SMALL).await;
    let held = held_by(&node.kubelet.snapshot(), "serve").unwrap();
    api(&node).set_mig_config(Some("half"));
    let after = offered(&node, &[(SMALL, 2), (MEDIUM, 1)]).await;
    assert_eq!(held_by(&after, "serve"), Some(held));
    api(&node).mig_state_is(Some("success")).await;
}

#[tokio::test]
async fn pods_that_are_in_the_way_are_evicted_where_that_is_allowed_and_no_others() {
    let mut node = mig_node(1).await;
    node.config.mig_manager.evict = true;
    node.start_agent();
    node.allocatable(1).await;
    api(&node).set_mig_config(Some("all-3g.40gb"));
    offered(&node, &[(MEDIUM, 2)]).await;
    hold(&node.kubelet, "one", MEDIUM).await;
    hold(&node.kubelet, "two", MEDIUM).await;
    // A disruption budget is minded.
    api(&node).refuse_evictions(2);
    api(&node).set_mig_config(Some("half"));
    until(|| !api(&node).evictions().is_empty()).await;
    let evicted = api(&node).evictions();
    node.kubelet.delete(&evicted[0]);
    let after = offered(&node, &[(SMALL, 2), (MEDIUM, 1)]).await;
    assert_eq!(api(&node).evictions(), evicted, "the other one stays");
    let waiting = api(&node).event("MigConfigWaiting").await;
    let message = waiting["message"].as_str().unwrap();
    assert!(message.contains("disruption budget"), "{message}");
    let left = if evicted[0] == "default/one" {
        "two"
    } else {
        "one"
    };
    assert!(held_by(&after, left).is_some());
    api(&node).mig_state_is(Some("success")).await;
}

#[tokio::test]
async fn an_agent_that_is_killed_at_any_step_goes_on_when_it_is_started_anew() {
    let mut walked = 0;
    for number in 0.. {
        for trouble in [ChangeTrouble::HangsBefore, ChangeTrouble::HangsAfter] {
            let mut node = running(1).await;
            api(&node).set_mig_config(Some("half"));
            offered(&node, &[(SMALL, 2), (MEDIUM, 1)]).await;
            let before = node.driver.changes_asked();
            node.driver.trouble_change(before + number, trouble);
            api(&node).set_mig_config(Some("all-1g.10gb"));
            let done = || is_cut(&node, 0, "1g.10gb x7");
            until(|| node.driver.hanging_changes() == 1 || done()).await;
            if node.driver.hanging_changes() == 0 {
                assert!(walked > 4, "{walked} steps");
                return;
            }
            walked += 1;
            assert!(journal(&node).contains("GPU-"), "step {number}");
            node.kill_agent().await;
            node.driver.release_changes();
            // Nobody tells what is wanted, and it is done all the same.
            api(&node).set_away(true);
            node.start_agent();
            offered(&node, &[(SMALL, 7)]).await;
            assert!(is_cut(&node, 0, "1g.10gb x7"), "step {number}");
            until(|| !journal(&node).contains("GPU-")).await;
        }
    }
}

#[tokio::test]
async fn an_agent_that_is_killed_at_any_moment_goes_on_when_it_is_started_anew() {
    // From the label to the new list, between the steps of the driver, too: the withdrawal, the
    // journal's entry, its end, the list.
    for moment in (0..48).step_by(3) {
        let mut node = mig_node(1).await;
        node.driver.give_uuids_again(&Node::uuid(0));
        node.start_agent();
        node.allocatable(1).await;
        api(&node).set_mig_config(Some("half"));
        offered(&node, &[(SMALL, 2), (MEDIUM, 1)]).await;
        hold(&node.kubelet, "serve", SMALL).await;
        let held = held_by(&node.kubelet.snapshot(), "serve").unwrap();
        api(&node).set_mig_config(Some("all-1g.10gb"));
        tokio::time::sleep(Duration::from_millis(moment)).await;
        node.kill_agent().await;
        let after = node.driver.mig_layout(&Node::uuid(0));
        node.start_agent();
        let end = offered(&node, &[(SMALL, 7)]).await;
        assert_eq!(held_by(&end, "serve"), Some(held), "{moment} ms: {after:?}");
        assert!(is_cut(&node, 0, "1g.10gb x7"), "{moment} ms");
        api(&node).mig_state_is(Some("success")).await;
        until(|| !journal(&node).contains("GPU-")).await;
    }
}

#[tokio::test]
async fn instances_that_are_made_again_under_their_old_uuids_are_offered_again() {
    let mut node = mig_node(1).await;
    node.driver.give_uuids_again(&Node::uuid(0));
    node.start_agent();
    node.allocatable(1).await;
    let ids = |snapshot: &Snapshot| -> Vec<String> {
        let devices = &snapshot.resources[SMALL].devices;
        devices.keys().cloned().collect()
    };
    api(&node).set_mig_config(Some("all-1g.10gb"));
    let first = ids(&*offered(&node, &[(SMALL, 7)]).await);
    api(&node).set_mig_config(Some("all-3g.40gb"));
    offered(&node, &[(MEDIUM, 2)]).await;
    api(&node).set_mig_config(Some("all-1g.10gb"));
    assert_eq!(ids(&*offered(&node, &[(SMALL, 7)]).await), first);
}

#[tokio::test]
async fn what_was_begun_gives_way_to_what_is_wanted_now() {
    let mut node = running(1).await;
    node.driver.trouble_change(2, ChangeTrouble::HangsAfter);
    api(&node).set_mig_config(Some("all-1g.10gb"));
    until(|| node.driver.hanging_changes() == 1).await;
    node.kill_agent().await;
    node.driver.release_changes();
    api(&node).set_mig_config(Some("all-3g.40gb"));
    node.start_agent();
    offered(&node, &[(MEDIUM, 2)]).await;
    api(&node).mig_state_is(Some("success")).await;
}

#[tokio::test]
async fn a_driver_that_refuses_is_asked_again() {
    let node = running(1).await;
    node.driver.trouble_change(
        1,
        ChangeTrouble::Refused(DriverError::InsufficientResources),
    );
    api(&node).set_mig_config(Some("all-3g.40gb"));
    let failed = api(&node).event("MigConfigFailed").await;
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("create 3g.40gb at"), "{message}");
    assert!(message.contains("no room"), "{message}");
    offered(&node, &[(MEDIUM, 2)]).await;
    api(&node).mig_state_is(Some("success")).await;
    let states = api(&node).mig_states();
    assert_eq!(states, ["pending", "failed", "success"]);
}

#[tokio::test]
async fn what_is_in_use_by_others_than_pods_fails_with_that_reason_and_is_offered_meanwhile() {
    let node = running(1).await;
    api(&node).set_mig_config(Some("all-3g.40gb"));
    offered(&node, &[(MEDIUM, 2)]).await;
    let asked = node.driver.changes_asked();
    for number in asked..asked + 2 {
        let refused = ChangeTrouble::Refused(DriverError::InUse);
        node.driver.trouble_change(number, refused);
    }
    api(&node).set_mig_config(Some("all-disabled"));
    let failed = api(&node).event("MigConfigFailed").await;
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("it is in use"), "{message}");
    offered(&node, &[(MEDIUM, 2)]).await;
    offered(&node, &[(GPU, 1)]).await;
}

#[tokio::test]
async fn a_mode_that_waits_for_a_reset_is_told_and_noticed() {
    let mut node = mig_node(2).await;
    node.driver.wait_for_resets(&Node::uuid(0));
    node.start_agent();
    node.allocatable(2).await;
    api(&node).set_mig_config(Some("all-1g.10gb"));
    api(&node).mig_state_is(Some("rebooting")).await;
    let waiting = api(&node).event("MigConfigWaiting").await;
    let message = waiting["message"].as_str().unwrap();
    assert!(message.contains("nvidia-smi --gpu-reset -i 0"), "{message}");
    // Nobody may get it before, and a new process knows that, too.
    offered(&node, &[(SMALL, 7)]).await;
    let whole = Node::uuid(0).to_string();
    let refused = node.plugin().await.allocate(&[&whole]).await.unwrap_err();
    assert!(refused.message().contains("partitioned anew"), "{refused}");
    node.stop_agent().await;
    node.start_agent();
    offered(&node, &[(SMALL, 7)]).await;
    node.driver.reset_gpu(&Node::uuid(0));
    offered(&node, &[(SMALL, 14)]).await;
    api(&node).mig_state_is(Some("success")).await;
}

#[tokio::test]
async fn a_mode_that_was_only_in_use_is_set_once_more_and_needs_no_reset() {
    let mut node = mig_node(1).await;
    node.driver.wait_for_resets(&Node::uuid(0));
    node.start_agent();
    node.allocatable(1).await;
    api(&node).set_mig_config(Some("all-1g.10gb"));
    api(&node).mig_state_is(Some("rebooting")).await;
    node.driver.free_mode(&Node::uuid(0));
    offered(&node, &[(SMALL, 7)]).await;
    api(&node).mig_state_is(Some("success")).await;
}

#[tokio::test]
async fn a_gpu_that_cannot_reach_its_layout_does_not_hold_the_others_up() {
    let node = running(2).await;
    api(&node).set_mig_config(Some("too-much"));
    api(&node).mig_state_is(Some("failed")).await;
    let failed = api(&node).event("MigConfigFailed").await;
    let message = failed["message"].as_str().unwrap();
    assert!(
        message.contains("GPU 0: 3 × 3g.40gb do not fit"),
        "{message}"
    );
    offered(&node, &[(GPU, 1), (MEDIUM, 2)]).await;
}

#[tokio::test]
async fn a_layout_that_cannot_be_read_touches_no_gpu_and_its_correction_is_taken_at_once() {
    let node = running(1).await;
    let path = node.path("layouts.yaml");
    api(&node).set_mig_config(Some("hlf"));
    let failed = api(&node).event("MigConfigFailed").await;
    let message = failed["message"].as_str().unwrap();
    assert!(
        message.contains("half"),
        "the one that was meant: {message}"
    );
    fs::write(
        &path,
        "version: v1\nmig-configs:\n  half:\n  - {devices: al}\n",
    )
    .unwrap();
    api(&node).set_mig_config(Some("half"));
    api(&node).event_again("MigConfigFailed", 1).await;
    let wrong = |event: &serde_json::Value| {
        let message = event["message"].as_str().unwrap();
        message.contains("cannot be used") && message.contains("line 4")
    };
    until(|| api(&node).events().iter().any(wrong)).await;
    assert_eq!(node.driver.changes_asked(), 0);
    fs::write(&path, LAYOUTS).unwrap();
    offered(&node, &[(SMALL, 2), (MEDIUM, 1)]).await;
    api(&node).mig_state_is(Some("success")).await;
}

#[tokio::test]
async fn without_the_kubelets_word_nothing_is_taken_away() {
    let mut node = mig_node(1).await;
    node.config.mig_manager.pod_resources_socket = Some(node.path("nowhere/kubelet.sock"));
    node.start_agent();
    node.allocatable(1).await;
    api(&node).set_mig_config(Some("all-1g.10gb"));
    let failed = api(&node).event("MigConfigFailed").await;
    let message = failed["message"].as_str().unwrap();
    assert!(
        message.contains("nowhere/kubelet.sock does not exist"),
        "{message}"
    );
    assert!(message.contains("mount"), "{message}");
    api(&node).mig_state_is(Some("failed")).await;
    assert_eq!(node.driver.changes_asked(), 0);
    node.allocatable(1).await;
}

#[tokio::test]
async fn a_kubelet_that_does_not_list_the_agents_own_pod_knows_no_holders() {
    let mut node = mig_node(1).await;
    node.config.mig_manager.own_pod = Some(OwnPod {
        namespace: "default".to_owned(),
        name: "agent".to_owned(),
    });
    node.start_agent();
    node.allocatable(1).await;
    api(&node).set_mig_config(Some("all-1g.10gb"));
    let failed = api(&node).event("MigConfigFailed").await;
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("own pod default/agent"), "{message}");
    assert!(message.contains("restarted"), "{message}");
    assert_eq!(node.driver.changes_asked(), 0);
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: agent}\nspec:\n  containers:\n  \
                    - {name: main, image: none}\n";
    let pod = parse_manifest(manifest).unwrap().remove(0);
    node.kubelet.create(pod).unwrap();
    offered(&node, &[(SMALL, 7)]).await;
}

#[tokio::test]
async fn what_the_plugin_has_just_given_out_is_not_taken_away() {
    let node = running(1).await;
    let whole = Node::uuid(0).to_string();
    node.plugin().await.allocate(&[&whole]).await.unwrap();
    api(&node).set_mig_config(Some("all-1g.10gb"));
    offered(&node, &[]).await;
    // No pod is listed with it yet.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(node.driver.changes_asked(), 0);
    // It never is, so the container was not started.
    offered(&node, &[(SMALL, 7)]).await;
}

#[tokio::test]
async fn a_gpu_that_does_not_answer_is_named_and_the_others_are_done() {
    let node = running(2).await;
    node.driver
        .hide_layout(&Node::uuid(0), Some(DriverError::GpuLost));
    api(&node).set_mig_config(Some("all-1g.10gb"));
    let failed = api(&node).event("MigConfigFailed").await;
    let message = failed["message"].as_str().unwrap();
    assert!(
        message.contains("GPU 0: ") && message.contains("lost"),
        "{message}"
    );
    offered(&node, &[(GPU, 1), (SMALL, 7)]).await;
    node.driver.hide_layout(&Node::uuid(0), None);
    offered(&node, &[(SMALL, 14)]).await;
}

#[tokio::test]
async fn a_lost_gpu_that_the_layout_does_not_speak_of_is_no_failure() {
    let node = running(2).await;
    node.driver
        .hide_layout(&Node::uuid(1), Some(DriverError::GpuLost));
    api(&node).set_mig_config(Some("first"));
    offered(&node, &[(GPU, 1), (SMALL, 7)]).await;
    api(&node).mig_state_is(Some("success")).await;
    assert_eq!(api(&node).mig_states(), ["pending", "success"]);
}

#[tokio::test]
async fn an_api_that_is_away_holds_up_the_news_and_not_the_work() {
    let node = running(1).await;
    api(&node).set_mig_config(Some("half"));
    node.driver.trouble_change(0, ChangeTrouble::HangsBefore);
    until(|| node.driver.hanging_changes() == 1).await;
    api(&node).set_away(true);
    node.driver.release_changes();
    offered(&node, &[(SMALL, 2), (MEDIUM, 1)]).await;
    api(&node).set_away(false);
    api(&node).mig_state_is(Some("success")).await;
}

#[tokio::test]
async fn a_gpu_that_others_change_is_changed_back() {
    let node = running(1).await;
    api(&node).set_mig_config(Some("all-3g.40gb"));
    offered(&node, &[(MEDIUM, 2)]).await;
    api(&node).mig_state_is(Some("success")).await;
    let done = node.driver.changes_done().len();
    node.driver.meddle(
        &Node::uuid(0),
        &[
            MigStep::DestroyComputeInstance {
                gpu_instance: 1,
                id: 0,
            },
            MigStep::DestroyGpuInstance { id: 1 },
        ],
    );
    until(|| node.driver.changes_done().len() > done).await;
    offered(&node, &[(MEDIUM, 2)]).await;
}

#[tokio::test]
async fn gpus_that_are_offered_whole_although_partitioned_are_withheld_whole() {
    let mut node = mig_node(1).await;
    node.config.mig_strategy = MigStrategy::None;
    node.start_agent();
    node.allocatable(1).await;
    api(&node).set_mig_config(Some("all-3g.40gb"));
    api(&node).mig_state_is(Some("success")).await;
    offered(&node, &[(GPU, 1)]).await;
    hold(&node.kubelet, "train", GPU).await;
    api(&node).set_mig_config(Some("all-1g.10gb"));
    api(&node).event("MigConfigWaiting").await;
    assert!(is_cut(&node, 0, "3g.40gb x2"));
    node.kubelet.delete("train");
    api(&node).mig_state_is(Some("success")).await;
    assert!(is_cut(&node, 0, "1g.10gb x7"));
    offered(&node, &[(GPU, 1)]).await;
    // What others make of it is seen, too.
    let done = node.driver.changes_done().len();
    let gone = [
        MigStep::DestroyComputeInstance {
            gpu_instance: 7,
            id: 0,
        },
        MigStep::DestroyGpuInstance { id: 7 },
    ];
    node.driver.meddle(&Node::uuid(0), &gone);
    until(|| node.driver.changes_done().len() > done).await;
    until(|| is_cut(&node, 0, "1g.10gb x7")).await;
}

#[tokio::test]
async fn an_agent_without_a_manager_asks_the_api_nothing() {
    let mut node = mig_node(1).await;
    node.config.mig_manager.enabled = false;
    api(&node).set_mig_config(Some("all-1g.10gb"));
    node.start_agent();
    node.allocatable(1).await;
    node.stop_agent().await;
    assert_eq!(api(&node).requests(), 0);
    assert_eq!(node.driver.changes_asked(), 0);
}
