//! Which pods hold the devices of this node, as the kubelet tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use mizzen_core::gpu::Gpu;
use mizzen_kubelet_api::connect;
use mizzen_kubelet_api::podresources::{
    ListPodResourcesRequest, PodResources, PodResourcesListerClient,
};
use serde::Serialize;

/// How long the kubelet may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What stands between a device's UUID and the number of its replica.
const REPLICA: &str = "::";

/// A container that holds a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Holder {
    namespace: String,
    pod: String,
    container: String,
}

/// `default/trainer, container main`.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            namespace,
            pod,
            container,
        } = self;
        write!(f, "{namespace}/{pod}, container {container}")
    }
}

/// Who holds what.
#[derive(Debug, Default)]
pub(super) struct Holders {
    by_device: BTreeMap<String, BTreeSet<Holder>>,
}

/// What came of asking the kubelet.
#[derive(Debug)]
pub(super) enum Asked {
    /// It was not asked, because it was told so or nothing is at stake.
    No,
    /// There is none at the socket.
    NoKubelet,
    /// It answered.
    Answered(Holders),
}

impl Asked {
    /// Who holds what; nobody, as far as is known, if the kubelet did not tell.
    pub(super) fn holders(&self) -> Holders {
        match self {
            Self::Answered(holders) => Holders {
                by_device: holders.by_device.clone(),
            },
            Self::No | Self::NoKubelet => Holders::default(),
        }
    }
}

/// Asks the kubelet behind this socket.
///
/// # Errors
/// It is there and does not answer.
pub(super) fn ask(socket: &Path) -> Result<Asked> {
    if !socket.exists() {
        return Ok(Asked::NoKubelet);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = async {
        let mut client = PodResourcesListerClient::new(connect(socket).await?);
        let answer = client.list(ListPodResourcesRequest::default()).await;
        let answer = answer.map_err(|status| anyhow!("{}", status.message()))?;
        anyhow::Ok(answer.into_inner().pod_resources)
    };
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await });
    let pods = answer
        .map_err(|_| anyhow!("no answer within {} s", PATIENCE.as_secs()))
        .flatten()
        .with_context(|| {
            format!(
                "cannot ask the kubelet at {} which pods hold devices",
                socket.display()
            )
        })?;
    Ok(Asked::Answered(Holders::new(&pods)))
}

impl Holders {
    fn new(pods: &[PodResources]) -> Self {
        let mut by_device: BTreeMap<String, BTreeSet<Holder>> = BTreeMap::new();
        for pod in pods {
            for container in &pod.containers {
                let devices = container.devices.iter();
                for id in devices.flat_map(|devices| &devices.device_ids) {
                    let uuid = id.split(REPLICA).next().unwrap_or(id);
                    by_device
                        .entry(uuid.to_owned())
                        .or_default()
                        .insert(Holder {
                            namespace: pod.namespace.clone(),
                            pod: pod.name.clone(),
                            container: container.name.clone(),
                        });
                }
            }
        }
        Self { by_device }
    }

    fn of(&self, uuid: &str) -> Vec<Holder> {
        let holders = self.by_device.get(uuid);
        holders.into_iter().flatten().cloned().collect()
    }

    /// Who holds the GPU as a whole.
    pub(super) fn of_whole(&self, gpu: &Gpu) -> Vec<Holder> {
        self.of(gpu.uuid.as_str())
    }

    /// Who holds the MIG device of these ids.
    pub(super) fn of_device(&self, gpu: &Gpu, ids: (u32, u32)) -> Vec<Holder> {
        let devices = gpu.mig.iter().flat_map(|mig| &mig.devices);
        let mut devices =
            devices.filter(|device| (device.gpu_instance, device.compute_instance) == ids);
        let device = devices.next();
        device.map_or_else(Vec::new, |device| self.of(device.uuid.as_str()))
    }

    /// The MIG devices of a GPU that somebody holds, by the ids of GPU instance and compute
    /// instance.
    pub(super) fn held(&self, gpu: &Gpu) -> BTreeSet<(u32, u32)> {
        let devices = gpu.mig.iter().flat_map(|mig| &mig.devices);
        devices
            .filter(|device| self.by_device.contains_key(device.uuid.as_str()))
            .map(|device| (device.gpu_instance, device.compute_instance))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use mizzen_kubelet_api::podresources::{ContainerDevices, ContainerResources};

    use super::*;

    #[test]
    fn a_replica_of_a_device_is_held_by_its_container() {
        let devices = |id: &str| ContainerDevices {
            device_ids: vec![id.to_owned()],
            ..ContainerDevices::default()
        };
        let pod = PodResources {
            name: "trainer".to_owned(),
            namespace: "team".to_owned(),
            containers: vec![ContainerResources {
                name: "main".to_owned(),
                devices: vec![devices("MIG-a::3"), devices("GPU-b")],
                ..ContainerResources::default()
            }],
        };
        let holders = Holders::new(&[pod]);
        let told = |uuid: &str| {
            let holders = holders.of(uuid);
            holders.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told("MIG-a"), ["team/trainer, container main"]);
        assert_eq!(told("GPU-b"), ["team/trainer, container main"]);
        assert!(told("MIG-c").is_empty());
    }
}
