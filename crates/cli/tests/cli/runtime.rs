//! `mizzen runtime`, on host trees and a runtime that answers.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use mizzen_kubelet_api::cri::{
    RuntimeService, RuntimeServiceServer, StatusRequest, StatusResponse, VersionRequest,
    VersionResponse,
};
use mizzen_kubelet_api::{Socket, serve};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status};

use crate::support::{Ran, mizzen, repository};

mod by_socket;
mod undo;
mod unknown;

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

#[test]
fn docker_is_said_to_stop_containers_unless_it_has_live_restore() {
    let words = "configure --runtime docker --runtime-version 27.1.0";
    for (json, said) in [
        ("{}", "this stops the running containers"),
        (
            "{\"live-restore\": false}",
            "this stops the running containers",
        ),
        ("{\"live-restore\": true}", "running containers go on"),
    ] {
        let node = Node::new();
        node.write("etc/docker/daemon.json", json);
        let done = node.runtime(words).ended_with(0);
        assert!(done.stdout().contains(said), "{json}: {}", done.stdout());
    }
}

#[test]
fn an_undo_leaves_what_k3s_made_of_the_template() {
    let node = Node::new();
    let directory = "var/lib/rancher/k3s/agent/etc/containerd";
    let generated = format!("{directory}/config.toml");
    let template = format!("{directory}/config-v3.toml.tmpl");
    let base = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n\
                [plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'runc'\n";
    node.write(&generated, base);
    node.runtime("configure").ended_with(0);
    // As k3s makes its config at the next start.
    let rendered = node
        .read(&template)
        .replace("{{ template \"base\" . }}\n", base);
    node.write(&generated, &rendered);
    assert_eq!(node.json("")["cdi"]["state"], "on");
    node.runtime("configure --undo").ended_with(0);
    assert_eq!(node.read(&generated), rendered);
    assert!(!node.path(&template).exists());
    let drop_in = format!("{directory}/config-v3.toml.d/99-mizzen-cdi.toml");
    assert!(!node.path(&drop_in).exists());
}

#[test]
fn a_setting_in_an_inline_table_is_restored() {
    let node = Node::new();
    let text = "version = 2\nplugins.\"io.containerd.grpc.v1.cri\" = {enable_cdi = false}\n";
    node.write(CONTAINERD, text);
    node.runtime("configure --runtime-version 1.7.24")
        .ended_with(0);
    assert!(node.read(CONTAINERD).contains("enable_cdi = true"));
    node.runtime("configure --undo").ended_with(0);
    assert_eq!(node.read(CONTAINERD), text);
}

#[test]
fn a_containerd_without_its_plugin_for_kubernetes_is_said_to_be_none() {
    let node = Node::new();
    node.write(CONTAINERD, "disabled_plugins = [\"cri\"]\n");
    let version = "--runtime-version 2.1.0";
    assert_eq!(node.json(version)["cdi"]["state"], "unsupported");
    let checked = node.runtime(&format!("check {version}")).ended_with(1);
    assert!(checked.stdout().contains("disabled_plugins"));
    assert!(
        !checked.stdout().contains("upgrade"),
        "{}",
        checked.stdout()
    );
}

/// A containerd that has CDI on as soon as this file is there.
struct Restartable(PathBuf);

#[tonic::async_trait]
impl RuntimeService for Restartable {
    async fn version(
        &self,
        _: Request<VersionRequest>,
    ) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            runtime_name: "containerd".to_owned(),
            runtime_version: "v1.7.24".to_owned(),
            ..VersionResponse::default()
        }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let config = format!("{{\"enableCDI\": {}}}", self.0.exists());
        let info = [("config".to_owned(), config)];
        Ok(Response::new(StatusResponse { info: info.into() }))
    }
}

/// Serves a runtime at this socket for as long as what is returned lives.
fn answering(socket: &Path, runtime: impl RuntimeService) -> JoinSet<()> {
    let bound = Socket::bind(socket).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let service = RuntimeServiceServer::new(runtime);
        let _ = serve(bound, service, std::future::pending()).await;
    });
    tasks
}

impl Node {
    /// Runs the command on this machine's root, with a `systemctl` that restarts nothing but
    /// leaves the file `restarted`.
    fn restart(&self, words: &str) -> Ran {
        let restarted = self.path("restarted");
        self.write(
            "bin/systemctl",
            &format!(
                "#!/bin/sh\n[ \"$1\" = is-active ] || : >'{}'\n",
                restarted.display()
            ),
        );
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path("bin/systemctl"), executable).unwrap();
        let mut command = mizzen();
        command.env("PATH", self.path("bin"));
        command.args(["runtime", "configure", "--restart"]);
        command.args(words.split_whitespace());
        Ran(command.output().unwrap())
    }
}

#[tokio::test]
async fn a_process_that_lags_behind_its_files_is_restarted() {
    let node = Node::new();
    let on = V2.replace("sandbox_image", "enable_cdi = true\n    sandbox_image");
    node.write("config.toml", &on);
    let socket = node.path("containerd.sock");
    let mut tasks = answering(&socket, Restartable(node.path("restarted")));
    let words = format!(
        "--runtime containerd --config {} --socket {}",
        node.path("config.toml").display(),
        socket.display()
    );
    let (node, done, again) = tokio::task::spawn_blocking(move || {
        let done = node.restart(&words);
        let again = node.restart(&words);
        (node, done, again)
    })
    .await
    .unwrap();
    let done = done.ended_with(0);
    assert!(done.stdout().contains("CDI is on: "), "{}", done.stdout());
    assert_eq!(node.read("config.toml"), on);
    let again = again.ended_with(0);
    assert!(!again.stdout().contains("restart"), "{}", again.stdout());
    tasks.shutdown().await;
}

#[test]
fn what_becomes_of_containers_is_said_before_docker_is_restarted() {
    let node = Node::new();
    node.write("daemon.json", "{}");
    let config = node.path("daemon.json").display().to_string();
    let words = format!("--runtime docker --runtime-version 27.1.0 --config {config}");
    let said = node.restart(&words).ended_with(0).stdout();
    let stops = said.find("this stops the running containers").unwrap();
    assert!(stops < said.find("restarted docker").unwrap(), "{said}");
    assert!(node.path("restarted").exists());
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
        let printed = (ran.stdout() + &ran.stderr()).replace(&format!(" --host-root {root}"), "");
        let printed = printed.replace(&root, "");
        let printed = printed.replace(", on that machine:", ":");
        assert_eq!(printed, output, "docs/runtime.md: {command}");
        count += 1;
    }
    assert!(count >= 4, "{count} commands");
}

const OFF_V3: &str =
    "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\n  enable_cdi = false\n";

/// Every file below the root and what is in it.
fn all(node: &Node) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut directories = vec![node.path("")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_second_run_before_the_restart_changes_nothing_and_undo_restores_every_byte() {
    let microk8s = "var/snap/microk8s/current/args";
    let off = OFF_V3.replace("false\n", "false # admin\n");
    let nodes: [&[(String, &str)]; 4] = [
        &[
            (format!("{microk8s}/containerd.toml"), OFF_V3),
            (format!("{microk8s}/containerd-template.toml"), &off),
        ],
        &[(
            "var/lib/rancher/k3s/agent/etc/containerd/config.toml".to_owned(),
            OFF_V3,
        )],
        &[(
            "var/lib/rancher/rke2/agent/etc/containerd/config.toml".to_owned(),
            OFF_V3,
        )],
        &[
            ("etc/k0s/containerd.toml".to_owned(), OFF_V3),
            ("etc/k0s/containerd.d/README".to_owned(), ""),
        ],
    ];
    for files in nodes {
        let node = Node::new();
        for (name, text) in files {
            node.write(name, text);
        }
        let before = all(&node);
        let configure = "configure --runtime-version 2.1.0";
        node.runtime(configure).ended_with(0);
        let once = all(&node);
        assert_ne!(once, before);
        let again = node.runtime(configure).ended_with(0).stdout();
        assert!(again.contains("has to be restarted"), "{again}");
        assert_eq!(all(&node), once);
        node.runtime("configure --undo").ended_with(0);
        assert_eq!(all(&node), before);
    }
}

#[test]
fn a_copy_that_is_left_over_is_no_reason_to_take_somebodys_setting() {
    const DAEMON: &str = "etc/docker/daemon.json";
    let node = Node::new();
    node.write(DAEMON, "{\"a\":1}");
    node.runtime("configure --runtime-version 27.0.0")
        .ended_with(0);
    node.write(DAEMON, "{\"a\":1}");
    let told = node.runtime("configure --undo").ended_with(0).stdout();
    assert!(told.contains("removed"), "{told}");
    assert_eq!(all(&node).len(), 1);
    let own = "{\"features\":{\"cdi\":true}}";
    node.write(DAEMON, own);
    let told = node.runtime("configure --undo").ended_with(0).stdout();
    assert!(told.contains("nothing of Mizzen's"), "{told}");
    assert_eq!(node.read(DAEMON), own);
}

#[test]
fn an_empty_daemon_json_is_empty_again_and_one_that_was_not_there_is_gone() {
    const DAEMON: &str = "etc/docker/daemon.json";
    let node = Node::new();
    node.write(DAEMON, "");
    let configure = "configure --runtime docker --runtime-version 27.0.0";
    node.runtime(configure).ended_with(0);
    node.runtime("configure --undo").ended_with(0);
    assert_eq!(all(&node), [(node.path(DAEMON), String::new())]);
    fs::remove_file(node.path(DAEMON)).unwrap();
    node.runtime(configure).ended_with(0);
    node.runtime("configure --undo").ended_with(0);
    assert_eq!(all(&node), []);
}

#[test]
fn what_cannot_be_read_is_unknown_and_left_alone() {
    let wrong = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi = \"false\"\n";
    for (text, version, words) in [
        (
            "version = 2\n[plugins\n",
            "2.1.0",
            "config.toml:2: not TOML",
        ),
        (wrong, "2.1.0", "config.toml:3: enable_cdi is neither"),
        (OFF_V3, "1.7.24", "does not start with config version 3"),
        ("version = \"2\"\n", "1.7.24", "version is no number"),
    ] {
        let node = Node::new();
        node.write(CONTAINERD, text);
        let check = node.runtime(&format!("check --runtime-version {version}"));
        let told = check
            .stdout()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(told.contains("CDI unknown: "), "{told}");
        assert!(told.contains(words), "{told}");
        assert_eq!(check.code(), 3);
        let before = all(&node);
        node.runtime(&format!("configure --runtime-version {version}"))
            .ended_with(1);
        assert_eq!(all(&node), before);
    }
    let node = Node::new();
    node.write("etc/docker/daemon.json", "{\"features\":{\"cdi\":\"yes\"}}");
    assert_eq!(node.runtime("check --runtime-version 27.0.0").code(), 3);
}

#[test]
fn a_config_that_is_not_there_or_is_made_anew_is_not_written() {
    let node = Node::new();
    node.write(CONTAINERD, V2);
    for (config, words) in [
        ("/etc/containerd/nope.toml", "there is no such file"),
        ("etc/containerd/config.toml", "by its path on the host"),
    ] {
        for command in ["check", "configure"] {
            let ran = node.runtime(&format!("{command} --config {config}"));
            assert!(ran.stderr().contains(words), "{}", ran.stderr());
            assert_eq!(ran.code(), 2);
        }
    }
    node.write(
        "data/k3s/config.toml",
        &format!("# File generated by k3s. DO NOT EDIT.\n{OFF_V3}"),
    );
    let config = "configure --runtime-version 2.1.0 --config /data/k3s/config.toml";
    assert!(
        node.runtime(config)
            .ended_with(2)
            .stderr()
            .contains("--runtime")
    );
    let ran = node.runtime(&format!("{config} --runtime containerd"));
    assert!(
        ran.ended_with(1)
            .stderr()
            .contains("made anew at every start")
    );
}
