//! `mizzen mig plan` and `apply`.

use super::Machine;

#[test]
fn a_plan_changes_nothing_and_apply_does_what_it_says_once() {
    let machine = Machine::new();
    let target = "3g.40gb,1g.10gb*2";
    let planned = machine.mig(&["plan", target, "--gpu", "0"]).ended_with(0);
    let dry = machine
        .mig(&["apply", target, "--gpu", "0", "--dry-run"])
        .ended_with(0);
    assert_eq!(planned.stdout(), dry.stdout());
    assert!(
        planned.stdout().contains("✔ can be done: 1 GPU to change"),
        "{}",
        planned.stdout()
    );
    assert!(machine.instances(0).is_empty());

    let applied = machine.mig(&["apply", target, "--gpu", "0"]).ended_with(0);
    let told = applied.stdout();
    for line in [
        "GPU 0  ✔ turn MIG on",
        "GPU 0  ✔ make 3g.40gb at 4:4",
        "✔ 1 of 1 GPU changed",
    ] {
        assert!(told.contains(line), "{told}");
    }
    assert_eq!(machine.instances(0), ["1g.10gb", "1g.10gb", "3g.40gb"]);
    assert!(machine.instances(1).is_empty());

    let again = machine.mig(&["apply", target, "--gpu", "0"]).ended_with(0);
    assert!(
        again.stdout().ends_with("✔ nothing to do\n"),
        "{}",
        again.stdout()
    );
}

#[test]
fn what_can_be_kept_is_kept() {
    let machine = Machine::new();
    machine
        .mig(&["apply", "3g.40gb,1g.10gb*2", "--gpu", "1"])
        .ended_with(0);
    let plan = machine.json(&["plan", "3g.40gb,2g.20gb,1g.10gb", "--gpu", "1"], 0);
    let gpu = &plan["gpus"][0];
    let profiles = |which: &str| -> Vec<String> {
        let devices = gpu[which].as_array().unwrap().iter();
        let profiles = devices.map(|device| device["profile"].as_str().unwrap().to_owned());
        profiles.collect()
    };
    assert_eq!(profiles("kept"), ["3g.40gb", "1g.10gb"]);
    assert_eq!(profiles("destroyed"), ["1g.10gb"]);
    assert!(
        gpu["destroyed"][0]["uuid"]
            .as_str()
            .unwrap()
            .starts_with("MIG-"),
        "{gpu}"
    );
    let kinds: Vec<&str> = gpu["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "destroy-compute-instance",
            "destroy-gpu-instance",
            "create-gpu-instance"
        ]
    );
    assert_eq!(gpu["needsReset"], false);
    let done = machine.json(&["apply", "3g.40gb,2g.20gb,1g.10gb", "--gpu", "1"], 0);
    assert_eq!(done["gpus"][0]["outcome"], "changed");
    assert_eq!(done["gpus"][0]["done"], gpu["steps"]);
    assert_eq!(machine.instances(1), ["1g.10gb", "2g.20gb", "3g.40gb"]);
}

#[test]
fn split_gpu_instances_are_made_and_turned_off_again() {
    let machine = Machine::new();
    machine
        .mig(&["apply", "1c.3g.40gb*2,3g.40gb", "--gpu", "0"])
        .ended_with(0);
    assert_eq!(machine.instances(0), ["1c.3g.40gb+1c.3g.40gb", "3g.40gb"]);
    let off = machine.mig(&["apply", "off", "--gpu", "0"]).ended_with(0);
    assert!(
        off.stdout().contains("GPU 0  ✔ turn MIG off"),
        "{}",
        off.stdout()
    );
    assert!(machine.instances(0).is_empty());
    machine.mig(&["assert", "off"]).ended_with(0);
    machine.mig(&["apply", "empty", "--gpu", "0"]).ended_with(0);
    machine
        .mig(&["assert", "empty", "--gpu", "0"])
        .ended_with(0);
}

#[test]
fn an_ampere_waits_for_its_reset_and_goes_on_after_it() {
    let machine = Machine::new();
    let plan = machine.json(&["plan", "1g.6gb*2", "--gpu", "3"], 0);
    assert_eq!(plan["gpus"][0]["needsReset"], true);
    let first = machine
        .mig(&["apply", "1g.6gb*2", "--gpu", "3"])
        .ended_with(3);
    let told = first.stdout();
    assert!(
        told.contains("GPU 3  ↻ to be reset, then again: nvidia-smi --gpu-reset -i 3"),
        "{told}"
    );
    let waiting = machine.json(&["apply", "1g.6gb*2", "--gpu", "3"], 3);
    assert_eq!(waiting["gpus"][0]["outcome"], "needs-reset");
    let waiting = machine
        .mig(&["plan", "1g.6gb*2", "--gpu", "3"])
        .ended_with(0);
    assert!(
        waiting.stdout().contains("waits for its reset"),
        "{}",
        waiting.stdout()
    );
    let asserted = machine
        .mig(&["assert", "1g.6gb*2", "--gpu", "3"])
        .ended_with(1);
    assert!(
        asserted
            .stdout()
            .contains("MIG is off until the next reset of the GPU, not on"),
        "{}",
        asserted.stdout()
    );
    machine.sim(&["heal", "--gpu", "3"]).ended_with(0);
    machine
        .mig(&["apply", "1g.6gb*2", "--gpu", "3"])
        .ended_with(0);
    assert_eq!(machine.instances(3), ["1g.6gb", "1g.6gb"]);
    machine
        .mig(&["assert", "1g.6gb*2", "--gpu", "3"])
        .ended_with(0);
}

#[test]
fn a_change_of_mode_that_waits_for_a_reset_is_taken_back_without_one() {
    let machine = Machine::new();
    machine.mig(&["apply", "empty", "--gpu", "2"]).ended_with(3);
    let shown = machine.mig(&["profiles", "--gpu", "2"]).ended_with(0);
    assert!(
        shown.stdout().contains("MIG off, on after a reset"),
        "{}",
        shown.stdout()
    );
    let waiting = machine.mig(&["assert", "off", "--gpu", "2"]).ended_with(1);
    assert!(
        waiting
            .stdout()
            .contains("MIG is off, but on after the next reset"),
        "{}",
        waiting.stdout()
    );
    let plan = machine.json(&["plan", "off", "--gpu", "2"], 0);
    assert_eq!(plan["gpus"][0]["needsReset"], false);
    machine.mig(&["apply", "off", "--gpu", "2"]).ended_with(0);
    machine.mig(&["assert", "off", "--gpu", "2"]).ended_with(0);
}

#[test]
fn a_picture_is_drawn_of_what_is_printed_for_people_only() {
    let machine = Machine::new();
    let file = machine.dir.path().join("plan.svg");
    let picture = file.to_str().unwrap();
    let apply = ["apply", "3g.40gb", "--gpu", "0", "--picture", picture];
    machine
        .mig(&[&apply[..], &["--output", "json"]].concat())
        .ended_with(2);
    assert!(machine.instances(0).is_empty() && !file.exists());
    machine.mig(&apply).ended_with(0);
    assert!(std::fs::read_to_string(&file).unwrap().contains("3g.40gb"));
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let machine = Machine::new();
    for (target, reason) in [
        ("3g.40gb*3", "3 × 3g.40gb do not fit, at most 2 do"),
        (
            "3g.40gb,2g.20gb*2,1g.10gb",
            "they take 8 compute slices and the GPU has 7; 2g.20gb x2, 3g.40gb would fit",
        ),
        ("3g.41gb", "did you mean 3g.40gb?"),
        ("3g.20gb", "did you mean 3g.40gb?"),
    ] {
        let plan = machine.json(&["plan", target, "--gpu", "0"], 1);
        let told = plan["gpus"][0]["reason"].as_str().unwrap();
        assert!(told.contains(reason), "{target}: {told}");
        assert_eq!(plan["possible"], false);
        machine.mig(&["apply", target, "--gpu", "0"]).ended_with(1);
    }
    machine.mig(&["assert", "off", "--gpu", "0"]).ended_with(0);
}

#[test]
fn a_gpu_that_fails_holds_up_no_other() {
    let machine = Machine::new();
    let done = machine.json(&["apply", "1g.10gb*7", "--gpu", "0,1,4"], 1);
    let outcomes: Vec<&str> = done["gpus"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gpu| gpu["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["changed", "changed", "failed"]);
    assert_eq!(done["gpus"][2]["reason"], "it cannot be partitioned");
    assert_eq!(machine.instances(0).len(), 7);
}

#[test]
fn a_gpu_that_is_lost_is_named_and_the_others_are_cut() {
    let machine = Machine::new();
    machine.sim(&["inject", "lost", "--gpu", "1"]).ended_with(0);
    let plan = machine
        .mig(&["plan", "all-1g.10gb", "--gpu", "1"])
        .ended_with(1);
    assert!(
        plan.stderr()
            .contains("GPU 1 cannot be described: the GPU is lost"),
        "{}",
        plan.stderr()
    );
    let told = machine
        .mig(&["apply", "all-1g.10gb"])
        .ended_with(1)
        .stdout();
    assert!(told.contains("GPU 1 cannot be described"), "{told}");
    assert_eq!(machine.instances(0).len(), 7);
}

#[test]
fn mistakes_name_what_was_probably_meant() {
    let machine = Machine::new();
    for (arguments, said) in [
        (&["plan", "3g.40g"][..], "did you mean 3g.40gb?"),
        (&["plan", "all-ballanced"], "did you mean \"all-balanced\"?"),
        (
            &["plan", "-c", "all-1g.11gb"],
            "no GPU of this node can be partitioned",
        ),
        (&["plan", "of"], "did you mean off?"),
        (
            &["plan", "1g.10gb", "--gpu", "9"],
            "there is no GPU 9; the machine has GPUs 0-4",
        ),
        (&["plan", "1g.10gb", "--gpu", "two"], "give an index (2)"),
        (&["plan"], "required arguments were not provided"),
        (&["paln", "1g.10gb"], "'plan'"),
        (&["plan", "1g.10gb", "-c", "x"], "cannot be used with"),
    ] {
        let ran = machine.mig(arguments);
        let code = if said.starts_with("no GPU") { 1 } else { 2 };
        let error = ran.ended_with(code).stderr();
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn a_machine_without_a_driver_is_told_where_one_is_looked_for() {
    let machine = Machine::new();
    let mut command = machine.command();
    command.args([
        "mig",
        "profiles",
        "--nvml-library",
        "/nowhere/libnvidia-ml.so.1",
    ]);
    let ran = crate::support::Ran(command.output().unwrap()).ended_with(1);
    assert!(
        ran.stderr().contains("/nowhere/libnvidia-ml.so.1") && ran.stderr().contains("sim library"),
        "{}",
        ran.stderr()
    );
}
