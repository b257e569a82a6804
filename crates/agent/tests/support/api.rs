//! As much of a Kubernetes API as an agent asks of it, behind a mock service.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, Stream, StreamExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::Client;
use kube::client::Body;
use mizzen_agent::ClientFactory;
use mizzen_core::config::ConfigMapName;
use mizzen_testkit::AppliedLabels;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tower_test::mock;

use super::within;

pub(crate) const NODE: &str = "node-7";
const MIG_STATE: &str = "nvidia.com/mig.config.state";
const LABEL: &str = "nvidia.com/device-plugin.config";

type Answer = StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;
type Handle = mock::Handle<Request<Body>, Response<Answer>>;

/// An API with one Node and one ConfigMap, either of which may be missing.
#[derive(Clone)]
pub(crate) struct FakeApi {
    world: Arc<Mutex<World>>,
    events: watch::Sender<Vec<Value>>,
    /// Every value that the MIG manager gave its label; `null` where it took it away.
    mig_states: watch::Sender<Vec<Value>>,
    /// Pods whose eviction was granted, `namespace/name`.
    evictions: watch::Sender<Vec<String>>,
    /// The labels of every server-side apply to the Node.
    applies: watch::Sender<Vec<BTreeMap<String, String>>>,
    /// Every condition that the Node was given, `null` where it was taken away.
    conditions: watch::Sender<Vec<Value>>,
    servers: Arc<Mutex<JoinSet<()>>>,
}

#[derive(Default)]
struct World {
    version: u64,
    node: Option<BTreeMap<String, String>>,
    config_map: Option<BTreeMap<String, String>>,
    /// The labels of the Node that were set by server-side apply.
    applied: AppliedLabels,
    away: bool,
    /// Paths that may not be asked for.
    forbidden: Vec<&'static str>,
    watches: Vec<(&'static str, mpsc::UnboundedSender<Value>)>,
    requests: usize,
    /// How many evictions a disruption budget refuses before it grants one.
    budget_refusals: usize,
}

impl FakeApi {
    /// With the Node, without a label, and no ConfigMap.
    pub(crate) fn new() -> Self {
        let world = World {
            version: 1,
            node: Some(BTreeMap::new()),
            ..World::default()
        };
        Self {
            world: Arc::new(Mutex::new(world)),
            events: watch::channel(Vec::new()).0,
            mig_states: watch::channel(Vec::new()).0,
            evictions: watch::channel(Vec::new()).0,
            applies: watch::channel(Vec::new()).0,
            conditions: watch::channel(Vec::new()).0,
            servers: Arc::default(),
        }
    }

    /// What makes a client of this API.
    pub(crate) fn factory(&self) -> ClientFactory {
        let api = self.clone();
        Arc::new(move || {
            let (service, handle) = mock::pair::<Request<Body>, Response<Answer>>();
            let server = api.clone();
            api.servers.lock().unwrap().spawn(server.serve(handle));
            Ok(Client::new(service, "default"))
        })
    }

    pub(crate) fn set_label(&self, value: Option<&str>) {
        self.set_node_label(LABEL, value);
    }

    /// Names a MIG layout for the Node.
    pub(crate) fn set_mig_config(&self, value: Option<&str>) {
        self.set_node_label("nvidia.com/mig.config", value);
    }

    fn set_node_label(&self, key: &str, value: Option<&str>) {
        self.change(|world| {
            let labels = world.node.get_or_insert_default();
            match value {
                Some(value) => labels.insert(key.to_owned(), value.to_owned()),
                None => labels.remove(key),
            };
            "/api/v1/nodes"
        });
    }

    /// What the Node says of its MIG layout.
    pub(crate) fn mig_state(&self) -> Option<String> {
        let world = self.world.lock().unwrap();
        world.node.as_ref()?.get(MIG_STATE).cloned()
    }

    /// Waits until the Node says this of its MIG layout.
    pub(crate) async fn mig_state_is(&self, state: Option<&str>) {
        let mut states = self.mig_states.subscribe();
        let wanted = |_: &Vec<Value>| self.mig_state().as_deref() == state;
        within(states.wait_for(wanted)).await.unwrap();
    }

    /// Every value that the label had, in order.
    pub(crate) fn mig_states(&self) -> Vec<Value> {
        self.mig_states.borrow().clone()
    }

    /// So many evictions are refused for the sake of a disruption budget.
    pub(crate) fn refuse_evictions(&self, count: usize) {
        self.world.lock().unwrap().budget_refusals = count;
    }

    /// Waits for the eviction of this pod.
    pub(crate) async fn evicted(&self, pod: &str) {
        let mut evictions = self.evictions.subscribe();
        let wanted = |evicted: &Vec<String>| evicted.iter().any(|known| known == pod);
        within(evictions.wait_for(wanted)).await.unwrap();
    }

    /// The pods whose eviction was granted.
    pub(crate) fn evictions(&self) -> Vec<String> {
        self.evictions.borrow().clone()
    }

    fn patch_node(&self, change: &Value) -> Response<Answer> {
        let labels = change["metadata"]["labels"].as_object().unwrap();
        assert_eq!(labels.len(), 1, "{change}");
        let value = &labels[MIG_STATE];
        self.set_node_label(MIG_STATE, value.as_str());
        self.mig_states
            .send_modify(|states| states.push(value.clone()));
        whole(StatusCode::OK, &json!({ "metadata": { "name": NODE } }))
    }

    /// Waits until so many times labels were applied to the Node, and says which.
    pub(crate) async fn applies(&self, count: usize) -> Vec<BTreeMap<String, String>> {
        let mut applies = self.applies.subscribe();
        let enough = |applies: &Vec<_>| applies.len() >= count;
        within(applies.wait_for(enough)).await.unwrap().clone()
    }

    fn apply_to_node(&self, change: &Value) -> Response<Answer> {
        let labels = &change["metadata"]["labels"];
        let labels: BTreeMap<String, String> = serde_json::from_value(labels.clone()).unwrap();
        {
            let mut world = self.world.lock().unwrap();
            let field = ".metadata.labels";
            let applied = world.applied.apply("mizzen-labels", &labels, false, field);
            applied.unwrap();
        }
        self.applies.send_modify(|applies| applies.push(labels));
        self.node_metadata()
    }

    fn node_metadata(&self) -> Response<Answer> {
        let world = self.world.lock().unwrap();
        let fields = world.applied.managed_fields(["f:metadata", "f:labels"]);
        let labels = world.applied.all();
        let metadata = json!({ "name": NODE, "uid": "the-node", "labels": labels,
            "managedFields": fields });
        whole(StatusCode::OK, &json!({ "metadata": metadata }))
    }

    /// Waits until the last condition of the Node has this reason, and says how it is then.
    pub(crate) async fn condition(&self, reason: &str) -> Value {
        let mut conditions = self.conditions.subscribe();
        let is = |conditions: &Vec<Value>| {
            let last = conditions.last();
            last.is_some_and(|condition| condition["reason"] == reason)
        };
        let conditions = within(conditions.wait_for(is)).await.unwrap();
        conditions.last().unwrap().clone()
    }

    fn apply_condition(&self, change: &Value) -> Response<Answer> {
        let condition = change["status"]["conditions"][0].clone();
        self.conditions
            .send_modify(|conditions| conditions.push(condition));
        self.node_metadata()
    }

    fn evict(&self, path: &str, eviction: &Value) -> Response<Answer> {
        let metadata = &eviction["metadata"];
        let [namespace, name] = ["namespace", "name"].map(|key| metadata[key].as_str().unwrap());
        let expected = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
        assert_eq!(path, expected);
        let mut world = self.world.lock().unwrap();
        if world.budget_refusals > 0 {
            world.budget_refusals -= 1;
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429,
                "reason": "TooManyRequests",
                "message": "Cannot evict pod as it would violate the pod's disruption budget.",
            });
            return whole(StatusCode::TOO_MANY_REQUESTS, &status);
        }
        let pod = format!("{namespace}/{name}");
        self.evictions.send_modify(|evicted| evicted.push(pod));
        let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" });
        whole(StatusCode::CREATED, &status)
    }

    pub(crate) fn set_config_map(&self, texts: &[(&str, &str)]) {
        let text = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        self.change(|world| {
            world.config_map = Some(texts.iter().map(text).collect());
            "/api/v1/namespaces/gpus/configmaps"
        });
    }

    pub(crate) fn name() -> ConfigMapName {
        "gpus/configs".parse().unwrap()
    }

    pub(crate) fn remove_node(&self) {
        self.world.lock().unwrap().node = None;
    }

    /// Answers nobody, and ends every watch; or answers again.
    pub(crate) fn set_away(&self, away: bool) {
        let mut world = self.world.lock().unwrap();
        world.away = away;
        world.watches.clear();
    }

    pub(crate) fn forbid(&self, path: &'static str) {
        self.world.lock().unwrap().forbidden.push(path);
    }

    pub(crate) fn allow_all(&self) {
        self.world.lock().unwrap().forbidden.clear();
    }

    /// How often anything was asked.
    pub(crate) fn requests(&self) -> usize {
        self.world.lock().unwrap().requests
    }

    /// The Events so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.events.borrow().clone()
    }

    /// Waits for an Event of this reason.
    pub(crate) async fn event(&self, reason: &str) -> Value {
        let mut events = self.events.subscribe();
        let wanted = |events: &Vec<Value>| events.iter().any(|event| event["reason"] == reason);
        let events = within(events.wait_for(wanted)).await.unwrap();
        let found = events.iter().find(|event| event["reason"] == reason);
        found.unwrap().clone()
    }

    /// Waits until an Event of this reason has come `count` times, and says which Events there are.
    pub(crate) async fn event_again(&self, reason: &str, count: u32) -> Vec<Value> {
        let mut events = self.events.subscribe();
        let wanted = |events: &Vec<Value>| {
            events
                .iter()
                .any(|event| event["reason"] == reason && event["count"] == count)
        };
        within(events.wait_for(wanted)).await.unwrap().clone()
    }

    fn change(&self, change: impl FnOnce(&mut World) -> &'static str) {
        let mut world = self.world.lock().unwrap();
        world.version += 1;
        let path = change(&mut world);
        let object = world.object(path);
        let event = json!({ "type": "MODIFIED", "object": object });
        world
            .watches
            .retain(|(watched, watch)| *watched != path || watch.send(event.clone()).is_ok());
    }

    async fn serve(self, mut handle: Handle) {
        while let Some((request, answer)) = handle.next_request().await {
            let away = {
                let mut world = self.world.lock().unwrap();
                world.requests += 1;
                world.away
            };
            if away {
                answer.send_error(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
            } else {
                answer.send_response(self.respond(request).await);
            }
        }
    }

    async fn respond(&self, request: Request<Body>) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = parts.uri.path();
        let query = parts.uri.query().unwrap_or_default();
        if self.world.lock().unwrap().forbidden.contains(&path) {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
                "reason": "Forbidden", "message": "cannot list resource",
            });
            return whole(StatusCode::FORBIDDEN, &status);
        }
        match (parts.method, path) {
            (Method::GET, "/api/v1/nodes") => {
                assert!(
                    query.contains(&format!("fieldSelector=metadata.name%3D{NODE}")),
                    "{query}"
                );
                let accept = parts.headers["accept"].to_str().unwrap();
                assert!(accept.contains("PartialObjectMetadata"), "{accept}");
                self.list_or_watch("/api/v1/nodes", query)
            }
            (Method::GET, "/api/v1/namespaces/gpus/configmaps") => {
                assert!(
                    query.contains("fieldSelector=metadata.name%3Dconfigs"),
                    "{query}"
                );
                self.list_or_watch("/api/v1/namespaces/gpus/configmaps", query)
            }
            (Method::POST, "/api/v1/namespaces/default/events") => {
                let mut event: Value = serde_json::from_slice(&body).unwrap();
                let number = self.events.borrow().len();
                event["metadata"]["name"] = json!(format!("event-{number}"));
                self.events.send_modify(|events| events.push(event.clone()));
                whole(StatusCode::CREATED, &event)
            }
            (Method::PATCH, path) if path == format!("/api/v1/nodes/{NODE}") => {
                let change = serde_json::from_slice(&body).unwrap();
                match parts.headers["content-type"].to_str().unwrap() {
                    "application/apply-patch+yaml" => self.apply_to_node(&change),
                    "application/merge-patch+json" => self.patch_node(&change),
                    other => panic!("{other}"),
                }
            }
            (Method::PATCH, path) if path == format!("/api/v1/nodes/{NODE}/status") => {
                self.apply_condition(&serde_json::from_slice(&body).unwrap())
            }
            (Method::GET, path) if path == format!("/api/v1/nodes/{NODE}") => self.node_metadata(),
            (Method::POST, path) if path.ends_with("/eviction") => {
                self.evict(path, &serde_json::from_slice(&body).unwrap())
            }
            (Method::PATCH, path) => {
                let change: Value = serde_json::from_slice(&body).unwrap();
                let mut patched = Value::Null;
                self.events.send_modify(|events| {
                    let named = |event: &&mut Value| {
                        path.ends_with(event["metadata"]["name"].as_str().unwrap())
                    };
                    let event = events.iter_mut().find(named).unwrap();
                    event["count"] = change["count"].clone();
                    patched = event.clone();
                });
                whole(StatusCode::OK, &patched)
            }
            (method, path) => panic!("nobody should ask for {method} {path}"),
        }
    }

    fn list_or_watch(&self, path: &'static str, query: &str) -> Response<Answer> {
        let mut world = self.world.lock().unwrap();
        let object = world.object(path);
        if !query.contains("watch=true") {
            let items: Vec<&Value> = object.iter().collect();
            let version = world.version.to_string();
            let list = json!({ "metadata": { "resourceVersion": version }, "items": items });
            return whole(StatusCode::OK, &list);
        }
        let (sender, mut receiver) = mpsc::unbounded_channel();
        // What changed since the list is told at once.
        let from = format!("resourceVersion={}", world.version);
        if !query.contains(&from) {
            sender
                .send(json!({ "type": "MODIFIED", "object": object }))
                .unwrap();
        }
        world.watches.push((path, sender));
        let lines = stream::poll_fn(move |context| receiver.poll_recv(context));
        let frames = lines.map(|line| Ok(Frame::data(Bytes::from(format!("{line}\n")))));
        Response::new(StreamBody::new(Box::pin(frames)))
    }
}

impl World {
    /// The object of a path, if there is one.
    fn object(&self, path: &str) -> Option<Value> {
        let version = self.version.to_string();
        if path == "/api/v1/nodes" {
            let labels = self.node.as_ref()?;
            Some(json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": { "name": NODE, "resourceVersion": version, "labels": labels },
            }))
        } else {
            let data = self.config_map.as_ref()?;
            Some(json!({
                "kind": "ConfigMap", "apiVersion": "v1",
                "metadata": { "name": "configs", "resourceVersion": version },
                "data": data,
            }))
        }
    }
}

fn whole(status: StatusCode, value: &Value) -> Response<Answer> {
    let frame = Frame::data(Bytes::from(value.to_string()));
    let body = StreamBody::new(Box::pin(stream::iter([Ok(frame)])) as _);
    Response::builder().status(status).body(body).unwrap()
}
