//! Config files: `-f`, `-c`, `mizzen mig export` and `assert`.

use super::Machine;

const CONFIG: &str = "version: v1
mig-configs:
  inference:
  - device-filter: \"0x233010DE\"
    devices: [0]
    mig-enabled: true
    mig-devices: {3g.40gb: 1, 1g.10gb+me: 1}
  - device-filter: \"0x233010DE\"
    devices: [1]
    mig-enabled: true
    mig-devices: {1g.10gb: 7}
  whole:
  - devices: all
    mig-enabled: false
";

#[test]
fn a_config_is_applied_exported_and_asserted() {
    let machine = Machine::new();
    let file = machine.write("config.yaml", CONFIG);
    machine
        .mig(&["assert", "-f", &file, "-c", "inference"])
        .ended_with(1);
    machine
        .mig(&["apply", "-f", &file, "-c", "inference"])
        .ended_with(0);
    let asserted = machine
        .mig(&["assert", "-f", &file, "-c", "inference"])
        .ended_with(0);
    assert!(
        asserted
            .stdout()
            .contains("GPU 2  – nothing is wanted of it"),
        "{}",
        asserted.stdout()
    );

    let exported = machine
        .mig(&["export", "--name", "kept"])
        .ended_with(0)
        .stdout();
    let expected = "\
version: v1
mig-configs:
  kept:
  - devices: [0]
    mig-enabled: true
    mig-devices:
      1g.10gb+me: 1
      3g.40gb: 1
  - devices: [1]
    mig-enabled: true
    mig-devices:
      1g.10gb: 7
  - device-filter: \"0x20B010DE\"
    devices: all
    mig-enabled: false
    mig-devices: {}
  - device-filter: \"0x20B710DE\"
    devices: all
    mig-enabled: false
    mig-devices: {}
";
    assert_eq!(exported, expected);

    machine
        .mig(&["apply", "-f", &file, "-c", "whole"])
        .ended_with(0);
    assert!(machine.instances(0).is_empty());
    // The only config of a file needs no name, and JSON is YAML.
    let kept = machine.write("kept.yaml", &exported);
    machine.mig(&["assert", "-f", &kept]).ended_with(1);
    machine.mig(&["apply", "-f", &kept]).ended_with(0);
    machine.mig(&["assert", "-f", &kept]).ended_with(0);
    let json = machine
        .mig(&["export", "-o", "json"])
        .ended_with(0)
        .stdout();
    let json = machine.write("kept.json", &json);
    machine
        .mig(&["assert", "-f", &json, "-c", "current"])
        .ended_with(0);
}

#[test]
fn a_gpu_that_tells_nothing_is_not_among_all_of_its_model() {
    let machine = Machine::new();
    machine
        .mig(&["apply", "1g.10gb", "--gpu", "1"])
        .ended_with(0);
    machine.sim(&["inject", "lost", "--gpu", "0"]).ended_with(0);
    let ran = machine.mig(&["export"]).ended_with(1);
    let exported = ran.stdout();
    assert!(
        exported.contains("  - devices: [1]\n    mig-enabled: true\n"),
        "{exported}"
    );
    assert!(!exported.contains("all"), "{exported}");
    assert!(ran.stderr().contains("GPU 0"), "{}", ran.stderr());

    let none = machine.mig(&["export", "--gpu", "4"]).ended_with(1);
    assert_eq!(none.stdout(), "");
    assert!(
        none.stderr().contains("no GPU to export"),
        "{}",
        none.stderr()
    );
}

#[test]
fn mig_is_off_where_it_cannot_be_on() {
    let machine = Machine::of("gpus:\n- {model: t4, count: 2}\n");
    let file = machine.write("config.yaml", CONFIG);
    for target in [
        &["off"][..],
        &["-c", "all-disabled"],
        &["-f", &file, "-c", "whole"],
    ] {
        for command in ["assert", "plan", "apply"] {
            machine.mig(&[&[command], target].concat()).ended_with(0);
        }
    }
    let error = machine.mig(&["plan", "1g.10gb"]).ended_with(1).stderr();
    assert!(error.contains("it has 2 × Tesla T4"), "{error}");
}

#[test]
fn an_assertion_about_no_gpu_fails() {
    let machine = Machine::new();
    let file = machine.write("config.yaml", &CONFIG.replace("0x233010DE", "0x999910DE"));
    let assert = ["assert", "-f", &file, "-c", "inference"];
    let told = machine.mig(&assert).ended_with(1).stdout();
    assert!(
        told.ends_with("✖ nothing is wanted of any GPU: inference\n"),
        "{told}"
    );
    let document = machine.json(&assert, 1);
    assert_eq!(document["met"], false);
    assert_eq!(document["gpus"][0]["met"], serde_json::Value::Null);
}

#[test]
fn gpus_that_are_alike_are_exported_together() {
    let machine = Machine::of("gpus:\n- {model: h100-80gb, count: 4}\n");
    machine.mig(&["apply", "all-3g.40gb"]).ended_with(0);
    let exported = machine.mig(&["export"]).ended_with(0).stdout();
    assert_eq!(
        exported,
        "version: v1\nmig-configs:\n  current:\n  - devices: all\n    mig-enabled: true\n    \
         mig-devices:\n      3g.40gb: 2\n"
    );
}

#[test]
fn assert_tells_which_gpu_differs_and_how() {
    let machine = Machine::new();
    machine
        .mig(&["apply", "1g.10gb*2,2g.20gb", "--gpu", "0"])
        .ended_with(0);
    let told = machine
        .mig(&["assert", "1g.10gb,3g.40gb", "--gpu", "0,1"])
        .ended_with(1)
        .stdout();
    assert_eq!(
        told,
        "GPU 0  ✖ lacks 3g.40gb; has too many of 1g.10gb, 2g.20gb\n\
         GPU 1  ✖ MIG is off, not on\n\
         ✖ 2 of 2 GPUs not as wanted: 1g.10gb, 3g.40gb\n"
    );
    let mode_only = machine.mig(&["assert", "3g.40gb", "--gpu", "0", "--mode-only"]);
    mode_only.ended_with(0);
    let document = machine.json(&["assert", "off", "-m"], 1);
    let met: Vec<bool> = document["gpus"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gpu| gpu["met"].as_bool().unwrap())
        .collect();
    assert_eq!(met, [false, true, true, true]);
    assert_eq!(document["gpus"][0]["differences"][0], "MIG is on, not off");
}

#[test]
fn mistakes_in_a_file_have_their_places() {
    let machine = Machine::new();
    let file = machine.write(
        "config.yaml",
        "version: v1\nmig-configs:\n  a:\n  - devices: all\n    mig-enable: true\n  b: []\n",
    );
    let error = machine
        .mig(&["plan", "-f", &file, "-c", "a"])
        .ended_with(2)
        .stderr();
    assert!(
        error.contains("config.yaml:5:5: ") && error.contains("mig-enabled"),
        "{error}"
    );
    let unread = machine.write("config.yaml", "mig-configs: {b: [\n");
    let error = machine.mig(&["plan", "-f", &unread]).ended_with(2).stderr();
    assert!(!error.contains("the file is empty"), "{error}");
    let file = machine.write("config.yaml", CONFIG);
    let error = machine
        .mig(&["plan", "-f", &file, "-c", "infrence"])
        .ended_with(2)
        .stderr();
    assert!(error.contains("did you mean \"inference\"?"), "{error}");
    let error = machine.mig(&["plan", "-f", &file]).ended_with(2).stderr();
    assert!(
        error.contains("-c must say which config of the file is meant: inference, whole"),
        "{error}"
    );
    let endless = machine
        .mig(&["plan", "-f", "/dev/zero"])
        .ended_with(2)
        .stderr();
    assert!(endless.contains("/dev/zero is longer than"), "{endless}");
    let error = machine
        .mig(&["plan", "-f", "/nowhere.yaml"])
        .ended_with(2)
        .stderr();
    assert!(error.contains("cannot read /nowhere.yaml"), "{error}");
}
