//! The health of one GPU: what made it sick, and when it counts as well again.
//!
//! What happens to a GPU is a [`Reason`]; the [`HealthPolicy`] says what a reason counts for:
//! nothing, a line in the log, or, at once or when there were enough of them in a window of time,
//! that the GPU is unhealthy. It is healthy again when all of these hold:
//! - the driver answers for it;
//! - the driver asks for no recovery action that counts, and no other state that counts lasts;
//! - a hold-down has passed since the last sign of sickness. Every sign starts it anew.
//!
//! Drivers before R560 or so tell no recovery action. With those, an answer alone disproves that
//! a GPU is lost, hung or broken; it says nothing of a GPU that reported an Xid or an
//! uncorrectable memory error, so such a GPU recovers only once it was seen to be reset: its
//! count of memory errors fell, the driver went away and came back, or the node was rebooted.

mod errors;
mod policy;
mod reason;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::FaultAction;
use crate::driver::{DriverError, GpuCondition, RecoveryAction};
use errors::ErrorCount;
use policy::RuleKey;
use tally::Window;

pub use policy::HealthPolicy;
pub use reason::Reason;
pub use tally::Tally;

/// The least time between two questions for which reports of memory errors are the reason.
const ASK_AGAIN: Duration = Duration::from_secs(1);

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
    /// Something happened that leaves it as it is: the policy has it reported, or there were not
    /// enough of it yet.
    Reported(Reason, Option<Tally>),
    /// There is one more reason why it is unhealthy; where the policy counts, the last one that
    /// it took.
    Worse(Reason, Option<Tally>),
    /// By new rules these no longer make it unhealthy.
    Excused(Vec<Sign>),
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
    /// States that were there at the last answer, whatever they count for.
    lasting: Vec<Reason>,
    double_bit_ecc: ErrorCount,
    single_bit_ecc: ErrorCount,
    /// When a report of memory errors last led to a question, on the monotonic clock.
    errors_asked: Option<Duration>,
    /// Faults so far of the rules that count them.
    windows: BTreeMap<RuleKey, Window>,
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

    fn has(&self, reason: &Reason) -> bool {
        self.signs.iter().any(|sign| sign.reason.is_like(reason))
    }

    /// Records a sign of sickness; tells it if it is a new one.
    pub fn fault(&mut self, reason: Reason, now: Moment) -> Option<Change> {
        self.mark(reason, None, now)
    }

    fn mark(&mut self, reason: Reason, tally: Option<Tally>, now: Moment) -> Option<Change> {
        self.last_sign = now.monotonic;
        self.answers = false;
        if !reason.is_disproved_by_an_answer() {
            self.was_reset = false;
        }
        if self.has(&reason) {
            return None;
        }
        self.signs.push(Sign {
            reason: reason.clone(),
            since: now.wall,
        });
        Some(Change::Worse(reason, tally))
    }

    /// Records something that happened to the GPU, so many times, for what it counts.
    pub fn happened(
        &mut self,
        reason: Reason,
        times: u64,
        now: Moment,
        policy: HealthPolicy<'_>,
    ) -> Option<Change> {
        let rule = policy.rule(&reason);
        if rule.action == FaultAction::Ignore || times == 0 {
            return None;
        }
        let counted = policy.key(&reason).filter(|_| rule.count > 1);
        let tally = counted.map(|key| {
            let window = self.windows.entry(key).or_default();
            window.add(times, now.monotonic, rule)
        });
        let enough = tally.is_none_or(|tally| tally.is_enough());
        match rule.action {
            FaultAction::Unhealthy if enough => self.mark(reason, tally, now),
            FaultAction::Report if !enough => None,
            _ => Some(Change::Reported(reason, tally)),
        }
    }

    /// Records that the driver reported memory errors, whose number its counter tells at the next
    /// answer. Says whether that is worth a question now: memory that fails all the time is asked
    /// once a second, and then as often as every GPU is.
    pub fn memory_errors(&mut self, reason: &Reason, now: Moment) -> bool {
        let first = match reason {
            Reason::DoubleBitEcc => self.double_bit_ecc.report(),
            Reason::SingleBitEcc => self.single_bit_ecc.report(),
            _ => false,
        };
        let since = |then| now.monotonic.saturating_sub(then);
        let ask = first
            && self
                .errors_asked
                .is_none_or(|then| since(then) >= ASK_AGAIN);
        if ask {
            self.errors_asked = Some(now.monotonic);
        }
        ask
    }

    /// Records a fault that may be this GPU's. What becomes of it is decided by its next answer.
    pub fn suspect(&mut self, reason: Reason) {
        self.suspected = Some(reason);
    }

    /// Records that the driver answered with an error when asked about this GPU.
    pub fn failed(
        &mut self,
        error: &DriverError,
        now: Moment,
        policy: HealthPolicy<'_>,
    ) -> Option<Change> {
        let suspected = self.suspected.take();
        let Some(mut reason) = Reason::from_error(error) else {
            // One that cannot be asked cannot show that it is well either.
            return self.happened(suspected?, 1, now, policy);
        };
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
        policy: HealthPolicy<'_>,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        changes.extend(self.excuse(policy));
        changes.extend(self.take_error_counts(condition, now, policy));
        if let Some(reason) = self.suspected.take()
            && condition.recovery_action.is_none()
        {
            changes.extend(self.happened(reason, 1, now, policy));
        }
        if !self.take_states(condition, now, policy, &mut changes) {
            self.answers = true;
            changes.extend(self.recover(condition, now, policy));
        }
        changes
    }

    /// Records that the GPU was certainly reset: whatever the driver reported before is over.
    pub fn reset_seen(&mut self) {
        self.was_reset = true;
        self.double_bit_ecc = ErrorCount::default();
        self.single_bit_ecc = ErrorCount::default();
        self.windows.clear();
    }

    /// Records that there are new rules: what was counted by the old ones counts no more, and
    /// what lasts is judged anew at the next answer.
    pub fn rules_changed(&mut self) {
        self.windows.clear();
        self.lasting.clear();
        self.single_bit_ecc = ErrorCount::default();
    }

    /// How much of the hold-down is left; `None` if the GPU is healthy or does not answer.
    pub fn hold_down_left(&self, now: Duration, policy: HealthPolicy<'_>) -> Option<Duration> {
        let ends = self.last_sign + policy.hold_down(&self.signs);
        (!self.is_healthy() && self.answers).then(|| ends.saturating_sub(now))
    }

    /// Drops the signs that the rules, which may have changed since, no longer count. There is
    /// nothing to hold down for.
    fn excuse(&mut self, policy: HealthPolicy<'_>) -> Option<Change> {
        let counts = |sign: &Sign| policy.rule(&sign.reason).action == FaultAction::Unhealthy;
        let excused: Vec<Sign> = self.signs.extract_if(.., |sign| !counts(sign)).collect();
        (!excused.is_empty()).then_some(Change::Excused(excused))
    }

    /// Takes note of the counts of memory errors and of how much they have grown. They begin at
    /// zero with the driver, so one that fell means a reset; the first one seen is where we begin,
    /// since the recovery action tells of what was before.
    fn take_error_counts(
        &mut self,
        condition: GpuCondition,
        now: Moment,
        policy: HealthPolicy<'_>,
    ) -> Vec<Change> {
        let double = self.double_bit_ecc.answer(condition.double_bit_ecc);
        let single = self.single_bit_ecc.answer(condition.single_bit_ecc);
        if double.fell || single.fell {
            self.was_reset = true;
            self.windows.clear();
        }
        let grown = [
            (Reason::DoubleBitEcc, double.new),
            (Reason::SingleBitEcc, single.new),
        ];
        let happened = |(reason, times)| self.happened(reason, times, now, policy);
        grown.into_iter().filter_map(happened).collect()
    }

    /// Takes note of the states that last as long as the driver tells them: each happens when it
    /// begins, and one that made the GPU unhealthy keeps it so. Says whether one does.
    fn take_states(
        &mut self,
        condition: GpuCondition,
        now: Moment,
        policy: HealthPolicy<'_>,
        changes: &mut Vec<Change>,
    ) -> bool {
        let states = states(condition);
        let action = |reason: &Reason| matches!(reason, Reason::RecoveryAction(_));
        let another = states
            .iter()
            .find(|state| action(state) && policy.rule(state).action == FaultAction::Unhealthy);
        if let Some(another) = another {
            self.signs
                .retain(|sign| !action(&sign.reason) || sign.reason == *another);
        }
        let before = std::mem::replace(&mut self.lasting, states.clone());
        for state in &states {
            if self.has(state) {
                self.mark(state.clone(), None, now);
            } else if !before.contains(state) {
                changes.extend(self.happened(state.clone(), 1, now, policy));
            }
        }
        states.iter().any(|state| self.has(state))
    }

    fn recover(
        &mut self,
        condition: GpuCondition,
        now: Moment,
        policy: HealthPolicy<'_>,
    ) -> Option<Change> {
        let proven = condition.recovery_action.is_some()
            || self.was_reset
            || self
                .signs
                .iter()
                .all(|sign| sign.reason.is_disproved_by_an_answer());
        let hold_down = policy.hold_down(&self.signs);
        let quiet = now.monotonic.saturating_sub(self.last_sign) >= hold_down;
        if self.signs.is_empty() || !proven || !quiet {
            return None;
        }
        self.windows.clear();
        Some(Change::Recovered(std::mem::take(&mut self.signs)))
    }
}

/// What the driver tells of a GPU that lasts until something is done.
fn states(condition: GpuCondition) -> Vec<Reason> {
    let rows = condition.row_remap.unwrap_or_default();
    let action = condition
        .recovery_action
        .filter(|action| *action != RecoveryAction::None);
    let states = [
        rows.failure.then_some(Reason::RowRemapFailure),
        rows.pending.then_some(Reason::RowRemapPending),
        action.map(Reason::RecoveryAction),
    ];
    states.into_iter().flatten().collect()
}
