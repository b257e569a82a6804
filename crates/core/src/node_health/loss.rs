//! Whether all GPUs of a node are lost, for a taint that keeps pods away from it.

use std::time::Duration;

use super::{DriverSight, GpuSight, NodeHealth};

/// The key of the taint.
pub const TAINT_KEY: &str = "mizzen.dev/gpus-lost";
/// How long all GPUs must be lost before it counts: a driver that hangs for a moment must not
/// drive pods away.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the GPUs of a node are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// All are, and that for long enough.
    All,
    /// One at least is well, or there is none to lose.
    NotAll,
    /// That cannot be told now: what was decided stays.
    Unclear,
}

impl NodeHealth {
    /// Whether the GPUs are lost or sick beyond recovery, as it looks at this moment. A driver that
    /// does not answer, which may be about to be upgraded, says nothing of them; GPUs that are sick
    /// and may recover do not bring a node back by themselves.
    pub fn lost(&self) -> Lost {
        if !matches!(self.driver, DriverSight::Running { .. }) {
            Lost::Unclear
        } else if self.gpus.is_empty() || self.gpus.iter().any(GpuSight::is_well) {
            Lost::NotAll
        } else if self.gpus.iter().all(GpuSight::is_beyond_recovery) {
            Lost::All
        } else {
            Lost::Unclear
        }
    }
}

/// Waits until a loss has lasted.
#[derive(Debug, Clone, Default)]
pub struct LossWatch {
    since: Option<Duration>,
}

impl LossWatch {
    /// Takes in what is seen now, and says what is to be made of it.
    pub fn see(&mut self, health: &NodeHealth, now: Duration) -> Lost {
        let lost = health.lost();
        if lost != Lost::All {
            self.since = None;
            return lost;
        }
        let since = *self.since.get_or_insert(now);
        if now >= since + PATIENCE {
            Lost::All
        } else {
            Lost::Unclear
        }
    }

    /// When a loss will have lasted.
    pub fn next(&self, now: Duration) -> Option<Duration> {
        let lasted = self.since? + PATIENCE;
        (lasted > now).then_some(lasted)
    }
}
