//! The agent on the cluster: the manifests of `deploy/`, changed only where the hardware is
//! simulated, and the state of their DaemonSet.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, LogParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use xtask::image::BINARY;

use crate::cluster::Process;
use crate::hardware::Hardware;
use crate::pods::{Pods, Ran};
use crate::{client, layout};

/// The namespace of the manifests.
pub(crate) const NAMESPACE: &str = "mizzen-system";
const DAEMON_SET: &str = "mizzen-agent";
const LABELS: &str = "app.kubernetes.io/name=mizzen,app.kubernetes.io/component=agent";
/// How long a rollout may take.
const LIMIT: Duration = Duration::from_mins(1);
/// How often its state is looked at.
const POLL: Duration = Duration::from_millis(100);

/// The manifests in `deploy/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manifest {
    /// Nodes with the driver: privileged.
    Driver,
    /// Nodes with NVIDIA's runtime class.
    RuntimeClass,
    /// Nodes without GPUs.
    Simulated,
    /// Nodes with the driver, each with the config that its label names.
    Config,
    /// Nodes with the driver, whose GPUs are partitioned as the node's label says.
    Mig,
    /// Nodes with the driver, which get labels.
    Labels,
    /// No agent: what pods may not write.
    Privacy,
    /// No agent: what Grafana shows.
    Dashboards,
}

impl Manifest {
    /// Its documents, as users apply them.
    pub(crate) fn documents(self) -> Result<Vec<Value>> {
        client::documents(&self.text()?)
    }

    /// The file, as users read it.
    pub(crate) fn text(self) -> Result<String> {
        let file = match self {
            Self::Driver => "mizzen.yaml",
            Self::RuntimeClass => "mizzen-runtimeclass.yaml",
            Self::Simulated => "mizzen-simulated.yaml",
            Self::Config => "mizzen-config.yaml",
            Self::Mig => "mizzen-mig.yaml",
            Self::Labels => "mizzen-labels.yaml",
            Self::Privacy => "mizzen-privacy.yaml",
            Self::Dashboards => "mizzen-dashboards.yaml",
        };
        let path = layout::repository()?.join("deploy").join(file);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }
}

/// The agent's DaemonSet.
#[derive(Clone)]
pub(crate) struct Agent {
    client: Client,
    daemon_sets: Api<DaemonSet>,
    pods: Api<Pod>,
}

impl Agent {
    /// The agent of this cluster, installed or not.
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            daemon_sets: Api::namespaced(client.clone(), NAMESPACE),
            pods: Api::namespaced(client.clone(), NAMESPACE),
        }
    }

    /// Applies a manifest as it is, and waits until its pod runs.
    pub(crate) async fn apply(&self, documents: &[Value]) -> Result<()> {
        for document in documents {
            client::apply(&self.client, document).await?;
        }
        self.wait_for_rollout().await
    }

    /// Applies the manifest for nodes with a driver, on the simulated hardware.
    pub(crate) async fn install_on(&self, hardware: &Hardware) -> Result<()> {
        self.install_with(Manifest::Driver.documents()?, hardware)
            .await
    }

    /// Applies the documents of a manifest for nodes with a driver, on the simulated hardware.
    pub(crate) async fn install_with(
        &self,
        mut documents: Vec<Value>,
        hardware: &Hardware,
    ) -> Result<()> {
        for document in &mut documents {
            if document["kind"] == "DaemonSet" {
                simulate_hardware(document, hardware)?;
            }
        }
        self.apply(&documents).await
    }

    /// Rolls out another image, and returns once its pod is ready.
    pub(crate) async fn upgrade_to(&self, image: &str) -> Result<()> {
        let containers = json!([{ "name": "agent", "image": image }]);
        let patch = json!({ "spec": { "template": { "spec": { "containers": containers }}}});
        self.daemon_sets
            .patch(
                DAEMON_SET,
                &PatchParams::default(),
                &Patch::Strategic(patch),
            )
            .await?;
        self.wait_for_rollout().await
    }

    /// Removes the DaemonSet and waits until it and its pod are gone.
    pub(crate) async fn remove(&self) -> Result<()> {
        if self.daemon_sets.get_opt(DAEMON_SET).await?.is_none() {
            return Ok(());
        }
        self.daemon_sets
            .delete(DAEMON_SET, &DeleteParams::foreground())
            .await?;
        let deadline = Instant::now() + LIMIT;
        while self.daemon_sets.get_opt(DAEMON_SET).await?.is_some()
            || !self.list().await?.is_empty()
        {
            if Instant::now() > deadline {
                bail!("the agent does not go away");
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// The agent's pod on the node.
    pub(crate) async fn pod(&self) -> Result<Pod> {
        let mut pods = self.list().await?;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        match pods.len() {
            1 => Ok(pods.remove(0)),
            count => bail!("{count} agent pods on one node"),
        }
    }

    /// What the agent has logged.
    pub(crate) async fn log(&self) -> Result<String> {
        let pod = self.pod().await?;
        let name = pod.metadata.name.context("pods have names")?;
        Ok(self.pods.logs(&name, &LogParams::default()).await?)
    }

    /// Runs a command in the agent's container.
    pub(crate) async fn exec(&self, command: &[&str]) -> Result<String> {
        let pod = self.pod().await?;
        let name = pod.metadata.name.context("pods have names")?;
        let pods = Pods::new(&self.client, NAMESPACE);
        pods.exec_in(&name, "agent", command).await
    }

    /// Runs a command in the agent's container, whether it succeeds or not.
    pub(crate) async fn try_command(&self, command: &[&str]) -> Result<Ran> {
        let pod = self.pod().await?;
        let name = pod.metadata.name.context("pods have names")?;
        let pods = Pods::new(&self.client, NAMESPACE);
        pods.try_in(&name, "agent", command).await
    }

    async fn list(&self) -> Result<Vec<Pod>> {
        Ok(self
            .pods
            .list(&ListParams::default().labels(LABELS))
            .await?
            .items)
    }

    /// Waits until the newest version of the DaemonSet is ready on the node.
    async fn wait_for_rollout(&self) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let set = self.daemon_sets.get(DAEMON_SET).await?;
            if is_rolled_out(&set) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let pods = self.list().await?;
                let pods: Vec<_> = pods.iter().map(|pod| &pod.status).collect();
                let log = self.log().await.unwrap_or_default();
                bail!(
                    "the agent is not ready after {LIMIT:?}: {}\nits log:\n{log}",
                    serde_json::to_string(&pods)?
                );
            }
            sleep(POLL).await;
        }
    }
}

/// The agent's process on this machine: the node sees the processes of its containers.
pub(crate) fn process() -> Result<Option<Process>> {
    let mut all = Process::all()?.into_iter();
    Ok(all.find(|process| {
        process
            .command_line()
            .starts_with(&format!("{BINARY} agent"))
            && process.is_in_a_pod()
    }))
}

/// One node, one pod, of the newest version, ready.
fn is_rolled_out(set: &DaemonSet) -> bool {
    let Some(status) = &set.status else {
        return false;
    };
    status.observed_generation == set.metadata.generation
        && status.desired_number_scheduled == 1
        && status.updated_number_scheduled == Some(1)
        && status.number_ready == 1
        && status.current_number_scheduled == 1
}

/// The changes that simulated hardware needs. Everything else stays what users apply.
fn simulate_hardware(daemon_set: &mut Value, hardware: &Hardware) -> Result<()> {
    let pod = &mut daemon_set["spec"]["template"]["spec"];
    let host = hardware.host();
    // The machine's root, with the driver's library and device nodes below it, is a directory:
    // the manifest mounts it, and the names that pods are given start with it.
    for volume in list(&mut pod["volumes"])? {
        if volume["name"] == "driver-root" {
            volume["hostPath"]["path"] = json!(host);
        }
    }
    // The library is told which GPUs to simulate, and where their live state is.
    list(&mut pod["volumes"])?.push(json!({
        "name": "simulation",
        "hostPath": { "path": hardware.directory(), "type": "Directory" },
    }));
    let container = &mut pod["containers"][0];
    list(&mut container["volumeMounts"])?.push(json!({
        "name": "simulation",
        "mountPath": hardware.directory(),
    }));
    let environment = list(&mut container["env"])?;
    for (name, value) in [
        ("MIZZEN_SIM", json!(hardware.scenario())),
        ("MIZZEN_SIM_STATE", json!(hardware.state())),
        // A real library opens /dev/nvidia*; the machine's /dev is not the simulated one's.
        ("MIZZEN_SIM_DEV_ROOT", json!("/driver-root")),
        ("NVIDIA_DRIVER_ROOT", json!(host)),
        // /sys and /proc/driver/nvidia of the simulated machine.
        ("MIZZEN_HOST_ROOT", json!("/driver-root")),
        // So that a test of recovery does not wait for half a minute.
        ("MIZZEN_HEALTH_HOLD_DOWN", json!("1s")),
        ("MIZZEN_HEALTH_CHECK_INTERVAL", json!("1s")),
    ] {
        environment.push(json!({ "name": name, "value": value }));
    }
    Ok(())
}

/// A list of a manifest.
pub(crate) fn list(value: &mut Value) -> Result<&mut Vec<Value>> {
    value.as_array_mut().context("the manifest has this list")
}
