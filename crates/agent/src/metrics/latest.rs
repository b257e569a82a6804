//! What pages are made of: the last of everything, which scrapes only read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mizzen_core::gpu::GpuUuid;
use mizzen_core::metrics::{Container, History};
use mizzen_core::sample::Texts;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::owners::Owner;

/// After this long without a scrape, samples are taken less often.
const QUIET: Duration = Duration::from_mins(5);

/// The last of everything.
#[derive(Debug, Default)]
pub(super) struct Latest {
    samples: Mutex<Samples>,
    held: Mutex<Vec<Held>>,
    /// When the kubelet told that, in seconds since 1970; 0 if it has not.
    told: AtomicU64,
    pub(super) interest: Interest,
}

/// What the GPUs told.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples {
    pub(super) history: History,
    pub(super) texts: BTreeMap<GpuUuid, Texts>,
    /// Whose the processes on them are.
    pub(super) owners: BTreeMap<u32, Owner>,
}

/// A device that a container holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Held {
    pub(super) container: Container,
    /// The device's id as the kubelet lists it.
    pub(super) id: String,
    /// Since when, in seconds since 1970.
    pub(super) since: u64,
}

impl Latest {
    pub(super) fn samples(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kubelet has told who holds what.
    pub(super) fn pods_told(&self, wall: u64) {
        self.told.store(wall, Ordering::Relaxed);
    }

    /// When it last did.
    pub(super) fn pods_were_told(&self) -> Option<u64> {
        Some(self.told.load(Ordering::Relaxed)).filter(|wall| *wall > 0)
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether anybody reads the pages.
#[derive(Debug)]
pub(super) struct Interest {
    last: Mutex<Instant>,
    woken: Notify,
}

impl Default for Interest {
    /// The start counts as a scrape: the first is to come.
    fn default() -> Self {
        Self {
            last: Mutex::new(Instant::now()),
            woken: Notify::new(),
        }
    }
}

impl Interest {
    /// Somebody has asked for a page.
    pub(super) fn show(&self) {
        let was_quiet = self.is_quiet();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if was_quiet {
            self.woken.notify_waiters();
        }
    }

    /// Whether nobody has for long.
    pub(super) fn is_quiet(&self) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.elapsed() >= QUIET
    }

    /// How long to wait, now, where it is this much at most, or that much while nobody asks.
    pub(super) fn pause(&self, brisk: Duration, quiet: Duration) -> Duration {
        if self.is_quiet() {
            brisk.max(quiet)
        } else {
            brisk
        }
    }

    /// Waits until somebody asks after a long time.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn while_nobody_asks_there_is_time_and_who_asks_wakes() {
        let interest = Interest::default();
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        assert_eq!(interest.pause(second, minute), second);
        advance(QUIET).await;
        assert_eq!(interest.pause(second, minute), minute);
        let woken = interest.woken();
        tokio::pin!(woken);
        assert!(futures_util::poll!(woken.as_mut()).is_pending());
        interest.show();
        assert!(futures_util::poll!(woken.as_mut()).is_ready());
        assert_eq!(interest.pause(second, minute), second);
    }
}
