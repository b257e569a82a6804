//! `mizzen config explain-choice`.

use serde_json::{Value, json};

use crate::support::{pod_file, repository, run, simulate_json};

fn explain(arguments: &[&str]) -> Value {
    let fixed = ["config", "explain-choice", "--output", "json"];
    let ran = run([&fixed, arguments].concat()).ended_with(0);
    serde_json::from_str(&ran.stdout()).unwrap()
}

/// The explanation reads the links of a simulated node from its plan; the agent reads them
/// through NVML.
#[test]
fn what_is_explained_is_what_a_container_gets() {
    let dir = tempfile::tempdir().unwrap();
    for (node, wants) in [
        ("8xv100-sxm2", "3"),
        ("4xa30,2xt4", "3"),
        ("8xh100-nvl", "5"),
        ("8xh100-80gb", "4"),
        ("2xl4,4xl40s", "4"),
    ] {
        let told = explain(&["--want", wants, "--gpus", node]);
        let limits = format!("{{limits: {{nvidia.com/gpu: {wants}}}}}");
        let pod = pod_file(dir.path(), "asks", &limits);
        let run = ["--gpus", node, "--pod", &pod, "--pod-time", "100ms"];
        let (code, document) = simulate_json(&run);
        assert_eq!(code, 0, "{document:#}");
        let sorted = |ids: &Value| {
            let ids = ids.as_array().unwrap().iter();
            let mut ids: Vec<String> = ids.map(|id| id.as_str().unwrap().to_owned()).collect();
            ids.sort();
            ids
        };
        let got = &document["pods"][0]["containers"][0]["devices"]["nvidia.com/gpu"];
        assert_eq!(sorted(&told["gets"]), sorted(got), "{wants} of {node}");
        assert!(told["rules"]["decidedBy"].is_string(), "{told:#}");
    }
}

#[test]
fn the_rule_that_decided_is_named_and_the_numbers_show_it() {
    let told = explain(&["--want", "2", "--gpus", "8xv100-sxm2", "--taken", "5,6,7"]);
    let rules = &told["rules"];
    assert_eq!(rules["decidedBy"], "links", "{rules:#}");
    assert_eq!(
        (&rules["sets"], &rules["complete"]),
        (&json!(10), &json!(true))
    );
    let best = rules["chosen"]["links"].as_u64().unwrap();
    let others = rules["runnersUp"].as_array().unwrap();
    assert_eq!(others.len(), 4);
    assert!(others[0]["links"].as_u64().unwrap() <= best);
    let numa = "flags: {plugin: {gpuAllocationPolicy: numa}}";
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.yaml");
    std::fs::write(&config, numa).unwrap();
    // One GPU of the first node is taken: a set of four is whole on the second one only.
    let config = config.to_str().unwrap();
    let taken = [
        "--want",
        "4",
        "--gpus",
        "8xh100-80gb",
        "--taken",
        "0",
        "--config",
        config,
    ];
    let told = explain(&taken);
    assert_eq!(told["rules"]["chosen"]["gpus"], json!([4, 5, 6, 7]));
    assert_eq!(told["rules"]["decidedBy"], "numaSplits");
}

#[test]
fn replicas_are_counted_and_taken_by_index_uuid_or_number() {
    let path = repository("examples/configs/different-counts.yaml");
    let shared = [
        "--config",
        path.to_str().unwrap(),
        "--gpus",
        "4xt4",
        "--resource",
        "gpu.shared",
    ];
    let first = explain(&[&shared[..], &["--want", "1"]].concat());
    assert_eq!(
        (&first["free"], &first["policy"]),
        (&json!(20), &json!("distributed"))
    );
    assert_eq!(first["rules"], Value::Null);
    let id = first["gets"][0].as_str().unwrap();
    let (uuid, replica) = id.split_once("::").unwrap();
    assert_eq!(replica, "0");
    let taken = format!("0,0,1,{uuid},{uuid}::7");
    let told = explain(&[&shared[..], &["--want", "3", "--taken", &taken]].concat());
    let stands = told["gpus"].as_array().unwrap();
    assert_eq!(
        stands[0],
        json!({"index": 0, "devices": 10, "taken": 4, "gets": 0})
    );
    assert_eq!(
        stands[1],
        json!({"index": 1, "devices": 10, "taken": 1, "gets": 3})
    );
}

#[test]
fn a_container_that_would_wait_or_be_refused_is_told_so() {
    let told = explain(&["--want", "3", "--gpus", "4xt4", "--taken", "0,1"]);
    assert_eq!((&told["gets"], &told["free"]), (&json!([]), &json!(2)));
    let ran = run(["config", "explain-choice", "--want", "3", "--gpus", "2xt4"]).ended_with(0);
    assert!(
        ran.stdout().contains("stays Pending: 2 are free"),
        "{}",
        ran.stdout()
    );
    let path = repository("examples/configs/time-slicing.yaml");
    let config = ["--config", path.to_str().unwrap(), "--gpus", "2xt4"];
    let told = explain(&[&config[..], &["--want", "2"]].concat());
    assert!(told["refusal"].is_string(), "{told:#}");
    let told = explain(&[&config[..], &["--want", "1"]].concat());
    assert_eq!(told["refusal"], Value::Null);
}

#[test]
fn with_too_many_sets_it_says_that_not_all_were_compared() {
    let arguments = [
        "config",
        "explain-choice",
        "--want",
        "16",
        "--gpus",
        "32xt4",
    ];
    let ran = run(arguments).ended_with(0);
    let told = ran.stdout();
    assert!(
        told.contains("601080390 sets (the others shown are"),
        "{told}"
    );
}
