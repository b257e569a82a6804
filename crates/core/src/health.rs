//! The health of one GPU: what made it sick, and when it counts as well again.
//!
//! A GPU becomes unhealthy with the first [`Reason`] and healthy again when all of these hold:
//! - the driver answers for it;
//! - the driver's recovery action is *none*;
//! - a hold-down has passed since the last sign of sickness. Every sign starts it anew.
//!
//! Drivers before R560 or so tell no recovery action. With those, an answer alone disproves that
//! a GPU is lost, hung or broken; it says nothing of a GPU that reported an Xid or an
//! uncorrectable memory error, so such a GPU recovers only once it was seen to be reset: its
//! count of memory errors fell, the driver went away and came back, or the node was rebooted.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::driver::{DriverError, GpuCondition, RecoveryAction};
use crate::xid::Xid;

/// What the kubelet is told of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceHealth {
    /// It may be given out.
    Healthy,
    /// It may not.
    Unhealthy,
}

/// A point in time, on both clocks: decisions are made by the one that nobody can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since any fixed point in this process's life.
    pub monotonic: Duration,
    /// Seconds since 1970, for people.
    pub wall: u64,
}

/// Why a GPU is not fit for work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The driver reported an Xid that the policy does not ignore.
    Xid(Xid),
    /// The driver reported an uncorrectable memory error.
    DoubleBitEcc,
    /// It has fallen off the bus.
    Lost,
    /// It does not answer in time.
    Hung,
    /// The driver asks for something to be done to it.
    RecoveryAction(RecoveryAction),
    /// It answers with an error, which is given.
    Broken(String),
    /// It is on the bus, but the driver does not list it any more.
    Missing,
}

impl Reason {
    /// What an error to a question about one GPU says of that GPU; `None` for an error that says
    /// nothing of it.
    pub fn from_error(error: &DriverError) -> Option<Self> {
        match error {
            DriverError::GpuLost => Some(Self::Lost),
            DriverError::Hung { .. } => Some(Self::Hung),
            DriverError::UnknownGpu(_) => Some(Self::Missing),
            DriverError::NoPermission | DriverError::Nvml { .. } => {
                Some(Self::Broken(error.to_string()))
            }
            // The whole driver's affair, and what an old GPU cannot be asked.
            DriverError::LibraryNotFound { .. }
            | DriverError::LibraryUnusable { .. }
            | DriverError::NotRunning(_)
            | DriverError::NotSupported => None,
        }
    }

    /// Whether an answer of the GPU is proof enough that this no longer holds.
    fn is_disproved_by_an_answer(&self) -> bool {
        !matches!(self, Self::Xid(_) | Self::DoubleBitEcc)
    }

    /// Whether `other` is this reason again.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            // In other words; and Xid 79 says that the GPU is lost.
            (Self::Broken(_), Self::Broken(_)) | (Self::Xid(Xid(79)), Self::Lost) => true,
            _ => self == other,
        }
    }

    /// What happened, for a log line.
    pub fn headline(&self) -> String {
        match self {
            Self::Xid(xid) => match xid.info() {
                Some(info) => format!("{xid}: {}", info.title),
                None => xid.to_string(),
            },
            Self::DoubleBitEcc => "uncorrectable (double-bit) memory error".to_owned(),
            Self::Lost => "lost: it has fallen off the bus".to_owned(),
            Self::Hung => "hung: the driver does not answer for it".to_owned(),
            Self::RecoveryAction(action) => format!("the driver asks for {}", action_name(*action)),
            Self::Broken(error) => error.clone(),
            Self::Missing => "the driver no longer lists it".to_owned(),
        }
    }

    /// What it means; NVIDIA's catalogue where it is an Xid.
    pub fn meaning(&self) -> &'static str {
        match self {
            Self::Xid(xid) => match xid.info() {
                Some(info) => info.meaning,
                None => "not in the catalogue of this version",
            },
            Self::DoubleBitEcc => "data in the GPU's memory was lost",
            Self::Lost => "the driver can no longer reach the GPU over PCIe",
            Self::Hung => "a call to the driver about this GPU has not returned",
            Self::RecoveryAction(_) => "the GPU is not fit for work until that is done",
            Self::Broken(_) => "the GPU is there, but the driver cannot use it",
            Self::Missing => "the GPU is on the bus, but the driver does not use it",
        }
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Xid(xid) => match xid.info() {
                Some(info) => info.action.advice(),
                None => "see the kernel log (dmesg) and NVIDIA's list of Xid errors",
            },
            Self::DoubleBitEcc => "drain the GPU and reset it (nvidia-smi --gpu-reset)",
            Self::Lost | Self::Hung => {
                "drain the node and reboot it; if it comes back, check seating, power and cooling"
            }
            Self::RecoveryAction(action) => action_advice(*action),
            Self::Broken(_) | Self::Missing => {
                "see the kernel log (dmesg) for NVRM lines about its bus id; reboot the node"
            }
        }
    }
}

/// Writes the headline.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())
    }
}

fn action_name(action: RecoveryAction) -> String {
    match action {
        RecoveryAction::None => "nothing".to_owned(),
        RecoveryAction::GpuReset => "a reset of the GPU".to_owned(),
        RecoveryAction::NodeReboot => "a reboot of the node".to_owned(),
        RecoveryAction::DrainP2p => "peer-to-peer work to be drained".to_owned(),
        RecoveryAction::DrainAndReset => "the GPU to be drained and reset".to_owned(),
        RecoveryAction::RecoverImexDomain => "the IMEX domain to be recovered".to_owned(),
        RecoveryAction::Unknown(number) => format!("recovery action {number}"),
    }
}

fn action_advice(action: RecoveryAction) -> &'static str {
    match action {
        RecoveryAction::None => "nothing needs to be done",
        RecoveryAction::GpuReset | RecoveryAction::DrainAndReset => {
            "drain the GPU and reset it (nvidia-smi --gpu-reset)"
        }
        RecoveryAction::NodeReboot => "drain the node and reboot it",
        RecoveryAction::DrainP2p => "end the jobs that use the GPU together with others",
        RecoveryAction::RecoverImexDomain => "recover the IMEX domain (nvidia-imex-ctl)",
        RecoveryAction::Unknown(_) => "see GPU Recovery Action in nvidia-smi -q",
    }
}

/// A reason, and since when it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// What was seen.
    pub reason: Reason,
    /// When it was first seen, seconds since 1970.
    pub since: u64,
}

/// A step in a GPU's health, worth a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// There is one more reason why it is unhealthy.
    Worse(Reason),
    /// It is healthy again; these were the reasons why it was not.
    Recovered(Vec<Sign>),
}

/// The health of one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpuHealth {
    /// Empty while healthy.
    signs: Vec<Sign>,
    /// When the last sign was seen, on the monotonic clock.
    last_sign: Duration,
    /// Whether the GPU has answered since its last sign.
    answers: bool,
    /// Whether it was reset since the driver last reported a fault of it.
    was_reset: bool,
    /// A fault of which the driver could not say whose it is, until this GPU has been asked.
    suspected: Option<Reason>,
    /// Uncorrectable memory errors at the last answer.
    double_bit_ecc: Option<u64>,
}

impl GpuHealth {
    /// The health of a GPU that was sick when this was written down. The hold-down begins anew:
    /// nobody watched in between.
    pub fn restored(signs: Vec<Sign>, now: Moment) -> Self {
        Self {
            signs,
            last_sign: now.monotonic,
            ..Self::default()
        }
    }

    /// Whether nothing speaks against it.
    pub fn is_healthy(&self) -> bool {
        self.signs.is_empty()
    }

    /// Why it is unhealthy, in the order in which it was noticed.
    pub fn signs(&self) -> &[Sign] {
        &self.signs
    }

    /// Whether the driver can use it at all; a GPU that reported a fault it can.
    pub fn is_usable(&self) -> bool {
        self.unusable().is_none()
    }

    fn unusable(&self) -> Option<&Reason> {
        let unusable =
            |reason: &&Reason| matches!(reason, Reason::Broken(_) | Reason::Missing | Reason::Lost);
        self.signs.iter().map(|sign| &sign.reason).find(unusable)
    }

    /// Records a sign of sickness; tells it if it is a new one.
    pub fn fault(&mut self, reason: Reason, now: Moment) -> Option<Change> {
        self.last_sign = now.monotonic;
        self.answers = false;
        if !reason.is_disproved_by_an_answer() {
            self.was_reset = false;
        }
        if self.signs.iter().any(|sign| sign.reason.is_like(&reason)) {
            return None;
        }
        self.signs.push(Sign {
            reason: reason.clone(),
            since: now.wall,
        });
        Some(Change::Worse(reason))
    }

    /// Records a fault that may be this GPU's. What becomes of it is decided by its next answer.
    pub fn suspect(&mut self, reason: Reason) {
        self.suspected = Some(reason);
    }

    /// Records that the driver answered with an error when asked about this GPU.
    pub fn failed(&mut self, error: &DriverError, now: Moment) -> Option<Change> {
        let suspected = self.suspected.take();
        // One that cannot be asked cannot show that it is well either.
        let mut reason = Reason::from_error(error).or(suspected)?;
        if let (Reason::Missing, Some(known)) = (&reason, self.unusable()) {
            // A session that could not describe it cannot find it either: the same again.
            reason = known.clone();
        }
        self.fault(reason, now)
    }

    /// Records an answer of the GPU: it may bring to light a new reason, or end the sickness.
    pub fn answered(
        &mut self,
        condition: GpuCondition,
        now: Moment,
        hold_down: Duration,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.take_ecc_count(condition.double_bit_ecc) {
            changes.extend(self.fault(Reason::DoubleBitEcc, now));
        }
        if let Some(reason) = self.suspected.take()
            && condition.recovery_action.is_none()
        {
            changes.extend(self.fault(reason, now));
        }
        match condition.recovery_action {
            Some(RecoveryAction::None) | None => {
                self.answers = true;
                changes.extend(self.recover(condition, now, hold_down));
            }
            Some(action) => {
                let outdated = |sign: &Sign| matches!(&sign.reason, Reason::RecoveryAction(old) if *old != action);
                self.signs.retain(|sign| !outdated(sign));
                changes.extend(self.fault(Reason::RecoveryAction(action), now));
            }
        }
        changes
    }

    /// Records that the GPU was certainly reset: whatever the driver reported before is over.
    pub fn reset_seen(&mut self) {
        self.was_reset = true;
        self.double_bit_ecc = None;
    }

    /// How much of the hold-down is left; `None` if the GPU is healthy or does not answer.
    pub fn hold_down_left(&self, now: Duration, hold_down: Duration) -> Option<Duration> {
        (!self.is_healthy() && self.answers)
            .then(|| (self.last_sign + hold_down).saturating_sub(now))
    }

    /// Takes note of the count of uncorrectable errors and says whether it has grown. The count
    /// begins at zero with the driver, so one that fell means a reset; the first one seen is
    /// where we begin, since the recovery action tells of what was before.
    fn take_ecc_count(&mut self, count: Option<u64>) -> bool {
        let Some(count) = count else { return false };
        match self.double_bit_ecc.replace(count) {
            Some(before) if count < before => {
                self.was_reset = true;
                false
            }
            Some(before) => count > before,
            None => false,
        }
    }

    fn recover(
        &mut self,
        condition: GpuCondition,
        now: Moment,
        hold_down: Duration,
    ) -> Option<Change> {
        let proven = condition.recovery_action.is_some()
            || self.was_reset
            || self
                .signs
                .iter()
                .all(|sign| sign.reason.is_disproved_by_an_answer());
        let quiet = now.monotonic.saturating_sub(self.last_sign) >= hold_down;
        (!self.signs.is_empty() && proven && quiet)
            .then(|| Change::Recovered(std::mem::take(&mut self.signs)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOLD_DOWN: Duration = Duration::from_secs(30);

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
        }
    }

    fn old_driver() -> GpuCondition {
        GpuCondition {
            recovery_action: None,
            double_bit_ecc: Some(0),
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
            Some(Change::Worse(Reason::Xid(Xid(79))))
        );
        assert!(!health.is_healthy());
        assert!(
            health.answered(well(), at(39), HOLD_DOWN).is_empty(),
            "one second too early"
        );
        let changes = health.answered(well(), at(40), HOLD_DOWN);
        assert!(recovered(&changes));
        assert!(health.is_healthy());
    }

    #[test]
    fn each_sign_starts_the_hold_down_anew() {
        let mut health = GpuHealth::default();
        health.fault(Reason::Lost, at(0));
        assert_eq!(
            health.failed(&DriverError::GpuLost, at(20)),
            None,
            "nothing new"
        );
        assert!(health.answered(well(), at(30), HOLD_DOWN).is_empty());
        assert!(recovered(&health.answered(well(), at(50), HOLD_DOWN)));
    }

    #[test]
    fn a_gpu_that_needs_something_stays_unhealthy_until_that_is_done() {
        let mut health = GpuHealth::default();
        let reset = GpuCondition {
            recovery_action: Some(RecoveryAction::GpuReset),
            ..GpuCondition::default()
        };
        let worse = Change::Worse(Reason::RecoveryAction(RecoveryAction::GpuReset));
        assert_eq!(health.answered(reset, at(0), HOLD_DOWN), [worse]);
        assert!(health.answered(reset, at(100), HOLD_DOWN).is_empty());
        assert!(health.answered(well(), at(129), HOLD_DOWN).is_empty());
        assert!(recovered(&health.answered(well(), at(130), HOLD_DOWN)));
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
                health.answered(condition, at(0), HOLD_DOWN),
                [Change::Worse(Reason::RecoveryAction(action))]
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
            assert!(recovered(&health.answered(old_driver(), at(30), HOLD_DOWN)));
        }
        for reason in [Reason::Xid(Xid(79)), Reason::DoubleBitEcc] {
            let mut health = GpuHealth::default();
            health.fault(reason, at(0));
            assert!(!recovered(&health.answered(
                old_driver(),
                at(1000),
                HOLD_DOWN
            )));
            health.reset_seen();
            assert!(recovered(&health.answered(
                old_driver(),
                at(1001),
                HOLD_DOWN
            )));
        }
    }

    #[test]
    fn more_uncorrectable_errors_are_a_fault_and_fewer_are_a_reset() {
        let count = |errors| GpuCondition {
            recovery_action: None,
            double_bit_ecc: Some(errors),
        };
        let mut health = GpuHealth::default();
        assert!(
            health.answered(count(3), at(0), HOLD_DOWN).is_empty(),
            "where we begin"
        );
        assert_eq!(
            health.answered(count(4), at(1), HOLD_DOWN),
            [Change::Worse(Reason::DoubleBitEcc)]
        );
        assert!(health.answered(count(4), at(100), HOLD_DOWN).is_empty());
        assert!(recovered(&health.answered(count(0), at(101), HOLD_DOWN)));
    }

    #[test]
    fn a_memory_error_of_nobody_marks_gpus_of_drivers_that_cannot_tell() {
        let old_driver = GpuCondition::default();
        let mut health = GpuHealth::default();
        health.suspect(Reason::DoubleBitEcc);
        let changes = health.answered(old_driver, at(1), HOLD_DOWN);
        assert_eq!(changes, [Change::Worse(Reason::DoubleBitEcc)]);
    }

    #[test]
    fn an_xid_of_nobody_marks_only_gpus_that_cannot_show_that_they_are_well() {
        let mut cleared = GpuHealth::default();
        cleared.suspect(Reason::Xid(Xid(119)));
        assert!(cleared.answered(well(), at(0), HOLD_DOWN).is_empty());
        assert!(cleared.is_healthy());

        let mut unproven = GpuHealth::default();
        unproven.suspect(Reason::Xid(Xid(119)));
        assert_eq!(
            unproven.answered(old_driver(), at(0), HOLD_DOWN),
            [Change::Worse(Reason::Xid(Xid(119)))]
        );

        let mut dead = GpuHealth::default();
        dead.suspect(Reason::Xid(Xid(79)));
        assert_eq!(
            dead.failed(&DriverError::GpuLost, at(0)),
            Some(Change::Worse(Reason::Lost))
        );
    }

    #[test]
    fn that_a_gpu_with_xid_79_is_lost_is_no_news() {
        let mut health = GpuHealth::default();
        health.fault(Reason::Xid(Xid(79)), at(0));
        assert_eq!(health.failed(&DriverError::GpuLost, at(1)), None);
        assert_eq!(health.signs().len(), 1);
        health.fault(Reason::Xid(Xid(48)), at(2));
        assert_eq!(health.signs().len(), 2);
    }

    #[test]
    fn a_suspected_gpu_that_cannot_be_asked_is_marked() {
        let mut health = GpuHealth::default();
        health.suspect(Reason::Xid(Xid(119)));
        assert_eq!(
            health.failed(&DriverError::NotSupported, at(0)),
            Some(Change::Worse(Reason::Xid(Xid(119))))
        );
    }

    #[test]
    fn errors_that_say_nothing_of_the_gpu_leave_it_as_it_is() {
        let mut health = GpuHealth::default();
        for error in [
            DriverError::NotSupported,
            DriverError::NotRunning("unloaded".into()),
        ] {
            assert_eq!(health.failed(&error, at(0)), None);
        }
        assert!(health.is_healthy());
    }

    #[test]
    fn the_next_look_is_due_when_the_hold_down_ends() {
        let mut health = GpuHealth::default();
        assert_eq!(health.hold_down_left(Duration::ZERO, HOLD_DOWN), None);
        health.fault(Reason::Lost, at(10));
        assert_eq!(
            health.hold_down_left(Duration::from_secs(11), HOLD_DOWN),
            None,
            "no answer"
        );
        health.answered(well(), at(12), HOLD_DOWN);
        let left = health.hold_down_left(Duration::from_secs(12), HOLD_DOWN);
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
                        health.failed(&DriverError::GpuLost, at(clock));
                        last_sign = Some(clock);
                    }
                    _ => {
                        health.answered(well(), at(clock), HOLD_DOWN);
                        if last_sign.is_some_and(|sign| clock - sign >= 30) {
                            last_sign = None;
                        }
                    }
                }
                prop_assert_eq!(health.is_healthy(), last_sign.is_none());
            }
        }
    }
}
