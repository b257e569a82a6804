//! What a run's end means: the exit code and a sentence.

use std::process::ExitCode;

use super::picture::{Outcome, Phase, Pod};
use super::script::Action;

/// Every pod that can run on this node has run.
pub(crate) const ALL_RAN: u8 = 0;
/// The agent or the embedded kubelet did not work.
pub(crate) const BROKEN: u8 = 1;
/// A pod that fits the node did not run (to its end, where it has one).
pub(crate) const POD_DID_NOT_RUN: u8 = 3;
/// The API server would refuse a pod.
pub(crate) const POD_REFUSED: u8 = 4;
/// A step of the script could not be done.
pub(crate) const STEP_FAILED: u8 = 5;
/// Ended by Ctrl-C before all was done, as shells have it: 128 and SIGINT's number.
pub(crate) const INTERRUPTED: u8 = 130;

/// Judges the pods at the end of a run.
pub(crate) fn judge(pods: &[Pod], interrupted: bool) -> Outcome {
    let tally = Tally::of(pods);
    let exit_code = match tally {
        _ if interrupted && tally.unfinished > 0 => INTERRUPTED,
        Tally {
            failed: 0,
            unfinished: 0,
            refused: 0,
            ..
        } => ALL_RAN,
        Tally {
            failed: 0,
            unfinished: 0,
            ..
        } => POD_REFUSED,
        _ => POD_DID_NOT_RUN,
    };
    Outcome {
        exit_code,
        summary: tally.summary(pods.len()),
    }
}

/// A step of the script that could not be done; why is in the errors below it.
#[derive(Debug, thiserror::Error)]
#[error("--inject '{0}'")]
pub(crate) struct StepFailed(pub(crate) Action);

impl Outcome {
    /// The outcome of a run that could not go on.
    pub(crate) fn broken(error: &anyhow::Error) -> Self {
        let mut summary = format!("{error:#}.");
        if let Some(first) = summary.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let is_step = error.is::<StepFailed>();
        Self {
            exit_code: if is_step { STEP_FAILED } else { BROKEN },
            summary,
        }
    }

    /// The code as the process returns it.
    pub(crate) fn code(&self) -> ExitCode {
        self.exit_code.into()
    }
}

/// The pods by how they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tally {
    /// Ended well, or runs and has no end.
    ran: usize,
    /// Pending, for the node will never have so many devices.
    too_big: usize,
    /// The kubelet refused it, or a container failed.
    failed: usize,
    /// Waiting or running, and could have ended.
    unfinished: usize,
    refused: usize,
}

impl Tally {
    fn of(pods: &[Pod]) -> Self {
        let mut tally = Self::default();
        for pod in pods {
            *match pod.phase {
                Phase::Succeeded => &mut tally.ran,
                Phase::Running if pod.long_running => &mut tally.ran,
                Phase::Failed => &mut tally.failed,
                Phase::Refused => &mut tally.refused,
                Phase::Pending if !pod.fits_node => &mut tally.too_big,
                Phase::Pending | Phase::Running => &mut tally.unfinished,
            } += 1;
        }
        tally
    }

    fn summary(self, pods: usize) -> String {
        if pods == 0 {
            return "There were no pods to run.".to_owned();
        }
        let mut parts = vec![match (self.ran, pods) {
            (1, 1) => "The pod ran".to_owned(),
            (0, 1) => "The pod did not run".to_owned(),
            (all, pods) if all == pods => format!("All {pods} pods ran"),
            (some, pods) => format!("{some} of {pods} pods ran"),
        }];
        for (count, one, several) in [
            (
                self.too_big,
                "asks for more than this node has: Pending, as in a cluster",
                "ask for more than this node has: Pending, as in a cluster",
            ),
            (
                self.unfinished,
                "could have run and did not",
                "could have run and did not",
            ),
            (self.failed, "failed", "failed"),
            (
                self.refused,
                "was refused by the API server",
                "were refused by the API server",
            ),
        ] {
            match count {
                0 => {}
                1 => parts.push(format!("1 {one}")),
                _ => parts.push(format!("{count} {several}")),
            }
        }
        parts.join("; ") + "."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(phases: &[(Phase, bool)]) -> Vec<Pod> {
        phases
            .iter()
            .map(|&(phase, fits_node)| Pod {
                namespace: "default".into(),
                name: "pod".into(),
                file: String::new(),
                phase,
                reason: String::new(),
                message: String::new(),
                fits_node,
                long_running: false,
                containers: Vec::new(),
            })
            .collect()
    }

    #[test]
    fn a_pod_too_big_for_the_node_is_no_failure() {
        let outcome = judge(
            &pods(&[(Phase::Succeeded, true), (Phase::Pending, false)]),
            false,
        );
        assert_eq!(outcome.exit_code, ALL_RAN);
        assert_eq!(
            outcome.summary,
            "1 of 2 pods ran; 1 asks for more than this node has: Pending, as in a cluster."
        );
    }

    #[test]
    fn a_pod_that_fits_and_did_not_run_is_a_failure() {
        for phase in [Phase::Pending, Phase::Failed, Phase::Running] {
            let outcome = judge(&pods(&[(Phase::Succeeded, true), (phase, true)]), false);
            assert_eq!(outcome.exit_code, POD_DID_NOT_RUN, "{phase:?}");
        }
    }

    #[test]
    fn a_refused_pod_is_told_apart_from_one_that_did_not_run() {
        let refused = (Phase::Refused, true);
        assert_eq!(
            judge(&pods(&[(Phase::Succeeded, true), refused]), false).exit_code,
            POD_REFUSED
        );
        assert_eq!(
            judge(&pods(&[(Phase::Failed, true), refused]), false).exit_code,
            POD_DID_NOT_RUN
        );
    }

    #[test]
    fn a_pod_without_an_end_has_run_when_it_runs() {
        let mut serving = pods(&[(Phase::Running, true)]);
        serving[0].long_running = true;
        assert_eq!(judge(&serving, false).exit_code, ALL_RAN);
        serving[0].phase = Phase::Pending;
        assert_eq!(judge(&serving, false).exit_code, POD_DID_NOT_RUN);
    }

    #[test]
    fn an_interruption_counts_only_while_something_is_unfinished() {
        assert_eq!(
            judge(&pods(&[(Phase::Running, true)]), true).exit_code,
            INTERRUPTED
        );
        assert_eq!(
            judge(&pods(&[(Phase::Succeeded, true)]), true).exit_code,
            ALL_RAN
        );
    }

    #[test]
    fn no_pods_is_a_success_that_says_so() {
        let outcome = judge(&[], false);
        assert_eq!(
            (outcome.exit_code, outcome.summary.as_str()),
            (0, "There were no pods to run.")
        );
    }
}
