//! What the device plugins gave out a moment ago, which the kubelet may not have noted down yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mizzen_core::device::device_of;
use tokio::time::Instant;

/// By then a kubelet has noted down what it was given, or has dropped it.
const LIMIT: Duration = Duration::from_secs(10);

/// The devices given out lately that the kubelet has not listed since; clones are handles to the
/// same ones. As many at most as there are devices.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    ids: Arc<Mutex<BTreeMap<String, Instant>>>,
    limit: Duration,
}

impl Default for Given {
    fn default() -> Self {
        Self::new(LIMIT)
    }
}

impl Given {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            ids: Arc::default(),
            limit,
        }
    }

    /// The kubelet gets these. Nothing else may run between the look at what is withheld and this.
    pub(crate) fn note<'a>(&self, ids: impl IntoIterator<Item = &'a String>) {
        let now = Instant::now();
        let mut known = self.lock();
        known.extend(ids.into_iter().map(|id| (id.clone(), now)));
    }

    /// The kubelet lists these as held.
    pub(super) fn listed<'a>(&self, ids: impl IntoIterator<Item = &'a String>) {
        let mut known = self.lock();
        if !known.is_empty() {
            for id in ids {
                known.remove(id);
            }
        }
    }

    /// Whether somebody may just be getting one of these devices.
    pub(super) fn has_any_of(&self, devices: &BTreeSet<String>) -> bool {
        let known = self.lock();
        known.keys().any(|id| devices.contains(device_of(id)))
    }

    /// Those that are not out of date.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        let mut known = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, when| when.elapsed() < self.limit);
        known
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_given_is_remembered_until_it_is_listed_or_old() {
        let given = Given::default();
        let ids = ["GPU-1::3", "GPU-2"].map(str::to_owned);
        given.note(&ids);
        let has = |id: &str| given.has_any_of(&[id.to_owned()].into());
        assert!(has("GPU-1") && has("GPU-2") && !has("GPU-3"));
        given.listed(&["GPU-1::2".to_owned(), "GPU-2".to_owned()]);
        assert!(has("GPU-1") && !has("GPU-2"));
        advance(LIMIT).await;
        assert!(!has("GPU-1"));
        assert!(given.ids.lock().unwrap().is_empty());
    }
}
