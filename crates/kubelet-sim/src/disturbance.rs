//! Ways in which a kubelet makes a plugin's life hard, for tests and measurements.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Misbehaviour on demand. Nothing here happens unless it is asked for.
#[derive(Debug, Default)]
pub struct Disturbances {
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    refusals: u32,
    silent_until: Option<Instant>,
    listen_gap: Duration,
}

impl Disturbances {
    /// Refuses the next `count` registrations.
    pub fn refuse_registrations(&self, count: u32) {
        self.plan().refusals = count;
    }

    /// Accepts connections and answers no registration for this long, then answers those that
    /// still wait.
    pub fn stay_silent_for(&self, time: Duration) {
        self.plan().silent_until = Some(Instant::now() + time);
    }

    /// Leaves this much time, at every start, between the appearance of `kubelet.sock` and the
    /// moment from which it takes connections. Zero, the default, is what a kubelet comes close
    /// to; real ones are caught in between now and then.
    pub fn set_listen_gap(&self, gap: Duration) {
        self.plan().listen_gap = gap;
    }

    pub(crate) fn listen_gap(&self) -> Duration {
        self.plan().listen_gap
    }

    pub(crate) fn takes_refusal(&self) -> bool {
        let mut plan = self.plan();
        let refuses = plan.refusals > 0;
        plan.refusals = plan.refusals.saturating_sub(1);
        refuses
    }

    pub(crate) async fn silence(&self) {
        let until = self.plan().silent_until;
        if let Some(until) = until {
            sleep_until(until).await;
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        // Plain numbers: a panic elsewhere cannot have left them half-changed.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
