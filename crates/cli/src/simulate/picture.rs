//! What a run shows: plain data, the same for the terminal and for scripts.
//!
//! The JSON form is described in `docs/simulate.md`; names there are a promise.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::agent_process::Figures;
use super::timeline::Entry;

mod mig;
mod words;

pub(crate) use mig::{Mig, MigDevice};
pub(crate) use words::{devices_in_words, unit_of};

/// The version of the JSON document's form.
pub(crate) const FORM: u32 = 1;

/// Everything about a run at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Picture {
    /// [`FORM`].
    pub(crate) version: u32,
    /// Time since the agent was started.
    #[serde(rename = "elapsedMs", serialize_with = "millis")]
    pub(crate) elapsed: Duration,
    /// How the run ended; absent while it goes on.
    pub(crate) outcome: Option<Outcome>,
    /// The node as a whole.
    pub(crate) node: Node,
    /// Its GPUs, by index.
    pub(crate) gpus: Vec<Gpu>,
    /// The pods, in the order they were created.
    pub(crate) pods: Vec<Pod>,
    /// What happened, in order.
    pub(crate) timeline: Vec<Entry>,
    /// The agent.
    pub(crate) agent: Agent,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    /// The process's exit code.
    pub(crate) exit_code: u8,
    /// One sentence for people.
    pub(crate) summary: String,
}

/// The node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// The simulated driver's version.
    pub(crate) driver_version: String,
    /// The newest CUDA that the driver supports.
    pub(crate) cuda_version: String,
    /// What the kubelet would report of the node, by resource.
    pub(crate) resources: BTreeMap<String, ResourceCount>,
}

/// `status.capacity` and `status.allocatable` of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct ResourceCount {
    /// Devices there are.
    pub(crate) capacity: u64,
    /// Devices that are healthy.
    pub(crate) allocatable: u64,
}

/// One simulated GPU, and what the kubelet makes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Gpu {
    /// NVML's index.
    pub(crate) index: u32,
    /// `GPU-…`.
    pub(crate) uuid: String,
    /// Product name.
    pub(crate) name: String,
    /// Framebuffer, MiB.
    #[serde(rename = "memoryMiB")]
    pub(crate) memory_mib: u64,
    /// PCI bus id.
    pub(crate) pci_bus_id: String,
    /// NUMA node, where there is one.
    pub(crate) numa_node: Option<u32>,
    /// What the agent told the kubelet.
    pub(crate) health: Health,
    /// What is wrong with it in the simulation, in words; empty when nothing is.
    pub(crate) faults: Vec<String>,
    /// The devices it is offered as, with its MIG devices, by resource.
    pub(crate) offered_as: BTreeMap<String, Devices>,
    /// The containers that hold it or a part of it, `namespace/pod/container`.
    pub(crate) held_by: Vec<String>,
    /// The containers that held it and have ended, in the same form.
    pub(crate) was_held_by: Vec<String>,
    /// How it is partitioned; absent where it cannot be.
    pub(crate) mig: Option<Mig>,
}

/// What one GPU, with its MIG devices, or one of those is in one resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Devices {
    /// How many devices it is.
    pub(crate) devices: u64,
    /// How many of them each container holds, in the form of [`Gpu::held_by`].
    pub(crate) held_by: BTreeMap<String, u64>,
}

/// A device's health as the kubelet knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Health {
    /// Fit for work.
    Healthy,
    /// Reported, and not to be given out.
    Unhealthy,
    /// Not in any device list.
    Unknown,
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pod {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The file it came from.
    pub(crate) file: String,
    /// How far it got.
    pub(crate) phase: Phase,
    /// The reason a cluster would give, such as `Unschedulable`; empty when all is well.
    pub(crate) reason: String,
    /// The message a cluster would give.
    pub(crate) message: String,
    /// Whether it runs until somebody deletes it (`restartPolicy: Always`).
    pub(crate) long_running: bool,
    /// Whether its request fits the node when every GPU is free and healthy.
    pub(crate) fits_node: bool,
    /// Its containers, the init containers first.
    pub(crate) containers: Vec<Container>,
}

/// `status.phase`, and what comes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Phase {
    /// Refused by the API server: it never existed.
    Refused,
    /// Not on the node.
    Pending,
    /// On the node.
    Running,
    /// Every container ended well.
    Succeeded,
    /// The kubelet refused it, or a container failed.
    Failed,
}

/// What one container asked for and was given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Container {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is an init container.
    pub(crate) init: bool,
    /// The devices it was given, by resource.
    pub(crate) devices: BTreeMap<String, Vec<String>>,
    /// Environment variables from the device plugin.
    pub(crate) env: BTreeMap<String, String>,
    /// Mounts from the device plugin.
    pub(crate) mounts: Vec<Mount>,
    /// Device nodes from the device plugin.
    pub(crate) device_nodes: Vec<DeviceNode>,
    /// Annotations from the device plugin, for the container runtime.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Fully qualified CDI device names.
    pub(crate) cdi_devices: Vec<String>,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mount {
    /// The path on the node.
    pub(crate) host_path: String,
    /// The path in the container.
    pub(crate) container_path: String,
    /// Whether it may not be written to.
    pub(crate) read_only: bool,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceNode {
    /// The path on the node.
    pub(crate) host_path: String,
    /// The path in the container.
    pub(crate) container_path: String,
    /// `r`, `w` and `m`, as the device cgroup has them.
    pub(crate) permissions: String,
}

/// The agent's process.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Agent {
    /// Its process id.
    pub(crate) pid: i32,
    /// From its start to the first device list at the kubelet; absent while there is none.
    #[serde(rename = "readyMs", serialize_with = "some_millis")]
    pub(crate) ready: Option<Duration>,
    /// Memory, processor time, threads: the last that was seen.
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

/// A pod's or container's name as people write it: without the namespace `default`.
pub(crate) fn in_words(pod: &str) -> &str {
    pod.strip_prefix("default/").unwrap_or(pod)
}

/// Milliseconds with three decimals.
pub(crate) fn millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((time.as_secs_f64() * 1e6).round() / 1e3)
}

#[allow(clippy::ref_option, reason = "serde passes a reference to the field")]
fn some_millis<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => millis(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// A picture for tests: three GPUs, one of them sick; a pod that runs, one that waits.
#[cfg(test)]
pub(crate) use sample::sample;

#[cfg(test)]
pub(crate) mod sample;
