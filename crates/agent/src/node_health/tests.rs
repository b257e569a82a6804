//! What is sent to an API when GPUs get sick, are lost and recover.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use mizzen_core::config::{HealthTuning, LostTaint, NodeHealthConfig};
use mizzen_core::driver::{DriverError, DriverEvent, DriverEventKind};
use mizzen_core::gpu::GpuUuid;
use mizzen_core::health::Moment;
use mizzen_core::inventory::{DriverVersions, Inventory};
use mizzen_core::state::{Discovery, Event};
use mizzen_core::topology::{Link, LinkMatrix};
use mizzen_testkit::{WELL, gpus};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::*;
use crate::clock::Clock;

const NODE: &str = "node-7";
const MINUTE: Duration = Duration::from_mins(1);
const TAINT: &str = "mizzen.dev/gpus-lost";

/// An API with one Node.
#[derive(Clone)]
struct Api(Arc<Mutex<World>>);

struct World {
    uid: &'static str,
    version: u64,
    condition: Option<Value>,
    taints: Vec<Value>,
    /// Taints that somebody sets after the Node was read and before it is written.
    rivals: Vec<Value>,
    events: Vec<Value>,
    away: bool,
    forbidden: BTreeSet<&'static str>,
    requests: Vec<&'static str>,
}

impl Api {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(World {
            uid: "uid-1",
            version: 7,
            condition: None,
            taints: vec![json!({ "key": "example.com/theirs", "effect": "NoExecute",
                "timeAdded": "2026-01-01T00:00:00Z" })],
            rivals: Vec::new(),
            events: Vec::new(),
            away: false,
            forbidden: BTreeSet::new(),
            requests: Vec::new(),
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// What was asked since the last time, Events left out.
    fn asked(&self) -> Vec<&'static str> {
        let mut asked = std::mem::take(&mut self.world().requests);
        asked.retain(|what| *what != "event");
        asked
    }

    fn status(&self) -> Option<String> {
        let world = self.world();
        Some(world.condition.as_ref()?["status"].as_str()?.to_owned())
    }

    fn condition(&self) -> Value {
        self.world().condition.clone().unwrap()
    }

    /// The reasons of the Events since the last time.
    fn events(&self) -> Vec<String> {
        let events = std::mem::take(&mut self.world().events);
        let reason = |event: &Value| event["reason"].as_str().unwrap().to_owned();
        events.iter().map(reason).collect()
    }

    fn taints(&self) -> Vec<String> {
        let world = self.world();
        let text = |taint: &Value| {
            let part = |name: &str| taint[name].as_str().unwrap();
            format!("{}:{}", part("key"), part("effect"))
        };
        world.taints.iter().map(text).collect()
    }

    fn cluster(&self) -> Cluster {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let change = serde_json::from_slice(&body).unwrap_or_default();
                Ok::<_, Infallible>(api.world().answer(&parts, &change))
            }
        });
        Cluster::new(Arc::new(move || Ok(Client::new(service.clone(), "gpus"))))
    }
}

impl World {
    fn answer(&mut self, parts: &http::request::Parts, change: &Value) -> Response<Body> {
        let what = match (parts.method.as_str(), parts.uri.path()) {
            ("GET", "/api/v1/nodes/node-7") => "get",
            ("PATCH", "/api/v1/nodes/node-7/status") => "condition",
            ("PATCH", "/api/v1/nodes/node-7") => "taint",
            ("POST", "/api/v1/namespaces/default/events") => "event",
            other => panic!("nobody should ask for {other:?}"),
        };
        self.requests.push(what);
        if self.away {
            return status(503, "it is away");
        }
        if self.forbidden.contains(what) {
            return status(403, "it is forbidden");
        }
        match what {
            "condition" => self.tell(parts, change),
            "taint" => self.taint(parts, change),
            "event" => {
                self.events.push(change.clone());
                whole(&json!({ "metadata": { "name": "event" } }))
            }
            _ => {
                let node = self.node();
                if !parts
                    .uri
                    .query()
                    .unwrap_or_default()
                    .contains("resourceVersion=0")
                    && let Some(rival) = self.rivals.pop()
                {
                    self.taints.push(rival);
                    self.version += 1;
                }
                whole(&node)
            }
        }
    }

    fn node(&self) -> Value {
        let ready = json!({ "type": "Ready", "status": "True", "reason": "KubeletReady" });
        let conditions: Vec<&Value> = [&ready].into_iter().chain(&self.condition).collect();
        let mut node = json!({
            "metadata": { "name": NODE, "uid": self.uid,
                "resourceVersion": self.version.to_string() },
            "status": { "conditions": conditions },
        });
        if !self.taints.is_empty() {
            node["spec"] = json!({ "taints": self.taints });
        }
        node
    }

    /// Server-side apply of the status.
    fn tell(&mut self, parts: &http::request::Parts, change: &Value) -> Response<Body> {
        assert_eq!(
            parts.headers["content-type"],
            "application/apply-patch+yaml"
        );
        let query = parts.uri.query().unwrap();
        assert!(query.contains("fieldManager=mizzen-health"), "{query}");
        if change["metadata"]["uid"] != self.uid {
            return status(422, "metadata.uid: field is immutable");
        }
        let conditions = change["status"]["conditions"].as_array();
        self.condition = conditions.and_then(|all| all.first().cloned());
        if let Some(condition) = &self.condition {
            assert_eq!(condition["type"], "GPUHealthy");
            assert!(condition["lastHeartbeatTime"].is_string());
        }
        self.version += 1;
        whole(&self.node())
    }

    /// A merge patch of the Node as it was read.
    fn taint(&mut self, parts: &http::request::Parts, change: &Value) -> Response<Body> {
        assert_eq!(
            parts.headers["content-type"],
            "application/merge-patch+json"
        );
        let metadata = &change["metadata"];
        let version = self.version.to_string();
        if metadata["uid"] != self.uid || metadata["resourceVersion"] != version {
            return status(409, "the object has been modified");
        }
        self.taints = change["spec"]["taints"].as_array().unwrap().clone();
        self.version += 1;
        whole(&self.node())
    }
}

fn whole(object: &Value) -> Response<Body> {
    Response::new(object.to_string().into_bytes().into())
}

fn status(code: u16, message: &str) -> Response<Body> {
    let status = json!({ "kind": "Status", "code": code, "message": message });
    let body = status.to_string().into_bytes().into();
    Response::builder().status(code).body(body).unwrap()
}

/// The picture of a node with GPUs that recover as soon as they answer.
struct Picture {
    state: NodeState,
    tell: watch::Sender<Arc<NodeState>>,
    begin: Instant,
}

impl Picture {
    fn of(count: u32) -> Self {
        let config = Config {
            health: HealthTuning {
                hold_down: Duration::ZERO,
                check_interval: Duration::from_secs(30),
                nvml_call_timeout: Duration::from_secs(5),
            },
            host_root: "/nonexistent".into(),
            ..Config::default()
        };
        let begin = Instant::now();
        let moment = Moment {
            monotonic: Duration::ZERO,
            wall: 1_764_073_800,
        };
        let state = NodeState::new(Arc::new(config), Vec::new(), moment);
        let (tell, _) = watch::channel(Arc::new(state.clone()));
        let mut picture = Self { state, tell, begin };
        picture.discover(count);
        picture
    }

    fn discover(&mut self, count: u32) {
        let gpus = gpus(count);
        let inventory = Inventory {
            driver: DriverVersions {
                driver: "580.95.05".to_owned(),
                nvml: "13.580.95.05".to_owned(),
                cuda: (13, 0),
            },
            links: LinkMatrix::from_fn(gpus.len(), |_, _| Link::UNKNOWN),
            gpus,
            broken: Vec::new(),
        };
        let discovery = Discovery {
            inventory,
            ..Discovery::default()
        };
        self.apply(Event::Discovered(Box::new(discovery)));
    }

    fn apply(&mut self, event: Event) {
        let passed = self.begin.elapsed();
        let now = Moment {
            monotonic: passed,
            wall: 1_764_073_800 + passed.as_secs(),
        };
        self.state.apply(event, now);
        self.tell.send_replace(Arc::new(self.state.clone()));
    }

    fn xid(&mut self, gpu: u32, number: u64) {
        self.apply(Event::Driver(DriverEvent {
            gpu: Some(uuid(gpu)),
            kind: DriverEventKind::Xid(number),
            gpu_instance: None,
            compute_instance: None,
        }));
    }

    fn lose(&mut self, gpu: u32) {
        self.apply(Event::Checked(uuid(gpu), Err(DriverError::GpuLost)));
    }

    fn heal(&mut self, gpu: u32) {
        self.apply(Event::Checked(uuid(gpu), Ok(WELL)));
    }
}

fn uuid(index: u32) -> GpuUuid {
    gpus(index + 1).pop().unwrap().uuid
}

const TELL: NodeHealthConfig = NodeHealthConfig {
    tell: true,
    taint: LostTaint::Off,
};
const TAINTS: NodeHealthConfig = NodeHealthConfig {
    tell: true,
    taint: LostTaint::NoSchedule,
};

/// An agent's tasks.
struct Agent(JoinSet<()>);

impl Agent {
    fn start(api: &Api, dir: &TempDir, settings: &NodeHealthConfig, picture: &Picture) -> Self {
        let mut tasks = JoinSet::new();
        let (cluster, clock) = (api.cluster(), Clock::new());
        if settings.tell {
            let poster = Poster {
                cluster: cluster.clone(),
                node: NODE.to_owned(),
                clock,
            };
            let told = Memory::new(dir.path(), TOLD_FILE);
            tasks.spawn(events::tell(picture.tell.subscribe(), poster, told));
        }
        let keeper = condition::Keeper {
            settings: settings.clone(),
            boot_id: "boot".to_owned(),
            memory: Memory::new(dir.path(), NODE_FILE),
            writer: Writer::new(cluster, NODE.to_owned(), clock),
        };
        tasks.spawn(keeper.run(picture.tell.subscribe()));
        Self(tasks)
    }

    async fn stop(mut self) {
        self.0.shutdown().await;
    }
}

/// Long enough for what is told after others had time to join.
async fn a_while() {
    sleep(Duration::from_secs(3)).await;
}

#[tokio::test(start_paused = true)]
async fn an_xid_is_one_event_and_a_condition_with_its_reason_and_so_is_the_recovery() {
    let (api, dir, mut picture) = (Api::new(), tempfile::tempdir().unwrap(), Picture::of(8));
    let _agent = Agent::start(&api, &dir, &TELL, &picture);
    a_while().await;
    assert_eq!(api.asked(), ["get", "condition"]);
    let first = api.condition();
    assert_eq!(first["message"], "8 GPUs are healthy");
    assert!(api.events().is_empty());

    picture.xid(2, 79);
    picture.lose(2);
    a_while().await;
    assert_eq!(api.asked(), ["condition"]);
    let sick = api.condition();
    assert_eq!(
        (&sick["status"], &sick["reason"]),
        (&json!("False"), &json!("GPULost"))
    );
    assert!(
        sick["message"].as_str().unwrap().contains("Xid 79"),
        "{sick}"
    );
    assert_eq!(api.events(), ["GPULost"]);

    picture.xid(2, 48);
    a_while().await;
    let worse = api.condition();
    assert_ne!(worse["message"], sick["message"]);
    assert_eq!(worse["lastTransitionTime"], sick["lastTransitionTime"]);
    picture.heal(2);
    a_while().await;
    assert_eq!(api.status().as_deref(), Some("True"));
    assert_eq!(api.events(), ["GPULost", "GPUHealthy"]);
    sleep(MINUTE * 30).await;
    assert_eq!(
        api.asked(),
        ["condition", "condition"],
        "nothing goes by time alone"
    );
}

#[tokio::test(start_paused = true)]
async fn a_gpu_that_flaps_costs_few_writes_and_the_last_of_them_is_right() {
    let (api, dir, mut picture) = (Api::new(), tempfile::tempdir().unwrap(), Picture::of(8));
    let _agent = Agent::start(&api, &dir, &TELL, &picture);
    a_while().await;
    for round in 0..100 {
        picture.xid(2, 48);
        a_while().await;
        if round < 99 {
            picture.heal(2);
            a_while().await;
        }
    }
    let writes = api.asked().len();
    assert!((10..=6 + 600 / 30 + 2).contains(&writes), "{writes}");
    sleep(MINUTE).await;
    assert_eq!(api.status().as_deref(), Some("False"));
    sleep(MINUTE * 20).await;
    let events = api.events();
    assert_eq!(events.len(), 5, "four at once, and one ten minutes later");
    assert_eq!(events[4], "GPUUnhealthy");
    assert!(api.asked().len() <= 2);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_away_for_minutes_is_told_what_is_true_then() {
    let (api, dir, mut picture) = (Api::new(), tempfile::tempdir().unwrap(), Picture::of(8));
    let _agent = Agent::start(&api, &dir, &TELL, &picture);
    a_while().await;
    api.world().away = true;
    picture.xid(2, 48);
    sleep(MINUTE).await;
    picture.xid(5, 79);
    sleep(MINUTE * 4).await;
    assert!(api.asked().len() < 20, "it is not asked all the time");
    api.world().away = false;
    sleep(MINUTE * 10).await;
    assert_eq!(api.events(), ["GPULost", "GPUUnhealthy"]);
    let condition = api.condition();
    let message = condition["message"].as_str().unwrap();
    assert!(message.starts_with("2 of 8 GPUs are not well"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_with_the_same_gpus_writes_nothing_and_another_tells_what_has_changed() {
    let (api, dir, mut picture) = (Api::new(), tempfile::tempdir().unwrap(), Picture::of(8));
    let agent = Agent::start(&api, &dir, &TELL, &picture);
    a_while().await;
    picture.xid(2, 48);
    a_while().await;
    agent.stop().await;
    api.asked();
    api.events();

    let agent = Agent::start(&api, &dir, &TELL, &picture);
    sleep(Duration::from_secs(29)).await;
    assert!(api.asked().is_empty());
    sleep(MINUTE * 5).await;
    assert_eq!(api.asked(), ["get"]);
    assert!(api.events().is_empty());
    agent.stop().await;

    picture.heal(2);
    let _agent = Agent::start(&api, &dir, &TELL, &picture);
    sleep(MINUTE).await;
    assert_eq!(api.status().as_deref(), Some("True"));
    assert_eq!(api.events(), ["GPUHealthy"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_made_anew_gets_its_condition_again() {
    let (api, dir, mut picture) = (Api::new(), tempfile::tempdir().unwrap(), Picture::of(8));
    let _agent = Agent::start(&api, &dir, &TELL, &picture);
    a_while().await;
    let make_anew = |uid| {
        let mut world = api.world();
        world.uid = uid;
        world.condition = None;
    };
    make_anew("uid-2");
    sleep(MINUTE * 76).await;
    assert_eq!(api.status().as_deref(), Some("True"), "it is looked at");
    make_anew("uid-3");
    picture.xid(0, 48);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(api.status().as_deref(), Some("False"), "it is refused");
}

#[tokio::test(start_paused = true)]
async fn a_taint_is_there_while_all_gpus_are_lost_and_those_of_others_stay() {
    let (api, dir, mut picture) = (Api::new(), tempfile::tempdir().unwrap(), Picture::of(2));
    let theirs = "example.com/theirs:NoExecute";
    let agent = Agent::start(&api, &dir, &TAINTS, &picture);
    a_while().await;
    picture.lose(0);
    sleep(MINUTE).await;
    assert_eq!(api.taints(), [theirs], "one GPU is well");
    picture.lose(1);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(api.taints(), [theirs], "it may be for a moment");
    // Twice somebody else is faster.
    for key in ["example.com/a", "example.com/b"] {
        api.world()
            .rivals
            .push(json!({ "key": key, "effect": "NoSchedule" }));
    }
    sleep(Duration::from_secs(15)).await;
    let ours = format!("{TAINT}:NoSchedule");
    let others = ["example.com/b:NoSchedule", "example.com/a:NoSchedule"];
    assert_eq!(api.taints(), [theirs, others[0], others[1], &ours]);
    assert_eq!(api.world().taints[0]["timeAdded"], "2026-01-01T00:00:00Z");

    // A restart changes nothing about it, and one GPU that is well ends it.
    agent.stop().await;
    let agent = Agent::start(&api, &dir, &TAINTS, &picture);
    sleep(MINUTE * 6).await;
    assert_eq!(api.taints().len(), 4);
    agent.stop().await;
    picture.heal(1);
    let _agent = Agent::start(&api, &dir, &TAINTS, &picture);
    sleep(MINUTE).await;
    assert_eq!(api.taints(), [theirs, others[0], others[1]]);
}

#[tokio::test(start_paused = true)]
async fn what_the_settings_ask_for_no_longer_is_taken_away() {
    let (api, dir, mut picture) = (Api::new(), tempfile::tempdir().unwrap(), Picture::of(1));
    let agent = Agent::start(&api, &dir, &TAINTS, &picture);
    picture.lose(0);
    sleep(MINUTE).await;
    assert_eq!(api.taints().len(), 2);
    agent.stop().await;
    let agent = Agent::start(&api, &dir, &TELL, &picture);
    sleep(MINUTE).await;
    assert_eq!(api.taints(), ["example.com/theirs:NoExecute"]);
    assert_eq!(api.status().as_deref(), Some("False"));
    agent.stop().await;

    let off = NodeHealthConfig::default();
    let _agent = Agent::start(&api, &dir, &off, &picture);
    sleep(MINUTE).await;
    assert_eq!(api.status(), None);
    let record: Memory<NodeRecord> = Memory::new(dir.path(), NODE_FILE);
    assert!(record.load().unwrap().there.is_nothing());
    api.asked();
    sleep(MINUTE * 90).await;
    assert!(api.asked().is_empty(), "there is nothing to look after");
}

#[tokio::test(start_paused = true)]
async fn a_node_without_gpus_has_no_condition() {
    let (api, dir, picture) = (Api::new(), tempfile::tempdir().unwrap(), Picture::of(0));
    let _agent = Agent::start(&api, &dir, &TAINTS, &picture);
    sleep(MINUTE * 90).await;
    assert_eq!(api.asked(), ["get"]);
    assert_eq!(api.status(), None);
    assert!(api.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_missing_is_told_with_its_rule_and_keeps_nothing_else_back() {
    let (api, picture) = (Api::new(), Picture::of(1));
    let wanted = |condition| writer::Wanted {
        condition,
        taint: writer::Wish::Is("NoSchedule"),
    };
    let health = mizzen_core::node_health::NodeHealth::of(&picture.state);
    let mizzen_core::node_health::Verdict::Is(condition) = health.condition(false) else {
        panic!("a node with a GPU has a condition");
    };
    for (what, rule) in [
        ("get", "verbs [get] on resources [nodes]"),
        ("condition", "[patch] on resources [nodes/status]"),
        ("taint", "verbs [get, patch] on resources [nodes]"),
    ] {
        api.world().forbidden = BTreeSet::from([what]);
        let mut writer = Writer::new(api.cluster(), NODE.to_owned(), Clock::new());
        let wanted = wanted(writer::Wish::Is(condition.clone()));
        let trouble = writer.write(&wanted).await.unwrap_err();
        assert!(trouble.to_string().contains(rule), "{trouble}");
    }
    api.world().forbidden.insert("event");
    let poster = Poster {
        cluster: api.cluster(),
        node: NODE.to_owned(),
        clock: Clock::new(),
    };
    let event = mizzen_core::node_health::HealthEvent {
        is_warning: true,
        reason: "GPULost",
        message: "GPU 0 is lost".to_owned(),
    };
    let report = crate::cluster::Report::Health(event);
    let refusal = poster.post(&report).await.unwrap_err();
    assert!(refusal.words.contains("resources [events]"), "{refusal:?}");
}
