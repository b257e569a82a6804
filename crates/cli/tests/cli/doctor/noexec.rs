//! A directory of hooks from which no program may be run.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Node;
use super::node::bad;

/// The report where the directory `mounted` has a file system that forbids programs; `None`, said
/// on standard error, where such a one cannot be mounted.
#[allow(
    clippy::print_stderr,
    reason = "whoever runs the tests sees what was not tested"
)]
fn report(node: &Node, mounted: &Path) -> Option<Value> {
    let unshared = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]);
        command.args(words).current_dir(node.path(""));
        command.output()
    };
    if !unshared(&["true"]).is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no mount namespace can be made here");
        return None;
    }
    let script = "mount -t tmpfs -o noexec tmpfs \"$1\"; shift; exec \"$@\"";
    let place = mounted.to_str().unwrap();
    let program = env!("CARGO_BIN_EXE_mizzen");
    let doctor = [program, "doctor", "--host-root=host", "--output=json"];
    let strategy = "--device-list-strategy=cdi-cri";
    let words = [
        &["sh", "-euc", script, "sh", place],
        &doctor[..],
        &[strategy],
    ];
    let output = unshared(&words.concat()).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}")))
}

/// What is found of file systems that forbid programs.
fn found(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .filter(|finding| finding["id"] == "cdi-hook-noexec")
        .map(|finding| finding["found"].as_str().unwrap())
        .collect()
}

#[test]
fn a_file_system_that_forbids_the_agents_hooks_is_told() {
    let node = Node::new();
    // The directory itself is not made yet.
    let above = node.host("var/lib/mizzen");
    fs::create_dir_all(&above).unwrap();
    let Some(told) = report(&node, &above) else {
        return;
    };
    let expected = ["/var/lib/mizzen/bin is on a file system that is mounted noexec"];
    assert_eq!(found(&told), expected, "{:?}", bad(&told));
}

#[test]
fn a_file_system_that_forbids_another_program_of_specs_is_told() {
    let node = Node::new();
    node.specs(&["--nvidia-cdi-hook-path=/opt/bin/nvidia-ctk"]);
    let opt = node.host("opt");
    fs::create_dir_all(&opt).unwrap();
    let Some(told) = report(&node, &opt) else {
        return;
    };
    let expected = ["/opt/bin is on a file system that is mounted noexec"];
    assert_eq!(found(&told), expected, "{:?}", bad(&told));
}
