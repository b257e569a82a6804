//! The suite over the simulated library: once for each of a few nodes, each in a process of
//! its own, since the library reads its scenario when it is initialised.

use std::path::Path;
use std::process::Command;

/// Nodes that answer differently: by name, and the scenario's text.
const NODES: &[(&str, &str)] = &[
    (
        "eight H100 on NVSwitch",
        "gpus: [{model: h100-80gb, count: 8}]",
    ),
    (
        "four T4: no NVLink, no MIG",
        "gpus: [{model: t4, count: 4}]",
    ),
    (
        "eight V100 with direct NVLinks",
        "gpus: [{model: v100-sxm2, count: 8}]",
    ),
    (
        "a mixed node",
        "gpus: [{model: a10, count: 2}, {model: a100-80gb, count: 2}, {model: l4, count: 1}]",
    ),
    (
        "an H100 and an RTX PRO 6000 cut up, and an A100 to be",
        "gpus: [{model: h100-80gb, mig: {instances: [3g.40gb, 1g.10gb, 1g.10gb+me]}}, \
         {model: rtx-pro-6000, mig: {instances: [2g.48gb+gfx, 1g.24gb-me]}}, \
         {model: a100-40gb, mig: {instances: []}}]",
    ),
    ("one GB200", "gpus: [{model: gb200, count: 1}]"),
];

/// Runs the suite over each node; whether all of it held.
pub(crate) fn run_each_node(filters: &[String]) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let library = mizzen_nvml_sim::library::place(directory.path()).unwrap();
    let mut all = true;
    for (number, (name, scenario)) in NODES.iter().enumerate() {
        println!("\n{name}");
        let place = directory.path().join(number.to_string());
        std::fs::create_dir(&place).unwrap();
        all &= run_node(&library, &place, scenario, filters);
    }
    all
}

fn run_node(library: &Path, place: &Path, scenario: &str, filters: &[String]) -> bool {
    let file = place.join("node.yaml");
    std::fs::write(&file, scenario).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .arg("--library")
        .arg(library)
        .args(filters)
        .env("MIZZEN_SIM", file)
        .env("MIZZEN_SIM_STATE", place.join("state"))
        .status()
        .unwrap()
        .success()
}
