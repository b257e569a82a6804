//! `mizzen simulate` on GPUs that are cut into MIG devices, from end to end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{mizzen, pod_file, repository, run, simulate_json};

/// What the example has, run with these arguments besides.
fn example(arguments: &[&str]) -> (i32, Value) {
    let config = repository("examples/configs/mig.yaml");
    let scenario = repository("examples/configs/nodes/mig.yaml");
    let node = [
        "--config",
        config.to_str().unwrap(),
        "--scenario",
        scenario.to_str().unwrap(),
    ];
    simulate_json(&[&node[..], arguments].concat())
}

fn pods() -> String {
    let pods = repository("examples/configs/pods/mig.yaml");
    pods.into_os_string().into_string().unwrap()
}

fn allocatable(document: &Value, resource: &str) -> u64 {
    document["node"]["resources"][resource]["allocatable"]
        .as_u64()
        .unwrap_or(0)
}

fn story(document: &Value) -> String {
    let entries = document["timeline"].as_array().unwrap().iter();
    entries
        .map(|entry| {
            let word = |key: &str| entry[key].as_str().unwrap().to_owned();
            word("source") + ": " + &word("message") + "\n"
        })
        .collect()
}

#[track_caller]
fn tells(document: &Value, lines: &[&str]) {
    let story = story(document);
    for line in lines {
        assert!(story.contains(line), "{line} is missing in\n{story}");
    }
}

/// The device of this index on a GPU.
fn device<'a>(document: &'a Value, index: &str) -> &'a Value {
    let gpus = document["gpus"].as_array().unwrap().iter();
    let mut devices = gpus.flat_map(|gpu| gpu["mig"]["devices"].as_array().unwrap());
    devices.find(|device| device["index"] == index).unwrap()
}

#[test]
fn pods_get_mig_devices_by_profile_and_a_gpu_holds_several_of_them() {
    let (code, document) = example(&["--pod", &pods(), "--pod-time", "300ms"]);
    assert_eq!(code, 0, "{document:#}");
    for (resource, count) in [
        ("nvidia.com/gpu", 1),
        ("nvidia.com/mig-1g.10gb", 8),
        ("nvidia.com/mig-2g.20gb", 1),
        ("nvidia.com/mig-3g.40gb", 1),
    ] {
        assert_eq!(allocatable(&document, resource), count, "{resource}");
    }
    let gpus = &document["gpus"];
    assert_eq!(
        gpus[0]["wasHeldBy"],
        json!(["notebook/main", "inference/small"])
    );
    assert_eq!(gpus[0]["offeredAs"]["nvidia.com/mig-1g.10gb"]["devices"], 7);
    assert_eq!(gpus[2]["mig"]["enabled"], false);
    let large = device(&document, "1:0");
    assert_eq!(large["profile"], "3g.40gb");
    assert_eq!(large["health"], "Healthy");
    assert_eq!(large["wasHeldBy"], json!(["inference/large"]));
    let container = &document["pods"][1]["containers"][1];
    assert_eq!(
        container["devices"]["nvidia.com/mig-3g.40gb"],
        json!([large["uuid"]])
    );
    assert_eq!(container["env"]["NVIDIA_VISIBLE_DEVICES"], large["uuid"]);
    tells(
        &document,
        &[
            "pod: notebook/main gets MIG 0:0 (1g.10gb)",
            "pod: inference/large gets MIG 1:0 (3g.40gb)",
            "pod: training/main gets GPU 2\n",
        ],
    );
}

#[test]
fn with_the_single_strategy_mig_devices_are_gpus_and_shared_ones_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("node.yaml");
    let text = "gpus: [{model: a30, count: 2, mig: {instances: [1g.6gb, 1g.6gb]}}]";
    std::fs::write(&scenario, text).unwrap();
    let config = dir.path().join("config.yaml");
    let text = "flags: {migStrategy: single}\n\
                sharing: {timeSlicing: {resources: [{name: gpu, replicas: 3}]}}";
    std::fs::write(&config, text).unwrap();
    let pod = pod_file(dir.path(), "asks", "{limits: {nvidia.com/gpu: 1}}");
    let arguments = [
        "--scenario",
        scenario.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
        "--pod",
        &pod,
        "--pod-time",
        "300ms",
    ];
    let (code, document) = simulate_json(&arguments);
    assert_eq!(code, 0, "{document:#}");
    assert_eq!(allocatable(&document, "nvidia.com/gpu"), 12);
    let here = &device(&document, "1:1")["offeredAs"]["nvidia.com/gpu"];
    assert_eq!(here["devices"], 3);
    tells(&document, &["(1g.6gb)\n"]);
    let ran = run([&["simulate"], &arguments[..]].concat()).ended_with(0);
    let shown = ran.stdout();
    for row in [
        "  0    ● healthy  2 MIG devices ",
        "  1:1  ● healthy  nvidia.com/gpu ×3 ",
    ] {
        assert!(shown.contains(row), "{row} is missing in\n{shown}");
    }
}

/// Whether the story has a line by which this MIG device became so, alone or with its neighbours.
fn tells_of_mig(story: &str, gpu: u32, device: u32, state: &str) -> bool {
    let names = |words: &str| {
        let rest = words.strip_prefix(&format!("MIG {gpu}:"))?;
        let (devices, rest) = rest.split_once(' ')?;
        let mut ranges = devices.split(',').map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse::<u32>().ok()?..=last.parse().ok()?)
        });
        let named = ranges.any(|range| range.is_some_and(|range| range.contains(&device)));
        let becomes = [format!("is {state}"), format!("are {state}")];
        Some(named && becomes.iter().any(|words| rest.starts_with(words)))
    };
    let lines = story.lines();
    lines
        .filter_map(|line| line.strip_prefix("kubelet: "))
        .any(|line| names(line).unwrap_or(false))
}

#[test]
fn a_sick_gpu_takes_its_mig_devices_along_and_a_sick_instance_none() {
    let steps = "at 500ms: xid 79 on gpu 1; at 1s: heal gpu 1; \
                 at 3s: xid 31 on gpu 0 instance 13";
    let rule = "health: {xids: [{xids: 31, action: unhealthy}]}\nflags: {migStrategy: mixed}\n";
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yaml");
    std::fs::write(&config, rule).unwrap();
    let scenario = repository("examples/configs/nodes/mig.yaml");
    let (code, document) = simulate_json(&[
        "--config",
        config.to_str().unwrap(),
        "--scenario",
        scenario.to_str().unwrap(),
        "--pod",
        &pods(),
        "--pod-time",
        "4s",
        "--inject",
        steps,
    ]);
    assert_eq!(code, 0, "{document:#}");
    let told = story(&document);
    // Each profile is a list of its own, and lists may come one after the other.
    for state in ["unhealthy", "healthy"] {
        for device in 0..3 {
            assert!(
                tells_of_mig(&told, 1, device, state),
                "1:{device} {state}: {told}"
            );
        }
    }
    tells(
        &document,
        &[
            "pod: inference holds MIG 1:0 (3g.40gb), which is unhealthy\n",
            "pod: inference holds MIG 1:0 (3g.40gb), which is healthy again\n",
        ],
    );
    let line = told.lines().find(|line| line.contains("after Xid 31"));
    let line = line.expect(&told);
    assert!(
        line.starts_with("kubelet: MIG 0:") && line.contains(" is unhealthy"),
        "{line}"
    );
}

#[test]
fn a_gpu_that_is_cut_anew_is_told_with_those_who_lose_their_device() {
    let steps = "at 500ms: mig destroy gpu 1; at 1s: mig create 1g.10gb,1g.10gb on gpu 1; \
                 at 1500ms: mig destroy gpu 1; at 1600ms: mig disable gpu 1";
    let arguments = ["--pod", &pods(), "--pod-time", "2s", "--inject", steps];
    let (code, document) = example(&arguments);
    assert_eq!(code, 0, "{document:#}");
    tells(
        &document,
        &[
            "driver: GPU 1 has MIG on and no MIG devices\n",
            "pod: inference/large holds MIG 1:0 (3g.40gb), which is gone\n",
            "driver: GPU 1 is cut into 2 × 1g.10gb\n",
            "driver: GPU 1 is whole: MIG is off\n",
            "kubelet: nvidia.com/gpu: 2 allocatable of 2\n",
        ],
    );
    assert_eq!(document["gpus"][1]["health"], "Healthy");
    let gone = device(&document, "1:0");
    assert_eq!(
        (&gone["gone"], &gone["profile"]),
        (&json!(true), &json!("3g.40gb"))
    );
    let got = &document["pods"][1]["containers"][1]["devices"]["nvidia.com/mig-3g.40gb"];
    assert_eq!(*got, json!([gone["uuid"]]));
}

/// What a pod asked for that gets a whole GPU of two, the first of which is cut under it.
fn cut_under_a_pod(output: &[&str]) -> Vec<String> {
    let pod = repository("examples/one-gpu.yaml");
    let steps = "at 500ms: mig enable gpu 0; at 1s: mig create 4g.40gb,3g.40gb on gpu 0";
    let words = ["--gpus", "2xh100-80gb", "--inject", steps, "--pod"];
    let words = words.into_iter().chain([pod.to_str().unwrap()]);
    let words = words.chain(output.iter().copied());
    let agent = ["--", "--mig-strategy", "mixed"];
    words.chain(agent).map(str::to_owned).collect()
}

#[test]
fn a_pod_whose_whole_gpu_is_cut_holds_it_still_and_is_told() {
    let words = cut_under_a_pod(&["--pod-time", "3s"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (code, document) = simulate_json(&words);
    assert_eq!(code, 0, "{document:#}");
    let loss = "pod: one-gpu/main holds GPU 0, which is no longer whole\n";
    tells(&document, &[loss]);
    assert_eq!(story(&document).matches("no longer whole").count(), 1);
    assert_eq!(document["gpus"][0]["wasHeldBy"], json!(["one-gpu/main"]));

    let words = cut_under_a_pod(&["--pod-time", "3s", "--output", "plain"]);
    let words = ["simulate"]
        .into_iter()
        .chain(words.iter().map(String::as_str));
    let shown = run(words).ended_with(0).stdout();
    let row = shown.lines().rev().find(|line| line.starts_with("  0 "));
    let row = row.expect(&shown);
    assert!(
        row.contains("2 MIG devices") && row.contains("one-gpu (ended)"),
        "{row}"
    );
}

#[test]
fn a_pod_that_runs_on_a_gpu_that_was_whole_is_its_holder() {
    let words = cut_under_a_pod(&["--pod-time", "1h"]);
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("run");
    let mut simulation = mizzen();
    simulation
        .args(["simulate", "--output", "json", "--dir"])
        .arg(&place)
        .args(words)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null());
    let simulation = simulation.spawn().unwrap();
    let device = place.join("kubelet/device-plugins/nvidia-mig-4g.40gb.sock");
    let began = Instant::now();
    while !device.exists() && began.elapsed() < Duration::from_secs(20) {
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&simulation);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = simulation.wait_with_output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{document:#}");
    assert_eq!(document["gpus"][0]["heldBy"], json!(["one-gpu/main"]));
    assert_eq!(document["pods"][0]["phase"], "Running");
}

#[test]
fn a_step_that_cannot_be_done_when_its_time_comes_has_a_code_of_its_own() {
    let create = "mig create 3g.40gb on gpu 0";
    let (code, document) = simulate_json(&["--gpus", "1xh100-80gb", "--inject", create]);
    assert_eq!(code, 5, "{document:#}");
    let summary = document["outcome"]["summary"].as_str().unwrap();
    for words in ["mig create 3g.40gb on GPU 0", "MIG is disabled"] {
        assert!(summary.contains(words), "{summary}");
    }
}

#[test]
fn what_others_do_to_the_gpus_meanwhile_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("run");
    let mut simulation = mizzen();
    simulation
        .args(["simulate", "--output", "json", "--for", "4s", "--config"])
        .arg(repository("examples/configs/mig.yaml"))
        .arg("--scenario")
        .arg(repository("examples/configs/nodes/mig.yaml"))
        .args(["--pod", &pods(), "--pod-time", "100ms", "--dir"])
        .arg(&place)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null());
    let simulation = simulation.spawn().unwrap();
    let socket = place.join("kubelet/device-plugins/nvidia-mig-1g.10gb.sock");
    let began = Instant::now();
    while !socket.exists() && began.elapsed() < Duration::from_secs(20) {
        std::thread::yield_now();
    }
    let changed = mizzen()
        .args(["sim", "mig", "destroy", "--gpu", "0"])
        .env("MIZZEN_SIM", place.join("scenario.yaml"))
        .env("MIZZEN_SIM_STATE", place.join("sim"))
        .status();
    assert!(changed.unwrap().success());
    let output = simulation.wait_with_output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    tells(
        &document,
        &[
            "driver: GPU 0 has MIG on and no MIG devices\n",
            "kubelet: nvidia.com/mig-1g.10gb: 1 allocatable of 1\n",
        ],
    );
}
