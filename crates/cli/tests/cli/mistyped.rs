//! What commands that look at a node say to people who mistype.

use crate::support::{mizzen, run};

#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let ran = run(arguments).ended_with(2);
    assert_eq!(ran.stdout(), "", "nothing but the mistake is written");
    ran.stderr()
}

#[test]
fn a_root_of_the_machine_that_is_not_there_is_told() {
    for command in [
        &["doctor"][..],
        &["runtime", "check"],
        &["runtime", "configure"],
        &["cdi", "generate"],
        &["cdi", "list"],
        &["cdi", "validate"],
        &["cdi", "diff"],
        &["labels", "--oneshot"],
    ] {
        let error = refused(&[command, &["--host-root", "/hots"]].concat());
        for words in ["--host-root", "/hots", "there is no such directory"] {
            assert!(error.contains(words), "{command:?}: {error}");
        }
    }
}

#[test]
fn a_root_of_the_machine_in_the_environment_is_checked_too() {
    for command in [&["doctor"][..], &["labels", "--oneshot"]] {
        let mut mizzen = mizzen();
        let output = mizzen.args(command).env("MIZZEN_HOST_ROOT", "/hots");
        let output = output.output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("MIZZEN_HOST_ROOT"), "{error}");
    }
}

#[test]
fn unknown_hooks_and_feature_flags_are_answered_with_the_known_ones() {
    let error = refused(&["cdi", "generate", "--disable-hook=update-ldcahce"]);
    for known in ["all", "enable-cuda-compat", "'update-ldcache'"] {
        assert!(error.contains(known), "{error}");
    }
    let error = refused(&["cdi", "diff", "--feature-flag=disable-ipc"]);
    for known in ["disable-ipc-discoverer", "enable-explicit-driver-libraries"] {
        assert!(error.contains(known), "{error}");
    }
    let error = refused(&[
        "agent",
        "--cdi-disable-hooks=update-ldcahce",
        "--cdi-feature-flags=disable-ipc",
    ]);
    for words in [
        "did you mean \"update-ldcache\"?",
        "enable-cuda-compat",
        "disable-ipc-discoverer",
    ] {
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_directory_of_specs_is_named_by_its_whole_path_and_is_there() {
    for command in ["list", "validate", "diff"] {
        let error = refused(&["cdi", command, "--spec-dir=etc/cdi"]);
        assert!(error.contains("by its whole path"), "{error}");
        let error = refused(&["cdi", command, "--spec-dir=/etc/cid"]);
        assert!(error.contains("there is no such directory"), "{error}");
    }
    run(["cdi", "list", "--spec-dir=/var/run/cdi"]).ended_with(0);
}
