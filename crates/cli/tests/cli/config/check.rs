//! `mizzen config check`.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Ran, repository, run};

fn file(dir: &Path, text: &str) -> String {
    let path = dir.join("config.yaml");
    std::fs::write(&path, text).unwrap();
    path.into_os_string().into_string().unwrap()
}

fn check(text: &str, arguments: &[&str]) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), text);
    run([&["config", "check", &path], arguments].concat())
}

fn check_json(text: &str, arguments: &[&str]) -> Value {
    let ran = check(text, &[arguments, &["--output", "json"]].concat());
    serde_json::from_str(&ran.stdout()).unwrap()
}

#[test]
fn every_mistake_is_told_with_its_place_and_nothing_else() {
    let text = "version: v1\nflags: {migStrategy: singel}\nshraing: {}\n";
    let ran = check(text, &[]).ended_with(1);
    assert_eq!(ran.stdout(), "");
    let told = ran.stderr();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("config.yaml:2:22: flags.migStrategy")),
        "{told}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("config.yaml:3:1: there is no key")),
        "{told}"
    );
    assert!(
        lines[2].ends_with("config.yaml cannot be used: 2 mistakes"),
        "{told}"
    );
}

#[test]
fn mistakes_are_told_to_programs_too() {
    let text = "version: v1\nflags: {migStrategy: singel}\n";
    check(text, &["--output", "json"]).ended_with(1);
    let told = check_json(text, &[]);
    assert_eq!(
        (&told["valid"], &told["errors"][0]["line"]),
        (&json!(false), &json!(2))
    );
    assert_eq!(told["errors"][0]["column"], 22);
    assert_eq!(told.get("resources"), None);
}

#[test]
fn what_cannot_be_understood_is_told_apart_from_what_cannot_be_used() {
    for arguments in [
        &["config", "check"][..],
        &["config", "check", "/nowhere.yaml"],
        &[
            "config",
            "check",
            "examples/configs/time-slicing.yaml",
            "--gpus",
            "8xh100-81gb",
        ],
        &["config", "explain-choice"],
        &["config", "explain-choice", "--want", "0"],
        &[
            "config",
            "explain-choice",
            "--want",
            "1",
            "--gpus",
            "1xt4",
            "--taken",
            "1",
        ],
        &[
            "config",
            "explain-choice",
            "--want",
            "1",
            "--gpus",
            "1xt4",
            "--resource",
            "h100",
        ],
    ] {
        let ran = run(arguments).ended_with(2);
        assert_eq!(ran.stdout(), "", "{arguments:?}");
        assert!(!ran.stderr().is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_scenario_describes_the_node_and_a_mistake_in_it_has_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("node.yaml");
    std::fs::write(&scenario, "gpus:\n- {model: l4, count: 3}\n").unwrap();
    let scenario = scenario.to_str().unwrap();
    let told = check_json("version: v1\n", &["--scenario", scenario]);
    assert_eq!(told["resources"]["nvidia.com/gpu"]["count"], 3);
    assert!(told["node"]["name"].as_str().unwrap().contains("node.yaml"));
    std::fs::write(scenario, "gpus:\n- {modle: l4}\n").unwrap();
    let ran = check("version: v1\n", &["--scenario", scenario]).ended_with(2);
    assert!(ran.stderr().contains("node.yaml:2:4"), "{}", ran.stderr());
}

#[test]
fn every_gpu_is_offered_once_or_left_out_with_the_reason() {
    let text = "\
version: v1
gpus: {include: ['*H100*', 4], exclude: [1]}
resources: {gpus: [{pattern: '*H100*', name: h100}]}
sharing:
  timeSlicing:
    renameByDefault: true
    resources:
    - {name: h100, devices: [0], replicas: 3, replicaPlacement: one-gpu}
";
    let told = check_json(text, &["--gpus", "4xh100-80gb,2xl4"]);
    let offered: Vec<(&Value, &Value)> = told["gpus"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gpu| (&gpu["offeredAs"], &gpu["leftOut"]))
        .collect();
    assert_eq!(offered[0].0, &json!({"nvidia.com/h100.shared": 3}));
    assert_eq!(
        offered[1],
        (&json!({}), &json!("gpus.exclude names it (1)"))
    );
    assert_eq!(offered[2], (&json!({"nvidia.com/h100": 1}), &Value::Null));
    assert_eq!(offered[4].0, &json!({"nvidia.com/gpu": 1}));
    assert_eq!(
        offered[5],
        (&json!({}), &json!("gpus.include does not name it"))
    );
    let shared = &told["resources"]["nvidia.com/h100.shared"];
    assert_eq!(
        (&shared["count"], &shared["policy"]),
        (&json!(3), &json!("distributed"))
    );
    assert_eq!(shared["sharing"]["replicaPlacement"], "one-gpu");
    assert_eq!(told["resources"]["nvidia.com/h100"]["sharing"], Value::Null);
}

#[test]
fn warnings_and_what_does_not_suit_the_node_are_told_and_are_no_mistakes() {
    let text = "\
version: v1
flags: {plugin: {deviceListStrategy: cdi-cri}}
sharing: {timeSlicing: {resources: [{name: gpu, devices: [9], replicas: 2}]}}
";
    let ran = check(text, &["--gpus", "2xt4"]).ended_with(0);
    let told = ran.stdout();
    assert!(told.contains("can be used, with 2 warnings"), "{told}");
    assert!(
        told.contains("config.yaml:2:38: warning: flags.plugin.deviceListStrategy"),
        "{told}"
    );
    let json = check_json(text, &["--gpus", "2xt4"]);
    let remarks = json["remarks"].as_array().unwrap();
    assert!(!remarks.is_empty(), "{json:#}");
    for remark in remarks {
        let note = format!("note: {}", remark.as_str().unwrap());
        assert!(told.contains(&note), "{told}");
    }
}

#[test]
fn sixteen_gpus_with_a_thousand_replicas_each_are_a_short_answer() {
    let text = "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 1000}]}}";
    let ran = check(text, &["--gpus", "16xa100-40gb"]).ended_with(0);
    assert!(ran.stdout().contains("16000  0-15"), "{}", ran.stdout());
    assert!(ran.stdout().lines().count() < 30, "{}", ran.stdout());
    let json = check(text, &["--gpus", "16xa100-40gb", "--output", "json"]);
    assert!(json.stdout().len() < 20_000);
}

#[test]
fn without_a_node_it_says_which_it_takes() {
    let path = repository("examples/configs/time-slicing.yaml");
    let ran = run(["config", "check", path.to_str().unwrap()]).ended_with(0);
    let told = ran.stdout();
    assert!(
        told.contains("the default simulated node (this machine")
            || told.contains("this machine\n"),
        "{told}"
    );
}
