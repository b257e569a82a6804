//! What the page says of the agent itself: plain data that the agent fills in.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::resource::ResourceName;

/// What is told of the agent.
#[derive(Debug, Clone, Default)]
pub struct AgentFacts {
    /// The program's version.
    pub version: String,
    /// The commit it was built from; empty where it is not known.
    pub revision: String,
    /// What the operating system tells of the process; `None` where it cannot be read.
    pub process: Option<ProcessFacts>,
    /// How often each resource was registered with the kubelet.
    pub registrations: BTreeMap<ResourceName, u64>,
    /// How long calls of Allocate took.
    pub allocate: Latencies,
    /// How many calls of Allocate were refused.
    pub allocate_failures: u64,
    /// When the kubelet last said which pods hold what, in seconds since 1970, where it is asked.
    pub pods_told: Option<u64>,
    /// The config in force.
    pub config: ConfigFacts,
}

/// What is told of the config in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigFacts {
    /// How many configs have come into force, the first included.
    pub generation: u64,
    /// Something that is different for different configs.
    pub hash: String,
    /// When it came into force, in seconds since 1970.
    pub since: u64,
}

/// What the operating system tells of the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessFacts {
    /// Resident memory in bytes.
    pub resident: u64,
    /// Virtual memory in bytes.
    pub virtual_size: u64,
    /// Time on processors, of user and system.
    pub cpu: Duration,
    /// Open file descriptors.
    pub open_fds: u64,
    /// How many there may be; `None` for no limit.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: u64,
    /// When it was started, in seconds since 1970.
    pub started: u64,
}

/// The upper bounds of [`Latencies`], in microseconds.
pub(super) const BOUNDS_US: [u64; 12] = [
    50, 100, 250, 500, 1000, 2500, 5000, 10_000, 50_000, 100_000, 500_000, 1_000_000,
];

/// A histogram of latencies from 50 µs to a second.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Latencies {
    /// By bound, each without those of lower ones; the last is above all bounds.
    counts: [u64; BOUNDS_US.len() + 1],
    sum: Duration,
}

impl Latencies {
    /// Counts one.
    pub fn observe(&mut self, latency: Duration) {
        let is_below = |bound: &u64| latency <= Duration::from_micros(*bound);
        let place = BOUNDS_US.iter().position(is_below);
        self.counts[place.unwrap_or(BOUNDS_US.len())] += 1;
        self.sum += latency;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// For each bound, in microseconds, how many were not above it.
    pub fn cumulated(&self) -> impl Iterator<Item = (u64, u64)> {
        BOUNDS_US
            .iter()
            .zip(&self.counts)
            .scan(0, |sum, (bound, count)| {
                *sum += count;
                Some((*bound, *sum))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_counts_for_every_bound_that_it_is_not_above() {
        let mut latencies = Latencies::default();
        for micros in [50, 51, 999_999, 2_000_000] {
            latencies.observe(Duration::from_micros(micros));
        }
        let counts: Vec<u64> = latencies.cumulated().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3]);
        assert_eq!(latencies.count(), 4);
        assert_eq!(latencies.sum(), Duration::from_micros(3_000_100));
    }
}
