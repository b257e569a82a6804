//! Settings, and what the command does about mistakes in them.

use super::Node;
use super::node::bad;

#[test]
fn a_mistake_in_flags_ends_with_2_and_one_in_the_file_or_the_environment_is_a_finding() {
    let node = Node::new();
    for (arguments, word) in [
        (["--mig-strategy", "singel"], "did you mean \"single\"?"),
        (["--no-such", "flag"], "--no-such"),
        (["--output", "yaml"], "json"),
    ] {
        let told = node.doctor(&arguments).ended_with(2).stderr();
        assert!(told.contains(word), "{told}");
    }
    node.write(
        "config.yaml",
        "version: v1\nflags:\n  migStrategi: single\n",
    );
    let report = node.report(&["--config-file", "config.yaml"]);
    assert_eq!(bad(&report)[0], "error settings-invalid");
    let found = report["findings"][0]["found"].as_str().unwrap();
    assert!(found.contains("line 3"), "{found}");

    let mut command = node.command();
    command
        .args(["doctor", "--host-root", "host", "--output", "json"])
        .env("GDS_ENABLED", "perhaps");
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("settings-invalid") && told.contains("GDS_ENABLED"),
        "{told}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_setting_comes_from_the_environment_too() {
    let node = Node::new();
    let mut command = node.command();
    command
        .args(["doctor", "--output", "json"])
        .env("MIZZEN_HOST_ROOT", "host");
    let told = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(told.contains("2 GPUs on the bus"), "{told}");
}

#[test]
fn the_short_help_has_what_most_people_need_and_the_long_one_everything() {
    let node = Node::new();
    let mut short = node.command();
    let short = short.args(["doctor", "-h"]).output().unwrap();
    let short = String::from_utf8(short.stdout).unwrap();
    let mut long = node.command();
    let long = long.args(["doctor", "--help"]).output().unwrap();
    let long = String::from_utf8(long.stdout).unwrap();
    assert!(short.contains("--kubelet-socket") && !short.contains("--gds-enabled"));
    assert!(long.contains("--gds-enabled") && long.contains("Exit codes:"));
}

#[test]
fn proposed_commands_look_at_the_same_machine() {
    let node = Node::new();
    node.specs(&[]);
    node.write("host/etc/cdi/broken.json", "{");
    let config = node.write("my config.yaml", "version: v2\n");
    let config = config.to_str().unwrap();
    let report = node.report(&["--config-file", config]);
    let commands = report["findings"].as_array().unwrap().iter();
    let commands = commands.flat_map(|finding| finding["commands"].as_array().unwrap());
    let commands: Vec<&str> = commands.map(|command| command.as_str().unwrap()).collect();
    let root = node.path("host").display().to_string();
    for expected in [
        format!("mizzen config check '{config}'"),
        format!("mizzen cdi validate {root}/etc/cdi/broken.json --host-root {root}"),
        format!("sudo mizzen hook install --dir {root}/var/lib/mizzen/bin"),
    ] {
        assert!(commands.contains(&expected.as_str()), "{commands:#?}");
    }
    // As it is proposed, it can be run.
    let validate = commands.iter().find(|words| words.contains("validate"));
    let mut command = node.command();
    let words = validate.unwrap().split(' ').skip(1);
    let ran = command.args(words).output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
}
