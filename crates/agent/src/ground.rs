//! What every agent stands on: clock, readiness, tasks and their end, and the probes.

use std::time::Duration;

use mizzen_core::config::Config;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::probes;
use crate::readiness::Readiness;
use crate::supervisor::Supervisor;

/// How long tasks may take to end after a stop: longer than connections are drained for.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// What is there before the agent knows its settings, and whatever they are.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) clock: Clock,
    pub(crate) readiness: Readiness,
    pub(crate) supervisor: Supervisor,
    /// Ends the tasks that need no drain.
    pub(crate) stop: CancellationToken,
}

impl Ground {
    pub(crate) fn new(config: &Config) -> Self {
        let stop = CancellationToken::new();
        let readiness = Readiness::default();
        let mut supervisor = Supervisor::new(stop.clone());
        if let Some(address) = config.health_address {
            let (readiness, ending) = (readiness.clone(), stop.clone());
            supervisor.keep("probes", move || {
                probes::serve(address, readiness.clone(), ending.clone())
            });
        }
        Self {
            clock: Clock::new(),
            readiness,
            supervisor,
            stop,
        }
    }

    /// Runs a task that never ends until the stop.
    pub(crate) fn keep_until_stop(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.supervisor.essential(name, async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Ends everything, in order.
    pub(crate) async fn end(self) {
        tracing::info!(
            event = "stopping",
            "stopping: ending streams and removing sockets"
        );
        self.stop.cancel();
        self.supervisor.drain(DRAIN_LIMIT).await;
    }
}
