//! What is said about the node's GPUs: the state in the label, and the words in log and Events.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use mizzen_core::driver::DriverError;
use mizzen_core::mig::{MigStep, MigTarget};

use super::decide::Change;
use crate::cluster::PodName;

/// The value of the label that says what has become of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MigState {
    /// It is being made, or waits for pods.
    Pending,
    /// It waits for a reset of a GPU, or a reboot.
    Rebooting,
    /// Every GPU is as it shall be.
    Success,
    /// Some GPU is not, and why is in an Event.
    Failed,
}

impl MigState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Rebooting => "rebooting",
            Self::Success => "success",
            Self::Failed => "failed",
        }
    }
}

/// What has become of one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is as it shall be; whether something was done for that.
    Met(bool),
    /// Its mode is set, and it waits for a reset.
    Reset,
    /// Pods hold what must go for this change.
    Waiting(BTreeSet<PodName>, Change),
    /// It did not work this time.
    Failed(String),
    /// It cannot work.
    Impossible(String),
}

impl Outcome {
    /// Whether it may be otherwise the next time.
    pub(super) fn is_to_be_tried_again(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Waiting(..))
    }
}

/// What has become of a GPU, and what was wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) index: u32,
    /// `None` where it could not even be found out.
    pub(super) target: Option<MigTarget>,
    pub(super) outcome: Outcome,
}

impl Report {
    /// What is the matter, and what to do about it; `None` if all is well.
    fn trouble(&self) -> Option<(String, String)> {
        let index = self.index;
        let target = self.target.as_ref().map(ToString::to_string);
        let target = target.unwrap_or_default();
        Some(match &self.outcome {
            Outcome::Met(_) => return None,
            Outcome::Reset => (
                format!("GPU {index}: its MIG mode is set, and is in force after its next reset"),
                format!(
                    "reset it with nvidia-smi --gpu-reset -i {index} while no process uses it, or \
                     reboot the node"
                ),
            ),
            Outcome::Waiting(pods, _) => (
                format!(
                    "GPU {index}: what must go for {target} is held by {}",
                    list(pods)
                ),
                "delete these pods, or have the agent evict them (--mig-evict)".to_owned(),
            ),
            Outcome::Failed(why) => (format!("GPU {index}: {why}"), String::new()),
            Outcome::Impossible(why) => (
                format!("GPU {index}: {why}"),
                "name another layout, or change it in the file".to_owned(),
            ),
        })
    }
}

/// Where a layout stands, for label, Event and log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: MigState,
    pub(super) words: String,
    pub(super) todo: String,
}

impl Standing {
    /// That nothing can be done, and why.
    pub(super) fn failed(words: String) -> Self {
        Self {
            state: MigState::Failed,
            words,
            todo: String::new(),
        }
    }

    /// Where the layout `name` stands when this has become of the GPUs.
    pub(super) fn of(name: &str, gpus: &[Report]) -> Self {
        let is = |wanted: fn(&Outcome) -> bool| gpus.iter().any(|gpu| wanted(&gpu.outcome));
        let state = if is(|one| matches!(one, Outcome::Failed(_) | Outcome::Impossible(_))) {
            MigState::Failed
        } else if is(|one| matches!(one, Outcome::Waiting(..))) {
            MigState::Pending
        } else if is(|one| matches!(one, Outcome::Reset)) {
            MigState::Rebooting
        } else {
            MigState::Success
        };
        let troubles: Vec<_> = gpus.iter().filter_map(Report::trouble).collect();
        let (words, mut todo): (Vec<String>, Vec<String>) = troubles.into_iter().unzip();
        todo.retain(|todo| !todo.is_empty());
        todo.dedup();
        let words = match words.as_slice() {
            [] => format!("{name}: {}", summary(gpus)),
            words => format!("{name}: {}", words.join("; ")),
        };
        Self {
            state,
            words,
            todo: todo.join("; "),
        }
    }

    /// All of it in one text.
    pub(super) fn message(&self) -> String {
        let mut message = self.words.clone();
        if !self.todo.is_empty() {
            let _ = write!(message, " ({})", self.todo);
        }
        message
    }
}

/// The GPUs by what they are: `GPUs 0, 1: 1g.10gb x7`.
fn summary(gpus: &[Report]) -> String {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for gpu in gpus {
        let target = gpu.target.as_ref().map(ToString::to_string);
        let target = target.unwrap_or_default();
        match groups.iter_mut().find(|(known, _)| *known == target) {
            Some((_, indices)) => indices.push(gpu.index.to_string()),
            None => groups.push((target, vec![gpu.index.to_string()])),
        }
    }
    let words: Vec<String> = groups
        .iter()
        .map(|(target, indices)| match indices.as_slice() {
            [one] => format!("GPU {one} is {target}"),
            several => format!("GPUs {} are {target}", several.join(", ")),
        })
        .collect();
    if words.is_empty() {
        return "it asks nothing of this node's GPUs".to_owned();
    }
    words.join("; ")
}

/// Pods, in a sentence.
pub(super) fn list(pods: &BTreeSet<PodName>) -> String {
    let names: Vec<String> = pods.iter().map(PodName::to_string).collect();
    match names.as_slice() {
        [] => "unknown pods".to_owned(),
        [one] => format!("pod {one}"),
        several => format!("pods {}", several.join(", ")),
    }
}

/// A step, in a sentence.
pub(super) struct StepWords<'a>(pub(super) &'a MigStep);

impl fmt::Display for StepWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            MigStep::SetMode(true) => f.write_str("turn MIG on"),
            MigStep::SetMode(false) => f.write_str("turn MIG off"),
            MigStep::DestroyComputeInstance { gpu_instance, id } => {
                write!(
                    f,
                    "destroy compute instance {id} of GPU instance {gpu_instance}"
                )
            }
            MigStep::DestroyGpuInstance { id } => write!(f, "destroy GPU instance {id}"),
            MigStep::CreateComputeInstances {
                gpu_instance,
                slices,
            } => write!(
                f,
                "create {} compute instances in GPU instance {gpu_instance}",
                slices.len()
            ),
            MigStep::CreateGpuInstance {
                profile, placement, ..
            } => write!(f, "create {profile} at {placement}"),
        }
    }
}

/// A step that the driver did not take.
pub(super) fn refused(step: &MigStep, error: &DriverError) -> String {
    let advice = match error {
        DriverError::InUse => {
            "; no pod holds it, so another process does (nvidia-smi shows which, as far as it can)"
        }
        DriverError::NoPermission => "; to partition GPUs takes CAP_SYS_ADMIN",
        DriverError::Hung { .. } => "; what was asked for may still happen, so it stays withheld",
        _ => "",
    };
    format!("the driver did not {}: {error}{advice}", StepWords(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(index: u32, outcome: Outcome) -> Report {
        Report {
            index,
            target: Some(MigTarget {
                enabled: true,
                devices: [("1g.10gb".parse().unwrap(), 7)].into(),
            }),
            outcome,
        }
    }

    fn waiting() -> Outcome {
        let pod = PodName {
            namespace: "ns".to_owned(),
            name: "train".to_owned(),
        };
        let change = Change {
            withheld: None,
            gone: BTreeSet::new(),
            steps: Vec::new(),
        };
        Outcome::Waiting([pod].into(), change)
    }

    #[test]
    fn the_worst_gpu_decides_the_state() {
        let state = |outcomes: Vec<Outcome>| {
            let gpus: Vec<Report> = (0..).zip(outcomes).map(|(i, one)| report(i, one)).collect();
            Standing::of("x", &gpus).state.as_str()
        };
        let failed = || Outcome::Failed("no".to_owned());
        assert_eq!(state(vec![]), "success");
        assert_eq!(state(vec![Outcome::Met(true)]), "success");
        assert_eq!(
            state(vec![Outcome::Met(false), Outcome::Reset]),
            "rebooting"
        );
        assert_eq!(state(vec![Outcome::Reset, waiting()]), "pending");
        assert_eq!(state(vec![waiting(), failed()]), "failed");
        let impossible = Outcome::Impossible("no".to_owned());
        assert_eq!(state(vec![Outcome::Met(false), impossible]), "failed");
    }

    #[test]
    fn who_must_do_what_is_said() {
        let words = |outcome| Standing::of("all-1g.10gb", &[report(3, outcome)]).message();
        assert_eq!(
            words(Outcome::Met(true)),
            "all-1g.10gb: GPU 3 is 1g.10gb x7"
        );
        let reset = words(Outcome::Reset);
        assert!(reset.contains("nvidia-smi --gpu-reset -i 3"), "{reset}");
        assert!(reset.contains("reboot"), "{reset}");
        let waits = words(waiting());
        assert!(waits.contains("GPU 3: what must go"), "{waits}");
        assert!(waits.contains("is held by pod ns/train"), "{waits}");
        assert!(waits.contains("--mig-evict"), "{waits}");
    }
}
