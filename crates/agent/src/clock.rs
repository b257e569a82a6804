//! The process's two clocks, read in one place.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mizzen_core::health::Moment;
use tokio::time::Instant;

/// Tells the time since it was made, by tokio's clock, which tests can pause.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// When it is so much after its start.
    pub(crate) fn at(self, monotonic: Duration) -> Instant {
        self.start + monotonic
    }

    /// Now, by both clocks.
    pub(crate) fn now(self) -> Moment {
        // A clock that is set before 1970 makes odd log lines, nothing else.
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Moment {
            monotonic: self.start.elapsed(),
            wall: wall.as_secs(),
        }
    }
}
