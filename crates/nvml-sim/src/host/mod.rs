//! The machine around the simulated driver: what `/sys`, `/proc` and `/dev` of a node with these
//! GPUs look like, written below a directory.
//!
//! The tree is a pure function of the [`Node`] and of what its GPUs are partitioned into. Entries appear in the order in which a kernel
//! makes them (`/sys`, `/proc`, device nodes last) and go in the opposite order, so that a
//! program that watches `/dev` finds everything else in place.

mod apply;
mod bus;
mod device_nodes;
mod files;
mod make;
mod manifest;
mod pci;
mod plan;
mod procfs;
mod sysfs;
mod tree;

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::mig::{self, Partition};
use crate::node::Node;

use plan::Plan;

/// Whether the machine has a real device node, or an empty file in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// A character device.
    CharacterDevice,
    /// An empty file: the caller may not make devices here.
    EmptyFile,
}

/// One entry of `/dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceNode {
    /// Path in the simulated machine, `/dev/nvidia0`.
    pub path: String,
    /// Major number, the driver's.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// What is really there.
    pub kind: NodeKind,
}

/// What [`write()`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// The directory, as an absolute path without links.
    pub root: PathBuf,
    /// Every device node of the machine.
    pub device_nodes: Vec<DeviceNode>,
    /// Why some nodes are empty files; none if all are character devices.
    pub no_devices_because: Option<String>,
    /// The file system is mounted `nodev`: character devices in it cannot be opened there.
    pub mounted_nodev: bool,
    /// Entries that were made or changed.
    pub written: usize,
    /// Entries that were removed.
    pub removed: usize,
}

/// Why the machine cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The directory is the root of the real machine.
    #[error("{path:?} is the root of this machine: name a directory of the simulated one")]
    Root {
        /// What was asked for.
        path: PathBuf,
    },
    /// Something that the simulator did not write is where it must write.
    #[error(
        "{path:?} is in the way: the simulator would write {wanted} and did not write what is \
         there; remove it or choose another directory"
    )]
    Occupied {
        /// What is in the way.
        path: PathBuf,
        /// What should be there.
        wanted: &'static str,
    },
    /// The list of what was written cannot be trusted.
    #[error("{path:?}, line {line}: not written by the simulator; remove the whole directory")]
    Manifest {
        /// The list.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
    },
    /// The file system refused.
    #[error("cannot {action} {path:?}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not; in the message already, so no source of this error.
        error: io::Error,
    },
}

/// Makes the tree below `dir` that of `node`, its GPUs partitioned as when they come. `dir` is
/// made if it is not there. What an earlier call wrote and is no longer true is changed or
/// removed; other files in `dir` are left alone, symbolic links in it are never followed. What
/// was written is listed in `dir/.mizzen-sim-host`.
///
/// Device nodes are character devices where the caller may make them, else empty files; the
/// report says which.
///
/// # Errors
/// `dir` is `/`, something else is in the way, or the file system refuses. A call that failed or
/// was killed half-way is completed by the next one.
pub fn write(node: &Node, dir: &Path) -> Result<HostReport, HostError> {
    let partitions: Vec<_> = node.gpus.iter().map(Partition::initial).collect();
    write_partitioned(node, &partitions, dir)
}

/// As [`write()`], with what the node's GPUs are partitioned into now, in the same order.
///
/// # Errors
/// Those of [`write()`].
pub fn write_partitioned(
    node: &Node,
    partitions: &[Option<Partition>],
    dir: &Path,
) -> Result<HostReport, HostError> {
    let tree = tree::Tree::open(dir)?;
    apply::apply(&tree, &plan(node, partitions))
}

/// The capability to use one instance.
#[derive(Debug, Clone, Copy)]
struct Capability {
    /// Minor number of the GPU.
    gpu: u32,
    gpu_instance: u32,
    compute_instance: Option<u32>,
    /// Minor number of the capability.
    minor: u32,
}

/// The capabilities of all instances, those of a GPU instance before those of what is in it.
fn capabilities(node: &Node, partitions: &[Option<Partition>]) -> Vec<Capability> {
    let mut all = Vec::new();
    for (gpu, partition) in node.gpus.iter().zip(partitions) {
        for parent in partition.iter().flat_map(|found| &found.gpu_instances) {
            let inside = partition.iter().flat_map(|found| found.inside(parent.id));
            let inside = inside.map(|instance| Some(instance.id));
            all.extend([None].into_iter().chain(inside).filter_map(|compute| {
                Some(Capability {
                    gpu: gpu.minor,
                    gpu_instance: parent.id,
                    compute_instance: compute,
                    minor: mig::capability(gpu.minor, parent.id, compute)?,
                })
            }));
        }
    }
    all
}

/// Everything that the machine shows, in the order in which a kernel makes it.
fn plan(node: &Node, partitions: &[Option<Partition>]) -> Plan {
    let mut plan = Plan::default();
    let layout = bus::Layout::of(node);
    let capabilities = capabilities(node, partitions);
    sysfs::processors(&mut plan, node);
    sysfs::machine(&mut plan, node);
    pci::functions(&mut plan, node, &layout);
    sysfs::drm(&mut plan, node, &layout);
    procfs::kernel(&mut plan, node);
    procfs::driver(&mut plan, node);
    procfs::instances(&mut plan, &capabilities);
    device_nodes::control(&mut plan);
    device_nodes::instances(&mut plan, &capabilities);
    device_nodes::gpus(&mut plan, node);
    plan
}

#[cfg(test)]
mod tests;
