//! The state task: the only one that changes the picture of the node.

use std::sync::Arc;
use std::time::Duration;

use mizzen_core::gpu::GpuUuid;
use mizzen_core::state::{DriverStatus, Effect, Event, HealthRecord, NodeState};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::driver::{Command, Driver, News};
use crate::log::log;
use crate::readiness::Latch;

/// How often it is looked whether others have partitioned GPUs anew: such a change is to be seen
/// within a second.
const PARTITIONS_LOOK: Duration = Duration::from_millis(700);

/// Owns the state, takes news in and carries the effects out.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) state: NodeState,
    pub(crate) clock: Clock,
    pub(crate) news: mpsc::Receiver<News>,
    pub(crate) driver: Driver,
    pub(crate) published: watch::Sender<Arc<NodeState>>,
    pub(crate) records: watch::Sender<Option<HealthRecord>>,
    pub(crate) boot_id: String,
    /// Open while the driver is as the settings ask for.
    pub(crate) ready: Latch,
}

/// When the GPUs are asked how they are.
#[derive(Debug, Clone, Copy)]
enum Round {
    /// Not at all, until there is news.
    None,
    /// Then.
    Due(Instant),
    /// They are being asked.
    Asked,
}

impl Keeper {
    /// Runs until the stop, or until no news can come any more.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut round = Round::None;
        let mut look = interval(PARTITIONS_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watched = Vec::new();
        loop {
            let due = async {
                match round {
                    Round::Due(due) => sleep_until(due).await,
                    Round::None | Round::Asked => std::future::pending().await,
                }
            };
            tokio::select! {
                news = self.news.recv() => match news {
                    Some(News::Events(events)) => {
                        self.take(events);
                        round = self.sooner(round);
                    }
                    Some(News::Round(events)) => {
                        self.take(events);
                        round = self.sooner(Round::None);
                    }
                    None => break,
                },
                () = due => {
                    self.check(self.all());
                    round = Round::Asked;
                }
                _ = look.tick(), if !watched.is_empty() => {
                    self.driver.tell(Command::LookAtPartitions(watched.clone()));
                }
                () = stop.cancelled() => break,
            }
            watched = self.state.partitions_to_watch();
        }
        self.driver.tell(Command::Stop);
    }

    /// The next round: the one that is planned, or an earlier one that the state now asks for.
    fn sooner(&self, round: Round) -> Round {
        let wait = self.state.next_check(self.clock.now().monotonic);
        let wanted = wait.map(|wait| Instant::now() + wait);
        match (round, wanted) {
            (Round::Asked, _) => Round::Asked,
            (Round::Due(due), Some(wanted)) => Round::Due(due.min(wanted)),
            (Round::None, Some(wanted)) => Round::Due(wanted),
            (_, None) => Round::None,
        }
    }

    fn check(&self, gpus: Vec<GpuUuid>) {
        let mut known = self.state.gpus().iter();
        let some_sick = known.any(|known| !known.health.is_healthy());
        self.driver.tell(Command::Check { gpus, some_sick });
    }

    fn all(&self) -> Vec<GpuUuid> {
        self.state
            .gpus()
            .iter()
            .map(|known| known.gpu.uuid.clone())
            .collect()
    }

    /// Takes events in that belong together: what comes of them is published once, and before
    /// anything is logged or written.
    fn take(&mut self, events: Vec<Event>) {
        let now = self.clock.now();
        let mut effects = Vec::new();
        for event in events {
            effects.extend(self.state.apply(event, now));
        }
        if effects.contains(&Effect::Publish) {
            self.ready.set(self.is_ready());
            self.published.send_replace(Arc::new(self.state.clone()));
        }
        if effects.contains(&Effect::Persist) {
            self.records
                .send_replace(Some(self.state.record(&self.boot_id)));
        }
        for effect in effects {
            match effect {
                Effect::Publish | Effect::Persist => {}
                Effect::Log(line) => log(&line),
                Effect::Check(gpus) => self.check(gpus),
                Effect::LookAtPartitions(gpus) => {
                    self.driver.tell(Command::LookAtPartitions(gpus));
                }
                Effect::Watch => self.driver.tell(Command::Watch),
            }
        }
    }

    /// The reference ends without a driver if `--fail-on-init-error` says so; this process stays,
    /// and is not ready.
    fn is_ready(&self) -> bool {
        match self.state.driver() {
            DriverStatus::Running(_) => true,
            DriverStatus::Absent(_) => !self.state.config().fail_on_init_error,
            DriverStatus::Unknown => false,
        }
    }
}
