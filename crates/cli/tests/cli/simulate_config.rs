//! `mizzen simulate --config`: shared GPUs and several resources, from end to end.

use serde_json::{Value, json};

use crate::support::{pod_file, repository, run, simulate_json};

const SHARED: &str = "\
version: v1
sharing: {timeSlicing: {renameByDefault: true, resources: [{name: gpu, replicas: 4}]}}
";

fn write(dir: &std::path::Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.into_os_string().into_string().unwrap()
}

fn phase(document: &Value, pod: usize) -> &str {
    document["pods"][pod]["phase"].as_str().unwrap()
}

fn told(document: &Value, words: &str) -> usize {
    let entries = document["timeline"].as_array().unwrap();
    let messages = entries
        .iter()
        .map(|entry| entry["message"].as_str().unwrap());
    messages.filter(|message| message.contains(words)).count()
}

#[test]
fn replicas_are_shared_and_it_is_told_who_holds_how_many_of_which_gpu() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), "c.yaml", SHARED);
    let pod = pod_file(dir.path(), "three", "{limits: {nvidia.com/gpu.shared: 3}}");
    let serving = "{apiVersion: v1, kind: Pod, metadata: {name: serving}, spec: {containers: [{\
                   name: main, image: i, resources: {limits: {nvidia.com/gpu.shared: 4}}}]}}";
    let serving = write(dir.path(), "serving.yaml", serving);
    let arguments = [
        "--config", &config, "--gpus", "2xl4", "--pod", &pod, "--pod", &serving,
    ];
    let (code, document) = simulate_json(&[&arguments[..], &["--pod-time", "200ms"]].concat());
    assert_eq!(code, 0, "{document:#}");
    let counts = &document["node"]["resources"];
    assert_eq!(
        counts,
        &json!({"nvidia.com/gpu.shared": {"capacity": 8, "allocatable": 8}})
    );
    let held = |gpu: usize| &document["gpus"][gpu]["offeredAs"]["nvidia.com/gpu.shared"];
    for gpu in [0, 1] {
        assert_eq!(held(gpu)["devices"], 4);
        let name = &document["gpus"][gpu]["heldBy"];
        assert_eq!(name, &json!(["serving/main"]), "each container once");
        assert_eq!(document["gpus"][gpu]["wasHeldBy"], json!(["three/main"]));
    }
    let four: u64 = [0, 1]
        .iter()
        .map(|gpu| held(*gpu)["heldBy"]["serving/main"].as_u64().unwrap())
        .sum();
    assert_eq!(four, 4);
    assert_eq!(
        told(
            &document,
            "three/main gets GPU 0 ×2, 1 as nvidia.com/gpu.shared"
        ),
        1
    );
}

#[test]
fn a_thousand_replicas_of_each_of_sixteen_gpus_are_told_in_a_few_lines() {
    let dir = tempfile::tempdir().unwrap();
    let text = "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 1000}]}}";
    let config = write(dir.path(), "c.yaml", text);
    let pod = pod_file(dir.path(), "many", "{limits: {nvidia.com/gpu: 3000}}");
    let ran = run([
        "simulate",
        "--output",
        "plain",
        "--config",
        &config,
        "--gpus",
        "16xa100-40gb",
        "--pod",
        &pod,
        "--pod-time",
        "1500ms",
        "--inject",
        "at 2s: lost gpu 3",
    ])
    .ended_with(0);
    let shown = ran.stdout();
    assert!(
        shown.contains("many/main gets GPU 0-7 ×188, 8-15 ×187"),
        "{shown}"
    );
    assert!(shown.contains("nvidia.com/gpu ×1000  0 of 1000"), "{shown}");
    let sick = shown.matches("holds GPU 3, which is unhealthy").count();
    assert!(sick <= 1, "once for all replicas\n{shown}");
    assert!(shown.lines().count() < 60, "{shown}");
}

#[test]
fn pods_ask_for_models_and_each_resource_has_a_size_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let config = repository("examples/configs/names-by-model.yaml");
    let fits = pod_file(
        dir.path(),
        "fits",
        "{limits: {nvidia.com/h100: 2, nvidia.com/l4: 1}}",
    );
    let too_many = pod_file(dir.path(), "too-many", "{limits: {nvidia.com/l4: 3}}");
    let unknown = pod_file(dir.path(), "unknown", "{limits: {nvidia.com/gpu: 1}}");
    let (code, document) = simulate_json(&[
        "--config",
        config.to_str().unwrap(),
        "--gpus",
        "4xh100-80gb,2xl4",
        "--pod-time",
        "200ms",
        "--pod",
        &fits,
        "--pod",
        &too_many,
        "--pod",
        &unknown,
    ]);
    assert_eq!(code, 0, "{document:#}");
    assert_eq!(
        (phase(&document, 0), &document["pods"][0]["fitsNode"]),
        ("Succeeded", &json!(true))
    );
    let devices = &document["pods"][0]["containers"][0]["devices"];
    assert_eq!(devices["nvidia.com/h100"].as_array().unwrap().len(), 2);
    assert_eq!(devices["nvidia.com/l4"].as_array().unwrap().len(), 1);
    for (pod, resource) in [(1, "nvidia.com/l4"), (2, "nvidia.com/gpu")] {
        assert_eq!(
            (phase(&document, pod), &document["pods"][pod]["fitsNode"]),
            ("Pending", &json!(false))
        );
        let message = document["pods"][pod]["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("Insufficient {resource}")),
            "{message}"
        );
    }
}

#[test]
fn the_api_servers_rules_hold_for_every_resource() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), "c.yaml", SHARED);
    for (resources, message) in [
        (
            "{limits: {nvidia.com/gpu.shared: 0.5}}",
            "must be an integer",
        ),
        (
            "{limits: {nvidia.com/gpu.shared: 2}, requests: {nvidia.com/gpu.shared: 1}}",
            "must be equal to nvidia.com/gpu.shared limit of 2",
        ),
        (
            "{requests: {nvidia.com/gpu.shared: 1}}",
            "Limit must be set for non overcommitable resources",
        ),
    ] {
        let pod = pod_file(dir.path(), "wrong", resources);
        let (code, document) =
            simulate_json(&["--config", &config, "--gpus", "1xt4", "--pod", &pod]);
        assert_eq!(code, 4, "{document:#}");
        let said = document["pods"][0]["message"].as_str().unwrap();
        assert!(said.contains(message), "{said}");
    }
}

#[test]
fn the_script_replaces_the_file_and_a_bad_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let shared = write(dir.path(), "shared.yaml", SHARED);
    let bad = write(dir.path(), "bad.yaml", "version: v1\nshraing: {}\n");
    let pod = pod_file(dir.path(), "late", "{limits: {nvidia.com/gpu.shared: 2}}");
    let script = format!("at 300ms: config {bad}; at 600ms: config {shared}");
    let (code, document) = simulate_json(&[
        "--gpus",
        "2xt4",
        "--pod",
        &pod,
        "--pod-time",
        "100ms",
        "--inject",
        &script,
    ]);
    assert_eq!(code, 0, "{document:#}");
    assert_eq!(phase(&document, 0), "Succeeded");
    assert_eq!(told(&document, "shraing"), 1, "{document:#}");
    let gpu = &document["gpus"][0];
    assert_eq!(
        gpu["health"], "Healthy",
        "the old resource makes nobody sick"
    );
    let names: Vec<&String> = gpu["offeredAs"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["nvidia.com/gpu.shared"]);
}

#[test]
fn a_resource_with_another_name_makes_no_gpu_missing_and_one_that_is_left_out_is() {
    let dir = tempfile::tempdir().unwrap();
    let renamed = "resources: {gpus: [{pattern: '*', name: t4}]}";
    let renamed = write(dir.path(), "renamed.yaml", renamed);
    let fewer = write(dir.path(), "fewer.yaml", "gpus: {exclude: [1]}");
    let pod = pod_file(dir.path(), "p", "{limits: {nvidia.com/gpu: 1}}");
    let step = |file: &str| format!("at 300ms: config {file}");
    let arguments = ["--gpus", "2xt4", "--pod", &pod, "--pod-time", "1500ms"];
    for (script, missing) in [(step(&renamed), 0), (step(&fewer), 1)] {
        let (code, document) = simulate_json(&[&arguments[..], &["--inject", &script]].concat());
        assert_eq!(code, 0, "{document:#}");
        assert_eq!(
            told(&document, "no longer reported"),
            missing,
            "{document:#}"
        );
    }
}

#[test]
fn a_replacement_at_the_very_start_waits_until_the_agent_can_hear_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let shared = write(dir.path(), "shared.yaml", SHARED);
    let pod = pod_file(dir.path(), "early", "{limits: {nvidia.com/gpu.shared: 1}}");
    let script = format!("config {shared}");
    let (code, document) = simulate_json(&[
        "--gpus",
        "1xt4",
        "--pod",
        &pod,
        "--pod-time",
        "100ms",
        "--inject",
        &script,
    ]);
    assert_eq!(
        (code, phase(&document, 0)),
        (0, "Succeeded"),
        "{document:#}"
    );
}

#[test]
fn what_the_file_sets_outranks_the_patience_of_a_simulation() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), "c.yaml", "health: {holdDown: 3s}\n");
    let (code, document) = simulate_json(&[
        "--config",
        &config,
        "--gpus",
        "1xt4",
        "--pod-time",
        "100ms",
        "--pod",
        repository("examples/one-gpu.yaml").to_str().unwrap(),
        "--inject",
        "at 500ms: xid 48 on gpu 0; at 700ms: heal gpu 0",
    ]);
    assert_eq!(code, 0, "{document:#}");
    assert_eq!(document["gpus"][0]["health"], "Healthy");
    assert!(
        document["elapsedMs"].as_f64().unwrap() > 3500.0,
        "{document:#}"
    );
}

#[test]
fn a_config_that_cannot_be_used_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bad = write(dir.path(), "bad.yaml", "version: v1\nshraing: {}\n");
    let ran = run(["simulate", "--config", &bad]).ended_with(2);
    assert_eq!(ran.stdout(), "");
    assert!(
        ran.stderr()
            .contains("bad.yaml:2:1: there is no key \"shraing\""),
        "{}",
        ran.stderr()
    );
    let ran = run(["simulate", "--inject", "config /nowhere.yaml"]).ended_with(2);
    assert!(
        ran.stderr().contains("cannot read /nowhere.yaml"),
        "{}",
        ran.stderr()
    );
}
