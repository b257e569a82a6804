//! What happens when GPUs get sick, and when they are well again.
#![allow(clippy::unwrap_used, reason = "a test's helper may fail it")]

mod support;

use std::fs;
use std::time::Duration;

use mizzen_agent::Order;
use mizzen_core::config::{Config, HealthRules, file};
use mizzen_core::driver::{DriverError, DriverEventKind, GpuCondition, RecoveryAction, RowRemap};
use mizzen_core::xid::XidPolicy;
use mizzen_testkit::WELL;
use support::{GPU, Node};

const NEEDS_RESET: GpuCondition = GpuCondition {
    recovery_action: Some(RecoveryAction::GpuReset),
    ..WELL
};

#[tokio::test]
async fn an_xid_makes_its_gpu_unhealthy_and_time_makes_it_healthy_again() {
    let node = Node::running(8).await;
    let sick = Node::uuid(2);
    node.driver.set_condition(&sick, Ok(NEEDS_RESET));
    node.driver.xid(Some(&sick), 79);
    let snapshot = node.allocatable(7).await;
    assert_eq!(Node::healthy(&snapshot, &sick), Some(false));
    node.driver.heal(&sick);
    node.allocatable(8).await;
}

#[tokio::test]
async fn an_applications_own_xid_changes_nothing() {
    let node = Node::running(8).await;
    let mut plugin = node.plugin().await;
    let mut lists = plugin.lists().await;
    lists.next().await.unwrap();
    for xid in [13, 31, 43, 45, 68, 109] {
        node.driver.xid(Some(&Node::uuid(0)), xid);
    }
    node.driver
        .event(Some(&Node::uuid(0)), DriverEventKind::SingleBitEcc);
    // The next list is the one of the next real fault.
    node.driver.xid(Some(&Node::uuid(1)), 79);
    assert_eq!(lists.next().await, Some((7, 1)));
    let snapshot = node.allocatable(7).await;
    assert_eq!(Node::healthy(&snapshot, &Node::uuid(0)), Some(true));
}

#[tokio::test]
async fn disabled_health_checks_leave_every_gpu_healthy() {
    let mut node = Node::new(8).await;
    node.config.xid_policy = XidPolicy::from_lists("all", "").0;
    node.start_agent();
    node.allocatable(8).await;
    node.driver.xid(Some(&Node::uuid(0)), 79);
    // Whoever takes the second event has handed the first one over.
    node.driver
        .event(Some(&Node::uuid(0)), DriverEventKind::SingleBitEcc);
    support::within(async {
        while node.driver.pending_events() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // Enabling single Xids by a reload outranks what is disabled.
    let xid_policy = XidPolicy::from_lists("all", "79").0;
    let config = Config {
        xid_policy,
        ..node.config.clone()
    };
    node.order(Order::Reload(Box::new(config))).await;
    let mut tries = 0;
    while node.kubelet.snapshot().amounts(GPU).1 == 8 {
        // The reload and the event take different ways to the state.
        node.driver.xid(Some(&Node::uuid(1)), 79);
        tokio::time::sleep(Duration::from_millis(10)).await;
        tries += 1;
        assert!(tries < 500, "no Xid is acted on");
    }
    let snapshot = node.kubelet.snapshot();
    assert_eq!(Node::healthy(&snapshot, &Node::uuid(0)), Some(true));
    assert_eq!(Node::healthy(&snapshot, &Node::uuid(1)), Some(false));
}

/// A node whose agent has these rules of health.
async fn with_rules(count: u32, health: &str) -> Node {
    let mut node = Node::new(count).await;
    node.config.health_rules = rules(health);
    node.start_agent();
    node.allocatable(count.into()).await;
    node
}

fn rules(health: &str) -> HealthRules {
    let raw = file::parse(&format!("health: {health}"));
    raw.validate().unwrap().health_rules
}

#[tokio::test]
async fn a_reported_xid_changes_nothing_and_counted_ones_mark_their_gpu() {
    let node = with_rules(
        8,
        "{xids: [{xids: 48, action: report},
                 {xids: 94, action: unhealthy, count: 3, within: 10m}]}",
    )
    .await;
    let mut plugin = node.plugin().await;
    let mut lists = plugin.lists().await;
    assert_eq!(lists.next().await, Some((8, 0)));
    for _ in 0..5 {
        node.driver.xid(Some(&Node::uuid(0)), 48);
    }
    for gpu in [1, 1, 2, 2] {
        node.driver.xid(Some(&Node::uuid(gpu)), 94);
    }
    // Events come in order, so the next list is the one of the first that counts.
    node.driver.xid(Some(&Node::uuid(1)), 94);
    assert_eq!(lists.next().await, Some((7, 1)));
    let snapshot = node.allocatable(7).await;
    assert_eq!(Node::healthy(&snapshot, &Node::uuid(1)), Some(false));
    node.allocatable(8).await;
    // Recovery begins the count anew: this is the first of three.
    node.driver.xid(Some(&Node::uuid(1)), 94);
    node.driver.xid(Some(&Node::uuid(2)), 94);
    let snapshot = node.allocatable(7).await;
    assert_eq!(Node::healthy(&snapshot, &Node::uuid(1)), Some(true));
    assert_eq!(Node::healthy(&snapshot, &Node::uuid(2)), Some(false));
}

#[tokio::test]
async fn a_row_that_cannot_be_remapped_marks_its_gpu_until_it_is_mended() {
    let node = with_rules(8, "{rowRemap: {failure: unhealthy, pending: report}}").await;
    let rows = |pending, failure| GpuCondition {
        row_remap: Some(RowRemap { pending, failure }),
        ..WELL
    };
    let waiting = Node::uuid(4);
    node.driver.set_condition(&waiting, Ok(rows(true, false)));
    let failed = Node::uuid(5);
    node.driver.set_condition(&failed, Ok(rows(true, true)));
    let snapshot = node.allocatable(7).await;
    assert_eq!(Node::healthy(&snapshot, &failed), Some(false));
    assert_eq!(Node::healthy(&snapshot, &waiting), Some(true));
    node.driver.heal(&failed);
    node.allocatable(8).await;
}

#[tokio::test]
async fn corrected_errors_are_asked_for_once_a_rule_counts_them() {
    let node = Node::running(8).await;
    let worn = Node::uuid(6);
    let corrected = |count| GpuCondition {
        single_bit_ecc: Some(count),
        ..WELL
    };
    node.driver.set_condition(&worn, Ok(corrected(1000)));
    let health_rules = rules("{ecc: {singleBit: {action: unhealthy, count: 100}}}");
    let config = Config {
        health_rules,
        ..node.config.clone()
    };
    node.order(Order::Reload(Box::new(config))).await;
    // The thousand were before anybody asked; each answer from here on finds a few more.
    let mut count = 1000;
    let snapshot = support::within(async {
        loop {
            count += 10;
            node.driver.set_condition(&worn, Ok(corrected(count)));
            tokio::time::sleep(Duration::from_millis(20)).await;
            let snapshot = node.kubelet.snapshot();
            if snapshot.amounts(GPU).1 < 8 {
                break snapshot;
            }
        }
    })
    .await;
    assert_eq!(Node::healthy(&snapshot, &worn), Some(false));
    assert!(count >= 1100, "{count}");
    node.allocatable(8).await;
}

#[tokio::test]
async fn a_gpu_is_freed_by_rules_that_no_longer_count_its_fault() {
    let mut node = Node::new(8).await;
    node.config.health.hold_down = Duration::from_hours(1);
    node.start_agent();
    node.allocatable(8).await;
    node.driver.xid(Some(&Node::uuid(3)), 48);
    node.allocatable(7).await;
    let health_rules = rules("{xids: [{xids: 48, action: report}]}");
    let config = Config {
        health_rules,
        ..node.config.clone()
    };
    node.order(Order::Reload(Box::new(config))).await;
    node.allocatable(8).await;
}

#[tokio::test]
async fn a_lost_gpu_is_noticed_without_any_event() {
    let node = Node::running(8).await;
    let lost = Node::uuid(7);
    node.driver.set_condition(&lost, Err(DriverError::GpuLost));
    let snapshot = node.allocatable(7).await;
    assert_eq!(Node::healthy(&snapshot, &lost), Some(false));
    node.driver.heal(&lost);
    node.allocatable(8).await;
}

#[tokio::test]
async fn a_gpu_that_hangs_is_marked_and_the_others_go_on() {
    let node = Node::running(8).await;
    let hung = DriverError::Hung {
        after: Duration::from_secs(5),
    };
    node.driver.set_condition(&Node::uuid(4), Err(hung));
    node.allocatable(7).await;
    let mut plugin = node.plugin().await;
    plugin.allocate(&[Node::uuid(0).as_str()]).await.unwrap();
    node.driver.heal(&Node::uuid(4));
    node.allocatable(8).await;
}

#[tokio::test]
async fn an_uncorrectable_memory_error_marks_its_gpu() {
    let node = Node::running(8).await;
    node.driver.set_condition(&Node::uuid(1), Ok(NEEDS_RESET));
    node.driver
        .event(Some(&Node::uuid(1)), DriverEventKind::DoubleBitEcc);
    let snapshot = node.allocatable(7).await;
    assert_eq!(Node::healthy(&snapshot, &Node::uuid(1)), Some(false));
}

#[tokio::test]
async fn a_gpu_that_waits_for_its_reset_is_never_offered() {
    let mut node = Node::new(8).await;
    node.driver.set_condition(&Node::uuid(6), Ok(NEEDS_RESET));
    node.start_agent();
    let snapshot = node
        .kubelet_sees(|snapshot| snapshot.amounts(GPU).0 > 0)
        .await;
    assert_eq!(snapshot.amounts(GPU), (8, 7), "in the very first list");
}

#[tokio::test]
async fn a_recovery_action_alone_marks_its_gpu() {
    let node = Node::running(8).await;
    node.driver.set_condition(&Node::uuid(6), Ok(NEEDS_RESET));
    node.allocatable(7).await;
}

#[tokio::test]
async fn an_xid_of_an_unknown_gpu_takes_only_the_gpus_that_are_not_well() {
    let node = Node::running(8).await;
    node.driver
        .set_condition(&Node::uuid(5), Err(DriverError::GpuLost));
    node.driver.xid(None, 79);
    let snapshot = node.allocatable(7).await;
    assert_eq!(Node::healthy(&snapshot, &Node::uuid(5)), Some(false));
}

#[tokio::test]
async fn a_sick_gpu_stays_sick_over_restarts_of_kubelet_and_agent_and_reloads() {
    let mut node = Node::new(8).await;
    node.config.health.hold_down = Duration::from_hours(1);
    node.start_agent();
    node.allocatable(8).await;
    node.driver.xid(Some(&Node::uuid(3)), 79);
    node.allocatable(7).await;

    node.kubelet
        .restart(Duration::from_millis(10))
        .await
        .unwrap();
    let snapshot = node.allocatable(7).await;
    assert_eq!(Node::healthy(&snapshot, &Node::uuid(3)), Some(false));

    node.order(Order::Reload(Box::new(node.config.clone())))
        .await;

    // After a kill, too: the record was written when it happened.
    let record = node.config.state_dir.join("health.json");
    support::within(async {
        while !fs::read_to_string(&record).is_ok_and(|text| text.contains("xid")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    node.kill_agent().await;
    node.allocatable(0).await;
    node.start_agent();
    let snapshot = node
        .kubelet_sees(|snapshot| snapshot.amounts(GPU).1 > 0)
        .await;
    assert_eq!(snapshot.amounts(GPU), (8, 7));
    assert_eq!(Node::healthy(&snapshot, &Node::uuid(3)), Some(false));
}

#[tokio::test]
async fn an_unusable_record_is_put_aside_and_the_agent_starts() {
    let mut node = Node::new(2).await;
    fs::create_dir_all(&node.config.state_dir).unwrap();
    fs::write(node.config.state_dir.join("health.json"), "not JSON").unwrap();
    node.start_agent();
    node.allocatable(2).await;
    assert!(node.config.state_dir.join("health.json.unusable").exists());
}

#[tokio::test]
async fn a_wait_that_keeps_failing_is_no_flood_and_harms_no_gpu() {
    let node = Node::running(8).await;
    let mut plugin = node.plugin().await;
    let mut lists = plugin.lists().await;
    assert_eq!(lists.next().await, Some((8, 0)));
    let error = DriverError::Nvml {
        call: "nvmlEventSetWait_v2",
        code: 999,
        message: "Unknown Error".to_owned(),
    };
    let before = node.driver.waits();
    node.driver.fail_waits(Some(error));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let waits = node.driver.waits() - before;
    assert!((2..=6).contains(&waits), "{waits} waits in a second");
    // GPUs are asked meanwhile.
    node.driver
        .set_condition(&Node::uuid(0), Err(DriverError::GpuLost));
    assert_eq!(
        lists.next().await,
        Some((7, 1)),
        "this is the first list since"
    );
    // And events count again when they come again.
    node.driver.fail_waits(None);
    node.driver.set_condition(&Node::uuid(1), Ok(NEEDS_RESET));
    node.driver.xid(Some(&Node::uuid(1)), 79);
    assert_eq!(lists.next().await, Some((6, 2)));
}

#[tokio::test]
async fn a_gpu_whose_events_cannot_be_had_is_polled() {
    let mut node = Node::new(8).await;
    node.driver
        .refuse_events(&Node::uuid(2), DriverError::NotSupported);
    node.start_agent();
    node.allocatable(8).await;
    node.driver.set_condition(&Node::uuid(2), Ok(NEEDS_RESET));
    node.allocatable(7).await;
    assert!(!node.driver.watched().contains(&Node::uuid(2)));
}

#[tokio::test]
async fn all_streams_see_every_change() {
    let node = Node::running(8).await;
    let mut plugin = node.plugin().await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut lists = plugin.lists().await;
        assert_eq!(lists.next().await, Some((8, 0)));
        streams.push(lists);
    }
    for sick in 1_u32..4 {
        node.driver
            .set_condition(&Node::uuid(sick), Ok(NEEDS_RESET));
        node.driver.xid(Some(&Node::uuid(sick)), 79);
        let unhealthy = sick as usize;
        for lists in &mut streams {
            assert_eq!(lists.next().await, Some((8 - unhealthy, unhealthy)));
        }
    }
}
