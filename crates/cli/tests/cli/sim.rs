//! `mizzen sim`: what one process does to the simulated GPUs, another one sees.

use std::path::Path;

use crate::support::{Ran, run};
use serde_json::Value;

/// `mizzen sim` on the state in `dir`.
fn sim(dir: &Path, arguments: &[&str]) -> Ran {
    let state = dir.join("state").into_os_string().into_string().unwrap();
    run([&["sim", "--state", &state], arguments].concat())
}

fn status(dir: &Path) -> Value {
    let ran = sim(dir, &["status", "--output", "json"]).ended_with(0);
    serde_json::from_str(&ran.stdout()).unwrap()
}

#[test]
fn a_fault_is_seen_by_the_next_process_until_it_is_healed() {
    let dir = tempfile::tempdir().unwrap();
    let told = sim(dir.path(), &["inject", "xid", "79", "--gpu", "2"])
        .ended_with(0)
        .stdout();
    assert!(
        told.starts_with("GPU 2 GPU-") && told.ends_with(": Xid 79\n"),
        "{told}"
    );
    let seen = status(dir.path());
    assert_eq!(seen["gpus"][2]["last_xid"], 79);
    assert_eq!(seen["gpus"][2]["lost"], true);
    assert_eq!(seen["gpus"][1]["lost"], false);
    let table = sim(dir.path(), &["status"]).stdout();
    assert!(table.contains("2    lost, Xid 79"), "{table}");
    sim(dir.path(), &["heal", "--gpu", "2"]).ended_with(0);
    assert_eq!(status(dir.path())["gpus"][2]["lost"], false);
}

#[test]
fn every_fault_can_be_injected_and_is_described() {
    let dir = tempfile::tempdir().unwrap();
    for (fault, shown) in [
        (&["xid", "31", "--event-only"][..], "Xid 31"),
        (&["ecc", "double", "--count", "2"], "2 double-bit ECC"),
        (&["lost"], "lost"),
        (&["hang"], "hangs"),
        (&["throttle", "power-brake"], "throttled"),
        (
            &["recovery-action", "drain-and-reset"],
            "wants drain-and-reset",
        ),
        (&["row-remap", "pending"], "memory to repair"),
        (&["row-remap", "failure"], "memory repair failed"),
        (
            &["link-errors", "nvlink-replay", "--count", "20"],
            "20 link errors",
        ),
        (
            &["link-errors", "pcie-replay", "--count", "3"],
            "3 link errors",
        ),
        (&["events", "wait", "999"], "waiting for events fails (999)"),
    ] {
        sim(
            dir.path(),
            &[&["inject"], fault, &["--gpu", "all"]].concat(),
        )
        .ended_with(0);
        let table = sim(dir.path(), &["status"]).stdout();
        assert_eq!(table.matches(shown).count(), 8, "{fault:?}\n{table}");
        sim(dir.path(), &["reset"]).ended_with(0);
    }
}

#[test]
fn gpus_are_named_by_index_uuid_and_bus_id() {
    let dir = tempfile::tempdir().unwrap();
    let gpus = status(dir.path());
    let text = |field: &str| gpus["gpus"][3][field].as_str().unwrap().to_owned();
    for name in ["3".to_owned(), text("uuid"), text("pci")] {
        sim(dir.path(), &["inject", "lost", "--gpu", &name]).ended_with(0);
        assert_eq!(status(dir.path())["gpus"][3]["lost"], true, "{name}");
        sim(dir.path(), &["heal"]).ended_with(0);
    }
    let error = sim(dir.path(), &["heal", "--gpu", "8"])
        .ended_with(1)
        .stderr();
    assert_eq!(
        error,
        "mizzen: there is no GPU 8; the node has GPUs 0 to 7\n"
    );
}

#[test]
fn a_load_raises_power_and_temperature_and_has_processes() {
    let dir = tempfile::tempdir().unwrap();
    let load = [
        "load",
        "--gpu",
        "0",
        "--utilization",
        "90",
        "--process",
        "4711:2048",
    ];
    sim(dir.path(), &load).ended_with(0);
    let busy = &status(dir.path())["gpus"][0];
    assert_eq!(busy["utilization"], 90);
    assert_eq!(busy["processes"][0]["pid"], 4711);
    assert_eq!(busy["memory_used_mib"], 2048);
    assert!(busy["power"].as_f64().unwrap() > 400.0 && busy["temperature"].as_u64().unwrap() > 50);
    sim(dir.path(), &["load", "--gpu", "0", "--idle"]).ended_with(0);
    let idle = &status(dir.path())["gpus"][0];
    assert_eq!(
        (&idle["utilization"], &idle["processes"]),
        (&0.into(), &Value::Array(vec![]))
    );
}

#[test]
fn instances_and_the_processes_on_them_have_loads() {
    let dir = tempfile::tempdir().unwrap();
    sim(dir.path(), &["mig", "enable", "--gpu", "0"]).ended_with(0);
    sim(dir.path(), &["mig", "create", "3g.40gb", "--gpu", "0"]).ended_with(0);
    let id = status(dir.path())["gpus"][0]["mig"]["gpu_instances"][0]["id"].to_string();
    let (instance, process) = (format!("{id}=20~80/10s"), format!("4711:2048:30@{id}/0"));
    let load = [
        "load",
        "--gpu",
        "0",
        "--instance",
        &instance,
        "--process",
        &process,
    ];
    sim(dir.path(), &load).ended_with(0);
    let process = &status(dir.path())["gpus"][0]["processes"][0];
    assert_eq!(process["utilization"], 30);
    assert_eq!(process["instance"][0].to_string(), id);
    let error = sim(dir.path(), &["load", "--gpu", "0", "--instance", "11=5"]);
    let error = error.ended_with(1).stderr();
    assert!(error.contains("no instance 11"), "{error}");
    for wrong in ["4711", "4711:1:101", "4711:1@9"] {
        sim(dir.path(), &["load", "--process", wrong]).ended_with(2);
    }
}

#[test]
fn gpus_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let count = || status(dir.path())["gpus"].as_array().unwrap().len();
    sim(dir.path(), &["add", "t4", "--count", "2"]).ended_with(0);
    assert_eq!(count(), 10);
    sim(dir.path(), &["remove", "--gpu", "0,1,2"]).ended_with(0);
    assert_eq!(count(), 7);
    let error = sim(dir.path(), &["add", "t5"]).ended_with(2).stderr();
    assert!(error.contains("h100-80gb"), "{error}");
}

#[test]
fn gpus_are_partitioned_and_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("node.yaml");
    let yaml = "gpus: [{model: a100-40gb}, {model: h100-80gb, count: 2}]\n";
    std::fs::write(&scenario, yaml).unwrap();
    let scenario = scenario.to_str().unwrap();
    let mig = |arguments: &[&str]| {
        sim(
            dir.path(),
            &[&["--scenario", scenario, "mig"], arguments].concat(),
        )
    };
    let told = mig(&["enable", "--gpu", "all"]).ended_with(0).stdout();
    assert_eq!(told.matches("MIG is on\n").count(), 2, "{told}");
    assert!(told.contains("MIG is on with the next reset"), "{told}");
    assert_eq!(mig(&["list"]).ended_with(0).stdout(), "no GPU instances\n");
    let create = ["create", "3g.40gb,1g.10gb", "--gpu", "1"];
    mig(&create).ended_with(0);
    let seen = status(dir.path());
    let instances = &seen["gpus"][1]["mig"]["gpu_instances"];
    assert_eq!(instances.as_array().unwrap().len(), 2);
    let uuid = instances[0]["devices"][0]["uuid"].as_str().unwrap();
    for table in [mig(&["list"]), sim(dir.path(), &["status"])] {
        let table = table.ended_with(0).stdout();
        assert!(table.contains(uuid) && table.contains("3g.40gb"), "{table}");
    }
    for (arguments, words) in [
        (
            &["create", "7g.80gb", "--gpu", "1"][..],
            "what still fits is 1g.10gb (3)",
        ),
        (
            &["create", "9g.80gb", "--gpu", "1"],
            "there are 1g.10gb, 1g.10gb+me",
        ),
        (&["create", "1g.5gb", "--gpu", "0"], "mizzen sim heal"),
        (&["create", "foo", "--gpu", "0"], "no profile \"foo\""),
        (&["disable", "--gpu", "1"], "mizzen sim mig destroy"),
        (
            &["destroy", "--gpu", "1", "--instance", "0"],
            "there are 2, 7",
        ),
    ] {
        let error = mig(arguments).ended_with(1).stderr();
        assert!(error.contains(words), "{error}");
    }
    let host = dir.path().join("host");
    sim(dir.path(), &["host", host.to_str().unwrap()]).ended_with(0);
    assert!(
        host.join("proc/driver/nvidia/capabilities/gpu1/mig/gi7/ci0/access")
            .exists()
    );
    mig(&["destroy", "--gpu", "1", "--instance", "7"]).ended_with(0);
    mig(&["destroy", "--gpu", "1"]).ended_with(0);
    mig(&["disable", "--gpu", "1"]).ended_with(0);
    assert_eq!(status(dir.path())["gpus"][1]["mig"]["enabled"], false);
}

#[test]
fn the_scenario_and_the_state_come_from_the_environment_too() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("node.yaml");
    std::fs::write(&scenario, "gpus: [{model: l4, count: 3}]\n").unwrap();
    let output = crate::support::mizzen()
        .args(["sim", "status", "--output", "json"])
        .env("MIZZEN_SIM", &scenario)
        .env("MIZZEN_SIM_STATE", dir.path().join("state"))
        .output()
        .unwrap();
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["gpus"].as_array().unwrap().len(), 3);
    assert_eq!(seen["gpus"][0]["name"], "NVIDIA L4");
}

#[test]
fn every_command_explains_itself() {
    for command in [
        &["sim"][..],
        &["sim", "inject"],
        &["sim", "inject", "xid"],
        &["sim", "load"],
        &["sim", "mig"],
        &["simulate"],
        &["agent"],
        &["config"],
        &["config", "check"],
        &["config", "explain-choice"],
        &["config", "schema"],
        &["completions"],
    ] {
        let help = run([command, &["--help"]].concat()).ended_with(0).stdout();
        assert!(help.contains("Usage: mizzen"), "{command:?}: {help}");
    }
    let script = run(["completions", "bash"]).ended_with(0).stdout();
    for command in ["recovery-action", "explain-choice"] {
        assert!(script.contains(command), "the script knows the commands");
    }
}

#[test]
fn the_machine_around_the_gpus_is_written_and_follows_them() {
    let dir = tempfile::tempdir().unwrap();
    let host = dir.path().join("host");
    let write = || {
        let ran = sim(dir.path(), &["host", host.to_str().unwrap()]).ended_with(0);
        assert_eq!(
            Path::new(ran.stdout().trim_end()),
            host.canonicalize().unwrap()
        );
    };
    write();
    let gpu = &status(dir.path())["gpus"][7];
    let pci = host
        .join("sys/bus/pci/devices")
        .join(gpu["pci"].as_str().unwrap());
    let vendor = std::fs::read_to_string(pci.join("vendor")).unwrap();
    assert_eq!(vendor.trim_end(), "0x10de");
    assert!(host.join("dev/nvidia7").exists() && host.join("dev/nvidiactl").exists());
    sim(dir.path(), &["remove", "--gpu", "7"]).ended_with(0);
    write();
    assert!(!pci.exists() && !host.join("dev/nvidia7").exists());
    let error = sim(dir.path(), &["host", "/"]).ended_with(1).stderr();
    assert!(error.contains("root of this machine"), "{error}");
}

/// Everything that `nvidia-smi` of an installed driver prints, on the node in `dir`.
fn smi(dir: &Path, program: &Path, libraries: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program)
        .args(arguments)
        .env("LD_LIBRARY_PATH", libraries)
        .env("MIZZEN_SIM_STATE", dir.join("state"))
        .env_remove("MIZZEN_SIM")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_driver_is_installed_stays_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let host = dir.path().join("host");
    let write = |layout: &[&str]| {
        let arguments = [&["host", host.to_str().unwrap()], layout].concat();
        sim(dir.path(), &arguments).ended_with(0);
    };
    for (layout, libraries, programs) in [
        ("debian", "usr/lib/x86_64-linux-gnu", "usr/bin"),
        ("rhel", "usr/lib64", "usr/bin"),
        (
            "driver-container",
            "run/nvidia/driver/usr/lib/x86_64-linux-gnu",
            "run/nvidia/driver/usr/bin",
        ),
    ] {
        let libraries = libraries.replace("x86_64", std::env::consts::ARCH);
        write(&["--driver-layout", layout]);
        write(&[]);
        let libraries = host.join(libraries);
        assert!(libraries.join("libcuda.so.1").exists(), "{layout}");
        let program = host.join(programs).join("nvidia-smi");
        let list = smi(dir.path(), &program, &libraries, &["-L"]);
        assert_eq!(list.lines().count(), 8, "{list}");
    }
    write(&["--driver-layout", "nixos"]);
    assert!(host.join("run/opengl-driver").is_symlink());
    write(&["--driver-layout", "none"]);
    assert!(!host.join("usr").exists() && !host.join("nix").exists());
    assert!(host.join("dev/nvidia0").exists());
}

#[test]
fn the_library_is_placed_where_programs_look_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = dir.path().join("lib");
    let ran = run(["sim", "library", wanted.to_str().unwrap()]).ended_with(0);
    let library = wanted.join("libnvidia-ml.so.1");
    assert_eq!(ran.stdout(), format!("{}\n", library.display()));
    let bytes = std::fs::read(library).unwrap();
    assert!(bytes.starts_with(b"\x7fELF") && bytes.len() > 100_000);
}
