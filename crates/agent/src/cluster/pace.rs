//! How fast an API that fails is asked again.

use std::time::Duration;

use super::{Refusal, Spread};
use crate::backoff::Backoff;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// The longest that an API is left alone because it asks for it.
const LONGEST_REST: Duration = Duration::from_hours(1);

/// A node's own pace: pauses grow from failure to failure, differ from node to node, and are as
/// long as the API asks for.
#[derive(Debug)]
pub(crate) struct Pace {
    backoff: Backoff,
    spread: Spread,
}

impl Pace {
    /// That of the Node `node`; `purpose` tells those of one node apart.
    pub(crate) fn new(node: &str, purpose: &str) -> Self {
        Self {
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            spread: Spread::new(&format!("{node}{purpose}")),
        }
    }

    /// Times of this node's own.
    pub(crate) fn spread(&mut self) -> &mut Spread {
        &mut self.spread
    }

    /// The API has done what it was asked for.
    pub(crate) fn worked(&mut self) {
        self.backoff.reset();
    }

    /// It has not; answers how long to wait before the next attempt.
    pub(crate) fn failed(&mut self, refusal: &Refusal) -> Duration {
        let least = refusal.retry_after.unwrap_or_default().min(LONGEST_REST);
        let pause = self.backoff.failed().max(least);
        pause + self.spread.within(Duration::ZERO..pause)
    }
}
