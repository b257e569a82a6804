//! What the API has been told, kept over restarts, so that a restart asks and tells it nothing.

use std::fs;
use std::path::{Path, PathBuf};

use mizzen_core::node_health::Told;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::writer::There;
use crate::durable;

/// What the Node has of ours.
pub(super) const NODE_FILE: &str = "node-health.json";
/// What was told in Events.
pub(super) const TOLD_FILE: &str = "health-told.json";

/// The content of [`NODE_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NodeRecord {
    /// The Node's name.
    pub(super) node: String,
    /// The kernel's name for the boot: a machine that was booted anew may be a Node anew.
    pub(super) boot_id: String,
    pub(super) there: There,
}

/// The content of [`TOLD_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ToldRecord {
    /// The Node's name.
    pub(super) node: String,
    pub(super) told: Told,
}

/// A file, and what was last written to it.
#[derive(Debug)]
pub(super) struct Memory<T> {
    dir: PathBuf,
    file: &'static str,
    saved: Option<T>,
    fails: bool,
}

impl<T> Memory<T>
where
    T: Serialize + DeserializeOwned + Clone + PartialEq + Send + 'static,
{
    pub(super) fn new(dir: &Path, file: &'static str) -> Self {
        Self {
            dir: dir.to_owned(),
            file,
            saved: None,
            fails: false,
        }
    }

    /// What a former process wrote. What cannot be read is as good as nothing: the API is asked
    /// then.
    pub(super) fn load(&self) -> Option<T> {
        let text = fs::read(self.dir.join(self.file)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Takes this for what is in the file.
    pub(super) fn believe(&mut self, record: T) {
        self.saved = Some(record);
    }

    /// Writes it down, if it is not there.
    pub(super) async fn note(&mut self, record: T) {
        if self.saved.as_ref() == Some(&record) {
            return;
        }
        let (dir, file, copy) = (self.dir.clone(), self.file, record.clone());
        let save = move || durable::replace(&dir, file, &serde_json::to_vec_pretty(&copy)?);
        match spawn_blocking(save).await {
            Ok(Ok(())) => {
                self.saved = Some(record);
                self.fails = false;
            }
            Ok(Err(error)) if !self.fails => {
                self.fails = true;
                tracing::warn!(
                    event = "health-not-kept",
                    path = %self.dir.join(self.file).display(),
                    %error,
                    "what the Kubernetes API was told of the GPUs' health cannot be written down; \
                     a start of the agent asks it, and may tell Events again (mount a writable \
                     directory and set --state-dir)"
                );
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Forgets what was written.
pub(super) fn forget(dir: &Path, file: &str) {
    // Mostly there is none.
    drop(fs::remove_file(dir.join(file)));
}
