//! Ready when nobody says that he is not: each part of the process holds a latch.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// What the process is still waiting for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readiness {
    closed: Arc<Mutex<BTreeSet<String>>>,
}

impl Readiness {
    /// A latch for the part called `name`, closed.
    pub(crate) fn latch(&self, name: impl Into<String>) -> Latch {
        let latch = Latch {
            readiness: self.clone(),
            name: name.into(),
        };
        latch.set(false);
        latch
    }

    /// The parts that are not ready; the process is ready if there is none.
    pub(crate) fn missing(&self) -> Vec<String> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.iter().cloned().collect()
    }
}

/// One part's say. A part that is gone has none.
#[derive(Debug)]
pub(crate) struct Latch {
    readiness: Readiness,
    name: String,
}

impl Latch {
    /// Says whether the part is ready.
    pub(crate) fn set(&self, ready: bool) {
        let mut closed = self
            .readiness
            .closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if ready {
            closed.remove(&self.name);
        } else if !closed.contains(&self.name) {
            closed.insert(self.name.clone());
        }
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.set(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_ready_when_every_part_is() {
        let readiness = Readiness::default();
        let driver = readiness.latch("driver");
        let kubelet = readiness.latch("kubelet");
        assert_eq!(readiness.missing(), ["driver", "kubelet"]);
        driver.set(true);
        assert_eq!(readiness.missing(), ["kubelet"]);
        drop(kubelet);
        assert!(readiness.missing().is_empty());
        driver.set(false);
        assert_eq!(readiness.missing(), ["driver"]);
    }
}
