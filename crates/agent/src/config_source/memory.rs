//! `config.json`: the last good config of this node, kept over restarts of this process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mizzen_core::config::ConfigPlace;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::durable;
use crate::supervisor::TaskError;

const FILE: &str = "config.json";
const VERSION: u32 = 1;

/// A config that was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    version: u32,
    /// The place that it came from: what another place had is of no use.
    place: String,
    /// The value that the node's label had.
    pub(super) label: Option<String>,
    /// The config's name; `None` where none was chosen.
    pub(super) name: Option<String>,
    /// Its text.
    pub(super) text: String,
}

impl Remembered {
    pub(super) fn new(
        place: &ConfigPlace,
        label: Option<String>,
        name: Option<String>,
        text: String,
    ) -> Self {
        Self {
            version: VERSION,
            place: place.to_string(),
            label,
            name,
            text,
        }
    }
}

/// Reads what a former process remembered of `place`. A file that cannot be used is passed over
/// with a warning: the config will be read anew.
pub(super) fn load(dir: &Path, place: &ConfigPlace) -> Option<Remembered> {
    let path = dir.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return unusable(&path, &error),
    };
    match serde_json::from_slice::<Remembered>(&text) {
        Ok(found) if found.version != VERSION => {
            unusable(&path, &format!("version {} is unknown", found.version))
        }
        Ok(found) => (found.place == place.to_string()).then_some(found),
        Err(error) => unusable(&path, &error),
    }
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Option<Remembered> {
    tracing::warn!(
        event = "config-not-remembered",
        path = %path.display(),
        error = %why,
        "the last good config cannot be read; starting without it"
    );
    None
}

/// Writes each config that comes into force down; of several that come at once, the last.
pub(super) async fn keep(
    dir: PathBuf,
    mut configs: watch::Receiver<Option<Remembered>>,
) -> Result<(), TaskError> {
    while configs.changed().await.is_ok() {
        let Some(config) = configs.borrow_and_update().clone() else {
            continue;
        };
        let place = dir.clone();
        // A disk may take its time, and this thread has a kubelet to answer.
        let saved = spawn_blocking(move || {
            let text = serde_json::to_vec_pretty(&config)?;
            durable::replace(&place, FILE, &text)
        });
        if let Err(error) = saved.await? {
            tracing::warn!(
                event = "config-not-kept",
                path = %dir.join(FILE).display(),
                %error,
                "the config cannot be written down; a restart without the Kubernetes API would \
                 wait for it (mount a writable directory and set --state-dir)"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> ConfigPlace {
        ConfigPlace::Directory(path.into())
    }

    #[tokio::test]
    async fn what_was_written_is_read_again_for_the_same_place_only() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("made/as/needed");
        let config = Remembered::new(
            &place("/a"),
            Some("training".to_owned()),
            Some("training".to_owned()),
            "version: v1\n".to_owned(),
        );
        let (sender, receiver) = watch::channel(None);
        sender.send_replace(Some(config.clone()));
        drop(sender);
        keep(dir.clone(), receiver).await.unwrap();
        assert_eq!(load(&dir, &place("/a")), Some(config));
        assert_eq!(load(&dir, &place("/b")), None);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path(), &place("/a")), None);
        for text in ["{", r#"{"version": 2, "place": "", "text": ""}"#] {
            fs::write(dir.path().join(FILE), text).unwrap();
            assert_eq!(load(dir.path(), &place("/a")), None, "{text}");
        }
    }
}
