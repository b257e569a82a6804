use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard};

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use mizzen_testkit::AppliedLabels;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

use super::*;

const NODE: &str = "node-7";
const NODE_PATH: &str = "/api/v1/nodes/node-7";
const FEATURES: &str =
    "/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/gpus/nodefeatures/nvidia-features-for-node-7";
const US: &str = "mizzen-labels";
const COUNT: &str = "nvidia.com/gpu.count";
const TIME: &str = "nvidia.com/gfd.timestamp";

/// An API with one Node, and a `NodeFeature` object once it is made.
#[derive(Clone)]
struct Api(Arc<Mutex<World>>);

struct World {
    uid: Option<&'static str>,
    labels: AppliedLabels,
    annotations: BTreeMap<&'static str, String>,
    features: Option<(AppliedLabels, Value)>,
    /// What to answer instead: a status, and how long to be left alone.
    refusals: VecDeque<(u16, Option<&'static str>)>,
    requests: Vec<String>,
}

impl Api {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(World {
            uid: Some("uid-1"),
            labels: AppliedLabels::default(),
            annotations: BTreeMap::new(),
            features: None,
            refusals: VecDeque::new(),
            requests: Vec::new(),
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.world().requests)
    }

    fn has(&self, pairs: &[(&str, &str)]) -> bool {
        let pairs = pairs.iter();
        let wanted = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        self.world().labels.all() == wanted.collect()
    }

    fn refuse(&self, code: u16, retry_after: Option<&'static str>) {
        self.world().refusals.push_back((code, retry_after));
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
        Cluster::new(Arc::new(move || {
            Ok(Client::new(service.clone(), "of-the-client"))
        }))
    }

    fn labels_of(&self, place: Place) -> ApiLabels {
        ApiLabels::new(place, self.cluster())
    }
}

impl World {
    fn answer(&mut self, parts: &http::request::Parts, change: &Value) -> Response<Body> {
        let query = parts.uri.query().unwrap_or_default();
        let force = query.contains("force=true");
        let verb = if force {
            "FORCE"
        } else {
            parts.method.as_str()
        };
        self.requests.push(verb.to_owned());
        if let Some((code, retry_after)) = self.refusals.pop_front() {
            let mut response = Response::builder().status(code);
            if let Some(seconds) = retry_after {
                response = response.header("retry-after", seconds);
            }
            let status = json!({ "kind": "Status", "code": code, "message": "it says no" });
            return response
                .body(status.to_string().into_bytes().into())
                .unwrap();
        }
        if parts.method == Method::GET {
            assert!(query.contains("resourceVersion=0"), "{query}");
        } else {
            assert_eq!(
                parts.headers["content-type"],
                "application/apply-patch+yaml"
            );
            assert!(query.contains("fieldManager=mizzen-labels"), "{query}");
        }
        let node_path = parts.uri.path() == NODE_PATH;
        assert!(node_path || parts.uri.path() == FEATURES, "{}", parts.uri);
        match (&parts.method, node_path) {
            (&Method::GET, true) => self.node(),
            (&Method::PATCH, true) => self.apply_to_node(change, force),
            (&Method::GET, false) => self.node_feature(),
            _ => self.apply_to_features(change, force),
        }
    }

    fn node(&self) -> Response<Body> {
        let Some(uid) = self.uid else {
            return status(404, "nodes \"node-7\" not found", &[]);
        };
        whole(&json!({ "kind": "PartialObjectMetadata", "metadata": {
            "name": NODE, "uid": uid, "labels": self.labels.all(),
            "annotations": self.annotations,
            "managedFields": self.labels.managed_fields(["f:metadata", "f:labels"]),
        }}))
    }

    fn apply_to_node(&mut self, change: &Value, force: bool) -> Response<Body> {
        assert_eq!(change["kind"], "Node");
        assert_eq!(change.as_object().unwrap().len(), 3, "{change}");
        let metadata = change["metadata"].as_object().unwrap();
        assert_eq!(
            metadata.keys().collect::<Vec<_>>(),
            ["labels", "name", "uid"]
        );
        if self.uid != metadata["uid"].as_str() {
            return status(422, "metadata.uid: field is immutable", &[]);
        }
        let labels = pairs(&metadata["labels"]);
        match self.labels.apply(US, &labels, force, ".metadata.labels") {
            Ok(()) => self.node(),
            Err(causes) => status(409, "Apply failed", &causes),
        }
    }

    fn node_feature(&self) -> Response<Body> {
        let Some((labels, metadata)) = &self.features else {
            return status(404, "not found", &[]);
        };
        let mut metadata = metadata.clone();
        metadata["managedFields"] = labels.managed_fields(["f:spec", "f:labels"]);
        whole(&json!({ "metadata": metadata, "spec": { "labels": labels.all() } }))
    }

    fn apply_to_features(&mut self, change: &Value, force: bool) -> Response<Body> {
        assert_eq!(change["apiVersion"], "nfd.k8s-sigs.io/v1alpha1");
        assert_eq!(change["spec"]["features"]["attributes"], json!({}));
        let labels = pairs(&change["spec"]["labels"]);
        let features = self.features.get_or_insert_default();
        features.1 = change["metadata"].clone();
        match features.0.apply(US, &labels, force, ".spec.labels") {
            Ok(()) => self.node_feature(),
            Err(causes) => status(409, "Apply failed", &causes),
        }
    }
}

fn pairs(labels: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(labels.clone()).unwrap()
}

fn whole(object: &Value) -> Response<Body> {
    Response::new(object.to_string().into_bytes().into())
}

fn status(code: u16, message: &str, causes: &[Value]) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": message, "details": { "causes": causes },
    });
    let body = status.to_string().into_bytes().into();
    Response::builder().status(code).body(body).unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| (key.parse().unwrap(), value.parse().unwrap()))
        .collect()
}

fn on_node() -> Place {
    Place::Node(NODE.to_owned())
}

/// An agent's task, and what it is told.
struct Agent {
    wanted: watch::Sender<Option<Labels>>,
    tasks: JoinSet<()>,
}

impl Agent {
    /// One that keeps its memory in `dir`.
    fn start(api: &Api, dir: &TempDir, boot_id: &str, pairs: &[(&str, &str)]) -> Self {
        let memory = Memory {
            dir: dir.path().to_owned(),
            boot_id: boot_id.to_owned(),
            saved: None,
            fails: false,
        };
        let (wanted, receiver) = watch::channel(Some(labels(pairs)));
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_in_api(api.labels_of(on_node()), memory, receiver));
        Self { wanted, tasks }
    }

    fn want(&self, pairs: &[(&str, &str)]) {
        self.wanted.send_replace(Some(labels(pairs)));
    }

    async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Long enough for what is done at once, and for the file to be written.
async fn a_moment() {
    sleep(Duration::from_millis(50)).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_labels_of_a_node_are_set_at_once_with_one_patch() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let agent = Agent::start(&api, &dir, "boot", &[(COUNT, "8"), (TIME, "1")]);
    a_moment().await;
    assert_eq!(api.asked(), ["GET", "PATCH"]);
    assert!(api.has(&[(COUNT, "8"), (TIME, "1")]));
    // A look that finds the same is no reason to write.
    agent.want(&[(COUNT, "8"), (TIME, "1")]);
    a_moment().await;
    assert_eq!(api.asked(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_change_is_one_patch_and_what_is_no_longer_true_goes() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    api.world()
        .labels
        .set("kubectl", "example.com/theirs", Some("yes"));
    let agent = Agent::start(&api, &dir, "boot", &[(COUNT, "8"), ("a/mig.count", "2")]);
    a_moment().await;
    api.asked();
    agent.want(&[(COUNT, "7")]);
    a_moment().await;
    assert_eq!(api.asked(), ["PATCH"]);
    assert!(api.has(&[(COUNT, "7"), ("example.com/theirs", "yes")]));
}

#[tokio::test(start_paused = true)]
async fn a_restart_with_the_same_labels_writes_nothing_and_looks_once_at_a_time_of_its_own() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let agent = Agent::start(&api, &dir, "boot", &[(COUNT, "8"), (TIME, "1")]);
    a_moment().await;
    agent.stop().await;
    api.asked();

    let agent = Agent::start(&api, &dir, "boot", &[(COUNT, "8"), (TIME, "99")]);
    sleep(START).await;
    assert_eq!(api.asked(), [""; 0], "nothing is asked for half a minute");
    sleep(FIRST_LOOK).await;
    assert_eq!(api.asked(), ["GET"]);
    assert!(
        api.has(&[(COUNT, "8"), (TIME, "1")]),
        "the time is no change"
    );
    sleep(Duration::from_mins(40)).await;
    assert_eq!(api.asked(), [""; 0]);
    sleep(Duration::from_mins(40)).await;
    assert_eq!(api.asked(), ["GET"], "about once an hour");
    agent.want(&[(COUNT, "7"), (TIME, "99")]);
    a_moment().await;
    assert!(api.has(&[(COUNT, "7"), (TIME, "99")]));
}

#[tokio::test(start_paused = true)]
async fn a_restart_with_other_labels_patches_at_a_time_of_its_own() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let agent = Agent::start(&api, &dir, "boot", &[(COUNT, "8")]);
    a_moment().await;
    agent.stop().await;
    api.asked();
    let _agent = Agent::start(&api, &dir, "boot", &[(COUNT, "7")]);
    a_moment().await;
    assert_eq!(api.asked(), [""; 0]);
    sleep(START).await;
    assert_eq!(api.asked(), ["PATCH"]);
    assert!(api.has(&[(COUNT, "7")]));
}

#[tokio::test(start_paused = true)]
async fn after_a_boot_what_is_remembered_is_looked_up_soon() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let agent = Agent::start(&api, &dir, "boot", &[(COUNT, "8")]);
    a_moment().await;
    agent.stop().await;
    api.asked();
    // The machine comes back as a Node anew.
    api.world().labels = AppliedLabels::default();
    api.world().uid = Some("uid-2");
    let _agent = Agent::start(&api, &dir, "another boot", &[(COUNT, "8")]);
    sleep(START).await;
    assert_eq!(api.asked(), ["GET", "PATCH"]);
    assert!(api.has(&[(COUNT, "8")]));
}

#[tokio::test(start_paused = true)]
async fn an_api_that_has_too_much_to_do_is_left_alone_for_as_long_as_it_asks_for() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    for _ in 0..2 {
        api.refuse(429, Some("60"));
    }
    api.refuse(503, None);
    let agent = Agent::start(&api, &dir, "boot", &[(COUNT, "8")]);
    a_moment().await;
    assert_eq!(api.asked(), ["GET"]);
    // What changes meanwhile is no reason to ask earlier.
    agent.want(&[(COUNT, "7")]);
    sleep(Duration::from_secs(59)).await;
    assert_eq!(api.asked(), [""; 0]);
    // And nobody comes back in the same moment as all others.
    sleep(Duration::from_mins(1)).await;
    assert_eq!(api.asked(), ["GET"]);
    sleep(Duration::from_mins(3)).await;
    assert_eq!(api.asked(), ["GET", "GET", "PATCH"]);
    assert!(api.has(&[(COUNT, "7")]));
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_while_the_api_gives_no_answer() {
    let api = Api::new();
    let mut writer = api.labels_of(on_node());
    let mut pauses = Vec::new();
    for _ in 0..12 {
        api.refuse(500, None);
        let trouble = writer.write(&labels(&[(COUNT, "8")])).await.unwrap_err();
        assert!(trouble.words.contains("it says no (500)"), "{trouble}");
        pauses.push(trouble.pause.as_secs());
    }
    assert!(pauses[0] < 2 && pauses[3] >= 8, "{pauses:?}");
    assert!((300..600).contains(&pauses[11]), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_is_told_with_the_rule_that_is_missing() {
    let api = Api::new();
    let features = Place::NodeFeature {
        node: NODE.to_owned(),
        namespace: Some("gpus".to_owned()),
    };
    for (place, words) in [
        (on_node(), ["[get, patch]", "[nodes]"]),
        (features, ["namespace gpus", "[nodefeatures]"]),
    ] {
        api.refuse(403, None);
        let mut writer = api.labels_of(place);
        let trouble = writer.write(&labels(&[(COUNT, "8")])).await.unwrap_err();
        for word in words {
            assert!(trouble.to_string().contains(word), "{trouble}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn labels_that_others_set_are_taken_over_once_and_kept_when_these_take_them_away() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    {
        let mut world = api.world();
        world.labels.set("nfd-master", COUNT, Some("4"));
        world
            .labels
            .set("nfd-master", "nvidia.com/gpu.family", Some("hopper"));
        let keys = format!("cpu-model.id,{COUNT},nvidia.com/gpu.family");
        world
            .annotations
            .insert("nfd.node.kubernetes.io/feature-labels", keys);
    }
    let ours = [(COUNT, "8"), ("nvidia.com/gpu.family", "hopper")];
    let _agent = Agent::start(&api, &dir, "boot", &ours);
    a_moment().await;
    assert_eq!(api.asked(), ["GET", "PATCH", "FORCE"]);
    assert!(api.has(&ours));

    // The other program is uninstalled, and cleans up what it thinks is its own.
    {
        let mut world = api.world();
        for (key, _) in ours {
            world.labels.set("nfd-master", key, None);
        }
        world.annotations.clear();
    }
    sleep(Duration::from_mins(6)).await;
    assert_eq!(api.asked(), ["GET", "PATCH"]);
    assert!(api.has(&ours));
    sleep(Duration::from_mins(40)).await;
    assert_eq!(api.asked(), [""; 0], "nobody else has a claim any more");
}

#[tokio::test(start_paused = true)]
async fn the_words_of_a_takeover_name_the_label_and_whose_it_was() {
    let api = Api::new();
    api.world().labels.set("nfd-master", COUNT, Some("4"));
    let mut writer = api.labels_of(on_node());
    let written = writer.write(&labels(&[(COUNT, "8")])).await.unwrap();
    let taken = written.taken.unwrap();
    assert!(
        taken.contains(COUNT) && taken.contains("nfd-master"),
        "{taken}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_there_is_not_made() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    api.world().uid = None;
    let _agent = Agent::start(&api, &dir, "boot", &[(COUNT, "8")]);
    sleep(Duration::from_mins(1)).await;
    assert!(api.asked().iter().all(|verb| verb == "GET"));
    let mut writer = api.labels_of(on_node());
    let trouble = writer.write(&labels(&[(COUNT, "8")])).await.unwrap_err();
    assert!(trouble.to_string().contains("--node-name"), "{trouble}");
}

#[tokio::test(start_paused = true)]
async fn another_node_of_the_same_name_is_looked_at_first() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let agent = Agent::start(&api, &dir, "boot", &[(COUNT, "8")]);
    a_moment().await;
    api.world().uid = Some("uid-2");
    api.world().labels = AppliedLabels::default();
    api.asked();
    agent.want(&[(COUNT, "7")]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(api.asked(), ["PATCH", "GET", "PATCH"]);
    assert!(api.has(&[(COUNT, "7")]));
}

#[tokio::test(start_paused = true)]
async fn a_node_feature_belongs_to_its_node_and_has_no_label_that_is_not_true() {
    let api = Api::new();
    let mut writer = api.labels_of(Place::NodeFeature {
        node: NODE.to_owned(),
        namespace: Some("gpus".to_owned()),
    });
    for (pairs, asked) in [
        (
            &[(COUNT, "8"), ("a/b", "c")][..],
            &["GET", "GET", "PATCH"][..],
        ),
        (&[(COUNT, "8")], &["PATCH"]),
        (&[(COUNT, "8")], &[]),
    ] {
        writer.write(&labels(pairs)).await.unwrap();
        assert_eq!(api.asked(), asked);
        let world = api.world();
        let (features, metadata) = world.features.as_ref().unwrap();
        assert_eq!(features.all().len(), pairs.len());
        assert_eq!(metadata["labels"]["nfd.node.kubernetes.io/node-name"], NODE);
        let owner = &metadata["ownerReferences"][0];
        assert_eq!(
            (&owner["kind"], &owner["uid"]),
            (&json!("Node"), &json!("uid-1"))
        );
    }
    advance(Duration::from_hours(2)).await;
    writer.write(&labels(&[(COUNT, "8")])).await.unwrap();
    assert_eq!(api.asked(), ["GET", "GET"]);
}

#[test]
fn a_memory_of_another_place_or_that_is_torn_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let words = on_node().words();
    let record = Record::new(
        words.clone(),
        "boot".into(),
        "uid".into(),
        &labels(&[(COUNT, "8")]),
    );
    record.save(dir.path()).unwrap();
    assert_eq!(Record::load(dir.path(), &words), Some(record.clone()));
    assert_eq!(record.labels(), labels(&[(COUNT, "8")]));
    assert_eq!(Record::load(dir.path(), "the Node another"), None);
    std::fs::write(record::path(dir.path()), "{").unwrap();
    assert_eq!(Record::load(dir.path(), &words), None);
    record::forget(dir.path());
    record::forget(dir.path());
    assert!(!record::path(dir.path()).exists());
}

#[tokio::test(start_paused = true)]
async fn a_file_keeps_its_time_and_stays_when_the_agent_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gfd");
    let told = |pairs| watch::channel(Some(labels(pairs)));
    for (pairs, text) in [
        (
            &[(COUNT, "8"), (TIME, "1")][..],
            "nvidia.com/gfd.timestamp=1\nnvidia.com/gpu.count=8\n",
        ),
        (
            &[(COUNT, "8"), (TIME, "2")],
            "nvidia.com/gfd.timestamp=1\nnvidia.com/gpu.count=8\n",
        ),
        (
            &[(COUNT, "7"), (TIME, "3")],
            "nvidia.com/gfd.timestamp=3\nnvidia.com/gpu.count=7\n",
        ),
    ] {
        let (wanted, receiver) = told(pairs);
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_in_file(path.clone(), receiver));
        a_moment().await;
        drop(wanted);
        tasks.join_all().await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
