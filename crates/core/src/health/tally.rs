//! Counting faults in a window of time.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::config::{FaultRule, format_duration};

/// Up to this count every fault is remembered by its own moment. Above it, faults that come
/// within this fraction of the window are remembered by the moment of the first, so that a
/// count of any size costs no more than this many moments.
const MOMENTS: u32 = 1024;

/// Faults that a rule counts, as many as it takes to know when there are enough.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Window {
    /// When, and how many; oldest first.
    moments: VecDeque<(Duration, u64)>,
    /// Of all moments.
    total: u64,
}

/// How far a count has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Faults in the window.
    pub seen: u64,
    /// How many it takes.
    pub needed: u32,
    /// The window's length; `None` = all time.
    pub within: Option<Duration>,
}

impl Tally {
    /// Whether there are as many as it takes.
    pub fn is_enough(&self) -> bool {
        self.seen >= u64::from(self.needed)
    }
}

/// Writes `2 of 3 within 10m`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.seen, self.needed)?;
        match self.within {
            Some(within) => write!(f, " within {}", format_duration(within)),
            None => Ok(()),
        }
    }
}

impl Window {
    /// Adds so many faults that came at `now`, not earlier than any before, and says how many
    /// are in the window that ends now.
    pub(super) fn add(&mut self, times: u64, now: Duration, rule: FaultRule) -> Tally {
        let needed = u64::from(rule.count);
        let apart = match rule.within {
            Some(within) if rule.count > MOMENTS => within / MOMENTS,
            Some(_) => Duration::ZERO,
            None => Duration::MAX,
        };
        match self.moments.pop_back() {
            Some((then, before)) if now.saturating_sub(then) <= apart => {
                self.total -= before;
                // More than it takes make no difference.
                self.push(then, before.saturating_add(times).min(needed));
            }
            last => {
                self.moments.extend(last);
                self.push(now, times.min(needed));
            }
        }
        let within = rule.within.unwrap_or(Duration::MAX);
        while let Some(&(then, count)) = self.moments.front()
            // Without the oldest there may still be enough: then every later window that holds
            // it holds those after it too.
            && (now.saturating_sub(then) > within || self.total - count >= needed)
        {
            self.moments.pop_front();
            self.total -= count;
        }
        Tally {
            seen: self.total,
            needed: rule.count,
            within: rule.within,
        }
    }

    fn push(&mut self, then: Duration, count: u64) {
        self.moments.push_back((then, count));
        self.total += count;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::FaultAction;

    fn rule(count: u32, within: Option<u64>) -> FaultRule {
        FaultRule {
            count,
            within: within.map(Duration::from_millis),
            ..FaultRule::each(FaultAction::Unhealthy)
        }
    }

    #[test]
    fn a_tally_reads_as_people_count() {
        let mut window = Window::default();
        let ten_minutes = rule(3, Some(600_000));
        let tally = |window: &mut Window, seconds, rule| {
            window
                .add(1, Duration::from_secs(seconds), rule)
                .to_string()
        };
        assert_eq!(tally(&mut window, 0, ten_minutes), "1 of 3 within 10m");
        assert_eq!(tally(&mut window, 600, ten_minutes), "2 of 3 within 10m");
        assert_eq!(tally(&mut window, 601, ten_minutes), "2 of 3 within 10m");
        assert_eq!(tally(&mut Window::default(), 0, rule(2, None)), "1 of 2");
    }

    #[test]
    fn a_million_faults_cost_no_more_memory_than_a_thousand() {
        let mut window = Window::default();
        let rule = rule(1_000_000, Some(3_600_000));
        let mut marked = None;
        for fault in 0..2_000_000_u64 {
            let tally = window.add(1, Duration::from_millis(fault), rule);
            assert!(window.moments.len() <= MOMENTS as usize + 2);
            if tally.is_enough() && marked.is_none() {
                marked = Some(fault);
            }
        }
        assert_eq!(marked, Some(999_999));
        let endless = FaultRule {
            within: None,
            ..rule
        };
        let mut window = Window::default();
        for fault in 0..10_000_u64 {
            window.add(u64::MAX, Duration::from_secs(fault), endless);
            assert_eq!(window.moments.len(), 1);
        }
    }

    proptest! {
        /// There are enough exactly when the faults of the last `within` are as many as it takes.
        #[test]
        fn there_are_enough_exactly_when_the_window_holds_them(
            faults in prop::collection::vec((0_u64..50, 1_u64..4), 1..80),
            count in 1_u32..12,
            within in prop::option::of(0_u64..200),
        ) {
            let rule = rule(count, within);
            let mut window = Window::default();
            let mut all = Vec::new();
            let mut clock = 0;
            for (pause, times) in faults {
                clock += pause;
                all.push((clock, times));
                let tally = window.add(times, Duration::from_millis(clock), rule);
                let held: u64 = all
                    .iter()
                    .filter(|(then, _)| within.is_none_or(|within| clock - then <= within))
                    .map(|(_, times)| times)
                    .sum();
                prop_assert_eq!(tally.is_enough(), held >= u64::from(count));
                if !tally.is_enough() {
                    prop_assert_eq!(tally.seen, held);
                }
                prop_assert!(window.moments.len() <= count as usize + 1);
            }
        }
    }
}
