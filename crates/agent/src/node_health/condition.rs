//! The condition and the taint, kept as the picture of the node says.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::config::{Config, NodeHealthConfig};
use mizzen_core::node_health::{Bucket, LossWatch, Lost, NodeHealth, TAINT_KEY, Verdict};
use mizzen_core::state::NodeState;
use mizzen_nvml::HostRoot;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use super::record::{Memory, NodeRecord};
use super::writer::{Wanted, Wish, Writer, Written};
use crate::labels::{Trouble, host_facts};

/// How long nothing may happen before a change is told: a fault mostly has several signs.
const QUIET: Duration = Duration::from_secs(1);
/// How long that is waited for.
const LONGEST_UNREST: Duration = Duration::from_secs(5);
/// Writes at once, and how long until another may follow once these are used up.
const WRITES: (u32, Duration) = (6, Duration::from_secs(30));
/// Over which time agents that start anew, and have something to write, do so.
const START: Duration = Duration::from_secs(30);
/// Over which time agents that start anew look whether the Node has what they remember.
const FIRST_LOOK: Range<Duration> = START..Duration::from_mins(5);

/// What keeps condition and taint.
pub(super) struct Keeper {
    pub(super) settings: NodeHealthConfig,
    pub(super) boot_id: String,
    pub(super) memory: Memory<NodeRecord>,
    pub(super) writer: Writer,
}

impl Keeper {
    /// Keeps them until there is no picture of the node any more. They stay when the agent ends:
    /// another one mostly follows.
    pub(super) async fn run(mut self, mut state: watch::Receiver<Arc<NodeState>>) {
        let begin = Instant::now();
        let mut not_before = self.recall();
        let mut writes = Bucket::new(WRITES.0, WRITES.1);
        let mut loss = LossWatch::default();
        let mut trouble = None;
        loop {
            let picture = state.borrow_and_update().clone();
            let now = begin.elapsed();
            let wanted = self.wanted(&picture, &mut loss, now).await;
            let may = not_before.max(begin + writes.ready());
            let due = self.writer.due(&wanted).map(|due| due.max(may));
            let lasted = loss.next(now).map(|at| begin + at);
            tokio::select! {
                biased;
                changed = state.changed() => {
                    if changed.is_err() { return }
                    settle(&mut state).await;
                }
                () = until(due) => match self.writer.write(&wanted).await {
                    Ok(written) => {
                        trouble = None;
                        if written != Written::default() {
                            writes.take(begin.elapsed());
                        }
                        self.wrote(&wanted, written).await;
                        not_before = Instant::now();
                    }
                    Err(failed) => {
                        self.complain(&mut trouble, &failed);
                        not_before = Instant::now() + failed.pause;
                    }
                },
                () = until(lasted) => {}
            }
        }
    }

    /// Tells the writer what a former process knew, and answers when it may write first.
    fn recall(&mut self) -> Instant {
        let now = Instant::now();
        let record = self.memory.load();
        let Some(record) = record.filter(|record| record.node == self.writer.node()) else {
            return now;
        };
        let spread = self.writer.spread();
        let own_time = now + spread.within(Duration::ZERO..START);
        // A machine that was booted anew may be a Node anew.
        let next_look = if record.boot_id == self.boot_id {
            now + spread.within(FIRST_LOOK)
        } else {
            now
        };
        self.writer.believe(record.there.clone(), next_look);
        self.memory.believe(record);
        own_time
    }

    async fn wanted(&self, state: &NodeState, loss: &mut LossWatch, now: Duration) -> Wanted {
        let health = NodeHealth::of(state);
        let condition = if self.settings.tell {
            let of_nobody = health.gpus.is_empty() && health.left_out.is_empty();
            let on_bus = of_nobody && has_gpu_on_bus(state.config()).await;
            match health.condition(on_bus) {
                Verdict::NotYet => Wish::Leave,
                Verdict::NoGpus => Wish::Nothing,
                Verdict::Is(condition) => Wish::Is(condition),
            }
        } else {
            Wish::Nothing
        };
        let taint = match (self.settings.taint.effect(), loss.see(&health, now)) {
            (None, _) | (Some(_), Lost::NotAll) => Wish::Nothing,
            (Some(effect), Lost::All) => Wish::Is(effect),
            (Some(_), Lost::Unclear) => Wish::Leave,
        };
        Wanted { condition, taint }
    }

    async fn wrote(&mut self, wanted: &Wanted, written: Written) {
        let node = self.writer.node();
        if written.condition {
            match &wanted.condition {
                Wish::Is(condition) => tracing::info!(
                    event = "node-condition",
                    status = condition.status.word(),
                    reason = condition.reason,
                    "the Node {node} has another condition: {}",
                    condition.message
                ),
                Wish::Leave | Wish::Nothing => tracing::info!(
                    event = "node-condition",
                    "the Node {node} has no condition of the GPUs any more"
                ),
            }
        }
        if written.taint {
            match &wanted.taint {
                Wish::Is(effect) => tracing::warn!(
                    event = "node-tainted",
                    effect,
                    "all GPUs of the Node {node} are lost: it has the taint {TAINT_KEY}"
                ),
                Wish::Leave | Wish::Nothing => tracing::info!(
                    event = "node-taint-removed",
                    "the Node {node} has no taint {TAINT_KEY} any more"
                ),
            }
        }
        let Some(there) = self.writer.there().cloned() else {
            return;
        };
        let record = NodeRecord {
            node: node.to_owned(),
            boot_id: self.boot_id.clone(),
            there,
        };
        self.memory.note(record).await;
    }

    /// Says once what is wrong.
    fn complain(&self, said: &mut Option<String>, trouble: &Trouble) {
        if said.as_ref() == Some(&trouble.words) {
            return;
        }
        *said = Some(trouble.words.clone());
        tracing::warn!(
            event = "node-condition-not-set",
            error = trouble.words,
            todo = trouble.todo,
            retry_ms = trouble.pause.as_millis(),
            "the condition or the taint of the Node {} cannot be set; trying again",
            self.writer.node()
        );
    }
}

/// Waits until then; for ever, where there is no such time.
pub(super) async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Waits until nothing changes for a while.
async fn settle(state: &mut watch::Receiver<Arc<NodeState>>) {
    let limit = Instant::now() + LONGEST_UNREST;
    while Instant::now() < limit {
        tokio::select! {
            () = sleep(QUIET) => return,
            Ok(()) = state.changed() => {}
        }
    }
}

/// Whether an NVIDIA GPU is on the PCI bus, with or without a driver.
async fn has_gpu_on_bus(config: &Arc<Config>) -> bool {
    let host = HostRoot::new(&config.host_root);
    let looking = spawn_blocking(move || !host_facts(&host, None).display.is_empty());
    // A look that fails has panicked, which ends the process.
    looking.await.unwrap_or_default()
}
