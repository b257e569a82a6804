//! Nothing grows with the number of kubelet restarts and reloads. One test, so that what the
//! process holds is what this node holds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::time::Duration;

use mizzen_agent::Order;
use mizzen_kubelet_sim::Happening;
use support::{Node, is_registered, next, within};

const TIMES: usize = 1000;

/// What this process holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    threads: usize,
    descriptors: usize,
}

fn held() -> Held {
    let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    Held {
        threads: count("task"),
        descriptors: count("fd"),
    }
}

/// Anonymous memory in use, KiB.
fn memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
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

async fn restart(node: &Node) {
    let mut events = node.kubelet.events();
    node.kubelet.restart(Duration::ZERO).await.unwrap();
    next(&mut events, is_registered).await;
    next(&mut events, |what| {
        matches!(what, Happening::DevicesReported { healthy: 8, .. })
    })
    .await;
}

#[test]
fn a_thousand_kubelet_restarts_and_reloads_leave_nothing_behind() {
    // As the agent's own process has it: threads that have looked at the disk end soon.
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .unwrap();
    executor.block_on(nothing_is_left_behind());
}

async fn nothing_is_left_behind() {
    let node = Node::running(8).await;
    for _ in 0..100 {
        restart(&node).await;
        node.order(Order::Reload(Box::new(node.config.clone())))
            .await;
    }
    let before = settled().await;
    let memory_before = memory();

    for _ in 0..TIMES {
        restart(&node).await;
    }
    for _ in 0..TIMES {
        node.order(Order::Reload(Box::new(node.config.clone())))
            .await;
    }
    restart(&node).await;

    let after = settled().await;
    assert!(
        after.threads <= before.threads,
        "{before:?} became {after:?}"
    );
    assert!(
        after.descriptors <= before.descriptors,
        "{before:?} became {after:?}"
    );
    let grown = memory().saturating_sub(memory_before);
    assert!(grown < 2048, "{grown} KiB more than before");
    assert_eq!(node.driver.opened(), 1);
}
