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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use http::{Request, Response};
    use http_body_util::BodyExt as _;
    use kube::Client;
    use kube::client::Body;
    use serde_json::Value;
    use tokio::task::JoinSet;

    use super::*;

    /// An API that takes labels unless it is `away`, and hands their values on.
    fn api(away: Arc<AtomicBool>) -> (Cluster, mpsc::UnboundedReceiver<Value>) {
        let (seen, values) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (seen, away) = (seen.clone(), away.clone());
            async move {
                if away.load(Ordering::Relaxed) {
                    let gone = Response::builder().status(503);
                    return Ok::<_, Infallible>(gone.body(Body::empty()).unwrap());
                }
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let change: Value = serde_json::from_slice(&body).unwrap();
                seen.send(change["metadata"]["labels"][STATE_LABEL].clone())
                    .unwrap();
                Ok(Response::new(Body::from(b"{}".to_vec())))
            }
        });
        let factory = move || Ok(Client::new(service.clone(), "default"));
        (Cluster::new(Arc::new(factory)), values)
    }

    fn seen(state: Option<&str>) -> watch::Receiver<Known<NodeLabels>> {
        let labels = NodeLabels {
            config: None,
            state: state.map(str::to_owned),
        };
        watch::channel(Known::Is(labels)).1
    }

    #[tokio::test(start_paused = true)]
    async fn each_state_is_set_once_and_none_that_is_there_already() {
        let (cluster, mut values) = api(Arc::default());
        let (states, wanted) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(keep(
            cluster,
            "node".to_owned(),
            seen(Some("success")),
            wanted,
        ));
        for state in [
            Some(MigState::Success),
            Some(MigState::Pending),
            Some(MigState::Pending),
            Some(MigState::Success),
            None,
            None,
        ] {
            states.send(state).unwrap();
        }
        drop(states);
        tasks.join_all().await;
        let mut set = Vec::new();
        while let Some(value) = values.recv().await {
            set.push(value);
        }
        assert_eq!(
            set,
            [Value::from("pending"), Value::from("success"), Value::Null]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_that_was_away_hears_the_newest_state_only() {
        let away = Arc::new(AtomicBool::new(true));
        let (cluster, mut values) = api(away.clone());
        let (states, wanted) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(keep(cluster, "node".to_owned(), seen(None), wanted));
        for state in [MigState::Pending, MigState::Failed, MigState::Success] {
            states.send(Some(state)).unwrap();
        }
        tokio::time::sleep(Duration::from_mins(1)).await;
        away.store(false, Ordering::Relaxed);
        assert_eq!(values.recv().await, Some(Value::from("success")));
        drop(states);
        tasks.join_all().await;
        assert!(values.try_recv().is_err());
    }
}
