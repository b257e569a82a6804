//! Registration: what the kubelet checks, asks back, keeps and forgets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::ErrorKind;
use std::time::Duration;

use mizzen_kubelet_api::connect;
use mizzen_kubelet_api::deviceplugin::VERSION;
use mizzen_kubelet_sim::Happening;
use support::{GPU, Plugin, gpus, node};
use tokio::time::{Instant, timeout};
use tonic::Code;

#[tokio::test]
async fn a_registered_plugins_devices_are_the_nodes() {
    let node = node().await;
    let plugin = node.plugin(8).await;
    let snapshot = node.kubelet.snapshot();
    assert_eq!(snapshot.resources[GPU].devices.len(), 8);
    assert_eq!(snapshot.resources[GPU].devices["gpu-7"].numa_nodes, [1]);
    assert_eq!(
        plugin.set(|b| b.options_asked),
        1,
        "asked once, before Register returned"
    );
}

#[tokio::test]
async fn another_version_is_refused_in_the_kubelets_words() {
    let node = node().await;
    let error = node
        .register("v1alpha", "nvidia-gpu.sock", GPU)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
    assert_eq!(
        error.message(),
        "requested API version \"v1alpha\" is not supported by kubelet. \
         Supported version is [\"v1beta1\"]"
    );
}

#[tokio::test]
async fn a_name_that_is_no_extended_resource_is_refused() {
    let node = node().await;
    let error = node
        .register(VERSION, "nvidia-gpu.sock", "gpu")
        .await
        .unwrap_err();
    assert_eq!(error.message(), "the ResourceName \"gpu\" is invalid");
}

#[tokio::test]
async fn a_plugin_that_does_not_serve_yet_is_waited_for() {
    let node = node().await;
    let register = node.register(VERSION, "nvidia-gpu.sock", GPU);
    let serve_late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Plugin::serve(&node, "nvidia-gpu.sock", gpus(2))
    };
    let (registered, _plugin) = tokio::join!(register, serve_late);
    registered.unwrap();
    node.wait_for_gpus(2, 2).await;
}

#[tokio::test]
async fn a_plugin_that_never_serves_is_given_up_after_ten_seconds() {
    let node = node().await;
    let register = node.register(VERSION, "nothing.sock", GPU);
    tokio::pin!(register);
    let still_trying = timeout(Duration::from_millis(100), &mut register).await;
    assert!(still_trying.is_err(), "{still_trying:?}");
    tokio::time::pause();
    let began = Instant::now();
    let error = register.await.unwrap_err();
    assert_eq!(
        error.message(),
        "failed to dial device plugin: context deadline exceeded"
    );
    assert!(began.elapsed() <= Duration::from_secs(10));
}

#[tokio::test]
async fn sick_devices_count_as_capacity_but_not_as_allocatable() {
    let node = node().await;
    let plugin = node.plugin(8).await;
    plugin.set_health("gpu-3", false);
    let snapshot = node.wait_for_gpus(8, 7).await;
    assert!(!snapshot.resources[GPU].devices["gpu-3"].healthy);
    plugin.set_health("gpu-3", true);
    node.wait_for_gpus(8, 8).await;
}

#[tokio::test]
async fn an_empty_list_leaves_nothing() {
    let node = node().await;
    let plugin = node.plugin(8).await;
    plugin.report(Vec::new());
    node.wait_for_gpus(0, 0).await;
}

#[tokio::test]
async fn a_dead_plugins_capacity_stays_for_five_minutes() {
    let node = node().await;
    node.plugin(8).await.die();
    let snapshot = node.wait_for_gpus(8, 0).await;
    assert!(!snapshot.resources[GPU].devices["gpu-0"].healthy);

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(299)).await;
    tokio::task::yield_now().await;
    assert_eq!(node.kubelet.snapshot().amounts(GPU), (8, 0));
    tokio::time::advance(Duration::from_secs(2)).await;
    node.wait_for_gpus(0, 0).await;
}

#[tokio::test]
async fn the_last_registration_of_a_resource_wins() {
    let node = node().await;
    let first = node.plugin(8).await;
    let second = Plugin::serve(&node, "second.sock", gpus(4));
    second.register(&node).await.unwrap();
    node.wait_for_gpus(4, 4).await;

    node.apply_gpu_pod("one", 1);
    node.wait_for_phase("one", mizzen_kubelet_sim::Phase::Running)
        .await;
    assert_eq!(second.set(|b| b.allocated.len()), 1);
    assert_eq!(first.set(|b| b.allocated.len()), 0);
}

#[tokio::test]
async fn the_end_of_the_old_plugin_takes_the_new_one_with_it_until_it_registers_again() {
    let node = node().await;
    let first = node.plugin(8).await;
    let second = Plugin::serve(&node, "second.sock", gpus(8));
    second.register(&node).await.unwrap();
    let mut events = node.kubelet.events();

    first.die();

    node.wait_for_gpus(8, 0).await;
    let gone = Happening::PluginGone {
        resource: GPU.into(),
    };
    while events.recv().await.unwrap().what != gone {}
    second.register(&node).await.unwrap();
    node.wait_for_gpus(8, 8).await;
}

#[tokio::test]
async fn refusals_end_after_the_number_that_was_asked_for() {
    let node = node().await;
    let plugin = Plugin::serve(&node, "nvidia-gpu.sock", gpus(8));
    node.kubelet.disturbances().refuse_registrations(2);
    plugin.register(&node).await.unwrap_err();
    plugin.register(&node).await.unwrap_err();
    plugin.register(&node).await.unwrap();
}

#[tokio::test]
async fn a_silent_kubelet_takes_connections_and_answers_late() {
    let node = node().await;
    let plugin = Plugin::serve(&node, "nvidia-gpu.sock", gpus(8));
    let silence = Duration::from_millis(200);
    node.kubelet.disturbances().stay_silent_for(silence);
    let began = Instant::now();
    connect(node.kubelet.registration_socket()).await.unwrap();
    plugin.register(&node).await.unwrap();
    assert!(began.elapsed() >= silence);
}

#[tokio::test]
async fn a_gap_between_bind_and_listen_refuses_connections() {
    let node = node().await;
    node.kubelet.stop().await;
    let path = node.kubelet.registration_socket();
    std::fs::remove_file(&path).unwrap();
    node.kubelet
        .disturbances()
        .set_listen_gap(Duration::from_millis(300));
    let observe = async {
        while !path.exists() {
            tokio::task::yield_now().await;
        }
        connect(&path).await.unwrap_err().kind()
    };
    let (started, seen) = tokio::join!(node.kubelet.start_again(), observe);
    started.unwrap();
    assert_eq!(seen, ErrorKind::ConnectionRefused);
    connect(&path).await.unwrap();
}
