//! Drivers and GPUs that come, go, or are broken.

mod support;

use std::time::Duration;

use mizzen_agent::Order;
use mizzen_core::driver::DriverError;
use mizzen_kubelet_sim::Happening;
use mizzen_testkit::gpus;
use support::{GPU, Node, next};

fn no_library() -> DriverError {
    DriverError::LibraryNotFound {
        searched: vec!["/usr/lib64".to_owned()],
    }
}

fn broken() -> DriverError {
    DriverError::Nvml {
        call: "nvmlDeviceGetHandleByIndex_v2",
        code: 999,
        message: "Unknown Error".to_owned(),
    }
}

#[tokio::test]
async fn a_driver_that_comes_later_is_picked_up() {
    let mut node = Node::new(8).await;
    node.driver.go_absent(no_library());
    node.start_agent();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(
        node.kubelet.snapshot().amounts(GPU),
        (0, 0),
        "nothing is offered"
    );
    node.driver.come();
    node.host.file("dev/nvidia-uvm", "");
    node.allocatable(8).await;
}

#[tokio::test]
async fn a_driver_that_comes_in_a_container_of_its_own_is_picked_up() {
    let mut node = Node::new(8).await;
    node.host.file("run/lock", "");
    node.driver.go_absent(no_library());
    node.start_agent();
    // Attempts that nobody asked for become rarer: the third is seconds away by now.
    support::within(async {
        while node.driver.opened() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let opened = node.driver.opened();
    node.host.file("run/nvidia/driver.pid", "1");
    support::within(async {
        while node.driver.opened() == opened {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    node.driver.come();
    node.host
        .file("run/nvidia/validations/.driver-ctr-ready", "");
    node.allocatable(8).await;
}

#[tokio::test]
async fn a_driver_that_goes_leaves_unhealthy_gpus_and_comes_back() {
    let node = Node::running(8).await;
    node.driver
        .go_absent(DriverError::NotRunning("Driver Not Loaded".to_owned()));
    let snapshot = node.allocatable(0).await;
    assert_eq!(
        snapshot.amounts(GPU),
        (8, 0),
        "the GPUs are known, and not to be had"
    );
    node.driver.come();
    node.allocatable(8).await;
}

#[tokio::test]
async fn one_broken_gpu_is_unhealthy_and_the_others_work() {
    let mut node = Node::new(8).await;
    node.driver.break_gpu(3, broken());
    node.start_agent();
    let snapshot = node.allocatable(7).await;
    assert_eq!(snapshot.amounts(GPU), (8, 7));
    node.driver.mend_gpu(3);
    let snapshot = node.allocatable(8).await;
    assert_eq!(
        Node::healthy(&snapshot, &Node::uuid(3)),
        Some(true),
        "under its own name"
    );
    assert_eq!(snapshot.amounts(GPU), (8, 8));
}

#[tokio::test]
async fn a_gpu_that_broke_while_no_agent_ran_keeps_its_name() {
    let mut node = Node::running(8).await;
    node.stop_agent().await;
    node.driver.break_gpu(3, broken());
    node.start_agent();
    let snapshot = node.allocatable(7).await;
    assert_eq!(Node::healthy(&snapshot, &Node::uuid(3)), Some(false));
}

#[tokio::test]
async fn gpus_that_are_added_and_removed_are_noticed() {
    let node = Node::running(2).await;
    node.driver.set_gpus(gpus(3));
    node.host.file("dev/nvidia2", "");
    node.allocatable(3).await;
    node.driver.set_gpus(gpus(1));
    node.host.remove("dev/nvidia1").remove("dev/nvidia2");
    let snapshot = node.allocatable(1).await;
    assert_eq!(snapshot.amounts(GPU), (1, 1));
}

#[tokio::test]
async fn a_gpu_that_the_driver_drops_but_the_bus_still_has_is_unhealthy() {
    let node = Node::new(2).await;
    let mut node = node;
    for gpu in gpus(2) {
        let dir = format!("sys/bus/pci/devices/{}", gpu.pci);
        node.host.file(&format!("{dir}/vendor"), "0x10de\n");
        node.host.file(&format!("{dir}/class"), "0x030200\n");
    }
    node.start_agent();
    node.allocatable(2).await;
    node.driver.set_gpus(gpus(1));
    node.host.remove("dev/nvidia1");
    let snapshot = node.allocatable(1).await;
    assert_eq!(snapshot.amounts(GPU), (2, 1));
    assert_eq!(Node::healthy(&snapshot, &Node::uuid(1)), Some(false));
}

#[tokio::test]
async fn a_resource_whose_last_gpu_goes_is_reported_empty_before_it_is_retired() {
    let node = Node::running(2).await;
    let mut plugin = node.plugin().await;
    let mut lists = plugin.lists().await;
    assert_eq!(lists.next().await, Some((2, 0)));
    let mut events = node.kubelet.events();
    node.driver.set_gpus(Vec::new());
    node.host.remove("dev/nvidia0").remove("dev/nvidia1");
    assert_eq!(lists.next().await, Some((0, 0)), "the last word");
    assert_eq!(lists.next().await, None);
    let empty = |what: &Happening| {
        matches!(
            what,
            Happening::DevicesReported {
                healthy: 0,
                unhealthy: 0,
                ..
            }
        )
    };
    next(&mut events, empty).await;
    next(&mut events, |what| {
        matches!(what, Happening::PluginGone { .. })
    })
    .await;
    support::within(async {
        while node.socket().exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;

    node.driver.set_gpus(gpus(2));
    node.host.file("dev/nvidia0", "").file("dev/nvidia1", "");
    node.allocatable(2).await;
}

#[tokio::test]
async fn a_reload_looks_for_a_driver_at_once() {
    let mut node = Node::new(4).await;
    node.driver.go_absent(no_library());
    node.start_agent();
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.driver.come();
    node.order(Order::Reload(Box::new(node.config.clone())))
        .await;
    node.allocatable(4).await;
}
