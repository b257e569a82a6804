//! The labels of a running agent, kept where the settings say.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::config::{Config, LabelsTo};
use mizzen_core::labels::{Labels, Vgpu, keep_time, parse_features_file};
use mizzen_core::state::NodeState;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use super::api::{ApiLabels, Trouble, Written};
use super::facts::{self, Session, Sources};
use super::file::LabelsFile;
use super::place::Place;
use super::record::{self, Record};
use crate::cluster::Cluster;
use crate::ground::Ground;
use crate::record::boot_id;

/// Over which time agents that start anew, and have something to write or to ask, do so.
const START: Duration = Duration::from_secs(30);
/// Over which time agents that start anew look whether the API has what they remember.
const FIRST_LOOK: Duration = Duration::from_mins(5);

/// What the task has.
type Wanted = watch::Receiver<Option<Labels>>;

/// What labels of a running agent are made of.
pub(crate) struct Labelled {
    /// The picture of the node.
    pub(crate) state: watch::Receiver<Arc<NodeState>>,
    /// The driver's session.
    pub(crate) session: watch::Receiver<Session>,
    /// Whether there are vGPUs, as it was read before rights were given up.
    pub(crate) vgpu: Vgpu,
}

/// Starts to keep the labels, if the settings ask for it.
pub(crate) fn start(config: &Config, cluster: &Cluster, of: Labelled, ground: &mut Ground) {
    let to = config.labels.of_agent();
    if to == LabelsTo::Off {
        return record::forget(&config.state_dir);
    }
    let (tell, wanted) = watch::channel(None);
    let sources = Sources {
        state: of.state,
        session: of.session,
        started: ground.clock.now().wall,
        vgpu: of.vgpu,
    };
    ground.keep_until_stop("labels", facts::follow(sources, tell));
    let Some(place) = Place::of(config, to) else {
        let file = config.labels.features_file();
        return ground.keep_until_stop("labels in a file", keep_in_file(file, wanted));
    };
    let memory = Memory {
        dir: config.state_dir.clone(),
        boot_id: boot_id(&config.host_root),
        saved: None,
        fails: false,
    };
    let api = ApiLabels::new(place, cluster.clone());
    ground.keep_until_stop("labels in the API", keep_in_api(api, memory, wanted));
}

/// Keeps labels in the API until there can be no others.
///
/// The first labels of a node are written at once. An agent that was there before, and remembers
/// what the API has, writes and asks nothing if that is right, and otherwise at a time of its own.
pub(super) async fn keep_in_api(mut api: ApiLabels, mut memory: Memory, mut wanted: Wanted) {
    let mut not_before = memory.recall(&mut api);
    let mut said = Said::default();
    loop {
        let labels = wanted.borrow_and_update().clone();
        let due = labels
            .as_ref()
            .map(|labels| api.due(labels).max(not_before));
        tokio::select! {
            biased;
            changed = wanted.changed() => if changed.is_err() { return },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let Some(labels) = labels else { continue };
                match api.write(&labels).await {
                    Ok(written) => {
                        said.written(&api, &written);
                        memory.note(&api).await;
                        not_before = Instant::now();
                    }
                    Err(trouble) => {
                        said.failed(&api, &trouble);
                        not_before = Instant::now() + trouble.pause;
                    }
                }
            }
        }
    }
}

/// What the log has been told.
#[derive(Debug, Default)]
struct Said {
    trouble: Option<String>,
    taken: bool,
}

impl Said {
    fn written(&mut self, api: &ApiLabels, written: &Written) {
        let place = api.place().words();
        if let Some(taken) = &written.taken {
            if self.taken {
                tracing::debug!(event = "labels-taken-over", taken, "{place}");
            } else {
                self.taken = true;
                tracing::warn!(
                    event = "labels-taken-over",
                    taken,
                    todo = "let one program alone set these labels: gpu-feature-discovery is of no \
                            use beside this agent",
                    "{place} had labels of others under names of ours, which are ours from now on"
                );
            }
        }
        if written.changed || self.trouble.take().is_some() {
            let count = api.there().map_or(0, Labels::len);
            tracing::info!(event = "labels", "{place} has {count} labels of ours");
        }
    }

    fn failed(&mut self, api: &ApiLabels, trouble: &Trouble) {
        if self.trouble.as_ref() == Some(&trouble.words) {
            return;
        }
        self.trouble = Some(trouble.words.clone());
        tracing::warn!(
            event = "labels-not-set",
            error = trouble.words,
            todo = trouble.todo,
            retry_ms = trouble.pause.as_millis(),
            "the labels of {} cannot be set; trying again",
            api.place().words()
        );
    }
}

/// What is remembered over restarts.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) dir: PathBuf,
    pub(super) boot_id: String,
    pub(super) saved: Option<Record>,
    pub(super) fails: bool,
}

impl Memory {
    /// Tells `api` what a former process knew, and answers when it may be asked first.
    fn recall(&mut self, api: &mut ApiLabels) -> Instant {
        let now = Instant::now();
        let Some(record) = Record::load(&self.dir, &api.place().words()) else {
            return now;
        };
        let own_time = now + api.spread().within(Duration::ZERO..START);
        // A machine that was booted anew may be a Node anew.
        let next_look = if record.boot_id == self.boot_id {
            now + api.spread().within(START..FIRST_LOOK)
        } else {
            now
        };
        api.believe(record.uid.clone(), record.labels(), next_look);
        self.saved = Some(record);
        own_time
    }

    /// Writes down what the API has now.
    async fn note(&mut self, api: &ApiLabels) {
        let (Some(uid), Some(there)) = (api.uid(), api.there()) else {
            return;
        };
        let place = api.place().words();
        let record = Record::new(place, self.boot_id.clone(), uid.to_owned(), there);
        if self.saved.as_ref() == Some(&record) {
            return;
        }
        let (dir, copy) = (self.dir.clone(), record.clone());
        match spawn_blocking(move || copy.save(&dir)).await {
            Ok(Ok(())) => {
                self.saved = Some(record);
                self.fails = false;
            }
            Ok(Err(error)) if !self.fails => {
                self.fails = true;
                tracing::warn!(
                    event = "labels-not-kept",
                    path = %record::path(&self.dir).display(),
                    %error,
                    "which labels are set cannot be written down; every start of the agent asks \
                     the Kubernetes API (mount a writable directory and set --state-dir)"
                );
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Keeps labels in the file of Node Feature Discovery until there can be no others. It stays when
/// the agent ends: another agent mostly follows, and labels that go and come cost pods.
pub(super) async fn keep_in_file(path: PathBuf, mut wanted: Wanted) {
    let mut said = None;
    loop {
        let Some(labels) = wanted.borrow_and_update().clone() else {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        };
        let place = path.clone();
        let written = spawn_blocking(move || write_file(&place, labels)).await;
        match written {
            Ok(Ok(is_new)) => {
                if is_new || said.take().is_some() {
                    tracing::info!(event = "labels", "{} has the labels", path.display());
                }
            }
            Ok(Err(error)) => {
                let error = error.to_string();
                if said.as_ref() != Some(&error) {
                    tracing::warn!(
                        event = "labels-not-set",
                        error,
                        "the labels' file {} cannot be written; trying again at each look",
                        path.display()
                    );
                    said = Some(error);
                }
            }
            Err(_) => {}
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

fn write_file(path: &Path, labels: Labels) -> std::io::Result<bool> {
    let before = std::fs::read_to_string(path).unwrap_or_default();
    let labels = keep_time(labels, &parse_features_file(&before));
    LabelsFile::new(path, true).write(&labels)
}

#[cfg(test)]
mod tests;
