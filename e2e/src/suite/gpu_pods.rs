//! What pods get: the agent as users install it, and GPUs as users ask for them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

use super::Context;
use crate::hardware::{Gpu, Hardware};
use crate::images::BUSYBOX_IMAGE;
use crate::pods::{self, GPU};
use crate::{agent, client, devices, layout};

/// How long the node's status may lag behind the kubelet's own.
pub(super) const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// A pod with a user's NVML program, and the simulation that its library shows.
pub(super) fn workload(context: &Context<'_>, name: &str, gpus: Option<u32>) -> Value {
    with_simulation(pods::workload(name, gpus), &context.hardware)
}

/// Shows a pod of such an image the simulation.
pub(super) fn with_simulation(mut pod: Value, hardware: &Hardware) -> Value {
    let container = &mut pod["spec"]["containers"][0];
    container["env"] = json!([
        { "name": "LD_LIBRARY_PATH", "value": "/usr/lib/mizzen" },
        { "name": "MIZZEN_SIM", "value": hardware.scenario() },
        { "name": "MIZZEN_SIM_STATE", "value": hardware.state() },
    ]);
    container["volumeMounts"] = json!([{
        "name": "simulation",
        "mountPath": hardware.directory(),
    }]);
    pod["spec"]["volumes"] = json!([{
        "name": "simulation",
        "hostPath": { "path": hardware.directory() },
    }]);
    pod
}

/// The GPU that the environment of a pod with one names.
pub(super) async fn gpu_of(context: &Context<'_>, pod: &str) -> Result<Gpu> {
    let visible = environment(context, pod).await?;
    let visible = visible.context("NVIDIA_VISIBLE_DEVICES is not set")?;
    let gpus = context.hardware.gpus().await?;
    let gpu = gpus.into_iter().find(|gpu| gpu.uuid == visible);
    gpu.with_context(|| format!("{visible:?} is no GPU of the node"))
}

pub(super) async fn environment(context: &Context<'_>, pod: &str) -> Result<Option<String>> {
    let variables = context.pods.exec(pod, &["env"]).await?;
    let value = variables
        .lines()
        .find_map(|line| line.strip_prefix("NVIDIA_VISIBLE_DEVICES="));
    Ok(value.map(String::from))
}

/// The names of the driver's nodes in a pod's /dev.
pub(super) async fn nodes(context: &Context<'_>, pod: &str) -> Result<BTreeSet<String>> {
    let listed = context.pods.exec(pod, &["ls", "/dev"]).await?;
    let names = listed
        .split_whitespace()
        .filter(|name| name.starts_with("nvidia"));
    Ok(names.map(String::from).collect())
}

/// The UUIDs that an NVML program in a pod sees.
pub(super) async fn seen_through_nvml(context: &Context<'_>, pod: &str) -> Result<Vec<String>> {
    let listed = context.pods.exec(pod, &["nvml-list"]).await?;
    Ok(listed.lines().map(String::from).collect())
}

/// Capacity and allocatable of a resource of the node, in the API.
async fn node_amounts(context: &Context<'_>, resource: &str) -> Result<(usize, usize)> {
    let status = client::node(&context.client)
        .await?
        .status
        .unwrap_or_default();
    let count = |quantities: Option<std::collections::BTreeMap<String, Quantity>>| {
        let quantity = quantities.and_then(|mut all| all.remove(resource));
        quantity.map_or(Ok(0), |quantity| quantity.0.parse())
    };
    Ok((count(status.capacity)?, count(status.allocatable)?))
}

/// Waits until the API shows so many GPUs of the node.
pub(super) async fn wait_for_node(
    context: &Context<'_>,
    capacity: usize,
    allocatable: usize,
) -> Result<()> {
    wait_for_amounts(context, GPU, (capacity, allocatable)).await
}

/// Waits until the API shows this capacity and allocatable of a resource.
pub(super) async fn wait_for_amounts(
    context: &Context<'_>,
    resource: &str,
    wanted: (usize, usize),
) -> Result<()> {
    let deadline = tokio::time::Instant::now() + STATUS_LIMIT;
    loop {
        let now = node_amounts(context, resource).await?;
        if now == wanted {
            return Ok(());
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "the node's capacity and allocatable of {resource} are {now:?}, not {wanted:?}, \
             after {STATUS_LIMIT:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The manifest installs an agent, and the node has its GPUs.
pub(super) async fn the_node_has_its_gpus(context: &Context<'_>) -> Result<()> {
    context.agent().await?;
    let count = context.hardware.gpus().await?.len();
    wait_for_node(context, count, count).await
}

/// Privileged for the sake of the device cgroup: of the host it has no namespace but that of
/// processes, by which the driver tells whose they are, no writable file beyond two directories,
/// and no right to the API.
pub(super) async fn the_agent_has_no_more_than_it_needs(context: &Context<'_>) -> Result<()> {
    context.agent().await?;
    let agent = agent::process()?.context("no agent runs")?;
    for namespace in ["ipc", "mnt", "net", "uts"] {
        let its = fs::read_link(agent.path("ns").join(namespace))?;
        let ours = fs::read_link(Path::new("/proc/self/ns").join(namespace))?;
        ensure!(its != ours, "it is in the host's {namespace} namespace");
    }
    let mounts = agent.file("mountinfo")?;
    ensure!(
        !mounts.contains("serviceaccount"),
        "it has a token of the API server's"
    );
    for (place, writable) in [
        ("/", false),
        ("/dev", false),
        ("/driver-root", false),
        ("/var/lib/kubelet/device-plugins", true),
        ("/var/lib/kubelet/pod-resources", false),
        ("/var/lib/mizzen", true),
    ] {
        let mount = mounts
            .lines()
            .rfind(|line| line.split(' ').nth(4) == Some(place));
        let options = mount.and_then(|line| line.split(' ').nth(5));
        let options = options.with_context(|| format!("{place} is no mount of it"))?;
        let is_writable = options.split(',').any(|option| option == "rw");
        ensure!(is_writable == writable, "{place} is mounted {options}");
    }
    Ok(())
}

/// One GPU, by every way in which a container can tell.
pub(super) async fn one_gpu_is_one_gpu(context: &Context<'_>) -> Result<()> {
    context.agent().await?;
    context.pods.run(&workload(context, "one", Some(1))).await?;
    let gpu = gpu_of(context, "one").await?;
    let own = format!("nvidia{}", gpu.minor);
    let mut expected: BTreeSet<String> = context.hardware.control_nodes()?.into_iter().collect();
    expected.insert(own.clone());
    let nodes = nodes(context, "one").await?;
    ensure!(
        nodes == expected,
        "its /dev holds {nodes:?}, not {expected:?}"
    );
    let seen = seen_through_nvml(context, "one").await?;
    ensure!(
        seen == [gpu.uuid.clone()],
        "NVML shows it {seen:?}, not {}",
        gpu.uuid
    );

    // Root in a container may make a device node. The device cgroup keeps it shut.
    let gpus = context.hardware.gpus().await?;
    let other = gpus.iter().find(|other| other.uuid != gpu.uuid);
    let minor = other
        .context("there is more than one GPU")?
        .minor
        .to_string();
    let node = format!("/dev/nvidia{minor}");
    let make = ["busybox", "mknod", &node, "c", "195", &minor];
    context.pods.exec("one", &make).await?;
    let seen = seen_through_nvml(context, "one").await?;
    ensure!(
        seen == [gpu.uuid],
        "with a node of its own making NVML shows it {seen:?}"
    );
    Ok(())
}

/// The example that the README applies first; only its image is one that need not be pulled.
pub(super) async fn the_first_pod_of_the_readme(context: &Context<'_>) -> Result<()> {
    context.agent().await?;
    let example = layout::repository()?.join("examples/one-gpu.yaml");
    let mut documents = client::documents(&fs::read_to_string(example)?)?;
    let mut pod = documents.pop().context("the example is a pod")?;
    pod["spec"]["containers"][0]["image"] = json!(BUSYBOX_IMAGE);
    pods::label(&mut pod);
    context.pods.create(&pod).await?;
    let name = pod["metadata"]["name"]
        .as_str()
        .context("pods have names")?;
    let ended = |pod: &Pod| pods::phase(pod) == "Succeeded";
    context.pods.wait(name, "Succeeded", ended).await?;
    let log = context.pods.logs(name).await?;
    let gpus = context.hardware.gpus().await?;
    let printed = |gpu: &Gpu| log.contains(&format!("NVIDIA_VISIBLE_DEVICES={}", gpu.uuid));
    ensure!(gpus.iter().any(printed), "it printed {log:?}");
    Ok(())
}

/// No request, no GPU.
pub(super) async fn no_request_no_gpu(context: &Context<'_>) -> Result<()> {
    context.agent().await?;
    context.pods.run(&workload(context, "none", None)).await?;
    let visible = environment(context, "none").await?;
    ensure!(visible.is_none(), "NVIDIA_VISIBLE_DEVICES is {visible:?}");
    let nodes = nodes(context, "none").await?;
    ensure!(nodes.is_empty(), "its /dev holds {nodes:?}");
    let seen = seen_through_nvml(context, "none").await?;
    ensure!(seen.is_empty(), "NVML shows it {seen:?}");
    Ok(())
}

/// Pods until the node is full, one more, and a place that becomes free.
pub(super) async fn each_gpu_goes_to_one_pod(context: &Context<'_>) -> Result<()> {
    context.agent().await?;
    let count = context.hardware.gpus().await?.len();
    let mut taken = BTreeSet::new();
    for index in 0..count {
        let name = format!("share-{index}");
        context.pods.run(&workload(context, &name, Some(1))).await?;
        let gpu = gpu_of(context, &name).await?;
        ensure!(
            taken.insert(gpu.uuid.clone()),
            "{} is given twice",
            gpu.uuid
        );
    }
    context
        .pods
        .create(&workload(context, "late", Some(1)))
        .await?;
    let unschedulable = |pod: &Pod| pods::unschedulable(pod).is_some();
    let late = context
        .pods
        .wait("late", "refused a place", unschedulable)
        .await?;
    let message = pods::unschedulable(&late).unwrap_or_default();
    ensure!(
        pods::phase(&late) == "Pending",
        "it is {}",
        pods::phase(&late)
    );
    ensure!(
        message.starts_with("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        "the scheduler says {message:?}"
    );
    let freed = gpu_of(context, "share-1").await?;
    context.pods.remove("share-1").await?;
    let running = |pod: &Pod| pods::phase(pod) == "Running";
    context.pods.wait("late", "Running", running).await?;
    let gpu = gpu_of(context, "late").await?;
    ensure!(
        gpu == freed,
        "it got {}, which was not the free one",
        gpu.uuid
    );
    Ok(())
}

/// The kubelet's two accounts of who holds what agree with the container's.
pub(super) async fn the_kubelet_names_the_devices(context: &Context<'_>) -> Result<()> {
    context.agent().await?;
    context
        .pods
        .run(&workload(context, "named", Some(2)))
        .await?;
    let visible = environment(context, "named").await?.context("it is set")?;
    let visible: BTreeSet<String> = visible.split(',').map(String::from).collect();
    ensure!(visible.len() == 2, "it sees {visible:?}");
    let holders = devices::holders().await?;
    let held = holders.get("named/main");
    ensure!(
        held == Some(&visible),
        "PodResources has {held:?}, the container {visible:?}"
    );
    let allocatable = devices::allocatable().await?;
    let gpus = context.hardware.gpus().await?;
    let all: BTreeSet<String> = gpus.into_iter().map(|gpu| gpu.uuid).collect();
    ensure!(
        allocatable == all,
        "PodResources offers {allocatable:?} of {all:?}"
    );
    let healthy = |pod: &Pod| device_health(pod).len() == 2;
    let pod = context
        .pods
        .wait("named", "shown with its devices", healthy)
        .await?;
    let expected = visible
        .into_iter()
        .map(|uuid| (uuid, "Healthy".to_owned()))
        .collect();
    let shown: BTreeSet<(String, String)> = device_health(&pod);
    ensure!(
        shown == expected,
        "its status shows {shown:?}, not {expected:?}"
    );
    Ok(())
}

/// `allocatedResourcesStatus` of a pod's containers: device and health of its GPUs.
pub(super) fn device_health(pod: &Pod) -> BTreeSet<(String, String)> {
    device_health_of(pod, GPU)
}

/// The same of another resource.
pub(super) fn device_health_of(pod: &Pod, name: &str) -> BTreeSet<(String, String)> {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref());
    containers
        .unwrap_or_default()
        .iter()
        .flat_map(|container| container.allocated_resources_status.iter().flatten())
        .filter(|resource| resource.name == name)
        .flat_map(|resource| resource.resources.iter().flatten())
        .map(|device| {
            (
                device.resource_id.clone(),
                device.health.clone().unwrap_or_default(),
            )
        })
        .collect()
}
