//! Events of what has changed about the health of GPUs.

use std::sync::Arc;

use mizzen_core::node_health::{Chronicle, NodeHealth};
use mizzen_core::state::NodeState;
use tokio::sync::watch;
use tokio::time::Instant;

use super::condition::until;
use super::record::{Memory, ToldRecord};
use crate::cluster::{Pace, Poster, Refusal, Report};

/// Tells Events until there is no picture of the node any more. What the API does not take is told
/// when it does, as it is then.
pub(super) async fn tell(
    mut state: watch::Receiver<Arc<NodeState>>,
    poster: Poster,
    mut memory: Memory<ToldRecord>,
) {
    let clock = poster.clock;
    let record = memory.load().filter(|record| record.node == poster.node);
    let told = record.as_ref().map(|record| record.told.clone());
    if let Some(record) = record {
        memory.believe(record);
    }
    let mut chronicle = Chronicle::new(told.unwrap_or_default());
    let mut pace = Pace::new(&poster.node, " events");
    let mut not_before = Instant::now();
    let mut trouble = None;
    loop {
        let health = NodeHealth::of(&state.borrow_and_update());
        chronicle.see(health, clock.now().monotonic);
        if chronicle.has_begun() {
            let record = ToldRecord {
                node: poster.node.clone(),
                told: chronicle.what_was_told().clone(),
            };
            memory.note(record).await;
        }
        let due = chronicle.due().map(|due| clock.at(due).max(not_before));
        tokio::select! {
            biased;
            changed = state.changed() => if changed.is_err() { return },
            () = until(due) => {
                let Some(telling) = chronicle.next(clock.now()) else { continue };
                match poster.post(&Report::Health(telling.event.clone())).await {
                    Ok(()) => {
                        pace.worked();
                        trouble = None;
                        chronicle.told(telling, clock.now().monotonic);
                    }
                    Err(refusal) => {
                        complain(&mut trouble, &refusal);
                        not_before = Instant::now() + pace.failed(&refusal);
                    }
                }
            }
        }
    }
}

/// Says once what is wrong.
fn complain(said: &mut Option<String>, refusal: &Refusal) {
    if said.as_ref() == Some(&refusal.words) {
        return;
    }
    *said = Some(refusal.words.clone());
    tracing::warn!(
        event = "event-not-sent",
        error = refusal.words,
        "Events about the GPUs' health cannot be sent; trying again, and all is in this log"
    );
}
