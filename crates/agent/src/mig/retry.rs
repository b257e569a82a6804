//! When the GPUs are looked at again.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// What a round of work calls for: as many things as its GPUs do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pace {
    /// GPUs were changed, and are as they shall be.
    pub(super) changed: bool,
    /// Another try for what has not worked.
    pub(super) retry: bool,
    /// A look at what somebody else must do, after this time.
    pub(super) poll: Option<Duration>,
    /// Another round at this time.
    pub(super) at: Option<Instant>,
}

impl Pace {
    /// Nothing is called for until there is news.
    pub(super) const NEVER: Self = Self {
        changed: false,
        retry: false,
        poll: None,
        at: None,
    };
    /// Another try.
    pub(super) const RETRY: Self = Self {
        retry: true,
        ..Self::NEVER
    };
}

/// The time of the next round, which is the soonest that anything calls for.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    due: Option<Instant>,
    /// When what has not worked is tried again.
    again: Option<Instant>,
    failures: Backoff,
    /// How often GPUs were changed back.
    changes: Backoff,
    /// When GPUs that others have changed may be changed back, so that two who disagree do not
    /// take turns without end.
    calm: Option<Instant>,
}

impl Retry {
    /// The first round is due at once.
    pub(super) fn new() -> Self {
        let backoff = || Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        Self {
            due: Some(Instant::now()),
            again: None,
            failures: backoff(),
            changes: backoff(),
            calm: None,
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Something else is wanted.
    pub(super) fn begin(&mut self) {
        self.failures.reset();
        self.changes.reset();
        self.calm = None;
        self.now();
    }

    /// What was waited for may have come: everything is tried.
    pub(super) fn now(&mut self) {
        self.again = None;
        self.soon();
    }

    /// Some of what was waited for may have come.
    pub(super) fn soon(&mut self) {
        self.due = Some(Instant::now());
    }

    /// GPUs are partitioned otherwise than before, perhaps by the last round itself. What has not
    /// worked is not tried sooner for that.
    pub(super) fn drifted(&mut self) {
        let now = Instant::now();
        let when = self.calm.map_or(now, |calm| calm.max(now));
        self.due = Some(self.due.map_or(when, |due| due.min(when)));
    }

    /// A round has begun. Whether it tries again what has not worked before.
    pub(super) fn began(&mut self) -> bool {
        self.due = None;
        let now = Instant::now();
        self.again = self.again.filter(|again| *again > now);
        self.again.is_none()
    }

    /// A round has ended.
    pub(super) fn ended(&mut self, pace: Pace) {
        let now = Instant::now();
        if pace.retry {
            let failures = &mut self.failures;
            self.again.get_or_insert_with(|| now + failures.failed());
        } else if pace.at.is_none() {
            self.again = None;
            self.failures.reset();
        }
        if pace.changed {
            if self.calm.is_some_and(|calm| calm + LONGEST_PAUSE < now) {
                self.changes.reset();
            }
            self.calm = Some(now + self.changes.failed());
        }
        let poll = pace.poll.map(|poll| now + poll);
        let dues = [self.again, poll, pace.at];
        self.due = dues.into_iter().flatten().min();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    const CHANGED: Pace = Pace {
        changed: true,
        ..Pace::NEVER
    };
    const POLL: Pace = Pace {
        poll: Some(Duration::from_secs(3)),
        ..Pace::NEVER
    };

    /// Waits for the next round. How long that was, and whether it tries what has not worked.
    async fn wait(retry: &mut Retry) -> (u64, bool) {
        let begun = Instant::now();
        sleep_until(retry.due().unwrap()).await;
        let all = retry.began();
        (begun.elapsed().as_secs(), all)
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_ever_more_slowly_until_something_else_is_wanted() {
        let mut retry = Retry::new();
        assert_eq!(wait(&mut retry).await, (0, true));
        for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            retry.ended(Pace::RETRY);
            assert_eq!(wait(&mut retry).await, (pause, true));
        }
        retry.ended(Pace::RETRY);
        retry.begin();
        assert_eq!(wait(&mut retry).await, (0, true));
        retry.ended(Pace::RETRY);
        assert_eq!(wait(&mut retry).await, (1, true));
    }

    #[tokio::test(start_paused = true)]
    async fn what_works_after_all_begins_with_short_pauses_anew() {
        let mut retry = Retry::new();
        retry.began();
        for pause in [1, 2, 4] {
            retry.ended(Pace::RETRY);
            assert_eq!(wait(&mut retry).await, (pause, true));
        }
        retry.ended(CHANGED);
        retry.now();
        assert_eq!(wait(&mut retry).await, (0, true));
        retry.ended(Pace::RETRY);
        assert_eq!(wait(&mut retry).await, (1, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_is_looked_for_steadily_also_while_something_else_fails() {
        let mut retry = Retry::new();
        retry.began();
        for _ in 0..3 {
            retry.ended(POLL);
            assert_eq!(wait(&mut retry).await, (3, true));
        }
        retry.ended(Pace::NEVER);
        assert_eq!(retry.due(), None);

        let both = Pace {
            retry: true,
            ..POLL
        };
        let mut waits = Vec::new();
        for _ in 0..6 {
            retry.ended(both);
            waits.push(wait(&mut retry).await);
        }
        let expected = [(1, true), (2, true), (3, false), (1, true), (3, false)];
        assert_eq!(waits[..5], expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_by_others_does_not_wait_for_what_fails_nor_hurries_it() {
        let mut retry = Retry::new();
        retry.began();
        for pause in [1, 2, 4, 8] {
            retry.ended(Pace::RETRY);
            assert_eq!(wait(&mut retry).await, (pause, true));
        }
        retry.ended(Pace::RETRY);
        retry.drifted();
        assert_eq!(wait(&mut retry).await, (0, false));
        retry.ended(Pace::RETRY);
        assert_eq!(wait(&mut retry).await, (16, true));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_changed_back_by_others_takes_ever_longer_to_answer() {
        let mut retry = Retry::new();
        retry.began();
        for pause in [1, 2, 4] {
            retry.ended(CHANGED);
            assert_eq!(retry.due(), None);
            retry.drifted();
            assert_eq!(wait(&mut retry).await, (pause, true));
        }
        retry.ended(Pace::NEVER);
        advance(Duration::from_mins(10)).await;
        retry.drifted();
        assert_eq!(wait(&mut retry).await, (0, true));
        // They have had their peace for long enough.
        retry.ended(CHANGED);
        retry.drifted();
        assert_eq!(wait(&mut retry).await, (1, true));
    }
}
