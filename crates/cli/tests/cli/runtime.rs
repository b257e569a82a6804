//! `mizzen runtime`, on host trees and a runtime that answers.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Ran, mizzen, repository};

const CONTAINERD: &str = "etc/containerd/config.toml";
/// As containerd 1.7's packages have it, shortened.
const V2: &str = "version = 2\n\n[plugins]\n\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    \
    sandbox_image = \"registry.k8s.io/pause:3.8\" # keep\n\n    \
    [plugins.\"io.containerd.grpc.v1.cri\".containerd]\n      default_runtime_name = \"runc\"\n";

struct Node(TempDir);

impl Node {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn runtime(&self, words: &str) -> Ran {
        let mut command = mizzen();
        command.arg("runtime").args(words.split_whitespace());
        command.arg("--host-root").arg(self.0.path());
        Ran(command.output().unwrap())
    }

    fn json(&self, words: &str) -> Value {
        let ran = self.runtime(&format!("check --output json {words}"));
        serde_json::from_str(&ran.stdout()).unwrap()
    }
}

#[test]
fn cdi_is_turned_on_by_one_line_and_off_again_to_the_byte() {
    let node = Node::new();
    node.write(CONTAINERD, V2);
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(node.path(CONTAINERD), mode).unwrap();
    let version = "--runtime-version 1.7.24";
    assert_eq!(node.json(version)["cdi"]["state"], "off");
    assert_eq!(node.runtime(&format!("check {version}")).code(), 1);

    let shown = node
        .runtime(&format!("configure --dry-run {version}"))
        .ended_with(0);
    let line = "    enable_cdi = true # mizzen: turns CDI on\n";
    assert!(
        shown.stdout().contains(&format!("+{line}")),
        "{}",
        shown.stdout()
    );
    assert_eq!(node.read(CONTAINERD), V2);

    let done = node.runtime(&format!("configure {version}")).ended_with(0);
    assert!(done.stdout().contains("systemctl restart containerd"));
    assert_eq!(node.read(CONTAINERD).replacen(line, "", 1), V2);
    let mode = fs::metadata(node.path(CONTAINERD)).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o640);
    assert_eq!(node.runtime(&format!("check {version}")).code(), 0);

    let again = node.runtime(&format!("configure {version}"));
    assert!(again.stdout().contains("on already"), "{}", again.stdout());
    node.runtime("configure --undo").ended_with(0);
    assert_eq!(node.read(CONTAINERD), V2);
    let left = fs::read_dir(node.path("etc/containerd")).unwrap().count();
    assert_eq!(left, 1, "the copy is gone");
    let nothing = node.runtime("configure --undo");
    assert!(nothing.stdout().contains("nothing of Mizzen's"));
}

#[test]
fn an_undo_keeps_other_edits() {
    let node = Node::new();
    node.write(CONTAINERD, V2);
    node.runtime("configure --runtime-version 1.7.24")
        .ended_with(0);
    let edited = node.read(CONTAINERD).replace("pause:3.8", "pause:3.10");
    node.write(CONTAINERD, &edited);
    let undone = node.runtime("configure --undo").ended_with(0);
    assert!(
        undone.stdout().contains("edited since"),
        "{}",
        undone.stdout()
    );
    assert_eq!(node.read(CONTAINERD), V2.replace("pause:3.8", "pause:3.10"));
}

#[test]
fn a_link_stays_a_link() {
    let node = Node::new();
    node.write("opt/containerd.toml", V2)
        .write("etc/containerd/other", "");
    symlink("/opt/containerd.toml", node.path(CONTAINERD)).unwrap();
    node.runtime("configure --runtime-version 1.7.24")
        .ended_with(0);
    assert!(node.path(CONTAINERD).is_symlink());
    assert!(
        node.read("opt/containerd.toml")
            .contains("enable_cdi = true")
    );
    node.runtime("configure --undo").ended_with(0);
    assert_eq!(node.read("opt/containerd.toml"), V2);
}

#[test]
fn containerd_2_gets_a_drop_in_where_its_config_imports_one() {
    let node = Node::new();
    let main = "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n\
                [plugins.'io.containerd.cri.v1.runtime']\n  enable_cdi = false\n";
    node.write(CONTAINERD, main);
    assert_eq!(
        node.json("")["cdi"]["place"],
        "/etc/containerd/config.toml:4"
    );
    node.runtime("configure").ended_with(0);
    assert_eq!(node.read(CONTAINERD), main);
    assert_eq!(node.json("")["cdi"]["state"], "on");
    node.runtime("configure --undo").ended_with(0);
    assert!(
        !node
            .path("etc/containerd/conf.d/99-mizzen-cdi.toml")
            .exists()
    );
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let node = Node::new();
    let missing = node.runtime("check");
    assert_eq!(missing.code(), 3);
    assert!(missing.stderr().contains("no container runtime"));
    node.write(CONTAINERD, V2);
    let old = node.runtime("configure --runtime-version 1.6.20");
    assert_eq!(old.code(), 1);
    assert!(
        old.stderr().contains("upgrade containerd"),
        "{}",
        old.stderr()
    );
    assert_eq!(node.read(CONTAINERD), V2);
    assert_eq!(node.runtime("check").code(), 3, "the version decides");
    assert_eq!(node.runtime("configure --restart").code(), 2);
    assert_eq!(node.runtime("check --socket /nowhere.sock").code(), 2);
    node.write(CONTAINERD, "version = [");
    let broken = node.runtime("configure --runtime-version 1.7.0");
    assert!(
        broken.stderr().contains("config.toml:1"),
        "{}",
        broken.stderr()
    );
}

#[test]
fn dockers_daemon_json_is_edited_and_restored() {
    let node = Node::new();
    let docker = "etc/docker/daemon.json";
    let before = "{\n\t\"log-driver\": \"journald\"\n}";
    node.write(docker, before);
    let words = "--runtime docker --runtime-version 27.1.0";
    node.runtime(&format!("configure {words}")).ended_with(0);
    assert_eq!(node.json(words)["cdi"]["state"], "on");
    node.runtime("configure --undo --runtime docker")
        .ended_with(0);
    assert_eq!(node.read(docker), before);
    // One that was not there is not left behind.
    fs::remove_file(node.path(docker)).unwrap();
    node.runtime(&format!("configure {words}")).ended_with(0);
    node.runtime("configure --undo --runtime docker")
        .ended_with(0);
    assert!(!node.path(docker).exists());
}

/// The text between two marks.
fn block<'a>(document: &'a str, start: &str) -> &'a str {
    let (_, rest) = document.split_once(start).unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_commands_in_the_document_print_what_it_says() {
    let document = fs::read_to_string(repository("docs/runtime.md")).unwrap();
    let node = Node::new();
    let config = block(&document, "```toml\n# /etc/containerd/config.toml\n");
    node.write(CONTAINERD, config);
    let mut count = 0;
    for block in document.split("```console\n$ ").skip(1) {
        let (text, _) = block.split_once("```").unwrap();
        let (command, output) = text.split_once('\n').unwrap();
        let words = command.trim_start_matches("sudo ");
        let words = words.strip_prefix("mizzen runtime ").unwrap();
        let ran = node.runtime(words);
        let root = node.0.path().to_string_lossy().into_owned();
        let printed = (ran.stdout() + &ran.stderr()).replace(&root, "");
        assert_eq!(printed, output, "docs/runtime.md: {command}");
        count += 1;
    }
    assert!(count >= 4, "{count} commands");
}
