//! The health of a node's GPUs as the cluster is told it: one condition of the Node, Events about
//! what has changed, and whether the Node is to be tainted.

mod bucket;
mod chronicle;
mod condition;
mod loss;
#[cfg(test)]
mod tests;
mod words;

use serde::{Deserialize, Serialize};

use crate::gpu::{GpuUuid, PciBusId};
use crate::health::{GpuHealth, Reason};
use crate::state::{DriverStatus, KnownGpu, NodeState, driver_advice};

pub use bucket::Bucket;
pub use chronicle::{Chronicle, HealthEvent, Telling, Told};
pub use condition::{CONDITION, ConditionStatus, NodeCondition, Verdict};
pub use loss::{LossWatch, Lost, TAINT_KEY};
pub use words::shortened;

/// What of the picture of a node the cluster is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeHealth {
    /// The driver.
    pub driver: DriverSight,
    /// The GPUs that are meant to be offered, in the order in which they are.
    pub gpus: Vec<GpuSight>,
    /// Those that the settings leave out, whose health concerns nobody.
    pub left_out: Vec<GpuUuid>,
}

/// What is seen of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverSight {
    /// Nobody has looked yet.
    NotAsked,
    /// It does not answer.
    Away {
        /// Why.
        error: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// It answers.
    Running {
        /// Its version.
        version: String,
    },
}

/// What is seen of one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuSight {
    /// NVML's index.
    pub index: u32,
    /// Its UUID.
    pub uuid: GpuUuid,
    /// Its place on the bus.
    pub pci: PciBusId,
    /// Its model.
    pub model: String,
    /// Why it, or a part of it, is not fit for work; empty while all of it is.
    pub troubles: Vec<Trouble>,
}

/// A reason why a GPU, or a MIG device of it, is not fit for work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The MIG device that it concerns, in words; `None` where it is all of the GPU.
    pub part: Option<String>,
    /// What was seen.
    pub reason: Reason,
    /// When it was first seen, seconds since 1970.
    pub since: u64,
}

/// How a GPU stands, as far as the cluster must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It is not there.
    Absent,
    /// All of it is fit for work.
    Well,
    /// It, or a part of it, is not.
    Unhealthy,
    /// The driver cannot reach it any more.
    Lost,
}

impl NodeHealth {
    /// What the picture of a node tells.
    pub fn of(state: &NodeState) -> Self {
        let left_out = &state.offer().left_out;
        let mut health = Self {
            driver: DriverSight::of(state.driver()),
            gpus: Vec::new(),
            left_out: Vec::new(),
        };
        for (at, known) in state.gpus().iter().enumerate() {
            if left_out.contains(&at) {
                health.left_out.push(known.gpu.uuid.clone());
            } else {
                health.gpus.push(GpuSight::of(state, known));
            }
        }
        health
    }

    fn find(&self, uuid: &GpuUuid) -> Option<&GpuSight> {
        self.gpus.iter().find(|gpu| gpu.uuid == *uuid)
    }
}

impl DriverSight {
    fn of(status: &DriverStatus) -> Self {
        match status {
            DriverStatus::Unknown => Self::NotAsked,
            DriverStatus::Absent(error) => Self::Away {
                error: error.to_string(),
                advice: driver_advice(error),
            },
            DriverStatus::Running(versions) => Self::Running {
                version: versions.driver.clone(),
            },
        }
    }
}

impl GpuSight {
    fn of(state: &NodeState, known: &KnownGpu) -> Self {
        let counts = |health: &GpuHealth| state.is_health_watched() || !health.is_usable();
        let troubles = |health: &GpuHealth, part: Option<&String>| {
            let signs = health.signs().iter().filter(|_| counts(health));
            let trouble = |(reason, since): (&Reason, u64)| Trouble {
                part: part.cloned(),
                reason: reason.clone(),
                since,
            };
            let pairs = signs.map(|sign| (&sign.reason, sign.since));
            pairs.map(trouble).collect::<Vec<_>>()
        };
        let mut all = troubles(&known.health, None);
        for device in known.mig_devices() {
            if let Some(health) = known.instances.get(&device.uuid) {
                all.extend(troubles(health, Some(&device.words())));
            }
        }
        let gpu = &known.gpu;
        Self {
            index: gpu.index,
            uuid: gpu.uuid.clone(),
            pci: gpu.pci,
            model: gpu.name.clone(),
            troubles: all,
        }
    }

    /// Whether all of it is fit for work.
    pub fn is_well(&self) -> bool {
        self.troubles.is_empty()
    }

    /// What is wrong with all of it, not with a part alone.
    fn of_the_whole(&self) -> impl Iterator<Item = &Reason> {
        let whole = self
            .troubles
            .iter()
            .filter(|trouble| trouble.part.is_none());
        whole.map(|trouble| &trouble.reason)
    }

    /// Whether only a reboot of the node, or somebody's hands, can bring it back.
    pub fn is_beyond_recovery(&self) -> bool {
        self.of_the_whole().any(Reason::is_beyond_recovery)
    }

    fn standing(&self) -> Standing {
        if self.is_well() {
            Standing::Well
        } else if self.of_the_whole().any(Reason::is_loss) {
            Standing::Lost
        } else {
            Standing::Unhealthy
        }
    }

    /// The reasons, whatever the time.
    fn causes(&self) -> Vec<(Option<&str>, &Reason)> {
        let troubles = self.troubles.iter();
        troubles
            .map(|trouble| (trouble.part.as_deref(), &trouble.reason))
            .collect()
    }
}
