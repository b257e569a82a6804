//! One object of the API, followed for as long as the agent runs.
//!
//! The object is listed by its name and then watched from there on, so its coming and going is
//! noticed as well. Of the object only what a config needs is kept while an answer is read.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use super::{Cluster, is_forbidden, words};
use crate::backoff::Backoff;

/// Waits between attempts to reach the API.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long an answer may take to begin.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long the API keeps a watch open: a time in this range, in seconds, by the object's name,
/// so that the watches of many nodes do not end together.
const WATCH_SECONDS: std::ops::Range<u32> = 200..290;
/// A watch that is silent for this long after it should have ended is dead.
const WATCH_SLACK: Duration = Duration::from_secs(10);
/// A watch that ends sooner, and has told nothing, does not work.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);
const ENDED_AT_ONCE: &str = "its watch ended at once";

/// Which object, and what of it.
#[derive(Debug, Clone)]
pub(crate) struct OneObject {
    /// The path of its kind, `/api/v1/nodes`.
    pub(crate) path: String,
    /// Its name.
    pub(crate) name: String,
    /// Whether its metadata is enough.
    pub(crate) metadata_only: bool,
    /// What to call it in words.
    pub(crate) words: String,
    /// Which rule lets the agent watch it, in words.
    pub(crate) rule: String,
}

/// What is read of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Object {
    metadata: Metadata,
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    resource_version: String,
    labels: Option<BTreeMap<String, String>>,
}

impl Object {
    /// The value of one of its labels.
    pub(crate) fn label(&self, key: &str) -> Option<String> {
        self.metadata.labels.as_ref()?.get(key).cloned()
    }

    /// What a ConfigMap holds as text.
    pub(crate) fn into_data(self) -> BTreeMap<String, String> {
        self.data.unwrap_or_default()
    }
}

#[derive(Debug, Clone, Deserialize)]
struct List {
    metadata: Metadata,
    #[serde(default = "Vec::new")]
    items: Vec<Object>,
}

/// What is seen of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sight {
    /// The API does not answer.
    Away,
    /// The API refuses to show it.
    Forbidden,
    /// There is none.
    Absent,
    /// It is like this.
    Present(Object),
}

/// Why a watch ended.
enum Failure {
    Api(kube::Error),
    Other(String),
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        Self::Api(error)
    }
}

/// What was last said about the way to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Away,
    Forbidden,
}

/// Tells what is seen of `object`, from now on and for ever.
pub(crate) async fn follow(cluster: Cluster, object: OneObject, mut tell: impl FnMut(Sight)) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut said = Said::Nothing;
    loop {
        let begun = Instant::now();
        let mut seen = |sight: Sight| {
            if said != Said::Nothing {
                said = Said::Nothing;
                tracing::info!(event = "api-back", "{} is watched again", object.words);
            }
            tell(sight);
        };
        let ended = match cluster.client() {
            Ok(client) => watch(&client, &object, &mut seen).await,
            Err(error) => Err(Failure::Other(error)),
        };
        let lasted = begun.elapsed() >= SHORTEST_WATCH;
        let failure = match ended {
            // The API has forgotten where we were: begin at once, but not in a circle.
            Ok(()) if lasted => continue,
            Ok(()) => Failure::Other(ENDED_AT_ONCE.to_owned()),
            Err(failure) => failure,
        };
        if lasted {
            backoff.reset();
        }
        let (sight, now) = sight_of(&failure);
        if said != now {
            said = now;
            complain(&object, &failure);
        }
        tell(sight);
        sleep(backoff.failed()).await;
    }
}

fn sight_of(failure: &Failure) -> (Sight, Said) {
    match failure {
        Failure::Api(error) if is_forbidden(error) => (Sight::Forbidden, Said::Forbidden),
        Failure::Api(_) | Failure::Other(_) => (Sight::Away, Said::Away),
    }
}

fn complain(object: &OneObject, failure: &Failure) {
    match failure {
        Failure::Api(error) if is_forbidden(error) => tracing::error!(
            event = "api-forbidden",
            error = words(error),
            todo = object.rule,
            "the Kubernetes API does not let the agent watch {}",
            object.words
        ),
        Failure::Api(_) | Failure::Other(_) => {
            let why = match failure {
                Failure::Api(error) => words(error),
                Failure::Other(why) => why.clone(),
            };
            tracing::warn!(
                event = "api-away",
                error = why,
                "{} cannot be watched through the Kubernetes API; trying again",
                object.words
            );
        }
    }
}

/// Lists the object, and watches it from there on; ends well when it must be listed again.
async fn watch(
    client: &Client,
    object: &OneObject,
    tell: &mut impl FnMut(Sight),
) -> Result<(), Failure> {
    let list: List = timeout(ANSWER_LIMIT, client.request(list_request(object)?))
        .await
        .map_err(|_| Failure::Other(format!("no answer within {} s", ANSWER_LIMIT.as_secs())))??;
    tell(
        list.items
            .into_iter()
            .next()
            .map_or(Sight::Absent, Sight::Present),
    );
    let mut version = list.metadata.resource_version;
    let (parameters, limit) = watch_parameters(object);
    loop {
        let begun = Instant::now();
        let before = version.clone();
        let request = watch_request(object, &parameters, &version)?;
        let opening = client.request_events::<Object>(request);
        let Ok(opened) = timeout(ANSWER_LIMIT, opening).await else {
            return Err(Failure::Other("the watch was not answered".to_owned()));
        };
        let events = match opened {
            Err(kube::Error::Api(status)) if is_gone(&status) => return Ok(()),
            opened => opened?,
        };
        let mut events = pin!(events);
        loop {
            let Ok(event) = timeout(limit, events.try_next()).await else {
                return Err(Failure::Other("the watch fell silent".to_owned()));
            };
            match event? {
                None => break,
                Some(WatchEvent::Added(seen) | WatchEvent::Modified(seen)) => {
                    version.clone_from(&seen.metadata.resource_version);
                    tell(Sight::Present(seen));
                }
                Some(WatchEvent::Deleted(seen)) => {
                    version = seen.metadata.resource_version;
                    tell(Sight::Absent);
                }
                Some(WatchEvent::Bookmark(mark)) => version = mark.metadata.resource_version,
                Some(WatchEvent::Error(status)) if is_gone(&status) => return Ok(()),
                Some(WatchEvent::Error(status)) => return Err(kube::Error::Api(status).into()),
            }
        }
        if begun.elapsed() < SHORTEST_WATCH && version == before {
            return Err(Failure::Other(ENDED_AT_ONCE.to_owned()));
        }
    }
}

/// The version from which to go on is not known any more.
fn is_gone(status: &kube::core::Status) -> bool {
    status.code == 410
}

fn selector(object: &OneObject) -> String {
    format!("metadata.name={}", object.name)
}

fn list_request(object: &OneObject) -> Result<http::Request<Vec<u8>>, Failure> {
    let parameters = ListParams::default().fields(&selector(object));
    let request = Request::new(&object.path);
    let built = if object.metadata_only {
        request.list_metadata(&parameters)
    } else {
        request.list(&parameters)
    };
    built.map_err(|error| Failure::Api(kube::Error::BuildRequest(error)))
}

fn watch_request(
    object: &OneObject,
    parameters: &WatchParams,
    version: &str,
) -> Result<http::Request<Vec<u8>>, Failure> {
    let request = Request::new(&object.path);
    let built = if object.metadata_only {
        request.watch_metadata(parameters, version)
    } else {
        request.watch(parameters, version)
    };
    built.map_err(|error| Failure::Api(kube::Error::BuildRequest(error)))
}

fn watch_parameters(object: &OneObject) -> (WatchParams, Duration) {
    let mut hasher = DefaultHasher::new();
    object.name.hash(&mut hasher);
    let spread = u64::from(WATCH_SECONDS.end - WATCH_SECONDS.start);
    let offset = u32::try_from(hasher.finish() % spread).unwrap_or_default();
    let seconds = WATCH_SECONDS.start + offset;
    let parameters = WatchParams::default()
        .fields(&selector(object))
        .timeout(seconds);
    let limit = Duration::from_secs(seconds.into()) + WATCH_SLACK;
    (parameters, limit)
}
