//! The JSON Schema takes what the agent takes, and refuses what it refuses.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{mizzen, repository, run};

fn schema() -> Value {
    let printed = run(["config", "schema"]).ended_with(0).stdout();
    serde_json::from_str(&printed).unwrap()
}

/// What the schema finds wrong with a config.
fn wrong_by_schema(text: &str) -> Vec<String> {
    let config: Value = serde_saphyr::from_str(text).unwrap();
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    let errors = validator.iter_errors(&config);
    errors.map(|error| error.to_string()).collect()
}

/// Whether the agent can use a config.
fn agent_takes(text: &str) -> bool {
    let mut child = mizzen()
        .args(["config", "check", "-", "--gpus", "2xt4"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    child.wait().unwrap().success()
}

#[test]
fn the_schema_in_docs_is_the_one_that_is_printed() {
    let printed = run(["config", "schema"]).ended_with(0).stdout();
    let committed = std::fs::read_to_string(repository("docs/config.schema.json")).unwrap();
    assert!(
        committed == printed,
        "docs/config.schema.json is not what the program prints; renew it with\n  \
         cargo run -- config schema > docs/config.schema.json"
    );
}

#[test]
fn the_schema_is_one_itself() {
    assert!(jsonschema::meta::is_valid(&schema()));
}

#[test]
fn every_example_is_right_by_the_schema_and_by_the_agent() {
    let mut count = 0;
    for entry in std::fs::read_dir(repository("examples/configs")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(wrong_by_schema(&text), [""; 0], "{}", path.display());
            assert!(agent_takes(&text), "{}", path.display());
            count += 1;
        }
    }
    assert!(count >= 6, "{count} examples");
}

#[test]
fn what_both_take_may_look_like_this() {
    for text in [
        "version: v1",
        "version: v1\nflags:\n",
        "flags: {plugin: {deviceListStrategy: envvar}}",
        "flags: {plugin: {deviceListStrategy: [envvar, cdi-cri]}}",
        "imex: {channelIDs: [0], required: false}",
        "gpus: {include: [0, \"*H100*\"], exclude: 3}",
        "sharing: {timeSlicing: {resources: [{name: gpu, devices: all, replicas: 2}]}}",
        "sharing: {timeSlicing: {resources: [{name: gpu, devices: 1, replicas: 2}]}}",
        "sharing: {timeSlicing: {resources: [{name: gpu, devices: [0, '0:1'], replicas: 2}]}}",
        "health: {xids: [{xids: [79, 60-65], action: report}], ecc: {singleBit: ignore}}",
        "health: {holdDown: '0', checkInterval: 1m30s}",
    ] {
        assert_eq!(wrong_by_schema(text), [""; 0], "{text}");
        assert!(agent_takes(text), "{text}");
    }
}

#[test]
fn what_both_refuse_may_look_like_this() {
    for text in [
        "version: v2",
        "flgs: {}",
        "flags: {migStrategy: singel}",
        "flags: {failOnInitError: perhaps}",
        "flags: {plugin: {deviceListStrategy: [envvar, cri]}}",
        "resources: {gpus: [{pattern: '*'}]}",
        "resources: {gpus: [{pattern: '*', name: GPU_1}]}",
        "resources: {gpus: {pattern: '*', name: gpu}}",
        "sharing: {timeSlicing: {resources: [{name: gpu}]}}",
        "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 0}]}}",
        "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 10001}]}}",
        "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2, devices: some}]}}",
        "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2, devices: 0}]}}",
        "health: {holdDown: 30}",
        "health: {xids: [{xids: 0, action: ignore}]}",
        "health: {ecc: {doubleBit: {count: 2}}}",
        "imex: {channelIDs: [1]}",
    ] {
        assert!(!wrong_by_schema(text).is_empty(), "{text}");
        assert!(!agent_takes(text), "{text}");
    }
}
