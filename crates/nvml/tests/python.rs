//! Programs that know nothing of Mizzen read the simulated GPUs: NVIDIA's own Python bindings
//! and nvitop. What they tell is held against the scenario and what was done to the node.
#![allow(
    clippy::unwrap_used,
    reason = "tests fail by panicking, in their helpers too"
)]

mod support;

use std::process::Command;

use mizzen_nvml_sim::Program;
use mizzen_nvml_sim::control::{GpuRef, LoadChange, ProcessLoad};
use mizzen_nvml_sim::node::{Ancestor, LinkPeer, Node as Plan};
use serde_json::{Value, json};

use support::node::{Node, on_node};
use support::python;

/// Two kinds of GPU, with and without NVLink, and a driver version of its own.
const MIXED: &str = "\
driver_version: 570.86.15
cuda_version: 12.8
gpus:
- {model: h100-80gb, count: 4}
- {model: l4, count: 2}
";

/// Runs a script on the node, and reads the JSON that it prints.
fn read_with(script: &str) -> Value {
    let library = Node::library();
    let mut command = Command::new(python::interpreter());
    command
        .arg(python::directory().join(script))
        .env("LD_LIBRARY_PATH", library.parent().unwrap());
    let output = python::run(command, "the script must read the simulated GPUs");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Gives two GPUs something to do: this very process computes on them, for nvitop shows only
/// processes that exist.
fn busy(node: &Node) {
    let change = |utilization: f64, memory_mib| LoadChange {
        utilization: Some(Program::Constant(utilization)),
        memory_utilization: Some(Program::Constant(utilization / 2.0)),
        power: Some(Program::Constant(60.0 + utilization)),
        temperature: Some(Program::Constant(64.0)),
        processes: vec![ProcessLoad {
            pid: std::process::id(),
            memory_mib,
            utilization: 50,
            graphics: false,
            ..ProcessLoad::default()
        }],
        ..LoadChange::default()
    };
    let simulator = &node.simulator;
    let load = |gpu, change| simulator.load(&GpuRef::Index(gpu).into(), &change).unwrap();
    load(1, change(80.0, 30_000));
    load(5, change(10.0, 1_000));
}

/// What both programs must tell of each GPU.
fn expected_gpus(node: &Node) -> Vec<Value> {
    let status = node.simulator.status().unwrap().gpus;
    let plan = node.simulator.node().unwrap().gpus;
    let pairs = status.iter().zip(&plan);
    pairs
        .map(|(now, gpu)| {
            let (busy, memory_mib) = match now.index {
                1 => (80, 30_000),
                5 => (10, 1_000),
                _ => (0, 0),
            };
            assert_eq!((now.utilization, now.memory_used_mib), (busy, memory_mib));
            json!({
                "index": now.index,
                "name": gpu.name,
                "uuid": gpu.uuid.to_string(),
                "memory_total": gpu.memory_mib << 20,
                "gpu_utilisation": busy,
                "processes": if busy > 0 {
                    json!([[std::process::id(), memory_mib << 20_u64]])
                } else {
                    json!([])
                },
            })
        })
        .collect()
}

/// Holds each GPU's answers against what is expected of it, and answers them for more.
fn hold_against<'a>(told: &'a Value, expected: &[Value]) -> &'a Vec<Value> {
    let gpus = told["gpus"].as_array().unwrap();
    assert_eq!(gpus.len(), expected.len());
    for (gpu, expected) in gpus.iter().zip(expected) {
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&gpu[field], value, "{field} of {gpu}");
        }
        let used = gpu["memory_used"].as_u64().unwrap();
        let total = gpu["memory_total"].as_u64().unwrap();
        let processes = gpu["processes"].as_array().unwrap();
        let by_processes: u64 = processes.iter().map(|it| it[1].as_u64().unwrap()).sum();
        assert!(
            (by_processes..total).contains(&used),
            "{used} of {total} bytes"
        );
    }
    gpus
}

#[test]
fn nvidias_python_bindings_read_the_node_as_the_scenario_describes_it() {
    on_node(MIXED, |node| {
        busy(node);
        let told = read_with("read_with_nvidia_ml_py.py");
        assert_eq!(told["driver"], "570.86.15");
        assert_eq!(told["cuda"], 12_080);
        let plan = node.simulator.node().unwrap();
        let gpus = hold_against(&told, &expected_gpus(node));
        for (gpu, planned) in gpus.iter().zip(&plan.gpus) {
            let (major, minor) = planned.compute_capability;
            assert_eq!(gpu["compute_capability"], json!([major, minor]));
            assert_eq!(gpu["minor"], planned.minor);
            assert_eq!(gpu["found_again"], json!([gpu["index"], gpu["index"]]));
            let place = planned.pci.to_string();
            let told = gpu["pci"].as_str().unwrap().to_lowercase();
            assert!(told.ends_with(&place), "{told} and {place}");
        }
        assert_eq!(gpus[1]["power_milliwatts"], 140_000);
        assert_eq!(gpus[1]["celsius"], 64);
        assert_eq!(gpus[1]["memory_utilisation"], 40);
        let by_gpm: Vec<_> = gpus.iter().map(|gpu| &gpu["gpm_utilisation"]).collect();
        let none = &Value::Null;
        assert_eq!(
            by_gpm,
            [&json!(0), &json!(80), &json!(0), &json!(0), none, none]
        );
        topology_agrees(&told, &plan);
    });
}

fn topology_agrees(told: &Value, plan: &Plan) {
    const SWITCH: u64 = 2;
    for (a, one) in plan.gpus.iter().enumerate() {
        for (b, other) in plan.gpus.iter().enumerate().filter(|(b, _)| *b != a) {
            let expected: Ancestor = one.common_ancestor(other);
            assert_eq!(told["ancestors"][a][b], json!(expected as u32), "{a}, {b}");
        }
        let links = told["gpus"][a]["links"].as_array().unwrap();
        let up = one.links.iter().filter(|&&peer| peer != LinkPeer::Down);
        assert_eq!(links.len(), up.count(), "links of GPU {a}");
        assert!(links.iter().all(|link| link[0] == SWITCH), "{links:?}");
    }
    assert_eq!(told["gpus"][0]["links"].as_array().unwrap().len(), 18);
    assert!(told["gpus"][5]["links"].as_array().unwrap().is_empty());
}

#[test]
fn nvitop_reads_the_node_as_the_scenario_describes_it() {
    on_node(MIXED, |node| {
        busy(node);
        let told = read_with("read_with_nvitop.py");
        assert_eq!(told["driver"], "570.86.15");
        let gpus = hold_against(&told, &expected_gpus(node));
        assert_eq!(gpus[5]["compute_capability"], json!([8, 9]));
        assert_eq!(gpus[5]["power_milliwatts"], 70_000);
        assert_eq!(gpus[5]["celsius"], 64);
        assert_eq!(gpus[5]["memory_utilisation"], 5);
    });
}
