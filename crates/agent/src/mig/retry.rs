//! When the GPUs are looked at again.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// What a round of work calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Nothing, until there is news.
    Never,
    /// GPUs were changed, and are as they shall be.
    Changed,
    /// Another try.
    Backoff,
    /// Another round at this time.
    At(Instant),
    /// A look at what somebody else must do.
    Poll,
}

/// The time of the next round.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    due: Option<Instant>,
    backoff: Backoff,
    last: Pace,
    /// When GPUs that others have changed may be changed back, so that two who disagree do not
    /// take turns without end.
    calm: Option<Instant>,
}

impl Retry {
    /// The first round is due at once.
    pub(super) fn new() -> Self {
        Self {
            due: Some(Instant::now()),
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            last: Pace::Never,
            calm: None,
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Something else is wanted.
    pub(super) fn begin(&mut self) {
        self.backoff.reset();
        self.calm = None;
        self.now();
    }

    /// What was waited for may have come.
    pub(super) fn now(&mut self) {
        self.due = Some(Instant::now());
    }

    /// GPUs are partitioned otherwise than before, perhaps by the last round itself. What is to be
    /// tried again anyway is not tried sooner for that.
    pub(super) fn drifted(&mut self) {
        if self.last != Pace::Backoff {
            let now = Instant::now();
            self.due = Some(self.calm.map_or(now, |calm| calm.max(now)));
        }
    }

    /// A round has begun.
    pub(super) fn began(&mut self) {
        self.due = None;
    }

    /// A round has ended.
    pub(super) fn ended(&mut self, pace: Pace, poll: Duration) {
        let now = Instant::now();
        self.last = pace;
        match pace {
            Pace::Never => {}
            Pace::Changed => self.calm = Some(now + self.backoff.failed()),
            Pace::Backoff => self.due = Some(now + self.backoff.failed()),
            Pace::At(when) => self.due = Some(when),
            Pace::Poll => self.due = Some(now + poll),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    const POLL: Duration = Duration::from_secs(3);

    async fn wait(retry: &mut Retry) -> Duration {
        let begun = Instant::now();
        sleep_until(retry.due().unwrap()).await;
        retry.began();
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_ever_more_slowly_until_something_else_is_wanted() {
        let mut retry = Retry::new();
        assert_eq!(wait(&mut retry).await, Duration::ZERO);
        let mut waits = Vec::new();
        for _ in 0..11 {
            retry.ended(Pace::Backoff, POLL);
            // Its own half-done work is no reason to hurry.
            retry.drifted();
            waits.push(wait(&mut retry).await.as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        retry.ended(Pace::Backoff, POLL);
        retry.begin();
        assert_eq!(wait(&mut retry).await, Duration::ZERO);
        retry.ended(Pace::Backoff, POLL);
        assert_eq!(wait(&mut retry).await, Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_is_looked_for_steadily_and_success_costs_nothing() {
        let mut retry = Retry::new();
        for _ in 0..3 {
            retry.began();
            retry.ended(Pace::Poll, POLL);
            assert_eq!(wait(&mut retry).await, POLL);
        }
        retry.ended(Pace::Never, POLL);
        assert_eq!(retry.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_changed_back_by_others_takes_ever_longer_to_answer() {
        let mut retry = Retry::new();
        retry.began();
        let mut waits = Vec::new();
        for _ in 0..3 {
            retry.ended(Pace::Changed, POLL);
            assert_eq!(retry.due(), None);
            retry.drifted();
            waits.push(wait(&mut retry).await.as_secs());
        }
        assert_eq!(waits, [1, 2, 4]);
        retry.ended(Pace::Never, POLL);
        advance(Duration::from_mins(10)).await;
        retry.drifted();
        assert_eq!(wait(&mut retry).await, Duration::ZERO);
    }
}
