//! Labels that go to the Kubernetes API, of which as much is here as they need.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use mizzen_testkit::AppliedLabels;
use serde_json::{Value, json};

use super::{Machine, NODE, Running};
use rustix::process::Signal;

const NODES: &str = "/api/v1/nodes/node-7?";
const FEATURES: &str =
    "/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/gpus/nodefeatures/nvidia-features-for-node-7?";

/// An API on this machine, which hands on what it is asked: verb, path and body.
struct Api {
    asked: Receiver<(String, String, Value)>,
    kubeconfig: String,
}

impl Api {
    /// With a Node that has these labels of others.
    fn with(machine: &Machine, labels: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut known = AppliedLabels::default();
        for (key, value) in labels {
            known.set("nfd-master", key, Some(value));
        }
        let (tell, asked) = channel();
        thread::spawn(move || {
            let mut features = AppliedLabels::default();
            for stream in listener.incoming() {
                serve(stream.unwrap(), &mut known, &mut features, &tell);
            }
        });
        let kubeconfig = machine.text("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://127.0.0.1:{port}") } }],
            "users": [{ "name": "u", "user": {} }],
            "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u", "namespace": "gpus" } }],
        });
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        Self { asked, kubeconfig }
    }

    fn words<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let words = ["--no-timestamp", "--node-name=node-7", "--kubeconfig"];
        [&words[..], &[self.kubeconfig.as_str()], more].concat()
    }
}

/// Answers one client until it hangs up.
fn serve(
    stream: TcpStream,
    node: &mut AppliedLabels,
    features: &mut AppliedLabels,
    tell: &Sender<(String, String, Value)>,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some((verb, path, body)) = request(&mut reader) {
        let labels = |of: &Value| serde_json::from_value(of.clone()).unwrap_or_default();
        let is_node = path.starts_with(NODES);
        let applied = match (verb.as_str(), is_node) {
            ("GET", _) => Ok(()),
            (_, true) => {
                let force = path.contains("force=true");
                let wanted = labels(&body["metadata"]["labels"]);
                node.apply("mizzen-labels", &wanted, force, ".metadata.labels")
            }
            _ => features.apply(
                "mizzen-labels",
                &labels(&body["spec"]["labels"]),
                false,
                ".spec.labels",
            ),
        };
        let (code, answer) = match applied {
            Err(causes) => {
                let status = json!({ "kind": "Status", "code": 409, "message": "conflict",
                    "details": { "causes": causes } });
                (409, status)
            }
            Ok(()) if is_node => {
                let fields = node.managed_fields(["f:metadata", "f:labels"]);
                let metadata = json!({ "name": "node-7", "uid": "u-1", "labels": node.all(),
                    "managedFields": fields });
                (200, json!({ "metadata": metadata }))
            }
            Ok(()) => {
                assert!(path.starts_with(FEATURES), "{path}");
                let fields = features.managed_fields(["f:spec", "f:labels"]);
                let spec = json!({ "labels": features.all() });
                (
                    200,
                    json!({ "metadata": { "managedFields": fields }, "spec": spec }),
                )
            }
        };
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {code} x\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        // Who has what it wants may have gone.
        drop(stream.write_all(format!("{head}{answer}").as_bytes()));
        drop(tell.send((verb, path, body)));
    }
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, String, Value)> {
    let mut first = String::new();
    reader
        .read_line(&mut first)
        .ok()
        .filter(|count| *count > 0)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        let line = line.to_lowercase();
        if let Some(text) = line.strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut words = first.split(' ').map(str::to_owned);
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Some((words.next()?, words.next()?, body))
}

#[test]
fn once_labels_the_node_and_a_second_time_has_nothing_to_do() {
    let machine = Machine::of(NODE);
    let api = Api::with(&machine, &[]);
    let words = api.words(&["--oneshot", "--labels-to=node"]);
    for verbs in [&["GET", "PATCH"][..], &["GET"]] {
        let ran = machine.labels(&words).ended_with(0);
        assert_eq!((ran.stdout(), ran.stderr()), (String::new(), String::new()));
        let asked: Vec<_> = api.asked.try_iter().collect();
        let seen: Vec<&str> = asked.iter().map(|(verb, ..)| verb.as_str()).collect();
        assert_eq!(seen, verbs);
        for (_, path, body) in &asked {
            assert!(path.starts_with(NODES), "{path}");
            if let Some(labels) = body["metadata"]["labels"].as_object() {
                assert_eq!(labels["nvidia.com/gpu.count"], "2");
                assert_eq!(body["metadata"]["uid"], "u-1");
            }
        }
    }
}

#[test]
fn what_others_had_set_is_taken_over_and_named() {
    let machine = Machine::of(NODE);
    let api = Api::with(&machine, &[("nvidia.com/gpu.count", "7"), ("a/b", "c")]);
    let ran = machine.labels(&api.words(&["--oneshot", "--labels-to=node"]));
    let said = ran.ended_with(0).stderr();
    assert!(
        said.contains("nvidia.com/gpu.count") && said.contains("nfd-master"),
        "{said}"
    );
    assert!(!said.contains("a/b"), "{said}");
    let paths: Vec<String> = api.asked.try_iter().map(|(_, path, _)| path).collect();
    assert_eq!(paths.len(), 3);
    assert!(!paths[1].contains("force=true") && paths[2].contains("force=true"));
}

#[test]
fn the_references_switch_makes_a_node_feature_object_that_follows_the_node() {
    let machine = Machine::of("gpus: [{model: h100-80gb}]");
    let api = Api::with(&machine, &[]);
    let switches = [
        "--use-node-feature-api",
        "--sleep-interval=5ms",
        "--mig-strategy=mixed",
    ];
    let running = Running::start(&machine, &api.words(&switches));
    let profile = "nvidia.com/mig-7g.80gb.count";
    let next = |wanted: &dyn Fn(&Value) -> bool| loop {
        let (verb, path, body) = api.asked.recv().unwrap();
        if verb == "PATCH" {
            assert!(path.starts_with(FEATURES), "{path}");
            if wanted(&body["spec"]["labels"]) {
                return body;
            }
        }
    };
    let body = next(&|labels| labels.get(profile).is_none());
    let metadata = &body["metadata"];
    assert_eq!(
        metadata["labels"]["nfd.node.kubernetes.io/node-name"],
        "node-7"
    );
    assert_eq!(metadata["namespace"], "gpus", "the kubeconfig's");
    machine.sim(&["mig", "enable", "--gpu", "0"]);
    machine.sim(&["mig", "create", "7g.80gb", "--gpu", "0"]);
    next(&|labels| labels[profile] == "1");
    machine.sim(&["mig", "destroy", "--gpu", "0"]);
    next(&|labels| labels.get(profile).is_none());
    assert_eq!(running.end(Signal::TERM), 0);
}

#[test]
fn an_api_that_cannot_be_reached_and_a_node_without_a_name_are_told() {
    let machine = Machine::of(NODE);
    for (words, code, said) in [
        (
            &["--labels-to=node", "--node-name=n"][..],
            1,
            "--kubeconfig",
        ),
        (&["--labels-to=node"], 2, "--node-name"),
        (&["--use-node-feature-api"], 2, "NODE_NAME"),
        (&["--labels-to=off"], 2, "for the agent"),
        (&["--labels-to=nodes"], 2, "node-feature"),
    ] {
        let ran = machine.labels(&[&["--oneshot"], words].concat());
        let ran = ran.ended_with(code);
        assert!(ran.stderr().contains(said), "{words:?}: {}", ran.stderr());
    }
}
