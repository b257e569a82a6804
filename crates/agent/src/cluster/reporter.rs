//! Events about the Node: what `kubectl describe node` shows of this agent.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Request;
use k8s_openapi::jiff::Timestamp;
use mizzen_core::node_health::HealthEvent;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Cluster, Refusal, send};
use crate::backoff::Backoff;
use crate::clock::Clock;

/// Reports that may wait for the API.
const QUEUE: usize = 8;
/// The most that the API takes as an Event's message, in bytes.
const MESSAGE_LIMIT: usize = 1024;
/// How often a report is offered to an API that does not take it.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Events at once, and how long until another may follow once these are used up.
const BURST: u32 = 10;
const REFILL: Duration = Duration::from_secs(30);
const TOO_MANY: &str = "there were too many Events in a short time";
/// Where Events about Nodes are: a Node has no namespace.
const EVENTS: &str = "/api/v1/namespaces/default/events";
const COMPONENT: &str = "mizzen-agent";
/// Which rule lets the agent post Events.
const RULE: &str = "the agent's ServiceAccount needs a Role in the namespace default with verbs \
                    [create, patch] on resources [events] of apiGroups [\"\"]";

/// What an Event says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Report {
    /// A config cannot be used, and why.
    InvalidConfig(String),
    /// A config has come into force.
    ConfigApplied(String),
    /// GPUs begin to be partitioned anew.
    MigConfigApplying(String),
    /// All GPUs are partitioned as asked for.
    MigConfigApplied(String),
    /// Some GPU cannot be partitioned yet, and what must happen before.
    MigConfigWaiting(String),
    /// Some GPU is not partitioned as asked for, and why.
    MigConfigFailed(String),
    /// Something has changed about the health of GPUs.
    Health(HealthEvent),
}

impl Report {
    fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Self::InvalidConfig(_) => ("Warning", "InvalidConfig"),
            Self::ConfigApplied(_) => ("Normal", "ConfigApplied"),
            Self::MigConfigApplying(_) => ("Normal", "MigConfigApplying"),
            Self::MigConfigApplied(_) => ("Normal", "MigConfigApplied"),
            Self::MigConfigWaiting(_) => ("Warning", "MigConfigWaiting"),
            Self::MigConfigFailed(_) => ("Warning", "MigConfigFailed"),
            Self::Health(event) if event.is_warning => ("Warning", event.reason),
            Self::Health(event) => ("Normal", event.reason),
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::InvalidConfig(message)
            | Self::ConfigApplied(message)
            | Self::MigConfigApplying(message)
            | Self::MigConfigApplied(message)
            | Self::MigConfigWaiting(message)
            | Self::MigConfigFailed(message) => message,
            Self::Health(event) => &event.message,
        }
    }

    /// Whether it is true until something else is said: a mistake that somebody must put right.
    fn lasts(&self) -> bool {
        self.kind().0 == "Warning"
    }
}

/// Takes reports and never waits.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    queue: mpsc::Sender<Report>,
}

impl Reporter {
    /// A reporter, and the end of its queue that [`post`] empties.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Report>) {
        let (queue, reports) = mpsc::channel(QUEUE);
        (Self { queue }, reports)
    }

    /// Sends a report when the API takes it; drops it where too many wait already.
    pub(crate) fn tell(&self, report: Report) {
        if let Err(error) = self.queue.try_send(report) {
            let report = error.into_inner();
            dropped(&report, "too many Events wait for the Kubernetes API");
        }
    }
}

fn dropped(report: &Report, why: &str) {
    let (_, reason) = report.kind();
    tracing::warn!(
        event = "event-dropped",
        reason,
        error = why,
        "a Kubernetes Event was not sent; its text is in this log"
    );
}

/// Posts reports about the Node `node` until nobody can make any more.
pub(crate) async fn post(
    cluster: Cluster,
    node: String,
    clock: Clock,
    mut reports: mpsc::Receiver<Report>,
) {
    let mut allowance = Allowance::new();
    // The Events of this process, by what they say: one that repeats is counted, as the
    // kubelet's are.
    let mut posted: BTreeMap<Report, Posted> = BTreeMap::new();
    let mut waiting = None;
    while let Some(report) = next(&mut reports, &mut waiting, &allowance).await {
        if !allowance.take() {
            if report.lasts() {
                waiting = Some(report);
            } else {
                dropped(&report, TOO_MANY);
            }
            continue;
        }
        let known = posted.get(&report).cloned();
        match offer(&cluster, &node, clock, &report, known).await {
            Ok(event) => {
                if posted.len() >= QUEUE {
                    posted.clear();
                }
                posted.insert(report, event);
            }
            Err(why) => dropped(&report, &why),
        }
    }
}

/// The next report: what is new at once, or else the one that waits when another Event may be
/// sent.
async fn next(
    reports: &mut mpsc::Receiver<Report>,
    waiting: &mut Option<Report>,
    allowance: &Allowance,
) -> Option<Report> {
    let Some(report) = waiting.take() else {
        return reports.recv().await;
    };
    match timeout_at(allowance.refilled(), reports.recv()).await {
        Ok(newer) => {
            dropped(&report, TOO_MANY);
            newer
        }
        Err(_) => Some(report),
    }
}

/// An Event that the API has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Posted {
    name: String,
    count: u32,
}

/// Offers one report until the API takes it, forbids it or has been away for too long.
async fn offer(
    cluster: &Cluster,
    node: &str,
    clock: Clock,
    report: &Report,
    mut known: Option<Posted>,
) -> Result<Posted, String> {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut why = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            sleep(backoff.failed()).await;
        }
        match try_to_post(cluster, node, clock, report, known.as_ref()).await {
            Ok(posted) => return Ok(posted),
            Err(refusal) if refusal.code == Some(403) => return Err(refusal.words),
            Err(refusal) => {
                // The API has forgotten it; it keeps Events for an hour.
                if refusal.code == Some(404) {
                    known = None;
                }
                why = refusal.words;
            }
        }
    }
    Err(why)
}

/// Posts Events one by one, for somebody who tries again by themselves.
#[derive(Clone)]
pub(crate) struct Poster {
    pub(crate) cluster: Cluster,
    pub(crate) node: String,
    pub(crate) clock: Clock,
}

impl Poster {
    /// Posts this once.
    ///
    /// # Errors
    /// Why the API has not taken it.
    pub(crate) async fn post(&self, report: &Report) -> Result<(), Refusal> {
        let posted = try_to_post(&self.cluster, &self.node, self.clock, report, None).await;
        posted.map(|_| ())
    }
}

async fn try_to_post(
    cluster: &Cluster,
    node: &str,
    clock: Clock,
    report: &Report,
    known: Option<&Posted>,
) -> Result<Posted, Refusal> {
    let now = time(clock);
    let request = match known {
        Some(event) => again(event, &now),
        None => first(node, report, &now),
    };
    let client = cluster.client().map_err(Refusal::of)?;
    let answer = send::<Answer>(
        &client,
        request.map_err(|error| Refusal::of(error.to_string()))?,
    )
    .await;
    let answer = answer.map_err(|refusal| match refusal.code {
        Some(403) => Refusal {
            words: format!("{}; {RULE}", refusal.words),
            ..refusal
        },
        _ => refusal,
    })?;
    Ok(Posted {
        name: answer.metadata.name,
        count: known.map_or(1, |event| event.count + 1),
    })
}

#[derive(Debug, Deserialize)]
struct Answer {
    metadata: Name,
}

#[derive(Debug, Deserialize)]
struct Name {
    name: String,
}

fn time(clock: Clock) -> String {
    let seconds = i64::try_from(clock.now().wall).unwrap_or_default();
    Timestamp::from_second(seconds)
        .unwrap_or_default()
        .to_string()
}

fn first(node: &str, report: &Report, now: &str) -> Result<Request<Vec<u8>>, http::Error> {
    let (kind, reason) = report.kind();
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "generateName": format!("{node}."), "namespace": "default" },
        // The kubelet, too, gives its Node's name as the uid, and kubectl looks for it.
        "involvedObject": { "apiVersion": "v1", "kind": "Node", "name": node, "uid": node },
        "type": kind,
        "reason": reason,
        "message": shortened(report.message()),
        "source": { "component": COMPONENT, "host": node },
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    });
    request(Request::post(EVENTS), "application/json", &event)
}

fn again(event: &Posted, now: &str) -> Result<Request<Vec<u8>>, http::Error> {
    let change = json!({ "count": event.count + 1, "lastTimestamp": now });
    let path = format!("{EVENTS}/{}", event.name);
    request(
        Request::patch(path),
        "application/merge-patch+json",
        &change,
    )
}

fn request(
    builder: http::request::Builder,
    content: &str,
    body: &Value,
) -> Result<Request<Vec<u8>>, http::Error> {
    builder
        .header(http::header::CONTENT_TYPE, content)
        .body(body.to_string().into_bytes())
}

/// `message`, cut where the API would refuse it.
fn shortened(message: &str) -> String {
    mizzen_core::node_health::shortened(message, MESSAGE_LIMIT)
}

/// How many Events may be sent now.
#[derive(Debug)]
struct Allowance {
    left: u32,
    filled: Instant,
}

impl Allowance {
    fn new() -> Self {
        Self {
            left: BURST,
            filled: Instant::now(),
        }
    }

    /// When one more may be sent, if none may now.
    fn refilled(&self) -> Instant {
        self.filled + REFILL
    }

    fn take(&mut self) -> bool {
        while self.left < BURST && self.filled.elapsed() >= REFILL {
            self.left += 1;
            self.filled += REFILL;
        }
        if self.left == BURST {
            self.filled = Instant::now();
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use http::Response;
    use http_body_util::BodyExt as _;
    use kube::Client;
    use kube::client::Body;
    use tokio::task::JoinSet;

    use super::*;

    /// An API that takes every Event and hands its message on.
    fn api() -> (Cluster, mpsc::UnboundedReceiver<String>) {
        let (seen, messages) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<Body>| {
            let seen = seen.clone();
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let event: Value = serde_json::from_slice(&body).unwrap();
                seen.send(event["message"].as_str().unwrap().to_owned())
                    .unwrap();
                let answer = json!({ "metadata": { "name": "event" } }).to_string();
                Ok::<_, Infallible>(Response::new(Body::from(answer.into_bytes())))
            }
        });
        let factory = move || Ok(Client::new(service.clone(), "default"));
        (Cluster::new(Arc::new(factory)), messages)
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_mistake_waits_until_it_may_be_sent_and_none_that_is_over() {
        let (cluster, mut messages) = api();
        let (queue, reports) = mpsc::channel(32);
        let mut tasks = JoinSet::new();
        tasks.spawn(post(cluster, "node".to_owned(), Clock::new(), reports));
        let wrong = |number: u32| Report::InvalidConfig(number.to_string());
        let begun = Instant::now();
        for number in 0..BURST + 3 {
            queue.send(wrong(number)).await.unwrap();
        }
        for number in 0..BURST {
            assert_eq!(messages.recv().await, Some(number.to_string()));
        }
        assert!(begun.elapsed() < REFILL);
        assert_eq!(messages.recv().await, Some((BURST + 2).to_string()));
        assert!(begun.elapsed() >= REFILL);

        // One that is put right while it waits is not told afterwards.
        for report in [wrong(20), Report::ConfigApplied("right".to_owned())] {
            queue.send(report).await.unwrap();
        }
        tokio::time::sleep(REFILL * 2).await;
        queue.send(wrong(21)).await.unwrap();
        assert_eq!(messages.recv().await, Some("21".to_owned()));
    }

    #[test]
    fn a_message_is_cut_between_letters_to_what_the_api_takes() {
        assert_eq!(shortened("short"), "short");
        let long = "ü".repeat(600);
        let cut = shortened(&long);
        assert!(cut.len() <= MESSAGE_LIMIT && cut.len() > MESSAGE_LIMIT - 4);
        assert!(cut.ends_with("ü …"), "{cut}");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_burst_events_are_rationed() {
        let mut allowance = Allowance::new();
        let taken = (0..BURST + 5).filter(|_| allowance.take()).count();
        assert_eq!(taken, 10);
        tokio::time::advance(REFILL * 2).await;
        let taken = (0..5).filter(|_| allowance.take()).count();
        assert_eq!(taken, 2);
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_never_waits() {
        let (reporter, mut reports) = Reporter::new();
        for number in 0..QUEUE + 3 {
            reporter.tell(Report::InvalidConfig(number.to_string()));
        }
        drop(reporter);
        let mut waiting = 0;
        while reports.recv().await.is_some() {
            waiting += 1;
        }
        assert_eq!(waiting, QUEUE);
    }
}
