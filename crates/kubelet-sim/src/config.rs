//! The node to be simulated.

use std::path::PathBuf;

use crate::topology::TopologyPolicy;

/// The node and where its kubelet keeps its files.
#[derive(Debug, Clone)]
pub struct Config {
    /// The kubelet's directory, `/var/lib/kubelet` on a real node: `device-plugins/` and
    /// `pod-resources/` are made in it. Socket paths may be 107 bytes long at most.
    pub root: PathBuf,
    /// The node's name.
    pub node_name: String,
    /// CPUs, in thousandths.
    pub milli_cpus: i64,
    /// Memory.
    pub memory_bytes: i64,
    /// Ephemeral storage.
    pub storage_bytes: i64,
    /// Pods the kubelet takes at most.
    pub max_pods: i64,
    /// What the kubelet does about NUMA nodes.
    pub topology_policy: TopologyPolicy,
    /// Seed of the arbitrary order in which the kubelet names devices.
    pub seed: u64,
}

impl Config {
    /// A large GPU server: 128 CPUs, 2 TiB of memory, 8 TB of storage, 110 pods.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            node_name: "mizzen-node".to_owned(),
            milli_cpus: 128_000,
            memory_bytes: 2 << 40,
            storage_bytes: 8_000_000_000_000,
            max_pods: 110,
            topology_policy: TopologyPolicy::None,
            seed: 0,
        }
    }

    /// Where plugins' sockets, `kubelet.sock` and the checkpoint lie.
    pub fn plugin_dir(&self) -> PathBuf {
        self.root.join("device-plugins")
    }

    /// Where the `PodResources` socket lies.
    pub fn pod_resources_dir(&self) -> PathBuf {
        self.root.join("pod-resources")
    }
}
