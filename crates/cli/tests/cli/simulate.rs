//! `mizzen simulate` from end to end: the real agent on the simulated driver, with the embedded
//! kubelet and pods.

use crate::support::{pod_file, run, simulate_json};
use serde_json::Value;

/// The pods' phases by name.
fn phases(document: &Value) -> Vec<(&str, &str)> {
    let pods = document["pods"].as_array().unwrap();
    pods.iter()
        .map(|pod| {
            (
                pod["name"].as_str().unwrap(),
                pod["phase"].as_str().unwrap(),
            )
        })
        .collect()
}

/// The messages of the timeline, one a line.
fn timeline(document: &Value) -> String {
    let entries = document["timeline"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| entry["message"].as_str().unwrap().to_owned() + "\n")
        .collect()
}

fn container(document: &Value, pod: usize, container: usize) -> &Value {
    &document["pods"][pod]["containers"][container]
}

#[test]
fn the_examples_run_on_eight_gpus_and_what_each_got_can_be_read() {
    let (code, document) = simulate_json(&["--pod-time", "300ms"]);
    assert_eq!(code, 0, "{document:#}");
    assert_eq!(
        phases(&document),
        [
            ("one-gpu", "Succeeded"),
            ("training", "Succeeded"),
            ("init-then-serve", "Succeeded"),
            ("too-many", "Pending"),
        ]
    );
    assert_eq!(
        document["node"]["resources"]["nvidia.com/gpu"]["allocatable"],
        8
    );
    assert_eq!(document["gpus"].as_array().unwrap().len(), 8);
    assert!(
        document["gpus"]
            .as_array()
            .unwrap()
            .iter()
            .all(|gpu| gpu["health"] == "Healthy")
    );

    let training = container(&document, 1, 0);
    let devices = training["devices"]["nvidia.com/gpu"].as_array().unwrap();
    assert_eq!(devices.len(), 2);
    let visible = training["env"]["NVIDIA_VISIBLE_DEVICES"].as_str().unwrap();
    assert!(
        devices
            .iter()
            .all(|id| visible.contains(id.as_str().unwrap())),
        "{visible}"
    );

    let (init, server, proxy) = (
        container(&document, 2, 0),
        container(&document, 2, 1),
        container(&document, 2, 2),
    );
    assert_eq!(init["init"], true);
    assert_eq!(
        init["devices"], server["devices"],
        "the init container hands its GPU on"
    );
    assert_eq!(proxy["devices"], serde_json::json!({}));
    assert_eq!(proxy["env"], serde_json::json!({}));

    let too_many = &document["pods"][3];
    assert_eq!(too_many["fitsNode"], false);
    let message = too_many["message"].as_str().unwrap();
    assert!(
        message.starts_with("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        "{message}"
    );

    let agent = &document["agent"];
    for figure in ["readyMs", "residentKib", "anonymousKib", "cpuMs", "threads"] {
        assert!(agent[figure].as_f64().unwrap() > 0.0, "{figure}: {agent}");
    }
}

#[test]
fn a_gpu_that_falls_off_the_bus_is_taken_away_and_comes_back_when_it_is_healed() {
    let (code, document) = simulate_json(&[
        "--pod-time",
        "1500ms",
        "--inject",
        "at 300ms: xid 79 on gpu 7; at 600ms: heal gpu 7",
    ]);
    assert_eq!(code, 0, "{document:#}");
    assert_eq!(document["gpus"][7]["health"], "Healthy");
    let story = timeline(&document);
    let sick = story.find("GPU 7 is unhealthy, ").expect(&story);
    let well = story.rfind("GPU 7 is healthy, ").expect(&story);
    assert!(sick < well, "{story}");
}

/// The kubelet's clock and ours tell one time: what follows from a step is not told before it.
#[test]
fn an_effect_is_not_told_before_its_cause() {
    let (_, document) = simulate_json(&[
        "--inject",
        "at 300ms: xid 79 on gpu 1; at 500ms: heal gpu 1",
    ]);
    let entries = document["timeline"].as_array().unwrap();
    let at = |source: &str, words: &str| {
        let said = |entry: &&Value| {
            entry["source"] == source && entry["message"].as_str().unwrap().contains(words)
        };
        let entry = entries.iter().find(said);
        entry.unwrap_or_else(|| panic!("{words}: {document:#}"))["atMs"]
            .as_f64()
            .unwrap()
    };
    assert!(at("kubelet", "GPU 1 is unhealthy") >= at("script", "Xid 79"));
    // No process starts in no time.
    assert!(document["agent"]["readyMs"].as_f64().unwrap() > 0.5);
}

#[test]
fn a_pod_that_holds_a_gpu_is_told_when_it_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let pod = pod_file(dir.path(), "holder", "{limits: {nvidia.com/gpu: 1}}");
    let (code, document) = simulate_json(&[
        "--gpus",
        "1xl4",
        "--pod",
        &pod,
        "--inject",
        "at 200ms: lost gpu 0",
        "--pod-time",
        "1s",
    ]);
    assert_eq!(code, 0, "{document:#}");
    assert_eq!(document["gpus"][0]["health"], "Unhealthy");
    assert_eq!(document["gpus"][0]["faults"][0], "lost");
    assert!(timeline(&document).contains("holder holds GPU 0, which is unhealthy"));
}

#[test]
fn pods_wait_for_their_turn_and_none_shares_a_gpu() {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<_> = (0..3)
        .map(|turn| {
            pod_file(
                dir.path(),
                &format!("turn-{turn}"),
                "{limits: {nvidia.com/gpu: 1}}",
            )
        })
        .collect();
    let mut arguments = vec!["--gpus", "1xt4", "--pod-time", "200ms"];
    arguments.extend(files.iter().flat_map(|file| ["--pod", file]));
    let (code, document) = simulate_json(&arguments);
    assert_eq!(code, 0, "{document:#}");
    assert!(
        phases(&document)
            .iter()
            .all(|(_, phase)| *phase == "Succeeded")
    );
    assert!(
        document["elapsedMs"].as_f64().unwrap() > 600.0,
        "one after the other"
    );
}

#[test]
fn a_pod_that_the_api_server_refuses_is_a_failure_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    for (resources, message) in [
        ("{limits: {nvidia.com/gpu: 0.5}}", "must be an integer"),
        (
            "{limits: {nvidia.com/gpu: 2}, requests: {nvidia.com/gpu: 1}}",
            "must be equal to nvidia.com/gpu limit of 2",
        ),
        (
            "{requests: {nvidia.com/gpu: 1}}",
            "Limit must be set for non overcommitable resources",
        ),
    ] {
        let pod = pod_file(dir.path(), "wrong", resources);
        let (code, document) = simulate_json(&["--pod", &pod]);
        assert_eq!(code, 4, "{document:#}");
        assert_eq!(phases(&document), [("wrong", "Refused")]);
        let said = document["pods"][0]["message"].as_str().unwrap();
        assert!(said.contains(message), "{said}");
    }
}

#[test]
fn a_pod_that_fits_and_never_runs_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let pod = pod_file(dir.path(), "late", "{limits: {nvidia.com/gpu: 2}}");
    let first = pod_file(dir.path(), "first", "{limits: {nvidia.com/gpu: 1}}");
    let (code, document) = simulate_json(&[
        "--gpus",
        "2xt4",
        "--pod",
        &first,
        "--pod",
        &pod,
        "--pod-time",
        "500ms",
        "--inject",
        "at 200ms: lost gpu 1",
    ]);
    assert_eq!(code, 3, "{document:#}");
    assert_eq!(
        phases(&document),
        [("first", "Succeeded"), ("late", "Pending")]
    );
    assert_eq!(document["pods"][1]["fitsNode"], true);
}

#[test]
fn restarts_of_the_kubelet_and_of_the_agent_cost_no_pod_its_gpus() {
    let (code, document) = simulate_json(&[
        "--pod-time",
        "1500ms",
        "--inject",
        "at 300ms: kubelet restart; at 900ms: agent restart",
    ]);
    assert_eq!(code, 0, "{document:#}");
    let story = timeline(&document);
    let registrations = story.matches("registered nvidia.com/gpu").count();
    assert!(
        registrations >= 2,
        "once more after a restart at least
{story}"
    );
    assert_eq!(
        document["node"]["resources"]["nvidia.com/gpu"]["allocatable"],
        8
    );
}

#[test]
fn flags_for_the_agent_reach_it() {
    let (code, document) = simulate_json(&[
        "--pod-time",
        "100ms",
        "--",
        "--device-list-strategy=cdi-cri,volume-mounts",
        "--device-id-strategy=index",
    ]);
    assert_eq!(code, 0, "{document:#}");
    let one = container(&document, 0, 0);
    let cdi = one["cdiDevices"][0].as_str().unwrap();
    assert!(
        cdi.starts_with("k8s.device-plugin.nvidia.com/gpu="),
        "{cdi}"
    );
    assert_eq!(one["mounts"][0]["hostPath"], "/dev/null");
}

#[test]
fn plain_output_has_a_line_for_each_change_and_no_escape_sequence() {
    let ran = run(["simulate", "--pod-time", "100ms"]).ended_with(0);
    let out = ran.stdout();
    assert!(!out.contains('\u{1b}'), "{out}");
    for expected in [
        "    0.000 s  agent      started, process ",
        "  pod        training/trainer gets GPU ",
        "  pod        one-gpu ran to its end",
        "\nGPUS\n",
        "✔ 3 of 4 pods ran; 1 asks for more than this node has: Pending, as in a cluster.\n",
        "  agent: first device list ",
    ] {
        assert!(out.contains(expected), "{expected:?} is missing in\n{out}");
    }
    assert_eq!(ran.stderr(), "");
}

#[test]
fn sixteen_gpus_and_mixed_models_work_as_well() {
    let (code, document) = simulate_json(&["--gpus", "16xh200-141gb", "--pod-time", "100ms"]);
    assert_eq!(code, 0);
    assert_eq!(
        document["pods"][3]["phase"], "Succeeded",
        "now sixteen are not too many"
    );
    let (code, document) = simulate_json(&["--gpus", "2xa30,3xt4", "--pod-time", "100ms"]);
    assert_eq!((code, document["gpus"].as_array().unwrap().len()), (0, 5));
}

#[test]
fn nothing_is_left_behind_unless_it_is_to_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let temporary = |flag: &[&str]| {
        let arguments = [&["simulate", "--pod-time", "50ms"], flag].concat();
        let output = crate::support::mizzen()
            .args(arguments)
            .env("TMPDIR", dir.path())
            .output()
            .unwrap();
        assert!(output.status.success());
        std::fs::read_dir(dir.path()).unwrap().count()
    };
    assert_eq!(temporary(&[]), 0);
    assert_eq!(temporary(&["--keep"]), 1);
}

#[test]
fn a_scenario_file_describes_the_node_down_to_device_nodes_that_are_enforced() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("node.yaml");
    let text = "driver_version: 570.86.15\ncuda_version: 12.8\ndevice_nodes: enforce\n\
                gpus:\n  - {model: a30, count: 2}\n  - {model: t4, numa: 1}\n";
    std::fs::write(&scenario, text).unwrap();
    let (code, document) = simulate_json(&[
        "--scenario",
        scenario.to_str().unwrap(),
        "--pod-time",
        "100ms",
        "--",
        "--pass-device-specs",
    ]);
    assert_eq!(code, 0, "{document:#}");
    assert_eq!(document["node"]["driverVersion"], "570.86.15");
    assert_eq!(
        document["node"]["resources"]["nvidia.com/gpu"]["allocatable"],
        3
    );
    assert_eq!(document["gpus"][2]["numaNode"], 1);
    let nodes = container(&document, 0, 0)["deviceNodes"]
        .as_array()
        .unwrap();
    let paths: Vec<_> = nodes
        .iter()
        .map(|node| node["hostPath"].as_str().unwrap())
        .collect();
    assert!(paths.contains(&"/dev/nvidiactl"), "{paths:?}");
}

#[test]
fn a_gpu_that_is_plugged_in_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let pod = pod_file(dir.path(), "p", "{limits: {nvidia.com/gpu: 1}}");
    let (code, document) = simulate_json(&[
        "--gpus",
        "2xl4",
        "--pod",
        &pod,
        "--pod-time",
        "50ms",
        "--inject",
        "at 400ms: add l4",
    ]);
    assert_eq!(code, 0, "{document:#}");
    let story = timeline(&document);
    assert!(
        story.contains("nvidia.com/gpu: 3 allocatable of 3"),
        "{story}"
    );
}

#[test]
fn a_gpu_that_is_pulled_out_is_not_given_to_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let pod = pod_file(dir.path(), "p", "{limits: {nvidia.com/gpu: 1}}");
    let (code, document) = simulate_json(&[
        "--gpus",
        "2xl4",
        "--pod",
        &pod,
        "--pod-time",
        "50ms",
        "--inject",
        "at 400ms: remove gpu 1",
    ]);
    assert_eq!(code, 0, "{document:#}");
    let resource = &document["node"]["resources"]["nvidia.com/gpu"];
    assert_eq!(resource["allocatable"], 1, "{document:#}");
    assert_eq!(document["gpus"].as_array().unwrap().len(), 1);
}

#[test]
fn the_end_can_be_kept_as_a_picture() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("end.svg");
    let picture = file.to_str().unwrap();
    run(["simulate", "--pod-time", "50ms", "--picture", picture]).ended_with(0);
    let svg = std::fs::read_to_string(&file).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains(">one-gpu</text>") && !svg.contains("--picture"));
}

#[test]
fn capacity_that_comes_back_is_told_though_it_is_the_same_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let pod = pod_file(dir.path(), "p", "{limits: {nvidia.com/gpu: 1}}");
    let (code, document) = simulate_json(&[
        "--gpus",
        "2xl4",
        "--pod",
        &pod,
        "--pod-time",
        "2500ms",
        "--inject",
        "at 300ms: lost gpu 1; at 800ms: agent restart; at 1500ms: kubelet restart",
    ]);
    assert_eq!(code, 0, "{document:#}");
    let story = timeline(&document);
    let told = story.matches("nvidia.com/gpu: 1 allocatable of 2").count();
    assert_eq!(told, 3, "{story}");
    assert!(!story.contains("healthy again"), "{story}");
}
