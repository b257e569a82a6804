//! GPUs that the MIG manager partitions as the Node's label says, on a machine of eight.

pub(super) mod evict;
pub(super) mod kills;
pub(super) mod many;
pub(super) mod policy;
pub(super) mod relabel;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Context;
use super::config_by_node::{patch, reach_the_api};
use super::gpu_pods::{environment, nodes, seen_through_nvml, with_simulation};
use crate::agent::Manifest;
use crate::cluster::NODE;
use crate::hardware::{Hardware, PartitionedGpu};
use crate::images::WORKLOAD_IMAGE;
use crate::pods::{self, GPU};
use crate::{client, devices, layout};

const LABEL: &str = "nvidia.com/mig.config";
const STATE: &str = "nvidia.com/mig.config.state";
/// How long a node may take to be partitioned, the agent's start included.
const LIMIT: Duration = Duration::from_secs(30);
/// How often something is looked at while it changes: the kubelet answers at most a hundred times
/// a second, and the agent asks it, too.
const POLL: Duration = Duration::from_millis(20);

const SMALL: &str = "nvidia.com/mig-1g.10gb";
const PAIR: &str = "nvidia.com/mig-2g.20gb";
const LARGE: &str = "nvidia.com/mig-3g.40gb";
const WHOLE_PART: &str = "nvidia.com/mig-7g.80gb";

/// What the tests ask for besides the layouts of the manifest, in its ConfigMap. A 3g.40gb stays
/// on GPU 0 from `mixture` to `other-mixture` and from `quarters` to `pairs`, and GPU 7 whole.
const LAYOUTS: &str = "
  mixture:
    - {devices: [0], mig-enabled: true, mig-devices: {3g.40gb: 1, 1g.10gb: 4}}
    - {devices: [1, 2, 3, 4, 5, 6], mig-enabled: true, mig-devices: {7g.80gb: 1}}
    - {devices: [7], mig-enabled: false}
  other-mixture:
    - {devices: [0], mig-enabled: true, mig-devices: {3g.40gb: 1, 2g.20gb: 2}}
    - {devices: [1, 2, 3, 4, 5, 6], mig-enabled: true, mig-devices: {1g.10gb: 7}}
    - {devices: [7], mig-enabled: false}
  quarters:
    - {devices: [0], mig-enabled: true, mig-devices: {3g.40gb: 1, 1g.10gb: 4}}
    - {devices: [1, 2, 3, 4, 5, 6, 7], mig-enabled: false}
  pairs:
    - {devices: [0], mig-enabled: true, mig-devices: {3g.40gb: 1, 2g.20gb: 2}}
    - {devices: [1], mig-enabled: true, mig-devices: {7g.80gb: 1}}
    - {devices: [2, 3, 4, 5, 6, 7], mig-enabled: false}
  too-much:
    - {devices: [0], mig-enabled: true, mig-devices: {3g.40gb: 3}}
";

/// A node of eight GPUs, none of which is partitioned at first, and an agent that partitions them.
struct Bench<'a> {
    context: &'a Context<'a>,
    hardware: Hardware,
}

/// Runs a test on such a node. `change` changes what the manifest says.
async fn on_bench(
    context: &Context<'_>,
    change: impl FnOnce(&mut [Value]) -> Result<()>,
    test: impl AsyncFnOnce(&Bench<'_>) -> Result<()>,
) -> Result<()> {
    context.without_agent().await?;
    clear()?;
    let layout = context.cluster.layout();
    let hardware = Hardware::install_for_mig(layout, context.binaries).await?;
    let bench = Bench { context, hardware };
    let tested = async {
        bench.install(Manifest::Mig.documents()?, change).await?;
        devices::offers(&[(GPU, 8)]).await?;
        test(&bench).await
    };
    let outcome = tested.await;
    let outcome = match outcome {
        Ok(()) => Ok(()),
        Err(error) => Err(error.context(bench.standing().await)),
    };
    bench.label(None).await?;
    context.pods.remove_all().await?;
    context.without_agent().await?;
    bench.hardware.reset().await?;
    clear()?;
    outcome
}

/// What a test has left undone is no business of the next one: GPUs that were being changed, and
/// sockets of an agent that was killed.
fn clear() -> Result<()> {
    let mut left: Vec<PathBuf> = sockets()?;
    left.retain(|path| path.file_name().is_some_and(|name| name != "kubelet.sock"));
    left.extend(Some(journal_path()).filter(|path| path.exists()));
    for path in left {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// The manifest as it is.
#[expect(clippy::unnecessary_wraps, reason = "others may fail")]
fn unchanged(_: &mut [Value]) -> Result<()> {
    Ok(())
}

impl Bench<'_> {
    /// Applies the manifest, with [`LAYOUTS`] among its own.
    async fn install(
        &self,
        mut documents: Vec<Value>,
        change: impl FnOnce(&mut [Value]) -> Result<()>,
    ) -> Result<()> {
        for document in &mut documents {
            reach_the_api(self.context, document)?;
            if document["kind"] == "ConfigMap" {
                let text = document["data"]["config.yaml"].as_str();
                let text = text.context("the ConfigMap has layouts")?;
                document["data"]["config.yaml"] = json!(format!("{}{LAYOUTS}", text.trim_end()));
            }
        }
        change(&mut documents)?;
        let agent = self.context.any_agent();
        agent.install_with(documents, &self.hardware).await
    }

    /// Labels the Node, and says when.
    async fn label(&self, layout: Option<&str>) -> Result<Instant> {
        self.patch_labels(&json!({ LABEL: layout })).await
    }

    /// Labels the Node with another layout. What it says of the former one is taken away in the
    /// same moment, so that it is not mistaken for the new one's.
    async fn relabel(&self, layout: &str) -> Result<Instant> {
        self.patch_labels(&json!({ LABEL: layout, STATE: null }))
            .await
    }

    async fn patch_labels(&self, labels: &Value) -> Result<Instant> {
        let change = json!({ "metadata": { "labels": labels } });
        let nodes: Api<Node> = Api::all(self.context.client.clone());
        patch(&nodes, NODE, &change)
            .await
            .context("label the Node")?;
        Ok(Instant::now())
    }

    /// Partitions the node, and waits until all is done.
    async fn partition(&self, layout: &str, offers: &[(&str, usize)]) -> Result<()> {
        self.relabel(layout).await?;
        devices::offers(offers).await?;
        self.is("success").await
    }

    /// What the Node says has become of the layout.
    async fn state(&self) -> Result<Option<String>> {
        let node = client::node(&self.context.client).await?;
        let labels = node.metadata.labels.unwrap_or_default();
        Ok(labels.get(STATE).cloned())
    }

    /// Waits until the Node says that the layout stands so.
    async fn is(&self, wanted: &str) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let state = self.state().await?;
            if state.as_deref() == Some(wanted) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{STATE} is {state:?}, not {wanted}, after {LIMIT:?}"
            );
            sleep(POLL).await;
        }
    }

    /// A pod with a user's NVML program and one device of a resource.
    fn pod(&self, name: &str, resource: &str) -> Value {
        let resources = json!({ "limits": { resource: "1" } });
        with_simulation(pods::pod(name, WORKLOAD_IMAGE, &resources), &self.hardware)
    }

    /// The GPU that has a device, which may be itself.
    async fn gpu_with(&self, uuid: &str) -> Result<PartitionedGpu> {
        let partitions = self.hardware.partitions().await?;
        let has = |gpu: &PartitionedGpu| {
            let mut devices = gpu.mig.gpu_instances.iter().flat_map(|one| &one.devices);
            gpu.uuid == uuid || devices.any(|device| device.uuid == uuid)
        };
        let gpu = partitions.gpus.into_iter().find(has);
        gpu.with_context(|| format!("{uuid} is no device of the node"))
    }

    /// A pod that was given a MIG device has its instance, by every way in which a container can
    /// tell, and nothing else.
    async fn has_its_instance(&self, pod: &str) -> Result<()> {
        let visible = environment(self.context, pod).await?;
        let visible = visible.context("NVIDIA_VISIBLE_DEVICES is not set")?;
        ensure!(visible.starts_with("MIG-"), "it was given {visible}");
        let gpu = self.gpu_with(&visible).await?;
        let seen = seen_through_nvml(self.context, pod).await?;
        ensure!(
            seen == [gpu.uuid.clone(), visible.clone()],
            "NVML shows it {seen:?}, not {} with {visible} alone",
            gpu.uuid
        );
        let mut expected: BTreeSet<String> = self.hardware.control_nodes()?.into_iter().collect();
        expected.extend([format!("nvidia{}", gpu.minor), "nvidia-caps".to_owned()]);
        let nodes = nodes(self.context, pod).await?;
        ensure!(
            nodes == expected,
            "its /dev holds {nodes:?}, not {expected:?}"
        );
        let expected = self.capabilities_of(&gpu, &visible)?;
        let listed = self
            .context
            .pods
            .exec(pod, &["ls", "/dev/nvidia-caps"])
            .await?;
        let listed: BTreeSet<String> = listed.split_whitespace().map(String::from).collect();
        ensure!(
            listed == expected,
            "its /dev/nvidia-caps holds {listed:?}, not {expected:?}"
        );
        Ok(())
    }

    /// The names of the nodes of a MIG device's two capabilities.
    fn capabilities_of(&self, gpu: &PartitionedGpu, uuid: &str) -> Result<BTreeSet<String>> {
        let mut places = gpu.mig.gpu_instances.iter().flat_map(|instance| {
            let devices = instance.devices.iter();
            devices.map(|device| (instance.id, device))
        });
        let place = places.find(|(_, device)| device.uuid == uuid);
        let (instance, device) = place.context("its GPU has it")?;
        let below = format!("gpu{}/gi{instance}", gpu.minor);
        let numbers = self.hardware.capabilities()?;
        [
            format!("{below}/access"),
            format!("{below}/ci{}/access", device.compute_instance),
        ]
        .iter()
        .map(|name| {
            let minor = numbers.get(name).with_context(|| name.clone())?;
            Ok(format!("nvidia-cap{minor}"))
        })
        .collect()
    }

    /// Where the node stands, for whoever reads of a failure.
    async fn standing(&self) -> String {
        let labels = client::node(&self.context.client).await;
        let labels = labels.map(|node| node.metadata.labels.unwrap_or_default());
        let labels = labels.unwrap_or_default();
        let label = |name: &str| {
            labels
                .get(name)
                .map_or("nothing", String::as_str)
                .to_owned()
        };
        let offered = devices::offered().await.unwrap_or_default();
        let offered: BTreeMap<&String, usize> = offered
            .iter()
            .map(|(name, ids)| (name, ids.len()))
            .collect();
        format!(
            "{LABEL} is {}, {STATE} is {}, offered are {offered:?}",
            label(LABEL),
            label(STATE)
        )
    }
}

/// What a change of other devices must not touch of a pod.
#[derive(Debug, PartialEq, Eq)]
struct Calm {
    /// Its containers, with how often each was restarted.
    containers: Vec<String>,
    /// What it holds, as the kubelet says.
    held: BTreeSet<String>,
    /// What its NVML program sees now.
    seen: Vec<String>,
}

impl Calm {
    async fn of(context: &Context<'_>, pod: &str) -> Result<Self> {
        let status = context.pods.get(pod).await?.status;
        let containers = status.and_then(|status| status.container_statuses);
        let containers = containers.unwrap_or_default().into_iter().map(|container| {
            let id = container.container_id.unwrap_or_default();
            format!("{id} {}", container.restart_count)
        });
        let held = devices::holders().await?.remove(&format!("{pod}/main"));
        Ok(Self {
            containers: containers.collect(),
            held: held.unwrap_or_default(),
            seen: seen_through_nvml(context, pod).await?,
        })
    }

    /// The same once more, and that it is as it was. A kubelet that has just taken up its work
    /// shows no holders, an agent is not asked at all.
    async fn lasts(&self, context: &Context<'_>, pod: &str) -> Result<()> {
        let now = Self::of(context, pod).await?;
        ensure!(*self == now, "pod {pod} had {self:?} and has {now:?}");
        Ok(())
    }
}

/// What a change of other resources must not touch of a resource.
#[derive(Debug, PartialEq, Eq)]
struct Registered {
    /// Of the plugin's socket.
    inode: u64,
    /// How often the kubelet has taken a registration of it. A stream that ends is registered
    /// anew.
    times: usize,
}

impl Registered {
    fn now(context: &Context<'_>, resource: &str) -> Result<Self> {
        let short = resource.trim_start_matches("nvidia.com/");
        let socket = plugins().join(format!("nvidia-{short}.sock"));
        let inode = fs::metadata(&socket).with_context(|| socket.display().to_string())?;
        let log = context.cluster.layout().logs().join("kubelet.log");
        let log = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        let name = format!("resourceName=\"{resource}\"");
        let registered = |line: &&str| {
            line.contains("Got registration request from device plugin") && line.contains(&name)
        };
        Ok(Self {
            inode: inode.ino(),
            times: log.lines().filter(registered).count(),
        })
    }
}

/// Where device plugins have their sockets.
fn plugins() -> PathBuf {
    Path::new(layout::KUBELET).join("device-plugins")
}

/// The sockets there, the kubelet's included.
fn sockets() -> Result<Vec<PathBuf>> {
    let mut sockets = Vec::new();
    for entry in fs::read_dir(plugins())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "sock")
        {
            sockets.push(path);
        }
    }
    Ok(sockets)
}

/// Where the agent writes down which GPUs it is changing.
fn journal_path() -> PathBuf {
    Path::new(layout::AGENT_STATE[0]).join("mig.json")
}
