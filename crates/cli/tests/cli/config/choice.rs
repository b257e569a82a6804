//! `mizzen config explain-choice`.

use serde_json::{Value, json};

use crate::support::{pod_file, repository, run, simulate_json};

fn explain(arguments: &[&str]) -> Value {
    let (code, told) = answer(arguments);
    assert_eq!(code, 0, "{told:#}");
    told
}

fn answer(arguments: &[&str]) -> (i32, Value) {
    let fixed = ["config", "explain-choice", "--output", "json"];
    let ran = run([&fixed, arguments].concat());
    (ran.code(), serde_json::from_str(&ran.stdout()).unwrap())
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
    let (code, told) = answer(&["--want", "3", "--gpus", "4xt4", "--taken", "0,1"]);
    assert_eq!(code, 1);
    assert_eq!((&told["gets"], &told["free"]), (&json!([]), &json!(2)));
    let ran = run(["config", "explain-choice", "--want", "3", "--gpus", "2xt4"]).ended_with(1);
    assert!(
        ran.stdout().contains("stays Pending: 2 are free"),
        "{}",
        ran.stdout()
    );
    let path = repository("examples/configs/time-slicing.yaml");
    let config = ["--config", path.to_str().unwrap(), "--gpus", "2xt4"];
    let (code, told) = answer(&[&config[..], &["--want", "2"]].concat());
    assert_eq!(code, 1);
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

#[test]
fn the_exit_codes_are_in_the_help_and_a_wrong_number_is_told_what_is_expected() {
    let help = run(["config", "explain-choice", "--help"]).ended_with(0);
    assert!(help.stdout().contains("Exit codes:"), "{}", help.stdout());
    for number in ["0", "x", "-1"] {
        let want = format!("--want={number}");
        let ran = run(["config", "explain-choice", &want]).ended_with(2);
        let told = ran.stderr();
        assert!(told.contains("a whole number from 1"), "{told}");
    }
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.yaml");
    std::fs::write(&config, "falgs: {}").unwrap();
    let config = config.to_str().unwrap();
    run(["config", "explain-choice", "--want=1", "--config", config]).ended_with(2);
}

#[test]
fn mig_devices_go_from_the_fullest_gpu_and_are_taken_by_index_uuid_or_gpu() {
    let config = repository("examples/configs/mig.yaml");
    let scenario = repository("examples/configs/nodes/mig.yaml");
    let node = [
        "--config",
        config.to_str().unwrap(),
        "--scenario",
        scenario.to_str().unwrap(),
        "--resource",
        "mig-1g.10gb",
    ];
    let of = |arguments: &[&str]| answer(&[&node[..], arguments].concat()).1;
    let all = of(&["--want", "8"]);
    assert_eq!(all["rules"], Value::Null);
    assert_eq!(
        all["gpus"],
        json!([
            {"index": 0, "devices": 7, "taken": 0, "gets": 7},
            {"index": 1, "devices": 1, "taken": 0, "gets": 1},
        ])
    );
    let uuid = all["migDevices"][2]["uuid"].as_str().unwrap();
    let taken = format!("0,0:1,{uuid},1");
    let told = of(&["--want", "2", "--taken", &taken]);
    let indices = |key: &str| {
        let devices = told["migDevices"].as_array().unwrap().iter();
        let meant = devices.filter(|device| device[key] == 1);
        meant
            .map(|device| device["index"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(indices("taken"), ["0:0", "0:1", "0:2", "1:2"]);
    assert_eq!(indices("gets"), ["0:3", "0:4"]);
    let shown =
        |arguments: &[&str]| run([&["config", "explain-choice"], &node[..], arguments].concat());
    let ran = shown(&["--want", "2", "--taken", "0:0"]).ended_with(0);
    let text = ran.stdout();
    assert!(text.contains("gets MIG 0:1,2\n"), "{text}");
    let why = "policy packed: the GPU that is fullest goes first";
    assert!(text.contains(why), "{text}");
    let told = shown(&["--want", "1", "--taken", "0:9"])
        .ended_with(2)
        .stderr();
    assert!(
        told.contains("no MIG device 0:9; it has MIG 0:0-6 1:0-2"),
        "{told}"
    );
    let told = shown(&["--want", "1", "--taken", "1:0"])
        .ended_with(2)
        .stderr();
    assert!(
        told.contains("is not offered as nvidia.com/mig-1g.10gb"),
        "{told}"
    );
}

/// The same for MIG devices, whose identities the agent has from NVML and this command from the
/// scenario.
#[test]
fn what_is_explained_of_mig_devices_is_what_a_container_gets() {
    let dir = tempfile::tempdir().unwrap();
    let config = repository("examples/configs/mig.yaml");
    let scenario = dir.path().join("node.yaml");
    for driver in ["580.95.05", "460.32.03"] {
        let text = format!(
            "driver_version: {driver}\ngpus:\n\
             - {{model: a100-40gb, mig: {{instances: [3g.20gb, 1g.5gb, 2g.10gb]}}}}\n\
             - {{model: a100-40gb, mig: {{instances: [1g.5gb, 1g.5gb, 1g.5gb]}}}}\n"
        );
        std::fs::write(&scenario, text).unwrap();
        let node = [
            "--config",
            config.to_str().unwrap(),
            "--scenario",
            scenario.to_str().unwrap(),
        ];
        let told = explain(&[&node[..], &["--want", "3", "--resource", "mig-1g.5gb"]].concat());
        let pod = pod_file(dir.path(), "asks", "{limits: {nvidia.com/mig-1g.5gb: 3}}");
        let run = ["--pod", &pod, "--pod-time", "100ms"];
        let (code, document) = simulate_json(&[&node[..], &run].concat());
        assert_eq!(code, 0, "{document:#}");
        let sorted = |ids: &Value| {
            let mut ids: Vec<String> = serde_json::from_value(ids.clone()).unwrap();
            ids.sort();
            ids
        };
        let got = &document["pods"][0]["containers"][0]["devices"]["nvidia.com/mig-1g.5gb"];
        assert_eq!(sorted(&told["gets"]), sorted(got), "{driver}");
    }
}
