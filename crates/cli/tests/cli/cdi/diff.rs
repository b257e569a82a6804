//! `mizzen cdi diff`: what has become of specs.

use std::fs;

use serde_json::Value;

use crate::doctor::{Node, SCENARIO};
use crate::support::Ran;

/// A node whose driver was upgraded since its specs were made.
fn upgraded() -> Node {
    let node = Node::new();
    node.specs(&["--disable-hook=enable-cuda-compat"]);
    node.write("node.yaml", format!("driver_version: 581.0.0\n{SCENARIO}"));
    let host = node.path("host").display().to_string();
    node.sim(&[
        "--state",
        "newer",
        "host",
        &host,
        "--driver-layout",
        "debian",
    ]);
    node
}

fn diff(node: &Node, words: &[&str]) -> Ran {
    let mut command = node.command();
    command.env("MIZZEN_SIM_STATE", node.path("newer"));
    command.args(["cdi", "diff", "--host-root", "host"]);
    Ran(command.args(words).output().unwrap())
}

#[test]
fn an_upgrade_of_the_driver_is_one_line() {
    let node = upgraded();
    let told = diff(&node, &["--disable-hook=enable-cuda-compat"]);
    let told = told.ended_with(1).stdout();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(
        lines[0].ends_with("nvidia.com-gpu.json: 1 difference"),
        "{told}"
    );
    let (driver, renamed) = lines[1].split_once(": ").unwrap();
    assert_eq!(driver, "  driver 580.95.05 → 581.0.0");
    let count: usize = renamed
        .strip_suffix(" paths renamed")
        .unwrap()
        .parse()
        .unwrap();
    assert!(count > 20, "{told}");

    // With what is different besides.
    let more = diff(&node, &["--output", "json"]).ended_with(1);
    let document: Value = serde_json::from_str(&more.stdout()).unwrap();
    let kind = &document["kinds"][0];
    assert_eq!(kind["driver"]["renamedPaths"], count);
    let differences = kind["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 2, "{differences:?}");
    let hook = differences[1].as_str().unwrap();
    assert!(hook.contains("--host-driver-version=581.0.0"), "{hook}");
}

#[test]
fn a_spec_that_cannot_be_read_is_told_with_the_reason() {
    let node = Node::new();
    // Nobody can read a link that leads to itself.
    let spec = node.host("var/run/cdi/nvidia.com-gpu.json");
    fs::create_dir_all(spec.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&spec, &spec).unwrap();
    let told = diff(&node, &[]).ended_with(1).stdout();
    assert!(told.contains("there is no usable spec"), "{told}");
    assert!(
        told.contains("nvidia.com-gpu.json: it cannot be read: "),
        "{told}"
    );
}

#[test]
fn a_directory_of_specs_that_cannot_be_read_is_told_too() {
    let node = Node::new();
    node.write("host/var/run/cdi", "no directory");
    let told = diff(&node, &[]).ended_with(1).stdout();
    assert!(
        told.contains("/cdi: it cannot be read: Not a directory"),
        "{told}"
    );
}
