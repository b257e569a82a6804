//! `mizzen cdi`, on a simulated machine.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Ran, mizzen};

mod diff;

/// A machine with simulated GPUs.
struct Machine {
    dir: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let (library, host) = (machine.path("lib"), machine.path("host"));
        machine
            .run([&OsString::from("sim"), &"library".into(), &library.into()])
            .ended_with(0);
        machine
            .run([&OsString::from("sim"), &"host".into(), &host.into()])
            .ended_with(0);
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        let mut command = mizzen();
        command.env("MIZZEN_SIM_STATE", self.path("state"));
        Ran(command.args(arguments).output().unwrap())
    }

    /// `mizzen cdi` of this machine.
    fn cdi(&self, arguments: &[&str]) -> Ran {
        let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
        let (host, library) = (
            text(self.path("host")),
            text(self.path("lib/libnvidia-ml.so.1")),
        );
        let machine = ["--host-root", &host, "--nvml-library", &library];
        let words = ["cdi"].iter().chain(arguments);
        match arguments[0] {
            "generate" | "diff" => self.run(words.chain(&machine)),
            "validate" | "list" => self.run(words.chain(&machine[..2])),
            _ => self.run(words),
        }
    }

    fn specs(&self) -> String {
        self.path("host/run/cdi").display().to_string()
    }
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout()).unwrap()
}

fn name_count(ran: &Ran) -> usize {
    json(ran)["devices"].as_array().unwrap().len()
}

#[test]
fn the_spec_of_a_machine_is_printed_in_both_forms() {
    let machine = Machine::new();
    let ran = machine.cdi(&["generate"]).ended_with(0);
    assert_eq!(name_count(&ran), 8 + 8 + 1);
    assert_eq!(json(&ran)["kind"], "nvidia.com/gpu");
    let types = machine.cdi(&["generate", "--name-strategy", "type-index"]);
    assert_eq!(json(&types)["devices"][1]["name"], "gpu0");
    let yaml = machine.cdi(&["generate", "--format", "yaml"]).ended_with(0);
    let read: Value = serde_saphyr::from_str(&yaml.stdout()).unwrap();
    assert_eq!(read, json(&ran));
}

#[test]
fn a_kind_without_devices_and_a_class_that_is_none_are_told_apart() {
    let machine = Machine::new();
    let ran = machine
        .cdi(&["generate", "--kind", "nvidia.com/gds"])
        .ended_with(1);
    assert!(
        ran.stderr()
            .contains("no device of the kind nvidia.com/gds")
    );
    let ran = machine.cdi(&["generate", "--class", "gqu"]).ended_with(2);
    assert!(
        ran.stderr().contains("is none of gpu, imex-channel"),
        "{}",
        ran.stderr()
    );
    let ran = machine
        .cdi(&["generate", "--kind", "nvidia.com"])
        .ended_with(2);
    assert!(
        ran.stderr().contains("expected vendor/class"),
        "{}",
        ran.stderr()
    );
}

#[test]
fn a_driver_that_is_not_there_is_said() {
    let machine = Machine::new();
    let empty = tempfile::tempdir().unwrap();
    let root = empty.path().to_str().unwrap();
    let words = ["--host-root", root, "--nvml-library", "/nowhere/x"];
    let ran = machine.run([&["cdi", "generate"], &words[..]].concat());
    let ran = ran.ended_with(2);
    assert!(
        ran.stderr().contains("the driver cannot be asked"),
        "{}",
        ran.stderr()
    );
}

#[test]
fn hooks_are_carried_out_as_their_program_does() {
    let machine = Machine::new();
    let root = machine.path("root");
    fs::create_dir_all(&root).unwrap();
    let state = format!(r#"{{"bundle": "/", "root": {root:?}}}"#);
    let state = machine.write("state.json", &state).display().to_string();
    let arguments = [
        "--link",
        "libcuda.so.1::/lib/libcuda.so",
        "--container-spec",
        &state,
    ];
    let words = ["hook", "create-symlinks"].iter().chain(&arguments);
    machine.run(words).ended_with(0);
    let held = fs::read_link(root.join("lib/libcuda.so")).unwrap();
    assert_eq!(held, Path::new("libcuda.so.1"));
    machine.run(["hook", "no-such-hook"]).ended_with(2);
}

#[test]
fn files_that_were_made_are_listed_valid_and_as_they_should_be() {
    let machine = Machine::new();
    let specs = machine.specs();
    let generate = || {
        machine
            .cdi(&["generate", "--output-dir", &specs])
            .ended_with(0)
            .stderr()
    };
    let told = generate();
    let hooks = machine
        .path("host/var/lib/mizzen/bin")
        .display()
        .to_string();
    let way = format!("`mizzen hook install --dir {hooks}` installs it");
    assert!(told.contains(&way), "{told}");
    let install = ["hook", "install", "--dir", &hooks];
    let installed = machine.run(install).ended_with(0).stdout();
    assert!(
        installed.ends_with("/mizzen-hook: installed\n"),
        "{installed}"
    );
    let installed = machine.run(install).ended_with(0).stdout();
    assert!(installed.ends_with(": there already\n"), "{installed}");
    let told = generate();
    assert!(!told.contains("hook"), "{told}");
    let listed = machine
        .cdi(&["list", "--spec-dir", &specs])
        .ended_with(0)
        .stdout();
    assert!(listed.starts_with("17 names in 1 file of "), "{listed}");
    assert!(listed.contains("nvidia.com/gpu=all"), "{listed}");
    machine
        .cdi(&["validate", "--spec-dir", &specs, "--form-only"])
        .ended_with(0);
    let same = machine
        .cdi(&["diff", "--spec-dir", &specs])
        .ended_with(0)
        .stdout();
    assert!(
        same.ends_with("nvidia.com-gpu.json: as it should be\n"),
        "{same}"
    );

    fs::remove_file(machine.path("host/dev/nvidia3")).unwrap();
    let diff = machine
        .cdi(&["diff", "--spec-dir", &specs, "--output", "json"])
        .ended_with(1);
    let told = json(&diff)["kinds"][0]["differences"].to_string();
    assert!(told.contains("device 3: without the device"), "{told}");
    let invalid = machine
        .cdi(&["validate", "--spec-dir", &specs])
        .ended_with(1);
    assert!(
        invalid
            .stderr()
            .contains("/dev/nvidia3 is not on this machine"),
        "{}",
        invalid.stderr()
    );
}

#[test]
fn a_name_in_two_files_does_not_resolve() {
    let machine = Machine::new();
    let specs = machine.specs();
    machine
        .cdi(&["generate", "--output-dir", &specs])
        .ended_with(0);
    machine
        .cdi(&["generate", "--output-dir", &specs, "--format", "yaml"])
        .ended_with(0);
    let listed = machine
        .cdi(&["list", "--spec-dir", &specs])
        .ended_with(1)
        .stdout();
    assert!(listed.contains("does not resolve: it is in "), "{listed}");
    let document = json(&machine.cdi(&["list", "--spec-dir", &specs, "--output", "json"]));
    assert_eq!(document["devices"][0]["resolves"], false);
    assert_eq!(document["devices"][0]["files"].as_array().unwrap().len(), 2);
    let ran = machine
        .cdi(&["validate", "--spec-dir", &specs])
        .ended_with(1);
    for (file, other) in [("json", "yaml"), ("yaml", "json")] {
        let expected = format!(
            "{specs}/nvidia.com-gpu.{file}: nvidia.com/gpu=0 and 16 more names are also in \
             {specs}/nvidia.com-gpu.{other}, and runtimes find neither"
        );
        assert!(ran.stderr().contains(&expected), "{}", ran.stderr());
    }
    machine
        .cdi(&["validate", "--spec-dir", &specs, "--form-only"])
        .ended_with(0);
}

#[test]
fn mistakes_in_a_spec_are_told_with_their_places() {
    let machine = Machine::new();
    let text = "cdiVersion: 0.3.0\nkind: v.com/c\ndevices:\n- name: \"0\"\n  containerEdits:\n    \
                mounts:\n    - {hostPath: /not/there, containerPath: /x}\n";
    let path = machine.write("a.yaml", text);
    let file = path.display().to_string();
    let ran = machine.cdi(&["validate", &file]).ended_with(1);
    let told = ran.stderr();
    let expected = [
        format!(
            "{file}:1:13: cdiVersion: 0.3.0 has not all that the spec uses; it must be at least 0.5.0"
        ),
        format!(
            "{file}:7:18: devices[0].containerEdits.mounts[0].hostPath: /not/there is not on this machine"
        ),
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
    assert_eq!(ran.stdout(), "1 file: 2 mistakes\n");
    let typo = machine.write("b.json", "{\"cdiVersion\": \"0.5.0\", \"knd\": \"a/b\"}");
    let document = json(&machine.cdi(&["validate", path_text(&typo), "--output", "json"]));
    assert_eq!(document["valid"], false);
    let last = &document["files"][0]["mistakes"][2];
    assert_eq!((&last["line"], &last["column"]), (&1.into(), &25.into()));
    assert!(
        last["message"].to_string().contains("did you mean"),
        "{last}"
    );
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn specs_are_looked_for_below_the_root_of_the_machine() {
    let machine = Machine::new();
    fs::create_dir_all(machine.path("host/var")).unwrap();
    symlink("/run", machine.path("host/var/run")).unwrap();
    let kind = ["--kind", "nvidia.com/gpu"];
    let made = ["generate", "--output-dir", &machine.specs()];
    machine.cdi(&[&made[..], &kind].concat()).ended_with(0);
    assert!(
        machine
            .cdi(&["list"])
            .ended_with(0)
            .stdout()
            .contains("nvidia.com/gpu=0")
    );
    machine.cdi(&[&["diff"][..], &kind].concat()).ended_with(0);
    machine.write("host/run/cdi/broken.json", "{");
    let told = machine.cdi(&["validate", "--form-only"]).ended_with(1);
    assert!(told.stderr().contains("broken.json"), "{}", told.stderr());
}
