//! NVIDIA's own Python bindings read a partitioned GPU, and as root partition it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking, in their helpers too"
)]

#[path = "../../nvml/tests/support/python.rs"]
mod python;

use std::process::Command;

use mizzen_nvml_sim::control::Simulator;
use mizzen_nvml_sim::library;
use mizzen_nvml_sim::scenario::{MigSetup, Scenario};
use serde_json::{Value, json};

/// GPU 1 of a node is partitioned; what the bindings tell of it.
fn read(instances: &[&str]) -> (Simulator, tempfile::TempDir, Value) {
    let directory = tempfile::tempdir().unwrap();
    let mut scenario = Scenario::short("1xt4,1xh100-80gb").unwrap();
    scenario.gpus[1].mig = Some(MigSetup {
        enabled: true,
        instances: instances.iter().map(|name| (*name).to_owned()).collect(),
    });
    let state = directory.path().join("state");
    let simulator = Simulator::create(&state, &scenario).unwrap();
    library::place(directory.path()).unwrap();
    let mut command = Command::new(python::interpreter());
    command
        .arg(python::directory().join("partition_with_nvidia_ml_py.py"))
        .env("LD_LIBRARY_PATH", directory.path())
        .env("MIZZEN_SIM_STATE", state)
        .env_remove("MIZZEN_SIM");
    let output = python::run(command, "the script must partition the simulated GPU");
    let told = serde_json::from_slice(&output.stdout).unwrap();
    (simulator, directory, told)
}

#[test]
fn nvidia_ml_py_sees_the_profiles_and_the_devices_and_can_partition() {
    let (simulator, _directory, told) = read(&["1g.10gb", "2g.20gb"]);
    assert_eq!(told["mode"], json!([1, 1]));
    // The 1g is at 6, the 2g at 4.
    assert_eq!(
        told["profiles"],
        json!([
            ["MIG 1g.10gb", 19, 7, 4, [0, 1, 2, 3, 4, 5, 6]],
            ["MIG 1g.10gb+me", 20, 1, 1, [0, 1, 2, 3, 4, 5, 6]],
            ["MIG 1g.20gb", 15, 4, 2, [0, 2, 4, 6]],
            ["MIG 2g.20gb", 14, 3, 2, [0, 2, 4]],
            ["MIG 3g.40gb", 9, 2, 1, [0, 4]],
            ["MIG 4g.40gb", 5, 1, 1, [0]],
            ["MIG 7g.80gb", 0, 1, 0, [0]],
        ])
    );
    let status = simulator.status().unwrap();
    let instances = &status.gpus[1].mig.as_ref().unwrap().gpu_instances;
    let expected: Vec<Value> = instances
        .iter()
        .map(|instance| {
            json!({
                "uuid": instance.devices[0].uuid,
                "name": format!("NVIDIA H100 80GB HBM3 MIG {}", instance.profile),
                "gpu": 1,
                "ids": [instance.id, 0],
                "memory_mib": instance.memory_mib,
                "memory_total": instance.memory_mib << 20,
            })
        })
        .collect();
    assert_eq!(instances.len(), 2);
    assert_eq!(told["devices"], Value::from(expected));
    if told["partitioned"].is_null() {
        // Partitioning is root's.
        return;
    }
    let name = |profile: &str| format!("NVIDIA H100 80GB HBM3 MIG {profile}");
    assert_eq!(
        told["partitioned"],
        json!({
            // In the order of the GPU instances' ids: 1 at 0:4, 5 at 4:2, 13 at 6:1.
            "seen": [name("2c.3g.40gb"), name("1c.3g.40gb"), name("2g.20gb"), name("1g.10gb")],
            // Ran out of resources, in use, in use.
            "refused": [23, 19, 19],
            "left": 2,
        })
    );
}
