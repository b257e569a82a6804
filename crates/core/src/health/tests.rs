use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::xid::Xid;

/// The defaults: a hold-down of 30 s.
static DEFAULTS: LazyLock<Config> = LazyLock::new(Config::default);

fn policy() -> HealthPolicy<'static> {
    HealthPolicy::of(&DEFAULTS)
}

fn at(seconds: u64) -> Moment {
    Moment {
        monotonic: Duration::from_secs(seconds),
        wall: 1_700_000_000 + seconds,
    }
}

fn well() -> GpuCondition {
    GpuCondition {
        recovery_action: Some(RecoveryAction::None),
        double_bit_ecc: Some(0),
        ..GpuCondition::default()
    }
}

fn old_driver() -> GpuCondition {
    GpuCondition {
        recovery_action: None,
        double_bit_ecc: Some(0),
        ..GpuCondition::default()
    }
}

fn recovered(changes: &[Change]) -> bool {
    changes
        .iter()
        .any(|change| matches!(change, Change::Recovered(_)))
}

#[test]
fn a_sick_gpu_recovers_when_it_answers_needs_nothing_and_the_hold_down_has_passed() {
    let mut health = GpuHealth::default();
    assert_eq!(
        health.fault(Reason::Xid(Xid(79)), at(10)),
        Some(Change::Worse(Reason::Xid(Xid(79)), None))
    );
    assert!(!health.is_healthy());
    assert!(
        health.answered(well(), at(39), policy()).is_empty(),
        "one second too early"
    );
    let changes = health.answered(well(), at(40), policy());
    assert!(recovered(&changes));
    assert!(health.is_healthy());
}

#[test]
fn each_sign_starts_the_hold_down_anew() {
    let mut health = GpuHealth::default();
    health.fault(Reason::Lost, at(0));
    assert_eq!(
        health.failed(&DriverError::GpuLost, at(20), policy()),
        None,
        "nothing new"
    );
    assert!(health.answered(well(), at(30), policy()).is_empty());
    assert!(recovered(&health.answered(well(), at(50), policy())));
}

#[test]
fn a_gpu_that_needs_something_stays_unhealthy_until_that_is_done() {
    let mut health = GpuHealth::default();
    let reset = GpuCondition {
        recovery_action: Some(RecoveryAction::GpuReset),
        ..GpuCondition::default()
    };
    let worse = Change::Worse(Reason::RecoveryAction(RecoveryAction::GpuReset), None);
    assert_eq!(health.answered(reset, at(0), policy()), [worse]);
    assert!(health.answered(reset, at(100), policy()).is_empty());
    assert!(health.answered(well(), at(129), policy()).is_empty());
    assert!(recovered(&health.answered(well(), at(130), policy())));
}

#[test]
fn another_recovery_action_replaces_the_one_before() {
    let mut health = GpuHealth::default();
    for action in [RecoveryAction::DrainP2p, RecoveryAction::NodeReboot] {
        let condition = GpuCondition {
            recovery_action: Some(action),
            ..GpuCondition::default()
        };
        assert_eq!(
            health.answered(condition, at(0), policy()),
            [Change::Worse(Reason::RecoveryAction(action), None)]
        );
        assert_eq!(health.signs().len(), 1);
    }
}

#[test]
fn with_an_old_driver_an_answer_disproves_lost_hung_and_broken_but_not_an_xid() {
    for reason in [
        Reason::Lost,
        Reason::Hung,
        Reason::Broken("x".into()),
        Reason::Missing,
    ] {
        let mut health = GpuHealth::default();
        health.fault(reason, at(0));
        assert!(recovered(&health.answered(old_driver(), at(30), policy())));
    }
    for reason in [Reason::Xid(Xid(79)), Reason::DoubleBitEcc] {
        let mut health = GpuHealth::default();
        health.fault(reason, at(0));
        assert!(!recovered(&health.answered(
            old_driver(),
            at(1000),
            policy()
        )));
        health.reset_seen();
        assert!(recovered(&health.answered(
            old_driver(),
            at(1001),
            policy()
        )));
    }
}

#[test]
fn more_uncorrectable_errors_are_a_fault_and_fewer_are_a_reset() {
    let count = |errors| GpuCondition {
        recovery_action: None,
        double_bit_ecc: Some(errors),
        ..GpuCondition::default()
    };
    let mut health = GpuHealth::default();
    assert!(
        health.answered(count(3), at(0), policy()).is_empty(),
        "where we begin"
    );
    assert_eq!(
        health.answered(count(4), at(1), policy()),
        [Change::Worse(Reason::DoubleBitEcc, None)]
    );
    assert!(health.answered(count(4), at(100), policy()).is_empty());
    assert!(recovered(&health.answered(count(0), at(101), policy())));
}

#[test]
fn a_memory_error_of_nobody_marks_gpus_of_drivers_that_cannot_tell() {
    let old_driver = GpuCondition::default();
    let mut health = GpuHealth::default();
    health.suspect(Reason::DoubleBitEcc);
    let changes = health.answered(old_driver, at(1), policy());
    assert_eq!(changes, [Change::Worse(Reason::DoubleBitEcc, None)]);
}

#[test]
fn an_xid_of_nobody_marks_only_gpus_that_cannot_show_that_they_are_well() {
    let mut cleared = GpuHealth::default();
    cleared.suspect(Reason::Xid(Xid(119)));
    assert!(cleared.answered(well(), at(0), policy()).is_empty());
    assert!(cleared.is_healthy());

    let mut unproven = GpuHealth::default();
    unproven.suspect(Reason::Xid(Xid(119)));
    assert_eq!(
        unproven.answered(old_driver(), at(0), policy()),
        [Change::Worse(Reason::Xid(Xid(119)), None)]
    );

    let mut dead = GpuHealth::default();
    dead.suspect(Reason::Xid(Xid(79)));
    assert_eq!(
        dead.failed(&DriverError::GpuLost, at(0), policy()),
        Some(Change::Worse(Reason::Lost, None))
    );
}

#[test]
fn that_a_gpu_with_xid_79_is_lost_is_no_news() {
    let mut health = GpuHealth::default();
    health.fault(Reason::Xid(Xid(79)), at(0));
    assert_eq!(health.failed(&DriverError::GpuLost, at(1), policy()), None);
    assert_eq!(health.signs().len(), 1);
    health.fault(Reason::Xid(Xid(48)), at(2));
    assert_eq!(health.signs().len(), 2);
}

#[test]
fn a_suspected_gpu_that_cannot_be_asked_is_marked() {
    let mut health = GpuHealth::default();
    health.suspect(Reason::Xid(Xid(119)));
    assert_eq!(
        health.failed(&DriverError::NotSupported, at(0), policy()),
        Some(Change::Worse(Reason::Xid(Xid(119)), None))
    );
}

#[test]
fn errors_that_say_nothing_of_the_gpu_leave_it_as_it_is() {
    let mut health = GpuHealth::default();
    for error in [
        DriverError::NotSupported,
        DriverError::NotRunning("unloaded".into()),
    ] {
        assert_eq!(health.failed(&error, at(0), policy()), None);
    }
    assert!(health.is_healthy());
}

#[test]
fn the_next_look_is_due_when_the_hold_down_ends() {
    let mut health = GpuHealth::default();
    assert_eq!(health.hold_down_left(Duration::ZERO, policy()), None);
    health.fault(Reason::Lost, at(10));
    assert_eq!(
        health.hold_down_left(Duration::from_secs(11), policy()),
        None,
        "no answer"
    );
    health.answered(well(), at(12), policy());
    let left = health.hold_down_left(Duration::from_secs(12), policy());
    assert_eq!(left, Some(Duration::from_secs(28)));
}

proptest! {
    /// Whatever happens, a GPU that has been well for a hold-down is healthy, and one that
    /// showed a sign within it is not.
    #[test]
    fn health_follows_the_last_sign(steps in prop::collection::vec((0u64..20, 0u8..5), 1..60)) {
        let mut health = GpuHealth::default();
        let mut clock = 0;
        let mut last_sign = None;
        for (pause, what) in steps {
            clock += pause;
            match what {
                0 => {
                    health.fault(Reason::Xid(Xid(79)), at(clock));
                    last_sign = Some(clock);
                }
                1 => {
                    health.failed(&DriverError::GpuLost, at(clock), policy());
                    last_sign = Some(clock);
                }
                _ => {
                    health.answered(well(), at(clock), policy());
                    if last_sign.is_some_and(|sign| clock - sign >= 30) {
                        last_sign = None;
                    }
                }
            }
            prop_assert_eq!(health.is_healthy(), last_sign.is_none());
        }
    }
}
