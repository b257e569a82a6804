//! GPUs that reach containers through CDI alone: containerd and runc as they come, images without
//! anything of NVIDIA's, and a simulated driver below a root of its own. Which nodes a container
//! can open is the device cgroup's word, and what NVML shows follows it.

pub(super) mod auto;
pub(super) mod doctor;
pub(super) mod files;
pub(super) mod hooks;
pub(super) mod legacy;
pub(super) mod names;
pub(super) mod oracle;
pub(super) mod podman;
pub(super) mod pods;
pub(super) mod policy;
pub(super) mod privacy;
pub(super) mod upgrade;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Context, Standing};
use crate::agent::{Manifest, list};
use crate::devices;
use crate::hardware::Hardware;
use crate::images::users::{self, LINKED};
use crate::pods::GPU;

/// The parts of the partitioned GPU, as resources.
const LARGE: &str = "nvidia.com/mig-3g.40gb";
const SMALL: &str = "nvidia.com/mig-1g.10gb";
/// What the scenario says of the driver.
const VERSION: &str = "580.95.05";
/// Where the driver's libraries are, on the host below its root and in containers.
const LIBRARIES: &str = "/usr/lib64";

/// The machine whose GPUs are named by CDI, with its agent.
struct Bench<'a> {
    context: &'a Context<'a>,
    hardware: Hardware,
}

/// The machine with an agent that answers by CDI, installed by whichever test asks first.
async fn bench<'a>(context: &'a Context<'a>) -> Result<Bench<'a>> {
    let bench = bare(context).await?;
    if context.installed.get() != Standing::Cdi {
        bench.install(&["cdi-cri"], false).await?;
        context.installed.set(Standing::Cdi);
    }
    Ok(bench)
}

/// The machine with whatever agent there is.
async fn bare<'a>(context: &'a Context<'a>) -> Result<Bench<'a>> {
    let layout = context.cluster.layout();
    let hardware = Hardware::install_for_cdi(layout, context.binaries).await?;
    users::import(context.cluster, context.binaries).await?;
    Ok(Bench { context, hardware })
}

impl Bench<'_> {
    /// Applies the manifest for nodes with a driver, and waits until all GPUs are offered. Without
    /// a strategy the agent chooses one, as it does for users.
    async fn install(&self, strategies: &[&str], device_specs: bool) -> Result<()> {
        if self.context.installed.get() != Standing::Cdi {
            self.context.without_agent().await?;
        }
        let mut documents = Manifest::Driver.documents()?;
        for document in &mut documents {
            if document["kind"] == "DaemonSet" {
                self.name_by_cdi(document, strategies, device_specs)?;
            }
        }
        let agent = self.context.any_agent();
        agent.install_with(documents, &self.hardware).await?;
        devices::offers(&[(GPU, 3), (LARGE, 1), (SMALL, 1)]).await
    }

    /// What tells an agent to name devices by CDI.
    fn name_by_cdi(&self, set: &mut Value, strategies: &[&str], device_specs: bool) -> Result<()> {
        let pod = &mut set["spec"]["template"]["spec"];
        for volume in list(&mut pod["volumes"])? {
            if volume["name"] == "cdi" {
                // The machine's own directory is none of this cluster's: where the simulated
                // machine has its root, containerd reads specs, too.
                volume["hostPath"]["path"] = json!(self.specs());
            }
        }
        let container = &mut pod["containers"][0];
        let mounts = list(&mut container["volumeMounts"])?;
        for mount in mounts.iter_mut() {
            if mount["name"] == "cdi" {
                mount["mountPath"] = json!("/driver-root/run/cdi");
            }
        }
        // The program of the hooks is the machine's: the runtime starts it by its path there.
        mounts.push(json!({ "name": "state", "mountPath": "/driver-root/var/lib/mizzen" }));
        // And so are the driver's files, which specs name by their paths on the machine.
        let path = format!("/driver-root{}", self.hardware.host().display());
        mounts.push(json!({ "name": "driver-root", "mountPath": path, "readOnly": true }));
        let environment = list(&mut container["env"])?;
        for variable in environment.iter_mut() {
            if variable["name"] == "PASS_DEVICE_SPECS" {
                variable["value"] = json!(device_specs.to_string());
            }
        }
        environment.push(json!({ "name": "MIG_STRATEGY", "value": "mixed" }));
        if !strategies.is_empty() {
            let strategies = strategies.join(",");
            environment.push(json!({ "name": "DEVICE_LIST_STRATEGY", "value": strategies }));
        }
        Ok(())
    }

    /// Where the agent keeps specs.
    fn specs(&self) -> PathBuf {
        let [_, of_programs] = self.context.cluster.layout().cdi_spec_directories();
        of_programs
    }

    /// A pod of an image, with one device of a resource. All that it is told is which simulated
    /// machine the driver's library shows, where a real one asks the kernel.
    fn pod(&self, name: &str, image: &str, resource: Option<&str>) -> Value {
        let resources = match resource {
            Some(resource) => json!({ "limits": { resource: "1" } }),
            None => json!({}),
        };
        let mut pod = crate::pods::pod(name, image, &resources);
        let container = &mut pod["spec"]["containers"][0];
        container["env"] = json!([
            { "name": "MIZZEN_SIM", "value": self.hardware.scenario() },
            { "name": "MIZZEN_SIM_STATE", "value": self.hardware.state() },
        ]);
        container["volumeMounts"] = json!([
            { "name": "scenario", "mountPath": self.hardware.scenario() },
            { "name": "state", "mountPath": self.hardware.state() },
        ]);
        pod["spec"]["volumes"] = json!([
            { "name": "scenario", "hostPath": { "path": self.hardware.scenario() } },
            { "name": "state", "hostPath": { "path": self.hardware.state() } },
        ]);
        pod
    }

    /// Runs a pod with one device, and says which the kubelet gave it.
    async fn run(&self, pod: &Value) -> Result<String> {
        self.context.pods.run(pod).await?;
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let held = devices::holders().await?.remove(&format!("{name}/main"));
        let held: Vec<String> = held.unwrap_or_default().into_iter().collect();
        match <[String; 1]>::try_from(held) {
            Ok([device]) => Ok(device),
            Err(held) => bail!("the kubelet gave {name} {held:?}"),
        }
    }

    async fn exec(&self, pod: &str, command: &[&str]) -> Result<String> {
        self.context.pods.exec(pod, command).await
    }

    /// The UUIDs that `nvidia-smi -L` prints in a pod, in order.
    async fn listed(&self, pod: &str) -> Result<Vec<String>> {
        let listed = self.exec(pod, &["nvidia-smi", "-L"]).await?;
        let uuid = |line: &str| {
            let (_, rest) = line.split_once("(UUID: ")?;
            Some(rest.trim_end_matches(')').to_owned())
        };
        let uuids: Option<Vec<String>> = listed.lines().map(uuid).collect();
        uuids.with_context(|| format!("nvidia-smi -L prints {listed}"))
    }

    /// The UUIDs that the linked program sees in a pod.
    async fn linked(&self, pod: &str) -> Result<Vec<String>> {
        let seen = self.exec(pod, &[LINKED]).await?;
        Ok(seen.lines().map(String::from).collect())
    }

    /// That both programs see these devices in a pod, and nothing else.
    async fn sees(&self, pod: &str, wanted: &[&str]) -> Result<()> {
        let listed = self.listed(pod).await?;
        ensure!(
            listed == wanted,
            "nvidia-smi lists {listed:?}, not {wanted:?}"
        );
        let linked = self.linked(pod).await?;
        ensure!(
            linked == wanted,
            "a linked program sees {linked:?}, not {wanted:?}"
        );
        Ok(())
    }
}
