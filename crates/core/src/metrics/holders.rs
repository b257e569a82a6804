//! Who holds which device, and which process is whose.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::device::device_of;
use crate::gpu::Gpu;

/// A container of a pod, as Kubernetes names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Container {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The pod's UID, where it is known; written only where the page is told to.
    pub pod_uid: Option<String>,
    /// Its name in the pod.
    pub container: String,
}

/// A container among the [`Holders`] that it was made known to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerKey(usize);

/// A device that a container holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Who holds it.
    pub container: ContainerKey,
    /// The device's id as the kubelet lists it.
    pub id: String,
    /// Since when, in seconds since 1970, where it is known.
    pub since: Option<u64>,
}

impl Holding {
    /// Whether it is one of several replicas.
    fn is_replica(&self) -> bool {
        device_of(&self.id).len() != self.id.len()
    }
}

/// Which containers hold which devices, by the kubelet, and which processes are theirs.
#[derive(Debug, Clone, Default)]
pub struct Holders {
    containers: Vec<Container>,
    keys: HashMap<Container, ContainerKey>,
    /// By the UUID (or index) in the id.
    holdings: BTreeMap<String, Vec<Holding>>,
    /// Which containers hold which ids, of which there may be thousands on a GPU.
    held: HashSet<(ContainerKey, String)>,
    processes: BTreeMap<u32, ContainerKey>,
}

/// Whose a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenancy {
    /// Nobody's.
    Free,
    /// One container's alone.
    Exclusive(ContainerKey),
    /// It is shared, or may be: it has replicas, or several hold it.
    Shared,
}

impl Holders {
    /// Makes a container known; the same one is known once.
    pub fn container(&mut self, container: Container) -> ContainerKey {
        let next = ContainerKey(self.containers.len());
        *self.keys.entry(container).or_insert_with_key(|container| {
            self.containers.push(container.clone());
            next
        })
    }

    /// Records that a container holds a device: its id as the kubelet lists it, which is the UUID
    /// of a GPU or MIG device, the UUID and `::` and the number of a replica, or, with plugins
    /// that name devices so, an index (`0`, or `0:1` for a MIG device).
    pub fn hold(&mut self, container: ContainerKey, id: &str, since: Option<u64>) {
        if self.held.insert((container, id.to_owned())) {
            let holdings = self.holdings.entry(device_of(id).to_owned()).or_default();
            holdings.push(Holding {
                container,
                id: id.to_owned(),
                since,
            });
        }
    }

    /// Records that a process, by its id in the host's numbers, is a container's.
    pub fn process(&mut self, pid: u32, container: ContainerKey) {
        self.processes.insert(pid, container);
    }

    /// The container of a key that [`container`](Self::container) gave.
    pub fn get(&self, key: ContainerKey) -> Option<&Container> {
        self.containers.get(key.0)
    }

    /// All containers, in the order in which they became known.
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    /// Whose a process is, where that is known.
    pub fn owner(&self, pid: u32) -> Option<ContainerKey> {
        self.processes.get(&pid).copied()
    }

    /// Every device that is held.
    pub fn holdings(&self) -> impl Iterator<Item = &Holding> {
        self.holdings.values().flatten()
    }

    /// Who holds a GPU as a whole.
    pub fn of_gpu(&self, gpu: &Gpu) -> Vec<&Holding> {
        let by_uuid = self.of(gpu.uuid.as_str());
        by_uuid.chain(self.of(&gpu.index.to_string())).collect()
    }

    /// Who holds the MIG device at this position of the GPU's.
    pub fn of_mig(&self, gpu: &Gpu, position: usize) -> Vec<&Holding> {
        let devices = gpu.mig.as_ref().map_or(&[][..], |mig| &mig.devices);
        let Some(device) = devices.get(position) else {
            return Vec::new();
        };
        let by_uuid = self.of(device.uuid.as_str());
        let index = format!("{}:{}", gpu.index, device.index);
        by_uuid.chain(self.of(&index)).collect()
    }

    fn of(&self, device: &str) -> impl Iterator<Item = &Holding> {
        self.holdings.get(device).into_iter().flatten()
    }
}

impl Tenancy {
    /// Whose something is that these hold.
    pub fn of(holdings: &[&Holding]) -> Self {
        match holdings {
            [] => Self::Free,
            [first, rest @ ..] => {
                let alone = rest.iter().all(|held| held.container == first.container);
                if alone && holdings.iter().all(|held| !held.is_replica()) {
                    Self::Exclusive(first.container)
                } else {
                    Self::Shared
                }
            }
        }
    }
}

impl ContainerKey {
    /// Its place in [`Holders::containers`].
    pub(super) fn place(self) -> usize {
        self.0
    }
}
