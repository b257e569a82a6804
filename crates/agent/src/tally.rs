//! What the agent counts of its own doing, for its metrics.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mizzen_core::config::Config;
use mizzen_core::metrics::{AgentFacts, ConfigFacts, Latencies};
use mizzen_core::resource::ResourceName;
use tokio::sync::Notify;

/// Counts; clones are handles to the same ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    counts: Arc<Mutex<Counts>>,
    allocated: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Counts {
    registrations: BTreeMap<ResourceName, u64>,
    allocate: Latencies,
    failures: u64,
    config: ConfigFacts,
}

impl Tally {
    /// A resource was registered with the kubelet.
    pub(crate) fn registered(&self, resource: &ResourceName) {
        let mut counts = self.lock();
        *counts.registrations.entry(resource.clone()).or_default() += 1;
    }

    /// A call of Allocate was answered.
    pub(crate) fn allocated(&self, took: Duration, refused: bool) {
        let mut counts = self.lock();
        counts.allocate.observe(took);
        counts.failures += u64::from(refused);
        drop(counts);
        self.allocated.notify_one();
    }

    /// Waits for the next call of Allocate, or for one that nobody has waited for.
    pub(crate) async fn next_allocation(&self) {
        self.allocated.notified().await;
    }

    /// These settings have come into force, `wall` seconds after 1970.
    pub(crate) fn configured(&self, config: &Config, wall: u64) {
        let mut counts = self.lock();
        counts.config = ConfigFacts {
            generation: counts.config.generation + 1,
            hash: hash(config),
            since: wall,
        };
    }

    /// What was counted, as facts about an agent of which nothing else is known.
    pub(crate) fn facts(&self) -> AgentFacts {
        let counts = self.lock();
        AgentFacts {
            registrations: counts.registrations.clone(),
            allocate: counts.allocate.clone(),
            allocate_failures: counts.failures,
            config: counts.config.clone(),
            ..AgentFacts::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What differs where settings differ, on all nodes alike.
fn hash(config: &Config) -> String {
    let mut hasher = DefaultHasher::new();
    format!("{config:?}").hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everything_that_was_told_is_counted() {
        let tally = Tally::default();
        let gpu: ResourceName = "nvidia.com/gpu".parse().unwrap();
        tally.registered(&gpu);
        tally.registered(&gpu);
        tally.clone().allocated(Duration::from_micros(60), false);
        tally.allocated(Duration::from_micros(60), true);
        // It was told before anybody waited.
        tally.next_allocation().await;
        let mut config = Config::default();
        tally.configured(&config, 7);
        let first = tally.facts();
        assert_eq!(first.registrations[&gpu], 2);
        assert_eq!((first.allocate.count(), first.allocate_failures), (2, 1));
        assert_eq!((first.config.generation, first.config.since), (1, 7));
        config.gds_enabled = true;
        tally.configured(&config, 8);
        let second = tally.facts();
        assert_eq!(second.config.generation, 2);
        assert_ne!(second.config.hash, first.config.hash);
    }
}
