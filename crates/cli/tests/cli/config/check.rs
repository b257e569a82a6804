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

const MIG_NODE: &str = "\
gpus:
- {model: h100-80gb, mig: {instances: [1g.10gb, 1g.10gb, 1g.10gb]}}
- {model: h100-80gb, mig: {instances: [3g.40gb, 1g.10gb+me]}}
- {model: h100-80gb, mig: {}}
- {model: h100-80gb}
";

fn check_mig(text: &str, output: &[&str]) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("node.yaml");
    std::fs::write(&scenario, MIG_NODE).unwrap();
    let node = ["--scenario", scenario.to_str().unwrap()];
    check(text, &[&node[..], output].concat()).ended_with(0)
}

#[test]
fn mig_devices_are_listed_under_their_gpus_and_by_resource() {
    let text = "\
flags: {migStrategy: mixed}
sharing:
  timeSlicing:
    resources: [{name: mig-1g.10gb, rename: small, devices: ['0:1', '0:2'], replicas: 2}]
";
    let told: Value =
        serde_json::from_str(&check_mig(text, &["--output", "json"]).stdout()).unwrap();
    let resource = |name: &str| {
        let resource = &told["resources"][format!("nvidia.com/{name}")];
        (
            resource["count"].clone(),
            resource["gpus"].clone(),
            resource["migDevices"].clone(),
        )
    };
    assert_eq!(resource("gpu"), (json!(1), json!([3]), json!([])));
    assert_eq!(
        resource("small"),
        (json!(4), json!([0]), json!(["0:1", "0:2"]))
    );
    assert_eq!(
        resource("mig-1g.10gb"),
        (json!(1), json!([0]), json!(["0:0"]))
    );
    assert_eq!(
        resource("mig-1g.10gb.me"),
        (json!(1), json!([1]), json!(["1:1"]))
    );
    let gpu = &told["gpus"][0];
    assert_eq!(
        gpu["offeredAs"],
        json!({"nvidia.com/mig-1g.10gb": 1, "nvidia.com/small": 4})
    );
    let second = &gpu["mig"]["devices"][1];
    assert_eq!(
        (&second["index"], &second["profile"]),
        (&json!("0:1"), &json!("1g.10gb"))
    );
    assert_eq!(second["offeredAs"], json!({"nvidia.com/small": 2}));
    assert!(second["uuid"].as_str().unwrap().starts_with("MIG-"));
    assert_eq!(
        told["gpus"][2]["mig"],
        json!({"enabled": true, "devices": []})
    );
    assert_eq!(told["gpus"][3]["mig"]["enabled"], false);
    let remarks = told["remarks"].to_string();
    assert!(remarks.contains("there are no MIG devices"), "{remarks}");

    let shown = check_mig(text, &[]).stdout();
    for row in [
        "  nvidia.com/small           4      0:1,2  1g.10gb     2 replicas each by time-slicing",
        "  nvidia.com/mig-1g.10gb.me  1      1:1    1g.10gb+me  –",
        "  0    3 MIG devices ",
        "  0:1  nvidia.com/small ×2 ",
        "  2    nothing: MIG is on, without MIG devices ",
        "  3    nvidia.com/gpu ",
    ] {
        assert!(shown.contains(row), "{row} is missing in\n{shown}");
    }
}

#[test]
fn with_one_strategy_for_all_gpus_it_is_told_which_are_not_offered() {
    let shown = check_mig("flags: {migStrategy: single}", &[]).stdout();
    for text in [
        "  nvidia.com/gpu  3      0:0-2  1g.10gb  –",
        "note: GPU 1 is cut into",
        "note: GPU 3 is whole and is not offered",
        "\n  1    nothing ",
        "\n  1:0  – ",
    ] {
        assert!(shown.contains(text), "{text} is missing in\n{shown}");
    }
    let none = check_mig("version: v1", &[]).stdout();
    assert!(none.contains("  nvidia.com/gpu  4      0-3 "), "{none}");
    assert!(none.contains("offers the GPU whole"), "{none}");
}

#[test]
fn a_file_without_an_end_is_not_read_to_its_end() {
    let ran = run(["config", "check", "/dev/zero"]).ended_with(2);
    let told = ran.stderr();
    assert!(
        told.contains("/dev/zero is longer than 1048576 bytes"),
        "{told}"
    );
}

#[test]
fn a_scenario_that_is_not_there_is_told_once() {
    let ran = check("version: v1", &["--scenario", "/nowhere.yaml"]).ended_with(2);
    let told = ran.stderr();
    assert_eq!(told.matches("No such file").count(), 1, "{told}");
}
