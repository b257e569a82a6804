//! Driving the simulated node: faults, loads, GPUs that come and go.

mod change;
mod fault;
mod mig;
mod select;
mod status;

use std::path::Path;

use crate::environment::Place;
use crate::node::Node;
use crate::scenario::Scenario;
use crate::state::{NodeFacts, SlotGpu, StateError, Store};

pub use change::{InstanceLoad, LoadChange, ProcessLoad};
pub(crate) use change::{is_persistent, rounded, used_mib};
pub use fault::{EccKind, EventCall, Fault, LinkError, RecoveryAction, RowRemap, ThrottleReason};
pub use mig::{GpuInstanceStatus, MigDeviceStatus, MigModeSet, MigStatus};
pub use select::{GpuRef, Gpus, InvalidGpuRef};
pub use status::{Affected, EccCounts, GpuStatus, MemoryRepairs, ProcessStatus, Status};

/// Why the simulated node cannot be driven.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The live state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Nobody answers to this name.
    #[error("there is no GPU {wanted}; the node has {known}")]
    NoSuchGpu {
        /// What was asked for.
        wanted: GpuRef,
        /// What there is.
        known: String,
    },
    /// The GPUs cannot be added.
    #[error("cannot add the GPU: {}", reasons.join("; "))]
    CannotAdd {
        /// Every reason.
        reasons: Vec<String>,
    },
    /// The GPU has as many processes as the simulator holds.
    #[error("GPU {index} has no room for another process")]
    TooManyProcesses {
        /// Its index.
        index: u32,
    },
    /// The GPU cannot be partitioned so.
    #[error("GPU {index} ({name}): {reason}")]
    Mig {
        /// Its index.
        index: usize,
        /// Its product name.
        name: String,
        /// Why not, and what would be right.
        reason: String,
    },
    /// GPUs before Ampere remap no rows of their memory.
    #[error("GPU {index} is a {name}, which remaps no rows of its memory: Ampere and later do")]
    NoRowRemapping {
        /// Its index.
        index: usize,
        /// Its product name.
        name: String,
    },
    /// The GPU has no NVLinks.
    #[error("GPU {index} is a {name} without NVLinks: choose pcie-replay, or a GPU that has some")]
    NoNvLinks {
        /// Its index.
        index: usize,
        /// Its product name.
        name: String,
    },
}

/// The simulated node, for those who drive it. Every change is seen at once by every process
/// that uses the node.
#[derive(Debug)]
pub struct Simulator {
    store: Store,
    place: Place,
}

impl Simulator {
    /// Opens the node of `place`; makes its state from the scenario if there is none.
    ///
    /// # Errors
    /// The scenario is wrong, or the state directory cannot be used.
    pub fn open(place: &Place) -> Result<Self, ControlError> {
        Ok(Self {
            store: Store::open(place)?,
            place: place.clone(),
        })
    }

    /// Makes the state in `directory` that of `scenario`, with no scenario file: processes need
    /// nothing but `MIZZEN_SIM_STATE=directory`.
    ///
    /// # Errors
    /// The scenario describes no possible node, or the directory cannot be used.
    pub fn create(directory: &Path, scenario: &Scenario) -> Result<Self, ControlError> {
        Ok(Self {
            store: Store::create(directory, scenario)?,
            place: Place::new(None, Some(directory.to_owned()), None),
        })
    }

    /// Makes the state anew from its scenario and forgets every live change.
    ///
    /// # Errors
    /// The scenario is wrong, or the state cannot be written.
    pub fn reset(&mut self) -> Result<(), ControlError> {
        self.store = Store::reset(&self.place)?;
        Ok(())
    }

    /// The directory of the live state, which `MIZZEN_SIM_STATE` names.
    pub fn state_directory(&self) -> &Path {
        self.store.directory()
    }

    /// Changes whenever a GPU comes or goes, or the scenario changes.
    pub fn generation(&self) -> u64 {
        self.store.generation()
    }

    /// The constant facts of the node, GPUs in the order of NVML's indices.
    ///
    /// # Errors
    /// The state cannot be repaired after a writer was killed.
    pub fn node(&self) -> Result<Node, ControlError> {
        Ok(self.planned(self.store.facts()?))
    }

    fn planned(&self, facts: NodeFacts) -> Node {
        Node {
            driver_version: facts.driver_version,
            cuda_version: facts.cuda_version,
            hostname: facts.hostname,
            device_nodes: facts.device_nodes,
            numa_nodes: self.store.numa_nodes(),
            gpus: facts.gpus.into_iter().map(|entry| entry.gpu).collect(),
        }
    }
}

/// What is said of GPUs that were changed.
fn affected(index: usize, entry: &SlotGpu) -> Affected {
    Affected {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        uuid: entry.gpu.uuid,
        pci: entry.gpu.pci,
        name: entry.gpu.name.clone(),
    }
}

#[cfg(test)]
mod tests;
