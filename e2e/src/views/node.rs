//! A node: simulated GPUs, an embedded kubelet, and the real agent with its metrics.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, bail, ensure};
use mizzen_kubelet_api::deviceplugin::{
    AllocateRequest, ContainerAllocateRequest, DevicePluginClient,
};
use mizzen_kubelet_sim::pod::parse_manifest;
use mizzen_kubelet_sim::{Config, Kubelet};
use tokio::process::{Child, Command};

use crate::layout;

/// A kubelet that may not have started yet.
pub(super) type LateKubelet = Arc<OnceLock<Kubelet>>;

/// A node, with or without its parts.
pub(super) struct Node {
    directory: PathBuf,
    name: String,
    mizzen: PathBuf,
    address: SocketAddr,
    kubelet: LateKubelet,
    agent: Option<Child>,
}

impl Node {
    /// A node with GPUs and nothing that uses them: no driver, no kubelet, no agent.
    pub(super) async fn new(
        directory: &Path,
        mizzen: &Path,
        scenario: &str,
        config: &str,
    ) -> Result<Self> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("scenario.yaml"), scenario)?;
        fs::write(directory.join("config.yaml"), config)?;
        let name = scenario
            .lines()
            .find_map(|line| line.strip_prefix("hostname: "));
        let node = Self {
            directory: directory.to_owned(),
            name: name.context("the scenario names the node")?.to_owned(),
            mizzen: mizzen.to_owned(),
            // Free now; nobody else on this machine is likely to take it before the agent does.
            address: TcpListener::bind("127.0.0.1:0")?.local_addr()?,
            kubelet: LateKubelet::default(),
            agent: None,
        };
        node.mizzen(&["sim", "host", &node.path("host")]).await?;
        Ok(node)
    }

    /// Where its agent serves metrics, and its name.
    pub(super) fn address(&self) -> (SocketAddr, &str) {
        (self.address, &self.name)
    }

    fn path(&self, part: &str) -> String {
        self.directory.join(part).display().to_string()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.mizzen);
        command
            .env("MIZZEN_SIM", self.path("scenario.yaml"))
            .env("MIZZEN_SIM_STATE", self.path("sim"))
            .env("MIZZEN_SIM_DEV_ROOT", self.path("host"))
            // So that a test of recovery does not wait for half a minute.
            .env("MIZZEN_HEALTH_HOLD_DOWN", "1s")
            .env("MIZZEN_HEALTH_CHECK_INTERVAL", "500ms")
            .env("MIZZEN_NVML_CALL_TIMEOUT", "1s")
            .kill_on_drop(true);
        command
    }

    async fn mizzen(&self, arguments: &[&str]) -> Result<()> {
        let output = self.command().args(arguments).output().await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "mizzen {arguments:?}: {errors}");
        Ok(())
    }

    /// Changes the simulated GPUs: `mizzen sim WORDS --gpu GPU`.
    pub(super) async fn simulate(&self, words: &[&str], gpu: &str) -> Result<()> {
        let arguments = [&["sim"], words, &["--gpu", gpu]].concat();
        self.mizzen(&arguments).await
    }

    /// Installs the driver's library.
    pub(super) async fn place_driver(&self) -> Result<()> {
        self.mizzen(&["sim", "library", &self.path("driver")]).await
    }

    /// Its kubelet, as soon as there is one.
    pub(super) fn kubelet(&self) -> LateKubelet {
        Arc::clone(&self.kubelet)
    }

    /// Starts its kubelet.
    pub(super) async fn start_kubelet(&self) -> Result<LateKubelet> {
        let mut config = Config::new(self.directory.join("kubelet"));
        config.node_name.clone_from(&self.name);
        let kubelet = Kubelet::start(config).await?;
        let is_first = self.kubelet.set(kubelet).is_ok();
        ensure!(is_first, "{} has a kubelet already", self.name);
        Ok(self.kubelet())
    }

    fn running_kubelet(&self) -> Result<&Kubelet> {
        self.kubelet.get().context("the node's kubelet runs")
    }

    /// Starts the agent, with the counters that the dashboards read.
    pub(super) fn start_agent(&mut self) -> Result<()> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("agent.log"))?;
        let counters = layout::repository()?.join("deploy/counters.csv");
        let mut command = self.command();
        command
            .args(["--end-with-parent", "agent"])
            .args(["--host-root", &self.path("host")])
            .args(["--nvml-library", &self.path("driver/libnvidia-ml.so.1")])
            .args([
                "--kubelet-socket",
                &self.path("kubelet/device-plugins/kubelet.sock"),
            ])
            .args([
                "--pod-resources-socket",
                &self.path("kubelet/pod-resources/kubelet.sock"),
            ])
            .args(["--state-dir", &self.path("state")])
            .args(["--config-file", &self.path("config.yaml")])
            .args(["--node-name", &self.name])
            .args(["--metrics-address", &self.address.to_string()])
            .arg("--metrics-counters")
            .arg(counters)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        fs::create_dir_all(self.directory.join("kubelet/device-plugins"))?;
        self.agent = Some(command.spawn()?);
        Ok(())
    }

    /// Ends the agent as a crash would.
    pub(super) async fn kill_agent(&mut self) -> Result<()> {
        let mut agent = self.agent.take().context("the agent runs")?;
        Ok(agent.kill().await?)
    }

    /// Creates a pod that takes one device of a resource.
    pub(super) fn create_pod(&self, namespace: &str, name: &str, resource: &str) -> Result<()> {
        let manifest = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec:\n  containers:\n  - {{name: main, image: none, \
             resources: {{limits: {{{resource}: 1}}}}}}\n"
        );
        let kubelet = self.running_kubelet()?;
        for pod in parse_manifest(&manifest)? {
            kubelet.create(pod)?;
        }
        Ok(())
    }

    /// Whether a pod has its device.
    pub(super) fn runs(&self, name: &str) -> bool {
        self.gpu_of(name).is_ok()
    }

    /// The GPU, or the device, that a pod holds.
    pub(super) fn gpu_of(&self, name: &str) -> Result<String> {
        self.device(|holder| holder.is_some_and(|holder| holder.ends_with(&format!("/{name}"))))
            .with_context(|| format!("{name} holds no GPU"))
    }

    /// A whole GPU that nobody holds.
    pub(super) fn free_gpu(&self) -> Result<String> {
        self.device(|holder| holder.is_none())
            .context("no GPU is free")
    }

    /// The first device whose holder is as wanted, whole GPUs first.
    fn device(&self, is_wanted: impl Fn(Option<&str>) -> bool) -> Option<String> {
        let node = self.kubelet.get()?.snapshot();
        let devices = node
            .resources
            .values()
            .flat_map(|resource| &resource.devices);
        let mut wanted = devices.filter(|(_, device)| {
            let holder = device.holder.as_ref().map(|holder| holder.pod.as_str());
            is_wanted(holder)
        });
        let (id, _) = wanted.next()?;
        // A replica's id is its GPU's with a number.
        let gpu = id.split_once("::").map_or(id.as_str(), |(gpu, _)| gpu);
        Some(gpu.to_owned())
    }

    /// Asks the agent for a device that it does not have, which it must refuse.
    pub(super) async fn ask_for_nonsense(&self) -> Result<()> {
        let plugins = self.directory.join("kubelet/device-plugins");
        let mut sockets = fs::read_dir(&plugins)?.filter_map(|entry| {
            let path = entry.ok()?.path();
            let is_socket = path
                .extension()
                .is_some_and(|extension| extension == "sock");
            (is_socket && !path.ends_with("kubelet.sock")).then_some(path)
        });
        let socket = sockets.next().context("the agent has a socket")?;
        let mut client = DevicePluginClient::new(mizzen_kubelet_api::connect(socket).await?);
        let request = AllocateRequest {
            container_requests: vec![ContainerAllocateRequest {
                devices_ids: vec!["GPU-of-nobody".to_owned()],
            }],
        };
        match client.allocate(request).await {
            Ok(_) => bail!("a device that does not exist was given out"),
            Err(_) => Ok(()),
        }
    }

    /// The kubelet starts anew and takes no registration.
    pub(super) async fn forget_registrations(&self) -> Result<()> {
        let kubelet = self.running_kubelet()?;
        kubelet.disturbances().refuse_registrations(u32::MAX);
        kubelet.stop().await;
        Ok(kubelet.start_again().await?)
    }

    /// The kubelet takes registrations again.
    pub(super) fn take_registrations(&self) -> Result<()> {
        self.running_kubelet()?
            .disturbances()
            .refuse_registrations(0);
        Ok(())
    }
}

/// What kube-state-metrics says of Nodes with these kubelets.
pub(super) fn capacities(kubelets: Vec<LateKubelet>) -> impl Fn() -> String + Send + 'static {
    move || {
        let mut page = "# TYPE kube_node_status_capacity gauge\n".to_owned();
        for kubelet in kubelets.iter().filter_map(|kubelet| kubelet.get()) {
            let node = kubelet.snapshot();
            for (resource, view) in &node.resources {
                let resource =
                    resource.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
                let (name, capacity) = (&node.node, view.capacity);
                // Writing to a String cannot fail.
                let _ = writeln!(
                    page,
                    "kube_node_status_capacity{{node=\"{name}\",resource=\"{resource}\",unit=\"integer\"}} {capacity}"
                );
            }
        }
        page
    }
}
