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
mod tests;
