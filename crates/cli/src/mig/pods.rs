//! Which pods hold the devices of this node, as the kubelet tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use mizzen_core::device::device_of;
use mizzen_core::gpu::Gpu;
use mizzen_core::mig::Layout;
use mizzen_kubelet_api::connect;
use mizzen_kubelet_api::podresources::{
    ANSWER_SIZE, ListPodResourcesRequest, PodResources, PodResourcesListerClient,
};
use serde::Serialize;

/// How long the kubelet may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a kubelet that is asked too often is left alone at first.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The code `RESOURCE_EXHAUSTED` of gRPC, with which the kubelet refuses calls beyond its limit.
const EXHAUSTED: i32 = 8;

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
#[derive(Debug, Clone, Default)]
pub(super) struct Holders {
    by_device: BTreeMap<String, BTreeSet<Holder>>,
    /// Whether the kubelet told it; else nobody is known to hold anything.
    is_told: bool,
}

/// What came of asking the kubelet.
#[derive(Debug)]
pub(super) enum Asked {
    /// It was not asked, because it was told so or nothing is at stake.
    No,
    /// There is none at the socket where it would be.
    NoKubelet(PathBuf),
    /// It answered.
    Answered(Holders),
}

impl Asked {
    /// Who holds what; nobody, as far as is known, if the kubelet did not tell.
    pub(super) fn holders(&self) -> Holders {
        match self {
            Self::Answered(holders) => holders.clone(),
            Self::No | Self::NoKubelet(_) => Holders::default(),
        }
    }
}

/// Where the kubelet is asked.
#[derive(Debug)]
pub(super) struct Kubelet {
    pub(super) socket: PathBuf,
    /// Whether somebody said that it is there.
    pub(super) is_named: bool,
}

/// Asks the kubelet.
///
/// # Errors
/// It does not answer, or is not where it was said to be.
pub(super) fn ask(Kubelet { socket, is_named }: &Kubelet) -> Result<Asked> {
    if !is_named && !socket.exists() {
        return Ok(Asked::NoKubelet(socket.clone()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = async {
        // The error says its cause itself.
        let connection = connect(socket).await.map_err(|error| anyhow!("{error}"))?;
        let client = PodResourcesListerClient::new(connection);
        let mut client = client.max_decoding_message_size(ANSWER_SIZE);
        let mut pause = FIRST_PAUSE;
        loop {
            match client.list(ListPodResourcesRequest::default()).await {
                Ok(answer) => return Ok(answer.into_inner().pod_resources),
                // Others ask at the same time, and the kubelet answers only so many.
                Err(status) if i32::from(status.code()) == EXHAUSTED => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(status) => return Err(anyhow!("{}", status.message())),
            }
        }
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
                    by_device
                        .entry(device_of(id).to_owned())
                        .or_default()
                        .insert(Holder {
                            namespace: pod.namespace.clone(),
                            pod: pod.name.clone(),
                            container: container.name.clone(),
                        });
                }
            }
        }
        Self {
            by_device,
            is_told: true,
        }
    }

    fn of(&self, uuid: &str) -> Vec<Holder> {
        let holders = self.by_device.get(uuid);
        holders.into_iter().flatten().cloned().collect()
    }

    /// Who holds the GPU as a whole.
    pub(super) fn of_whole(&self, gpu: &Gpu) -> Vec<Holder> {
        self.of(gpu.uuid.as_str())
    }

    /// Who holds the MIG device of these ids, by itself or with the whole GPU.
    pub(super) fn of_device(&self, gpu: &Gpu, ids: (u32, u32)) -> Vec<Holder> {
        let mut holders = uuid(gpu, ids).map_or_else(Vec::new, |uuid| self.of(uuid));
        holders.extend(self.of_whole(gpu));
        holders
    }

    /// The compute instances of a GPU that must stay, by the ids of GPU instance and compute
    /// instance: those that somebody holds, and those of which that cannot be told, because the
    /// driver lists no MIG device for them.
    pub(super) fn held(&self, gpu: &Gpu, layout: &Layout) -> BTreeSet<(u32, u32)> {
        if !self.is_told {
            return BTreeSet::new();
        }
        let instances = layout.instances.iter();
        let all = instances.flat_map(|instance| {
            let inside = instance.compute.iter();
            inside.map(|inside| (instance.id, inside.id))
        });
        let is_whole_held = self.by_device.contains_key(gpu.uuid.as_str());
        let is_held = |ids: &(u32, u32)| {
            let uuid = uuid(gpu, *ids);
            is_whole_held || uuid.is_none_or(|uuid| self.by_device.contains_key(uuid))
        };
        all.filter(is_held).collect()
    }
}

/// What the MIG device of these ids is called, if the driver lists it.
fn uuid(gpu: &Gpu, ids: (u32, u32)) -> Option<&str> {
    let mut devices = gpu.mig.iter().flat_map(|mig| &mig.devices);
    let device = devices.find(|device| (device.gpu_instance, device.compute_instance) == ids);
    device.map(|device| device.uuid.as_str())
}

#[cfg(test)]
mod tests {
    use mizzen_core::gpu::GpuUuid;
    use mizzen_core::mig::{
        Capabilities, ComputeInstance, Engines, GpuInstance, GpuMig, MigDevice, MigMode, Placement,
    };
    use mizzen_kubelet_api::podresources::{ContainerDevices, ContainerResources};

    use super::*;

    fn pod(devices: &[&str]) -> PodResources {
        let devices = devices.iter().map(|id| ContainerDevices {
            device_ids: vec![(*id).to_owned()],
            ..ContainerDevices::default()
        });
        PodResources {
            name: "trainer".to_owned(),
            namespace: "team".to_owned(),
            containers: vec![ContainerResources {
                name: "main".to_owned(),
                devices: devices.collect(),
                ..ContainerResources::default()
            }],
        }
    }

    fn told(holders: &[Holder]) -> Vec<String> {
        holders.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_replica_of_a_device_is_held_by_its_container() {
        let holders = Holders::new(&[pod(&["MIG-a::3", "GPU-b"])]);
        let told = |uuid: &str| told(&holders.of(uuid));
        assert_eq!(told("MIG-a"), ["team/trainer, container main"]);
        assert_eq!(told("GPU-b"), ["team/trainer, container main"]);
        assert!(told("MIG-c").is_empty());
    }

    #[test]
    fn what_the_driver_does_not_list_and_all_of_a_gpu_that_is_held_must_stay() {
        let (gpu, layout) = gpu();
        let held = |pods: &[PodResources]| -> Vec<_> {
            Holders::new(pods).held(&gpu, &layout).into_iter().collect()
        };
        // The device of GPU instance 8 is not among those that the driver lists.
        assert_eq!(held(&[]), [(8, 0)]);
        let listed = gpu.mig.as_ref().unwrap().devices[0].uuid.to_string();
        assert_eq!(held(&[pod(&[&listed])]), [(7, 0), (8, 0)]);
        let whole = [pod(&[&format!("{}::1", gpu.uuid)])];
        assert_eq!(held(&whole), [(7, 0), (8, 0), (9, 0)]);
        let holders = Holders::new(&whole);
        assert_eq!(
            told(&holders.of_device(&gpu, (9, 0))),
            ["team/trainer, container main"]
        );
        assert!(Holders::default().held(&gpu, &layout).is_empty());
    }

    /// A GPU of three instances, of which the driver lists the devices of the first and the last.
    fn gpu() -> (Gpu, Layout) {
        let place = |start| Placement { start, size: 1 };
        let instance = |start| GpuInstance {
            id: 7 + start,
            profile: "1g.10gb".parse().unwrap(),
            placement: place(start),
            compute: vec![ComputeInstance {
                id: 0,
                slices: 1,
                placement: place(0),
            }],
        };
        let device = |(index, start): (u32, u32)| MigDevice {
            index,
            uuid: format!("MIG-4d4d4d4d-0000-0000-0000-00000000000{start}")
                .parse()
                .unwrap(),
            gpu_instance: 7 + start,
            compute_instance: 0,
            profile: "1g.10gb".parse().unwrap(),
            memory_mib: 9_984,
            multiprocessors: 16,
            engines: Engines::default(),
            placement: Some(place(start)),
            capabilities: Capabilities::default(),
        };
        let mode = MigMode {
            current: true,
            pending: true,
        };
        let gpu = Gpu {
            index: 0,
            minor: 0,
            uuid: GpuUuid::placeholder(0, None),
            pci: "0000:3b:00.0".parse().unwrap(),
            name: "Test GPU".to_owned(),
            memory_mib: 81_559,
            compute_capability: (9, 0),
            numa_node: None,
            device_id: 0,
            mig: Some(GpuMig {
                mode,
                devices: [(0, 0), (1, 2)].into_iter().map(device).collect(),
            }),
        };
        let instances = (0..3).map(instance).collect();
        (gpu, Layout { mode, instances })
    }
}
