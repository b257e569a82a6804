//! The kubelet goes and comes back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::time::Duration;

use mizzen_kubelet_api::connect;
use mizzen_kubelet_sim::{Happening, Phase};
use support::{GPU, Plugin, gpus, node};

#[tokio::test]
async fn a_restart_removes_every_socket_and_nothing_else() {
    let node = node().await;
    let _plugin = node.plugin(2).await;
    let dir = node.kubelet.config().plugin_dir();
    fs::write(dir.join("DEPRECATION"), "").unwrap();
    fs::create_dir(dir.join("sub")).unwrap();
    let _nested = Plugin::serve(&node, "sub/nested.sock", gpus(1));

    node.kubelet.restart(Duration::ZERO).await.unwrap();

    let mut left: Vec<String> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        [
            "DEPRECATION",
            "kubelet.sock",
            "kubelet_internal_checkpoint",
            "sub"
        ]
    );
    assert!(dir.join("sub/nested.sock").exists());
}

#[tokio::test]
async fn a_stopped_kubelet_leaves_a_dead_socket_and_the_nodes_status() {
    let node = node().await;
    let _plugin = node.plugin(2).await;
    node.kubelet.stop().await;
    assert!(node.kubelet.registration_socket().exists());
    connect(node.kubelet.registration_socket())
        .await
        .unwrap_err();
    let snapshot = node.kubelet.snapshot();
    assert!(!snapshot.kubelet_running);
    assert_eq!(snapshot.amounts(GPU), (2, 2));
}

#[tokio::test]
async fn after_a_restart_pods_keep_their_devices_and_nobody_else_gets_them() {
    let node = node().await;
    let plugin = node.plugin(4).await;
    node.apply_gpu_pod("train", 2);
    let before = node.wait_for_phase("train", Phase::Running).await;
    let held = before.pod("train").unwrap().devices(GPU);

    node.kubelet.restart(Duration::ZERO).await.unwrap();

    let snapshot = node.wait_for_gpus(0, 0).await;
    assert_eq!(snapshot.pod("train").unwrap().phase, Phase::Running);
    assert_eq!(snapshot.pod("train").unwrap().devices(GPU), held);
    drop(plugin);
    let _plugin = node.plugin(4).await;
    node.apply_gpu_pod("second", 2);
    let snapshot = node.wait_for_phase("second", Phase::Running).await;
    let others = snapshot.pod("second").unwrap().devices(GPU);
    assert!(
        others.iter().all(|id| !held.contains(id)),
        "{others:?} and {held:?}"
    );
}

#[tokio::test]
async fn a_pod_deleted_while_the_kubelet_is_down_frees_its_devices() {
    let node = node().await;
    let plugin = node.plugin(2).await;
    node.apply_gpu_pod("train", 2);
    node.wait_for_phase("train", Phase::Running).await;
    node.kubelet.stop().await;
    node.kubelet.delete("train");
    node.kubelet.start_again().await.unwrap();
    drop(plugin);
    let _plugin = node.plugin(2).await;
    node.apply_gpu_pod("next", 2);
    node.wait_for_phase("next", Phase::Running).await;
}

#[tokio::test]
async fn a_damaged_checkpoint_is_reported_and_gone_without() {
    let node = node().await;
    let _plugin = node.plugin(2).await;
    node.kubelet.stop().await;
    let path = node
        .kubelet
        .config()
        .plugin_dir()
        .join("kubelet_internal_checkpoint");
    fs::write(path, "{}").unwrap();
    let mut events = node.kubelet.events();
    node.kubelet.start_again().await.unwrap();
    let event = events.recv().await.unwrap().what;
    assert!(matches!(event, Happening::FileTrouble { .. }), "{event:?}");
    assert_eq!(events.recv().await.unwrap().what, Happening::KubeletStarted);
}

#[tokio::test]
async fn restarts_in_a_burst_leave_one_kubelet_that_works() {
    let node = node().await;
    for _ in 0..20 {
        node.kubelet.restart(Duration::ZERO).await.unwrap();
    }
    let _plugin = node.plugin(8).await;
}

#[tokio::test]
async fn restarts_leave_no_descriptors_behind() {
    let node = node().await;
    let count = || fs::read_dir("/proc/self/fd").unwrap().count();
    let cycle = async || {
        let plugin = node.plugin(2).await;
        node.kubelet.restart(Duration::ZERO).await.unwrap();
        drop(plugin);
    };
    for _ in 0..3 {
        cycle().await;
    }
    let before = count();
    for _ in 0..20 {
        cycle().await;
    }
    // Other tests of this process open and close descriptors of their own.
    let allowance = 15;
    assert!(
        count() <= before + allowance,
        "{before} before, {} after",
        count()
    );
}
