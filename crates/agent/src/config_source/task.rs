//! The task that hears of everything, decides, and hands the agent its settings.

use std::sync::Arc;

use mizzen_core::config::{Config, ConfigSource};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::decide::{Candidate, Decision, View, decide};
use super::memory::{self, Remembered};
use super::shelf::Shelf;
use super::{ConfigText, Interpreter, Settings};
use crate::cluster::{Known, Report, Reporter};

/// The task's state.
pub(super) struct Task {
    pub(super) source: ConfigSource,
    pub(super) interpret: Interpreter,
    pub(super) label: watch::Receiver<Known<Option<String>>>,
    pub(super) shelf: watch::Receiver<Known<Shelf>>,
    pub(super) reread: Arc<Notify>,
    /// What is in force, or was when a former process ended.
    pub(super) in_force: Option<Remembered>,
    /// What was last complained of, so that it is said once.
    pub(super) complaint: Option<String>,
    pub(super) reporter: Option<Reporter>,
    pub(super) memory: watch::Sender<Option<Remembered>>,
    pub(super) settings: mpsc::Sender<Settings>,
    /// Whether it was said what it means for this node that the API does not tell, and whether it
    /// refused to.
    pub(super) told_of_api: Option<bool>,
    /// Why the configs cannot be had, as it was said last while the label was not known.
    pub(super) told_of_shelf: Option<String>,
}

impl Task {
    /// The settings to begin with: those asked for as far as that is known, or else the last good
    /// ones.
    pub(super) fn first(&mut self, base: &Config) -> Option<Settings> {
        let loaded = memory::load(&base.state_dir, &self.source.place);
        let remembered = loaded.unwrap_or_else(|error| {
            tracing::warn!(
                event = "config-not-remembered",
                error,
                "starting without what was in force before"
            );
            None
        });
        let restored = remembered.as_ref().and_then(|found| self.restored(found));
        if restored.is_some() {
            self.in_force = remembered;
        }
        let asked_for = self.look(false);
        if asked_for.is_some() {
            return asked_for;
        }
        match (&restored, &self.complaint) {
            (Some(restored), Some(complaint)) => tracing::warn!(
                event = "config-remembered",
                error = complaint,
                "going on with {}, which was in force before",
                restored.words
            ),
            (None, None) if self.source.place.has_names() => tracing::info!(
                event = "config-waiting",
                "nothing is offered until the Kubernetes API has told which config is this node's"
            ),
            _ => {}
        }
        restored
    }

    /// The settings of a config that was in force before.
    fn restored(&self, remembered: &Remembered) -> Option<Settings> {
        let place = &self.source.place;
        let words = match &remembered.name {
            Some(_) if !place.has_names() => format!("the last good text of {place}"),
            Some(name) => format!("the config {name:?} of {place}"),
            None => format!("no config of {place}"),
        };
        let text = remembered.name.as_ref().map(|_| ConfigText {
            name: &words,
            text: &remembered.text,
        });
        match (self.interpret)(text) {
            Ok(config) => Some(Settings {
                config: Box::new(config),
                words,
                asked: false,
            }),
            Err(errors) => {
                tracing::warn!(
                    event = "config-not-remembered",
                    error = one_line(&errors),
                    "the last good config cannot be used any more"
                );
                None
            }
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let asked = tokio::select! {
                Ok(()) = self.label.changed() => false,
                Ok(()) = self.shelf.changed() => false,
                () = self.reread.notified() => true,
                () = stop.cancelled() => return,
            };
            if let Some(settings) = self.look(asked)
                && self.settings.send(settings).await.is_err()
            {
                return;
            }
        }
    }

    /// Looks at what is known, and says what the agent is to change.
    fn look(&mut self, asked: bool) -> Option<Settings> {
        let decision = decide(&View {
            source: &self.source,
            label: &self.label.borrow_and_update(),
            shelf: &self.shelf.borrow_and_update(),
            in_force: self.in_force.as_ref(),
        });
        self.tell_of_api();
        self.tell_of_shelf();
        match decision {
            Decision::Stay if asked => self.again(),
            Decision::Stay => None,
            Decision::Refuse(why) => {
                self.refuse(&why, asked);
                None
            }
            Decision::Take(candidate) => self.take(candidate, asked),
        }
    }

    /// What is in force, once more.
    fn again(&self) -> Option<Settings> {
        let restored = self.restored(self.in_force.as_ref()?)?;
        Some(Settings {
            asked: true,
            ..restored
        })
    }

    fn take(&mut self, candidate: Candidate, asked: bool) -> Option<Settings> {
        let Candidate {
            label,
            name,
            text,
            words,
        } = candidate;
        let wanted = Remembered::new(&self.source.place, label, name, text);
        let same = self
            .in_force
            .as_ref()
            .is_some_and(|old| old.name == wanted.name && old.text == wanted.text);
        let text = wanted.name.as_ref().map(|_| ConfigText {
            name: &words,
            text: &wanted.text,
        });
        let config = match (self.interpret)(text) {
            Ok(config) => config,
            Err(errors) => {
                self.refuse(&one_line(&errors), asked);
                return None;
            }
        };
        self.complaint = None;
        if self.in_force.as_ref() != Some(&wanted) {
            self.memory.send_replace(Some(wanted.clone()));
            self.in_force = Some(wanted);
        }
        if !same && let Some(reporter) = &self.reporter {
            reporter.tell(Report::ConfigApplied(format!("in force: {words}")));
        }
        (asked || !same).then(|| Settings {
            config: Box::new(config),
            words,
            asked,
        })
    }

    /// Says once what cannot be used, and why.
    fn refuse(&mut self, why: &str, asked: bool) {
        if self.complaint.as_deref() == Some(why) && !asked {
            return;
        }
        let goes_on = if self.in_force.is_some() || !self.source.place.has_names() {
            "the old ones stay"
        } else {
            "nothing is offered until they can"
        };
        tracing::error!(
            event = "reload",
            "the new settings cannot be used; {goes_on}: {why}"
        );
        if let Some(reporter) = &self.reporter
            && self.complaint.as_deref() != Some(why)
        {
            reporter.tell(Report::InvalidConfig(why.to_owned()));
        }
        self.complaint = Some(why.to_owned());
    }

    /// Says once that there are no configs to choose from, where the choice has to wait: that the
    /// API does not answer is half of the truth then.
    fn tell_of_shelf(&mut self) {
        if let Known::Is(_) | Known::Refused = *self.label.borrow() {
            return;
        }
        let why = match &*self.shelf.borrow() {
            Known::Is(configs) => configs.names().err(),
            Known::NotYet | Known::Away | Known::Refused => None,
        };
        if why == self.told_of_shelf {
            return;
        }
        if let Some(why) = &why {
            tracing::warn!(
                event = "config-missing",
                "there is no config to choose, whatever the Kubernetes API tells: {why}"
            );
        }
        self.told_of_shelf = why;
    }

    /// Says once what it means for this node that the API does not tell.
    fn tell_of_api(&mut self) {
        let silence = |away: bool, refused: bool| (away || refused).then_some(refused);
        let silent = {
            let (label, configs) = (self.label.borrow(), self.shelf.borrow());
            silence(*label == Known::Away, *label == Known::Refused)
                .or_else(|| silence(*configs == Known::Away, *configs == Known::Refused))
        };
        let Some(refused) = silent else {
            return;
        };
        if self.told_of_api.replace(refused) == Some(refused) {
            return;
        }
        let what = match &self.in_force {
            Some(in_force) => format!(
                "going on with {}, which was in force before",
                in_force
                    .name
                    .as_ref()
                    .map_or("no config".to_owned(), |name| format!(
                        "the config {name:?}"
                    ))
            ),
            None if refused => "going on as if the node had no label".to_owned(),
            None => "nothing is offered until the Kubernetes API answers".to_owned(),
        };
        tracing::warn!(
            event = "config-unknown",
            "which config is this node's cannot be known: {what}"
        );
    }
}

/// Errors of several lines, in one.
fn one_line(errors: &str) -> String {
    let mut lines = errors.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    let others: Vec<&str> = lines.collect();
    if others.is_empty() {
        first.to_owned()
    } else {
        format!("{first} {}", others.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_errors_become_one_line() {
        assert_eq!(one_line("one"), "one");
        assert_eq!(one_line("all of it:\n  a\n  b"), "all of it: a; b");
    }
}
