//! `mizzen mig profiles`.

use super::Machine;

#[test]
fn profiles_are_told_by_model_with_what_is_free() {
    let machine = Machine::new();
    machine.sim(&["mig", "enable", "--gpu", "0"]).ended_with(0);
    machine
        .sim(&["mig", "create", "3g.40gb,1g.10gb", "--gpu", "0"])
        .ended_with(0);
    let told = machine.mig(&["profiles"]).ended_with(0).stdout();
    for line in [
        "GPUs 0,1  NVIDIA H100 80GB HBM3  81559 MiB",
        "  1g.10gb     19  9984   16   1   1    –    1     –    3-7/7  {0,1,2,3,4,5,6}:1",
        "  3g.40gb     9   40448  60   3   3    –    3     –    0-2/2  {0,4}:4",
        "GPU 3  NVIDIA A30  24576 MiB",
        "  2g.12gb     5   12032  28   2   2    –    –     –    2/2   {0,2}:2",
    ] {
        assert!(told.lines().any(|told| told == line), "{line}\n{told}");
    }
    assert!(!told.contains("T4"), "{told}");
}

#[test]
fn places_that_are_expected_while_mig_is_off_are_those_that_the_driver_tells_later() {
    let models = "a30 a100-40gb a100-80gb h100-80gb h100-nvl h200-141gb b200 gb200 rtx-pro-6000";
    let models: Vec<String> = models
        .split(' ')
        .map(|model| {
            format!(
                "- {{model: {model}}}
"
            )
        })
        .collect();
    let machine = Machine::of(&format!("gpus:\n{}", models.concat()));
    let before = machine.json(&["profiles"], 0);
    assert_eq!(before["models"].as_array().unwrap().len(), 9);
    machine
        .sim(&["mig", "enable", "--gpu", "all"])
        .ended_with(0);
    machine.sim(&["heal"]).ended_with(0);
    assert_eq!(machine.json(&["profiles"], 0), before);
}

#[test]
fn a_gpu_that_cannot_be_partitioned_is_named_if_it_was_asked_for() {
    let machine = Machine::new();
    let told = machine.mig(&["profiles", "--gpu", "3,4"]).ended_with(1);
    assert!(
        told.stdout()
            .contains("✖ GPU 4 (Tesla T4) cannot be partitioned"),
        "{}",
        told.stdout()
    );
    let document = machine.json(&["profiles", "--gpu", "3"], 0);
    let model = &document["models"][0];
    assert_eq!(model["name"], "NVIDIA A30");
    assert_eq!(model["gpus"], serde_json::json!([3]));
    let profile = &model["profiles"][0];
    assert_eq!(profile["profile"], "1g.6gb");
    assert_eq!(profile["free"]["3"], 4);
    assert_eq!(profile["starts"], serde_json::json!([0, 1, 2, 3]));

    let machine = Machine::of("gpus:\n- {model: t4, count: 2}\n");
    let error = machine.mig(&["profiles"]).ended_with(1).stderr();
    assert_eq!(
        error,
        "mizzen mig: no GPU of this machine can be partitioned; it has 2 × Tesla T4\n"
    );
}
