//! The label of the Node that says what has become of its layout.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::wish::{NodeLabels, STATE_LABEL};
use super::words::MigState;
use crate::backoff::Backoff;
use crate::cluster::{Cluster, Known, set_label};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Sets the label to each state in turn, until nobody has any more to say. While the API takes
/// none, only the newest is kept.
pub(super) async fn keep(
    cluster: Cluster,
    node: String,
    seen: watch::Receiver<Known<NodeLabels>>,
    mut states: mpsc::UnboundedReceiver<Option<MigState>>,
) {
    let mut known = Label::Unknown;
    while let Some(mut state) = states.recv().await {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut said = None;
        loop {
            let value = state.map(MigState::as_str);
            if known.or_seen(&seen.borrow()) == Label::Is(value.map(str::to_owned)) {
                break;
            }
            match set_label(&cluster, &node, STATE_LABEL, value).await {
                Ok(()) => {
                    known = Label::Is(value.map(str::to_owned));
                    break;
                }
                Err(error) => {
                    if said.as_ref() != Some(&error) {
                        tracing::warn!(
                            event = "mig-state-not-set",
                            error,
                            state = value.unwrap_or("(none)"),
                            "the Node's label {STATE_LABEL} cannot be set; trying again"
                        );
                        said = Some(error);
                    }
                    let pause = backoff.failed();
                    match timeout(pause, states.recv()).await {
                        Ok(Some(newer)) => state = newest(newer, &mut states),
                        Ok(None) => return,
                        Err(_) => {}
                    }
                }
            }
        }
    }
}

/// What the label is, as far as this process knows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Label {
    Unknown,
    Is(Option<String>),
}

impl Label {
    /// What it was set to last, or else what is seen: whatever others make of it later is theirs.
    fn or_seen(&self, seen: &Known<NodeLabels>) -> Self {
        match (self, seen) {
            (Self::Unknown, Known::Is(labels)) => Self::Is(labels.state.clone()),
            (known, _) => known.clone(),
        }
    }
}

fn newest(
    state: Option<MigState>,
    states: &mut mpsc::UnboundedReceiver<Option<MigState>>,
) -> Option<MigState> {
    let mut newest = state;
    while let Ok(newer) = states.try_recv() {
        newest = newer;
    }
    newest
}
