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
    let mut set: Option<Option<&'static str>> = None;
    while let Some(mut state) = states.recv().await {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut said = None;
        loop {
            let value = state.map(MigState::as_str);
            if is_so(set, &seen.borrow(), value) {
                set = Some(value);
                break;
            }
            match set_label(&cluster, &node, STATE_LABEL, value).await {
                Ok(()) => {
                    set = Some(value);
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

/// Whether the label has this value, as far as this process knows: by what it has set itself, or
/// else by what is seen.
fn is_so(
    set: Option<Option<&'static str>>,
    seen: &Known<NodeLabels>,
    value: Option<&'static str>,
) -> bool {
    match (set, seen) {
        (Some(set), _) => set == value,
        (None, Known::Is(labels)) => labels.state.as_deref() == value,
        (None, Known::NotYet | Known::Away | Known::Refused) => false,
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
