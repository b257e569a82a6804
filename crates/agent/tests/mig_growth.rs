//! Nothing grows with the number of MIG layouts that a node goes through. One test, so that what the
//! process holds is what this node holds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use mizzen_core::config::{MigManagerConfig, MigStrategy};
use mizzen_testkit::h100_table;
use support::api::{FakeApi, NODE};
use support::{Node, within};
use tokio::runtime::Handle;

const TIMES: usize = 50;

/// How long what is done with may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// What this process holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    threads: usize,
    descriptors: usize,
    tasks: usize,
}

fn held() -> Held {
    let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    Held {
        threads: count("task"),
        descriptors: count("fd"),
        tasks: Handle::current().metrics().num_alive_tasks(),
    }
}

/// What this process holds once it holds the same for a second: a thread that has written to the
/// disk takes that long to end.
async fn settled() -> Held {
    within(async {
        loop {
            let now = held();
            tokio::time::sleep(Duration::from_millis(1100)).await;
            if held() == now {
                return now;
            }
        }
    })
    .await
}

/// Waits until this process holds no more than it did: threads that wrote to the disk end by and by,
/// and what has leaked does not.
async fn settle_at(before: &Held) {
    let due = Instant::now() + PATIENCE;
    loop {
        let now = held();
        if now.threads <= before.threads
            && now.descriptors <= before.descriptors
            && now.tasks <= before.tasks
        {
            return;
        }
        assert!(Instant::now() < due, "{before:?} became {now:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Has the GPU cut into sevenths and into halves, so many times.
async fn relabel(node: &Node, times: usize) {
    let api = node.api.as_ref().unwrap();
    for _ in 0..times {
        for (name, resource, count) in [
            ("all-1g.10gb", "nvidia.com/mig-1g.10gb", 7),
            ("all-3g.40gb", "nvidia.com/mig-3g.40gb", 2),
        ] {
            api.set_mig_config(Some(name));
            node.kubelet_sees(|snapshot| {
                let healthy = |name: &str| snapshot.amounts(name).1;
                let all: i64 = snapshot.resources.keys().map(|name| healthy(name)).sum();
                healthy(resource) == count && all == count
            })
            .await;
        }
    }
    api.mig_state_is(Some("success")).await;
}

#[tokio::test]
async fn fifty_relabellings_leave_no_thread_task_or_descriptor_behind() {
    let mut node = Node::new(1).await;
    node.config.mig_strategy = MigStrategy::Mixed;
    node.config.source.node_name = Some(NODE.to_owned());
    node.config.mig_manager = MigManagerConfig {
        enabled: true,
        ..MigManagerConfig::default()
    };
    node.driver.make_partitionable(&Node::uuid(0), h100_table());
    node.api = Some(FakeApi::new());
    node.start_agent();
    node.allocatable(1).await;
    relabel(&node, 5).await;
    let before = settled().await;
    relabel(&node, TIMES / 2).await;
    settle_at(&before).await;
    assert_eq!(node.driver.opened(), 1);
}
