//! What `mizzen simulate` says to people who mistype.

use crate::support::{Ran, mizzen, pod_file, run};

#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let ran = run([&["simulate"], arguments].concat()).ended_with(2);
    assert_eq!(ran.stdout(), "", "nothing but the mistake is written");
    ran.stderr()
}

#[test]
fn a_mistake_in_a_step_is_pointed_at() {
    let error = refused(&["--inject", "at 3s: xid 79 of gpu 2"]);
    assert!(
        error.contains("`of` should be `on`\n  at 3s: xid 79 of gpu 2\n                ^^"),
        "{error}"
    );
    let error = refused(&["--inject", "at 3s: explode gpu 2"]);
    for known in ["xid N on gpu G", "kubelet restart"] {
        assert!(error.contains(known), "{error}");
    }
}

#[test]
fn an_unknown_model_is_answered_with_the_known_ones() {
    for arguments in [["--gpus", "8xh100-81gb"], ["--inject", "add h100-81gb"]] {
        let error = refused(&arguments);
        assert!(
            error.contains("h100-81gb") && error.contains("h100-80gb, h100-nvl"),
            "{error}"
        );
    }
}

#[test]
fn a_step_that_no_gpu_of_the_node_can_take_is_refused_before_the_start() {
    for (gpus, step, words) in [
        (
            "1xh100-80gb",
            "mig create foo on gpu 0",
            "no profile \"foo\"; there are 1g.10gb",
        ),
        ("1xt4", "mig enable gpu 0", "cannot be partitioned"),
    ] {
        let error = refused(&["--gpus", gpus, "--inject", step]);
        assert!(
            error.contains(step.split(" gpu").next().unwrap()) && error.contains(words),
            "{error}"
        );
    }
}

#[test]
fn the_mig_manager_is_refused_where_there_is_no_api() {
    let ran = mizzen()
        .args(["simulate", "--", "--mig-manager", "--node-name", "x"])
        .env_remove("KUBECONFIG")
        .output();
    let error = Ran(ran.unwrap()).ended_with(2).stderr();
    assert!(
        error.contains("--mig-manager") && error.contains("no Kubernetes API"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for flag in ["--pod", "--scenario"] {
        let error = refused(&[flag, "/nowhere/file.yaml"]);
        assert!(
            error.contains("/nowhere/file.yaml") && error.contains("No such file"),
            "{error}"
        );
        assert_eq!(error.matches("No such file").count(), 1, "{error}");
    }
}

#[test]
fn what_is_no_pod_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let write = |text: &str| {
        let file = dir.path().join("pod.yaml");
        std::fs::write(&file, text).unwrap();
        file.into_os_string().into_string().unwrap()
    };
    let error = refused(&["--pod", &write("kind: Pod\n  name: [")]);
    assert!(
        error.contains("pod.yaml") && error.contains("line 2"),
        "{error}"
    );
    let error = refused(&["--pod", &write("apiVersion: v1\nkind: Gadget\n")]);
    assert!(error.contains("Gadget"), "{error}");
    let misplaced = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, \
                     image: i, limits: {nvidia.com/gpu: 1}}]}}";
    let error = refused(&["--pod", &write(misplaced)]);
    assert!(
        error.contains("unknown field \"spec.containers[0].limits\""),
        "{error}"
    );
}

#[test]
fn a_scenario_is_refused_with_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.yaml");
    std::fs::write(&file, "gpus:\n  - model: t4\n    cuont: 2\n").unwrap();
    let error = refused(&["--scenario", file.to_str().unwrap()]);
    assert!(error.contains("node.yaml:3:5: "), "{error}");
}

#[test]
fn a_node_is_described_in_one_way_only() {
    let error = refused(&["--gpus", "1xt4", "--scenario", "x.yaml"]);
    assert!(error.contains("cannot be used with"), "{error}");
}

#[test]
fn a_time_without_a_unit_is_refused_with_an_example() {
    let dir = tempfile::tempdir().unwrap();
    let pod = pod_file(dir.path(), "p", "{}");
    let error = refused(&["--pod", &pod, "--pod-time", "3"]);
    assert!(error.contains("such as 3s"), "{error}");
}

#[test]
fn flags_that_the_agent_does_not_take_are_refused_in_its_own_words() {
    let error = refused(&["--", "--bogus"]);
    assert!(
        error.contains("'--bogus'") && error.contains("mizzen agent"),
        "{error}"
    );
    let error = refused(&["--", "--mig-strategy=singel", "--health-hold-down=soon"]);
    for word in ["mizzen agent", "singel", "single", "--health-hold-down"] {
        assert!(error.contains(word), "{word} is missing in {error}");
    }
    let error = refused(&["--", "--state-dir=/elsewhere"]);
    assert!(error.contains("cannot be used multiple times"), "{error}");
}

#[test]
fn a_second_config_for_the_agent_is_refused_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yaml");
    std::fs::write(&file, "version: v1\n").unwrap();
    let file = file.to_str().unwrap();
    let step = format!("at 1s: config {file}");
    for ours in [["--config", file], ["--inject", &step]] {
        let error = refused(&[&ours[..], &["--", "--config-file", file]].concat());
        assert!(error.contains("cannot be used multiple times"), "{error}");
        let error = refused(&[&ours[..], &["--", "--config-dir", "/x"]].concat());
        assert!(error.contains("--config-file is given, too"), "{error}");
    }
}

#[test]
fn every_recovery_action_is_in_the_help_and_in_the_answer_to_a_wrong_step() {
    let help = run(["simulate", "--help"]).ended_with(0).stdout();
    let step = "at 1s: recovery-action x on gpu 0";
    for text in [
        help,
        refused(&["--inject", step]),
        refused(&["--inject", "explode"]),
    ] {
        assert!(text.contains("recover-imex-domain"), "{text}");
    }
}

#[test]
fn help_for_the_agents_flags_is_no_mistake() {
    let ran = run(["simulate", "--", "--help"]).ended_with(0);
    assert!(ran.stdout().contains("--mig-strategy"), "{}", ran.stdout());
}
