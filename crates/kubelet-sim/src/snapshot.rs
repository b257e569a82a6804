//! The node and its pods at one moment, as plain data.

use std::collections::BTreeMap;

use mizzen_kubelet_api::deviceplugin::ContainerAllocateResponse;
use serde::Serialize;

use crate::pod::{Container, ContainerKind};
use crate::quantity::Quantity;

/// Everything that can be seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The node's name.
    pub node: String,
    /// Whether the kubelet runs.
    pub kubelet_running: bool,
    /// Resources that plugins offer, or have offered, by name.
    pub resources: BTreeMap<String, ResourceView>,
    /// The pods in the order in which they were created.
    pub pods: Vec<PodView>,
}

/// A resource of the node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceView {
    /// Devices of the node, sick ones included.
    pub capacity: i64,
    /// Devices that can be given out, used ones included.
    pub allocatable: i64,
    /// The devices as the plugin reported them last, by ID.
    pub devices: BTreeMap<String, DeviceView>,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceView {
    /// Whether it can be given out.
    pub healthy: bool,
    /// Where it is attached, as far as the plugin tells.
    pub numa_nodes: Vec<i64>,
    /// Who holds it.
    pub holder: Option<Holder>,
}

/// A container that holds a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// `namespace/name` of the pod.
    pub pod: String,
    /// The container.
    pub container: String,
}

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum Phase {
    /// Not scheduled, or not started yet.
    #[default]
    Pending,
    /// At least one container runs, or is about to run again.
    Running,
    /// Every container has exited with 0 and stays so.
    Succeeded,
    /// Refused by the kubelet.
    Failed,
}

impl Phase {
    /// Whether nothing more will happen.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// A pod and its status.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// Whether it was given to the node.
    pub scheduled: bool,
    /// Where it is in its life.
    pub phase: Phase,
    /// One word: why it is pending or has failed. Empty otherwise.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
    /// Its containers in the order of starting.
    pub containers: Vec<ContainerView>,
}

/// A container and its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// Its part in the pod.
    pub kind: ContainerKind,
    /// What it asks for.
    pub limits: BTreeMap<String, Quantity>,
    /// What it does now.
    pub state: ContainerState,
    /// How often it was started again.
    pub restart_count: u32,
    /// What it was given at its last start.
    pub given: Option<Given>,
    /// The devices that it holds, by resource, and how they are: what `allocatedResourcesStatus`
    /// says of ordinary containers.
    pub allocated_resources: BTreeMap<String, BTreeMap<String, DeviceHealth>>,
}

/// The health of a device in a pod's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum DeviceHealth {
    /// In order, or not reported any more.
    Healthy,
    /// Reported as sick by its plugin.
    Unhealthy,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ContainerState {
    /// It is not started.
    Waiting {
        /// One word; empty before the first try.
        reason: String,
        /// The same in a sentence.
        message: String,
    },
    /// It runs.
    Running,
    /// It has exited.
    Terminated {
        /// 0 is success.
        exit_code: i32,
    },
}

/// What a container was given by the device plugins, and its own environment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Given {
    /// Environment; a variable of the pod's own wins over a plugin's of the same name.
    pub env: BTreeMap<String, String>,
    /// Paths of the host in the container.
    pub mounts: Vec<MountView>,
    /// Device nodes.
    pub devices: Vec<DeviceNode>,
    /// Annotations for the container runtime.
    pub annotations: BTreeMap<String, String>,
    /// CDI devices by name.
    pub cdi_devices: Vec<String>,
}

/// A path of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MountView {
    /// Where the container sees it.
    pub container_path: String,
    /// Where it is.
    pub host_path: String,
    /// Whether the container may only read.
    pub read_only: bool,
}

/// A device node in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceNode {
    /// Where the container sees it.
    pub container_path: String,
    /// Where it is.
    pub host_path: String,
    /// Letters of the device cgroup: `r`, `w`, `m`.
    pub permissions: String,
}

impl Given {
    /// Puts the plugins' answers together as the kubelet does: of several values for one name or
    /// one container path, the first stays.
    pub(crate) fn merge<'a>(
        answers: impl Iterator<Item = &'a ContainerAllocateResponse>,
        container: &Container,
    ) -> Self {
        let mut given = Self::default();
        for answer in answers {
            given.add(answer);
        }
        let own = container
            .env
            .iter()
            .filter_map(|var| Some((&var.name, var.value.as_ref()?)));
        given
            .env
            .extend(own.map(|(name, value)| (name.clone(), value.clone())));
        given
    }

    fn add(&mut self, answer: &ContainerAllocateResponse) {
        for (name, value) in &answer.envs {
            self.env
                .entry(name.clone())
                .or_insert_with(|| value.clone());
        }
        for (name, value) in &answer.annotations {
            self.annotations
                .entry(name.clone())
                .or_insert_with(|| value.clone());
        }
        for device in &answer.devices {
            if self
                .devices
                .iter()
                .all(|known| known.container_path != device.container_path)
            {
                self.devices.push(DeviceNode {
                    container_path: device.container_path.clone(),
                    host_path: device.host_path.clone(),
                    permissions: device.permissions.clone(),
                });
            }
        }
        for mount in &answer.mounts {
            if self
                .mounts
                .iter()
                .all(|known| known.container_path != mount.container_path)
            {
                self.mounts.push(MountView {
                    container_path: mount.container_path.clone(),
                    host_path: mount.host_path.clone(),
                    read_only: mount.read_only,
                });
            }
        }
        for device in &answer.cdi_devices {
            if !self.cdi_devices.contains(&device.name) {
                self.cdi_devices.push(device.name.clone());
            }
        }
    }
}

impl Snapshot {
    /// The pod of that name in the `default` namespace, or by `namespace/name`.
    pub fn pod(&self, name: &str) -> Option<&PodView> {
        let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
        self.pods
            .iter()
            .find(|pod| pod.namespace == namespace && pod.name == name)
    }

    /// Capacity and allocatable of a resource; zero for one that is unknown.
    pub fn amounts(&self, resource: &str) -> (i64, i64) {
        self.resources
            .get(resource)
            .map_or((0, 0), |view| (view.capacity, view.allocatable))
    }
}

impl PodView {
    /// All devices of a resource that the pod's containers hold.
    pub fn devices(&self, resource: &str) -> Vec<String> {
        let mut devices: Vec<String> = self
            .containers
            .iter()
            .filter_map(|container| container.allocated_resources.get(resource))
            .flat_map(BTreeMap::keys)
            .cloned()
            .collect();
        devices.sort();
        devices.dedup();
        devices
    }
}
