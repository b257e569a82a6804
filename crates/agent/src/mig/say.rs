//! Saying where the layout stands: in the label, in Events and in the log.

use mizzen_core::mig::MigTarget;

use super::manager::Manager;
use super::words::{MigState, Standing};
use crate::cluster::Report;

impl Manager {
    /// Says once where the layout stands.
    pub(super) fn stand(&mut self, standing: Standing) {
        if self.course.wish.is_heard() {
            let _ = self.states.send(Some(standing.state));
        }
        if self.course.standing.as_ref() == Some(&standing) {
            return;
        }
        let Standing { state, words, todo } = &standing;
        let todo = (!todo.is_empty()).then_some(todo);
        let message = standing.message();
        let report = match state {
            MigState::Success => {
                tracing::info!(event = "mig-applied", "{words}");
                // Nobody waits for the news that nothing had to be done.
                let news = self.course.applying || self.course.standing.is_some();
                news.then_some(Report::MigConfigApplied(message))
            }
            MigState::Pending | MigState::Rebooting => {
                tracing::warn!(event = "mig-waiting", todo, "{words}");
                Some(Report::MigConfigWaiting(message))
            }
            MigState::Failed => {
                tracing::error!(event = "mig-failed", todo, "{words}");
                Some(Report::MigConfigFailed(message))
            }
        };
        if let Some(report) = report {
            self.reporter.tell(report);
        }
        self.course.standing = Some(standing);
    }

    /// Says once for each wish that GPUs are being changed.
    pub(super) fn say_applying(&mut self, index: u32, target: &MigTarget) {
        tracing::info!(
            event = "mig-applying",
            gpu = index,
            "GPU {index} is to be {target}"
        );
        if !self.course.applying {
            self.course.applying = true;
            let name = self.course.wish.name();
            let words = format!("applying {name}, beginning with GPU {index}: {target}");
            self.reporter.tell(Report::MigConfigApplying(words));
        }
    }
}
