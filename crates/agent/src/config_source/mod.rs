//! The settings that may change while the agent runs: where they are, which of them are for this
//! node, and what becomes of those that cannot be used.
//!
//! One task hears of the Node's label, of the texts of configs and of a person's SIGHUP, decides
//! what is to be in force, and hands it to the agent. A config that cannot be used changes
//! nothing; the last one that could is remembered on the disk.

mod decide;
mod memory;
mod shelf;
mod watches;

use std::path::PathBuf;
use std::sync::Arc;

use mizzen_core::config::{Config, ConfigPlace, ConfigSource};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::cluster::{ClientFactory, Cluster, Report, Reporter, connect, post};
use crate::supervisor::Supervisor;
use decide::{Candidate, Decision, View, decide};
use memory::Remembered;
use shelf::{Shelf, watch_disk};
use watches::{follow_config_map, follow_label};

/// Settings that wait for the agent.
const SETTINGS_LIMIT: usize = 1;

/// A config's text.
#[derive(Debug, Clone, Copy)]
pub struct ConfigText<'a> {
    /// What to call it in words.
    pub name: &'a str,
    /// What it says.
    pub text: &'a str,
}

/// Joins a config's text, if there is one, with flags and environment; says everything that is
/// wrong, for people.
pub type Interpreter = Arc<dyn Fn(Option<ConfigText<'_>>) -> Result<Config, String> + Send + Sync>;

/// What is known of something that only others can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known<T> {
    /// Nothing was heard yet.
    NotYet,
    /// They do not answer.
    Away,
    /// They have said that they will not tell, or that there is nothing to tell.
    Refused,
    /// This.
    Is(T),
}

/// Settings for the agent to take over.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) config: Box<Config>,
    /// Where they are from, in words.
    pub(crate) words: String,
    /// Whether somebody asked for them to be read again.
    pub(crate) asked: bool,
}

/// A started source.
#[derive(Debug)]
pub(crate) struct Source {
    /// What can be used at once; without it the agent must wait.
    pub(crate) first: Option<Settings>,
    /// What is to be used from then on.
    pub(crate) settings: mpsc::Receiver<Settings>,
    /// Tells the source to read everything again.
    pub(crate) reread: Arc<Notify>,
}

/// Starts what `base`, the settings of flags and environment, says about the source of others.
pub(crate) fn start(
    base: &Config,
    interpret: Interpreter,
    client: Option<ClientFactory>,
    supervisor: &mut Supervisor,
    stop: &CancellationToken,
    clock: Clock,
) -> Source {
    let source = base.source.clone();
    let (tell_label, label) = watch::channel(Known::Is(None));
    let (tell_shelf, shelf) = watch::channel(Known::NotYet);
    let mut reporter = None;
    if source.needs_api() {
        let client = client.unwrap_or_else(|| {
            let source = source.clone();
            Arc::new(move || connect(&source))
        });
        let cluster = Cluster::new(client);
        reporter = start_api(
            &source,
            &cluster,
            tell_label,
            &tell_shelf,
            supervisor,
            stop,
            clock,
        );
    }
    match &source.place {
        ConfigPlace::File(path) => {
            start_disk(
                Shelf::File(path.clone()),
                path,
                tell_shelf,
                supervisor,
                stop,
            );
        }
        ConfigPlace::Directory(path) => {
            start_disk(
                Shelf::Directory(path.clone()),
                path,
                tell_shelf,
                supervisor,
                stop,
            );
        }
        ConfigPlace::Nowhere | ConfigPlace::ConfigMap(_) => {}
    }
    let (tell_memory, memory) = watch::channel(None);
    if source.place.has_names() {
        let dir = base.state_dir.clone();
        supervisor.keep("config on disk", move || {
            memory::keep(dir.clone(), memory.clone())
        });
    }
    let (send, settings) = mpsc::channel(SETTINGS_LIMIT);
    let reread = Arc::new(Notify::new());
    let mut task = Task {
        source,
        interpret,
        label,
        shelf,
        reread: reread.clone(),
        in_force: None,
        complaint: None,
        reporter,
        memory: tell_memory,
        settings: send,
        told_of_api: None,
    };
    let first = task.first(base);
    supervisor.essential("config source", task.run(stop.clone()));
    Source {
        first,
        settings,
        reread,
    }
}

/// Starts what needs the Kubernetes API.
fn start_api(
    source: &ConfigSource,
    cluster: &Cluster,
    tell_label: watch::Sender<Known<Option<String>>>,
    tell_shelf: &watch::Sender<Known<Shelf>>,
    supervisor: &mut Supervisor,
    stop: &CancellationToken,
    clock: Clock,
) -> Option<Reporter> {
    if let ConfigPlace::ConfigMap(name) = &source.place {
        let follow = follow_config_map(cluster.clone(), name.clone(), tell_shelf.clone());
        supervisor.essential("config map", until(stop, follow));
    }
    let node = source.node_name.clone()?;
    tell_label.send_replace(Known::NotYet);
    let key = source.node_label.clone();
    let follow = follow_label(cluster.clone(), node.clone(), key, tell_label);
    supervisor.essential("node label", until(stop, follow));
    let (reporter, reports) = Reporter::new();
    let post = post(cluster.clone(), node, clock, reports);
    supervisor.essential("events", until(stop, post));
    Some(reporter)
}

/// Starts the watch on the disk, whose content is known from the start.
fn start_disk(
    shelf: Shelf,
    path: &std::path::Path,
    tell: watch::Sender<Known<Shelf>>,
    supervisor: &mut Supervisor,
    stop: &CancellationToken,
) {
    tell.send_replace(Known::Is(shelf.clone()));
    let watching = watch_disk(shelf, PathBuf::from(path), tell);
    supervisor.essential("config files", until(stop, watching));
}

/// Runs `task` until the stop.
fn until(
    stop: &CancellationToken,
    task: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let stop = stop.clone();
    async move {
        tokio::select! {
            () = task => {}
            () = stop.cancelled() => {}
        }
    }
}

/// The task that decides.
struct Task {
    source: ConfigSource,
    interpret: Interpreter,
    label: watch::Receiver<Known<Option<String>>>,
    shelf: watch::Receiver<Known<Shelf>>,
    reread: Arc<Notify>,
    /// What is in force, or was when a former process ended.
    in_force: Option<Remembered>,
    /// What was last complained of, so that it is said once.
    complaint: Option<String>,
    reporter: Option<Reporter>,
    memory: watch::Sender<Option<Remembered>>,
    settings: mpsc::Sender<Settings>,
    /// Whether it was said what it means for this node that the API does not tell, and whether it
    /// refused to.
    told_of_api: Option<bool>,
}

impl Task {
    /// The settings to begin with: those asked for as far as that is known, or else the last good
    /// ones.
    fn first(&mut self, base: &Config) -> Option<Settings> {
        if !self.source.place.has_names() {
            return None;
        }
        let remembered = memory::load(&base.state_dir, &self.source.place);
        let restored = remembered.as_ref().and_then(|found| self.restored(found));
        if restored.is_some() {
            self.in_force = remembered;
        }
        match self.look(false) {
            Some(settings) => Some(settings),
            None => {
                if let (Some(restored), Some(complaint)) = (&restored, &self.complaint) {
                    tracing::warn!(
                        event = "config-remembered",
                        error = complaint,
                        "going on with {}, which was in force before",
                        restored.words
                    );
                } else if restored.is_none() && self.complaint.is_none() {
                    tracing::info!(
                        event = "config-waiting",
                        "nothing is offered until the Kubernetes API has told which config is \
                         this node's"
                    );
                }
                restored
            }
        }
    }

    /// The settings of a config that was in force before.
    fn restored(&self, remembered: &Remembered) -> Option<Settings> {
        let words = match &remembered.name {
            Some(name) => format!("the config {name:?} of {}", self.source.place),
            None => format!("no config of {}", self.source.place),
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

    async fn run(mut self, stop: CancellationToken) {
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
            if self.source.place.has_names() {
                self.memory.send_replace(Some(wanted.clone()));
            }
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

    /// Says once what it means for this node that the API does not tell.
    fn tell_of_api(&mut self) {
        let unknown = |away: bool, refused: bool| (away || refused).then_some(refused);
        let label = self.label.borrow();
        let shelf = self.shelf.borrow();
        let label = unknown(*label == Known::Away, *label == Known::Refused);
        let shelf = unknown(*shelf == Known::Away, *shelf == Known::Refused);
        let Some(refused) = label.or(shelf) else {
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
