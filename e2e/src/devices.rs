//! What the kubelet itself says of devices, through PodResources: it is told there before the
//! node's status in the API follows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use mizzen_kubelet_api::podresources::{
    AllocatableResourcesRequest, ContainerDevices, ListPodResourcesRequest,
    PodResourcesListerClient,
};
use tokio::time::{Instant, sleep};

use crate::layout::KUBELET;
use crate::pods::GPU;

/// How often the kubelet is asked; it answers at most a hundred times a second.
const POLL: Duration = Duration::from_millis(50);
/// How long a change may take to reach the kubelet.
const LIMIT: Duration = Duration::from_secs(30);
/// How long the kubelet may take to answer: one that has just started is busy.
const ANSWER: Duration = Duration::from_secs(2);

/// The devices of each container, by `pod/container`.
pub(crate) type Holders = BTreeMap<String, BTreeSet<String>>;

/// The ids of the GPUs that the kubelet can give out, healthy ones only.
pub(crate) async fn allocatable() -> Result<BTreeSet<String>> {
    let whole = |resource: &str| resource == GPU;
    Ok(ids(&can_give_out().await?, whole))
}

/// The ids of all devices of NVIDIA's that the kubelet can give out, by resource.
pub(crate) async fn offered() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut offered: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for devices in can_give_out().await? {
        if is_nvidias(&devices.resource_name) && !devices.device_ids.is_empty() {
            let ids = offered.entry(devices.resource_name).or_default();
            ids.extend(devices.device_ids);
        }
    }
    Ok(offered)
}

/// Waits until the kubelet can give out so many devices of each of NVIDIA's resources, and none of
/// others.
pub(crate) async fn offers(wanted: &[(&str, usize)]) -> Result<()> {
    let wanted: BTreeMap<&str, usize> = wanted.iter().copied().collect();
    let deadline = Instant::now() + LIMIT;
    loop {
        let offered = offered().await.unwrap_or_default();
        let counts = offered.iter().map(|(name, ids)| (name.as_str(), ids.len()));
        let counts: BTreeMap<&str, usize> = counts.collect();
        if counts == wanted {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "the kubelet can give out {counts:?}, not {wanted:?}, after {LIMIT:?}"
        );
        sleep(POLL).await;
    }
}

async fn can_give_out() -> Result<Vec<ContainerDevices>> {
    let answer = tokio::time::timeout(ANSWER, async {
        let mut kubelet = kubelet().await?;
        let answer = kubelet
            .get_allocatable_resources(AllocatableResourcesRequest {})
            .await?;
        anyhow::Ok(answer.into_inner())
    });
    Ok(answer.await??.devices)
}

/// The devices of NVIDIA's that each container holds; containers without one are left out.
pub(crate) async fn holders() -> Result<Holders> {
    let answer = tokio::time::timeout(ANSWER, async {
        let mut kubelet = kubelet().await?;
        let answer = kubelet.list(ListPodResourcesRequest {}).await?;
        anyhow::Ok(answer.into_inner())
    });
    let mut holders = Holders::new();
    for pod in answer.await??.pod_resources {
        for container in &pod.containers {
            let devices = ids(&container.devices, is_nvidias);
            if !devices.is_empty() {
                holders.insert(format!("{}/{}", pod.name, container.name), devices);
            }
        }
    }
    Ok(holders)
}

/// Waits until the kubelet can give out so many GPUs, and says how long that took.
pub(crate) async fn wait_for_allocatable(count: usize, limit: Duration) -> Result<Duration> {
    let started = Instant::now();
    loop {
        let now = allocatable().await;
        if now.as_ref().is_ok_and(|devices| devices.len() == count) {
            return Ok(started.elapsed());
        }
        if started.elapsed() > limit {
            match now {
                Ok(devices) => bail!("{} of {count} GPUs after {limit:?}", devices.len()),
                Err(error) => return Err(error.context(format!("after {limit:?}"))),
            }
        }
        sleep(POLL).await;
    }
}

async fn kubelet() -> Result<PodResourcesListerClient<mizzen_kubelet_api::Connection>> {
    let socket = Path::new(KUBELET).join("pod-resources/kubelet.sock");
    let connection = mizzen_kubelet_api::connect(&socket).await?;
    Ok(PodResourcesListerClient::new(connection))
}

fn is_nvidias(resource: &str) -> bool {
    resource.starts_with("nvidia.com/")
}

fn ids(devices: &[ContainerDevices], of: impl Fn(&str) -> bool) -> BTreeSet<String> {
    devices
        .iter()
        .filter(|device| of(&device.resource_name))
        .flat_map(|device| device.device_ids.iter().cloned())
        .collect()
}
