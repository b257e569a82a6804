//! Pods that must make way for a layout.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mizzen_core::gpu::GpuUuid;
use tokio::time::{Instant, sleep};

use super::decide::Change;
use super::manager::{Halt, Manager};
use super::words::list;
use crate::backoff::Backoff;
use crate::cluster::{PodName, Report, evict};

impl Manager {
    /// Evicts the pods that hold what these changes take away, and waits until they have let go.
    /// What they hold is withheld before, so that nobody takes their place.
    pub(super) async fn make_way(&mut self, changes: &[(GpuUuid, Change)]) -> Result<(), Halt> {
        for (gpu, change) in changes {
            self.withdraw(gpu, change).await?;
        }
        let gone: BTreeSet<&String> = changes.iter().flat_map(|(_, one)| &one.gone).collect();
        let limit = self.patience.eviction;
        let until = Instant::now() + limit;
        let mut pause = Backoff::new(self.patience.poll, self.patience.longest_poll);
        let mut asked = BTreeSet::new();
        let mut said = None;
        loop {
            let holdings = self.kubelet.holdings().await.map_err(Halt::Failed)?;
            let pods = holdings.of_any(gone.iter().copied());
            if pods.is_empty() {
                return Ok(());
            }
            let refusals = self.ask(&pods, &mut asked).await;
            if said.as_ref() != Some(&refusals) {
                self.say_evicting(&pods, &refusals);
                said = Some(refusals.clone());
            }
            if Instant::now() >= until {
                let why = refusals.values().next();
                let why = why.map_or_else(String::new, |why| format!(": {why}"));
                let seconds = limit.as_secs();
                return Err(Halt::Failed(format!(
                    "told to leave, and still there after {seconds} s: {}{why}",
                    list(&pods)
                )));
            }
            if self.is_overtaken() {
                return Err(Halt::Overtaken);
            }
            sleep(pause.failed()).await;
        }
    }

    /// Says who is asked to leave, and who may not be asked now.
    fn say_evicting(&self, pods: &BTreeSet<PodName>, refusals: &BTreeMap<PodName, String>) {
        let mut words = format!("evicting for a new layout: {}", list(pods));
        for (pod, why) in refusals {
            let _ = write!(words, "; {pod} may not be evicted now: {why}");
        }
        tracing::warn!(event = "mig-evicting", "{words}");
        self.reporter.tell(Report::MigConfigWaiting(words));
    }

    /// Asks those of `pods` to leave that were not asked yet, and says who may not be asked now:
    /// a disruption budget may allow it later.
    async fn ask(
        &self,
        pods: &BTreeSet<PodName>,
        asked: &mut BTreeSet<PodName>,
    ) -> BTreeMap<PodName, String> {
        let mut refusals = BTreeMap::new();
        for pod in pods {
            if asked.contains(pod) {
                continue;
            }
            match evict(&self.cluster, pod).await {
                Ok(()) => {
                    tracing::warn!(event = "mig-evicted", pod = %pod, "evicted for a new MIG layout");
                    asked.insert(pod.clone());
                }
                Err(why) => {
                    refusals.insert(pod.clone(), why);
                }
            }
        }
        refusals
    }
}
