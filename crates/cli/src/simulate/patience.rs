//! When a run is over.

use std::time::Duration;

use super::args::AtLeast;
use super::picture::{Gpu, Health, Phase, Picture, Pod};
use super::script::Action;
use crate::fault::Fault;

/// How long the effect of the script's last step is watched.
const AFTERMATH: Duration = Duration::from_secs(1);
/// The same where the agent needs a deadline to pass before it knows.
const LONG_AFTERMATH: Duration = Duration::from_secs(3);
/// How long a GPU that was healed may take to be reported healthy again.
const RECOVERY: Duration = Duration::from_mins(1);
/// How long nothing at all may happen while something is still expected.
const SILENCE: Duration = Duration::from_secs(20);
/// How long things must have been as they are: one event often brings the next.
const CALM: Duration = Duration::from_millis(50);
/// How long a GPU that is in no device list may take to be in one, while nothing happens.
const UNREPORTED: Duration = Duration::from_secs(3);
/// How long the agent may take to its first device list.
const AGENT_START: Duration = Duration::from_secs(10);

/// What must have passed before a run is over.
#[derive(Debug)]
pub(crate) struct Patience {
    at_least: Option<AtLeast>,
    last_step: Option<Duration>,
    watch_until: Duration,
    last_event: Duration,
    recovery_until: Duration,
    /// Until when GPUs that were plugged in may be on their way into the device list.
    arrival_until: Duration,
}

/// Why a run cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the agent has reported no device to the kubelet within {} s", AGENT_START.as_secs())]
pub(crate) struct AgentSilent;

impl Patience {
    /// The patience that was asked for.
    pub(crate) fn new(at_least: Option<AtLeast>) -> Self {
        Self {
            at_least,
            last_step: None,
            watch_until: Duration::ZERO,
            last_event: Duration::ZERO,
            recovery_until: Duration::ZERO,
            arrival_until: Duration::ZERO,
        }
    }

    /// The script did something.
    pub(crate) fn step_was_done(&mut self, now: Duration, action: &Action) {
        self.last_step = Some(now);
        let aftermath = match action {
            Action::Inject(Fault::Hang, _) => LONG_AFTERMATH,
            _ => AFTERMATH,
        };
        self.watch_until = self.watch_until.max(now + aftermath);
        match action {
            Action::Add(_) => {
                self.recovery_until = now + RECOVERY;
                self.arrival_until = now + RECOVERY;
            }
            Action::Heal(_) | Action::RestartKubelet | Action::RestartAgent => {
                self.recovery_until = now + RECOVERY;
            }
            Action::Inject(..)
            | Action::Load(..)
            | Action::Mig(..)
            | Action::Remove(_)
            | Action::Config(_) => {}
        }
    }

    /// Something happened in the kubelet.
    pub(crate) fn something_happened(&mut self, now: Duration) {
        self.last_event = now;
    }

    /// Whether there is nothing left to wait for.
    ///
    /// # Errors
    /// When the node has GPUs and the agent has not reported any in good time.
    pub(crate) fn is_over(&self, picture: &Picture, steps_left: bool) -> Result<bool, AgentSilent> {
        let now = picture.elapsed;
        if picture.agent.ready.is_none() {
            return match now > AGENT_START {
                true if !picture.gpus.iter().all(Gpu::has_nothing_to_offer) => Err(AgentSilent),
                late => Ok(late && self.wanted_time_has_passed(now)),
            };
        }
        let calm_for = now.saturating_sub(self.last_event.max(self.last_step.unwrap_or_default()));
        let given_up = |pod: &Pod| calm_for > SILENCE && pod.phase != Phase::Running;
        let pods_are_done = picture
            .pods
            .iter()
            .all(|pod| is_settled(pod) || given_up(pod));
        // A config may leave GPUs out; one that does not come when nothing happens is no news.
        let left_out = now > self.arrival_until && calm_for > UNREPORTED;
        let recovered = now > self.recovery_until
            || picture
                .gpus
                .iter()
                .all(|gpu| is_as_it_should_be(gpu, left_out));
        Ok(calm_for >= CALM
            && !steps_left
            && pods_are_done
            && now >= self.watch_until
            && recovered
            && self.wanted_time_has_passed(now))
    }

    fn wanted_time_has_passed(&self, now: Duration) -> bool {
        match self.at_least {
            None => true,
            Some(AtLeast::Time(time)) => now >= time,
            Some(AtLeast::Ever) => false,
        }
    }
}

/// Whether nothing more will happen to a pod as things are.
fn is_settled(pod: &Pod) -> bool {
    match pod.phase {
        Phase::Refused | Phase::Succeeded | Phase::Failed => true,
        Phase::Running => pod.long_running,
        Phase::Pending => pod.reason == "Unschedulable",
    }
}

/// Whether the kubelet knows a GPU without a fault as healthy; `left_out` is whether one that it
/// does not know is not expected any more.
fn is_as_it_should_be(gpu: &Gpu, left_out: bool) -> bool {
    let mut devices = gpu.mig_devices().iter();
    let has_sick_part = devices.any(|device| !device.gone && device.health == Health::Unhealthy);
    match gpu.health {
        _ if !gpu.faults.is_empty() => true,
        Health::Healthy => !has_sick_part,
        Health::Unhealthy => false,
        Health::Unknown => left_out || gpu.has_nothing_to_offer(),
    }
}

#[cfg(test)]
mod tests;
