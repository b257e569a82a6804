//! Settings, and what the command does about mistakes in them.

use std::fs;

use serde_json::Value;

use super::Node;
use super::node::bad;
use crate::support::Ran;

#[test]
fn a_mistake_in_flags_ends_with_2_and_one_in_the_file_or_the_environment_is_a_finding() {
    let node = Node::new();
    for (arguments, word) in [
        (["--mig-strategy", "singel"], "did you mean \"single\"?"),
        (["--no-such", "flag"], "--no-such"),
        (["--output", "yaml"], "json"),
    ] {
        let told = node.doctor(&arguments).ended_with(2).stderr();
        assert!(told.contains(word), "{told}");
    }
    node.write(
        "config.yaml",
        "version: v1\nflags:\n  migStrategi: single\n",
    );
    let report = node.report(&["--config-file", "config.yaml"]);
    assert_eq!(bad(&report)[0], "error settings-invalid");
    let found = report["findings"][0]["found"].as_str().unwrap();
    assert!(found.contains("line 3"), "{found}");

    let mut command = node.command();
    command
        .args(["doctor", "--host-root", "host", "--output", "json"])
        .env("GDS_ENABLED", "perhaps");
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("settings-invalid") && told.contains("GDS_ENABLED"),
        "{told}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_setting_comes_from_the_environment_too() {
    let node = Node::new();
    let mut command = node.command();
    command
        .args(["doctor", "--output", "json"])
        .env("MIZZEN_HOST_ROOT", "host");
    let told = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(told.contains("2 GPUs on the bus"), "{told}");
}

#[test]
fn the_short_help_has_what_most_people_need_and_the_long_one_everything() {
    let node = Node::new();
    let mut short = node.command();
    let short = short.args(["doctor", "-h"]).output().unwrap();
    let short = String::from_utf8(short.stdout).unwrap();
    let mut long = node.command();
    let long = long.args(["doctor", "--help"]).output().unwrap();
    let long = String::from_utf8(long.stdout).unwrap();
    assert!(short.contains("--kubelet-socket") && !short.contains("--gds-enabled"));
    assert!(long.contains("--gds-enabled") && long.contains("Exit codes:"));
}

#[test]
fn proposed_commands_look_at_the_same_machine() {
    let node = Node::new();
    node.specs(&[]);
    node.write("host/etc/cdi/broken.json", "{");
    let config = node.write("my config.yaml", "version: v2\n");
    let config = config.to_str().unwrap();
    let report = node.report(&["--config-file", config]);
    let commands = report["findings"].as_array().unwrap().iter();
    let commands = commands.flat_map(|finding| finding["commands"].as_array().unwrap());
    let commands: Vec<&str> = commands.map(|command| command.as_str().unwrap()).collect();
    let root = node.path("host").display().to_string();
    for expected in [
        format!("mizzen config check '{config}'"),
        format!("mizzen cdi validate {root}/etc/cdi/broken.json --host-root {root}"),
        format!("sudo mizzen hook install --dir {root}/var/lib/mizzen/bin"),
    ] {
        assert!(commands.contains(&expected.as_str()), "{commands:#?}");
    }
    // As it is proposed, it can be run.
    let validate = commands.iter().find(|words| words.contains("validate"));
    let mut command = node.command();
    let words = validate.unwrap().split(' ').skip(1);
    let ran = command.args(words).output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
}

/// The commands of a finding of this name.
fn commands(report: &Value, id: &str) -> Vec<String> {
    let mut findings = report["findings"].as_array().unwrap().iter();
    let finding = findings.find(|finding| finding["id"] == id);
    let commands = finding.unwrap_or_else(|| panic!("no {id} in {report:#}"))["commands"].clone();
    serde_json::from_value(commands).unwrap()
}

#[test]
fn the_command_for_a_stale_spec_makes_the_same_names_anew() {
    let node = Node::new();
    node.specs(&[
        "--disable-hook=all",
        "--name-strategy=type-index,index",
        "--format=yaml",
    ]);
    node.specs(&["--disable-hook=all", "--kind=management.nvidia.com/gpu"]);
    let path = node.host("var/run/cdi/nvidia.com-gpu.yaml");
    let made = fs::read_to_string(&path).unwrap();
    node.remove_libraries("libnvcuvid.so");
    for _ in ["the one", "the other"] {
        let report = node.report(&[]);
        let words = commands(&report, "cdi-stale").remove(0);
        let mut command = node.command();
        command.args(words.split(' ').skip(2));
        Ran(command.output().unwrap()).ended_with(0);
    }
    let left = bad(&node.report(&[]));
    assert!(!left.contains(&"error cdi-stale".to_owned()), "{left:?}");
    let renewed = fs::read_to_string(&path).unwrap();
    assert_ne!(renewed, made);
    let names = |text: &str| -> Vec<String> {
        let spec: Value = serde_saphyr::from_str(text).unwrap();
        let devices = spec["devices"].as_array().unwrap().iter();
        devices.map(|device| device["name"].to_string()).collect()
    };
    assert_eq!(names(&renewed), names(&made));
    assert!(names(&made).contains(&"\"gpu0\"".to_owned()), "{made}");
}

#[test]
fn the_command_for_a_conflict_leaves_what_the_agent_keeps() {
    let node = Node::new();
    let name = "var/run/cdi/k8s.device-plugin.nvidia.com-gpu.json";
    node.specs(&[
        "--disable-hook=all",
        "--kind=k8s.device-plugin.nvidia.com/gpu",
    ]);
    let copy = node.host("var/run/cdi/copy.json");
    fs::copy(node.host(name), &copy).unwrap();
    let report = node.report(&["--device-list-strategy=cdi-cri"]);
    let expected = format!("sudo rm {}", copy.display());
    assert_eq!(commands(&report, "cdi-conflict"), [expected]);
}
