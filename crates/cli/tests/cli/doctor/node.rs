//! A node to be looked at: a host with a driver, a kubelet, an agent.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mizzen_kubelet_sim::{Config, Kubelet};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::support::{Ran, mizzen};

/// Two GPUs that can be partitioned at once.
pub(crate) const SCENARIO: &str = "gpus:\n- {model: h100-80gb, count: 2}\n";
/// A runtime of NVIDIA's beside the ordinary one, for pods that ask for it.
const CONTAINERD: &str = "version = 3
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia.options]
BinaryName = '/usr/bin/nvidia-container-runtime'
";
/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A simulated node.
pub(crate) struct Node {
    dir: TempDir,
    kubelet: Option<(Runtime, Kubelet)>,
    agent: Option<Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _gone_already = agent.kill();
            let _ = agent.wait();
        }
    }
}

impl Node {
    /// An empty directory.
    pub(crate) fn bare() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            kubelet: None,
            agent: None,
        }
    }

    /// A host with a driver, without a kubelet.
    pub(crate) fn new() -> Self {
        let node = Self::bare();
        node.write("node.yaml", SCENARIO);
        let host = node.path("host").display().to_string();
        node.sim(&["host", &host, "--driver-layout", "debian"]);
        node.write("host/etc/containerd/config.toml", CONTAINERD);
        node
    }

    /// The same with a kubelet.
    pub(crate) fn with_kubelet() -> Self {
        let mut node = Self::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let config = Config::new(node.path("kubelet"));
        let kubelet = runtime.block_on(Kubelet::start(config)).unwrap();
        node.kubelet = Some((runtime, kubelet));
        node
    }

    /// The same with an agent that has registered, with these settings.
    pub(crate) fn with_agent(settings: &[&str]) -> Self {
        let mut node = Self::with_kubelet();
        node.start_agent(settings);
        node
    }

    pub(crate) fn start_agent(&mut self, settings: &[&str]) {
        let mut command = self.command();
        command
            .arg("agent")
            .args(self.places())
            .args(settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.agent = Some(command.spawn().unwrap());
        let (runtime, kubelet) = self.kubelet.as_ref().unwrap();
        let registered = kubelet.wait_for(|node| {
            let mut resources = node.resources.iter();
            resources.any(|(_, resource)| resource.allocatable > 0)
        });
        runtime
            .block_on(async { tokio::time::timeout(PATIENCE, registered).await })
            .unwrap();
    }

    /// A file or directory of the node's.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file of its host.
    pub(crate) fn host(&self, name: &str) -> PathBuf {
        self.path("host").join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// Takes the driver's libraries away whose names begin so.
    pub(crate) fn remove_libraries(&self, beginning: &str) {
        let directories = fs::read_dir(self.host("usr/lib")).unwrap().flatten();
        let files = directories.flat_map(|directory| fs::read_dir(directory.path()));
        for file in files.flatten().flatten() {
            let name = file.file_name().into_string().unwrap();
            if name.starts_with(beginning) {
                fs::remove_file(file.path()).unwrap();
            }
        }
    }

    /// The driver is not loaded.
    pub(crate) fn unload(&self) {
        fs::remove_dir_all(self.host("proc/driver")).unwrap();
        fs::remove_dir_all(self.host("sys/module/nvidia")).unwrap();
        self.bind_gpus(None);
    }

    /// The GPUs are in the hands of this kernel driver.
    pub(crate) fn bind_gpus(&self, driver: Option<&str>) {
        let devices = self.host("sys/bus/pci/devices");
        for device in fs::read_dir(devices).unwrap().flatten() {
            let class = fs::read_to_string(device.path().join("class")).unwrap();
            if !class.starts_with("0x03") {
                continue;
            }
            let link = device.path().join("driver");
            let _not_there = fs::remove_file(&link);
            if let Some(driver) = driver {
                symlink(Path::new("/sys/bus/pci/drivers").join(driver), link).unwrap();
            }
        }
    }

    /// A command on this node.
    pub(crate) fn command(&self) -> Command {
        let mut command = mizzen();
        command
            .env("MIZZEN_SIM", self.path("node.yaml"))
            .env("MIZZEN_SIM_STATE", self.path("sim"))
            .current_dir(self.dir.path());
        command
    }

    pub(crate) fn sim(&self, arguments: &[&str]) {
        let ran = Ran(self.command().arg("sim").args(arguments).output().unwrap());
        ran.ended_with(0);
    }

    /// `mizzen cdi generate` into the host's directory of specs.
    pub(crate) fn specs(&self, arguments: &[&str]) {
        let mut command = self.command();
        command
            .args(["cdi", "generate", "--host-root", "host"])
            .args(["--output-dir", "host/var/run/cdi"])
            .args(arguments);
        Ran(command.output().unwrap()).ended_with(0);
    }

    /// The flags that say where everything is.
    fn places(&self) -> Vec<String> {
        let text = |name: &str| self.path(name).display().to_string();
        [
            ("--host-root", text("host")),
            ("--driver-root-ctr-path", text("no-driver-root")),
            ("--state-dir", text("state")),
            (
                "--kubelet-socket",
                text("kubelet/device-plugins/kubelet.sock"),
            ),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
    }

    /// `mizzen doctor` on this node; later settings outrank where everything is.
    pub(crate) fn doctor(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command();
        let given = |flag: &str| arguments.contains(&flag);
        let places = self.places();
        let places = places.chunks(2).filter(|place| !given(&place[0])).flatten();
        command.arg("doctor").args(places).args(arguments);
        let mut run = move || Ran(command.output().unwrap());
        match &self.kubelet {
            // Off the thread that serves the kubelet.
            Some((runtime, _)) => runtime
                .block_on(async { tokio::task::spawn_blocking(run).await })
                .unwrap(),
            None => run(),
        }
    }

    /// The report for programs.
    pub(crate) fn report(&self, arguments: &[&str]) -> Value {
        let ran = self.doctor(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&ran.stdout()).unwrap_or_else(|error| {
            panic!("{error} in {}{}", ran.stdout(), ran.stderr());
        })
    }
}

/// The findings of a report that are no good news, as `severity id`.
pub(crate) fn bad(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .filter(|finding| !["ok", "skipped"].contains(&finding["severity"].as_str().unwrap()))
        .map(|finding| {
            let word = |key: &str| finding[key].as_str().unwrap();
            format!("{} {}", word("severity"), word("id"))
        })
        .collect()
}
