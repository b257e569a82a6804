//! How often something may be done.

use std::time::Duration;

/// What may be done so many times at once, and again at intervals. Times are of one clock that
/// only goes forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    size: u32,
    refill: Duration,
    left: u32,
    /// When the last one that was put back was.
    filled: Duration,
}

impl Bucket {
    /// A full one: `size` times at once, and once more after each `refill`.
    pub fn new(size: u32, refill: Duration) -> Self {
        Self {
            size,
            refill,
            left: size,
            filled: Duration::ZERO,
        }
    }

    /// When it may be done next: in the past, or now, if it may be done now.
    pub fn ready(&self) -> Duration {
        if self.left > 0 {
            Duration::ZERO
        } else {
            self.filled + self.refill
        }
    }

    /// Does it. Where it may not be done yet, the next time comes later by as much.
    pub fn take(&mut self, now: Duration) {
        self.fill(now);
        if self.left == self.size {
            self.filled = now;
        }
        self.left = self.left.saturating_sub(1);
    }

    /// Whether nothing was done lately.
    pub fn is_full(&self, now: Duration) -> bool {
        let mut filled = self.clone();
        filled.fill(now);
        filled.left == filled.size
    }

    fn fill(&mut self, now: Duration) {
        while self.left < self.size && now.saturating_sub(self.filled) >= self.refill {
            self.left += 1;
            self.filled += self.refill;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_as_many_as_fit_there_is_one_for_each_interval() {
        let second = Duration::from_secs(1);
        let mut bucket = Bucket::new(3, second * 10);
        let mut now = second * 100;
        for _ in 0..3 {
            assert!(bucket.ready() <= now);
            bucket.take(now);
        }
        assert_eq!(bucket.ready(), now + second * 10);
        now += second * 10;
        assert!(bucket.ready() <= now);
        bucket.take(now);
        assert_eq!(bucket.ready(), now + second * 10);
        assert!(!bucket.is_full(now + second * 20));
        assert!(bucket.is_full(now + second * 30));
    }

    #[test]
    fn what_was_not_used_is_not_saved_beyond_its_size() {
        let minute = Duration::from_mins(1);
        let mut bucket = Bucket::new(2, minute);
        let now = minute * 1_000;
        bucket.take(now);
        bucket.take(now);
        assert_eq!(bucket.ready(), now + minute);
    }
}
