//! The condition of the Node.

use super::words::{are, count, shortened, story};
use super::{DriverSight, GpuSight, NodeHealth, Standing};

/// The type of the condition.
pub const CONDITION: &str = "GPUHealthy";
/// How long a message may be, in bytes. The API takes more; `kubectl describe node` prints it in
/// one line.
const LIMIT: usize = 1024;

/// What a condition says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not.
    False,
    /// Nobody can tell.
    Unknown,
}

impl ConditionStatus {
    /// The word of the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What the condition of the Node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCondition {
    /// Whether all GPUs are healthy.
    pub status: ConditionStatus,
    /// Why, in a word for machines.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

/// Which condition a node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody has looked yet: whatever it has, it keeps.
    NotYet,
    /// None: it has no GPUs to speak of.
    NoGpus,
    /// This one.
    Is(NodeCondition),
}

impl NodeHealth {
    /// The condition of the node. `on_bus` is whether the machine has an NVIDIA GPU on its PCI bus:
    /// where there is none, a node of which no driver has ever told one has no condition.
    pub fn condition(&self, on_bus: bool) -> Verdict {
        let gpus = &self.gpus;
        match &self.driver {
            DriverSight::NotAsked => Verdict::NotYet,
            DriverSight::Away { error, advice } if !gpus.is_empty() => {
                let gpus = count(gpus.len());
                is(
                    ConditionStatus::False,
                    "DriverGone",
                    &format!("no driver answers for {gpus}; to do: {advice}. It says: {error}"),
                )
            }
            _ if gpus.is_empty() && (!self.left_out.is_empty() || !on_bus) => Verdict::NoGpus,
            DriverSight::Away { error, advice } => is(
                ConditionStatus::Unknown,
                "DriverMissing",
                &format!(
                    "a GPU is on the PCI bus, and no driver answers yet; to do: {advice}. It says: \
                     {error}"
                ),
            ),
            DriverSight::Running { version } if gpus.is_empty() => is(
                ConditionStatus::Unknown,
                "NoGPUs",
                &format!(
                    "a GPU is on the PCI bus, and the driver {version} lists none; to do: see the \
                     kernel log (dmesg) for NVRM lines"
                ),
            ),
            DriverSight::Running { .. } => self.of_gpus(),
        }
    }

    fn of_gpus(&self) -> Verdict {
        let sick: Vec<&GpuSight> = self.gpus.iter().filter(|gpu| !gpu.is_well()).collect();
        let all = self.gpus.len();
        if sick.is_empty() {
            let message = format!("{} {} healthy", count(all), are(all));
            let message = match self.left_out.len() {
                0 => message,
                left_out => format!("{message}; the settings leave {left_out} out"),
            };
            return is(ConditionStatus::True, "GPUsHealthy", &message);
        }
        let lost = sick.iter().any(|gpu| gpu.standing() == Standing::Lost);
        let reason = if lost { "GPULost" } else { "GPUUnhealthy" };
        let begin = format!(
            "{} of {} {} not well. ",
            sick.len(),
            count(all),
            are(sick.len())
        );
        let message = format!("{begin}{}", story(&sick, LIMIT - begin.len()));
        is(ConditionStatus::False, reason, &message)
    }
}

fn is(status: ConditionStatus, reason: &'static str, message: &str) -> Verdict {
    Verdict::Is(NodeCondition {
        status,
        reason,
        message: shortened(message, LIMIT),
    })
}
