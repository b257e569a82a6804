//! `config.json`: the last good config of this node, kept over restarts of this process.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mizzen_core::config::{Config, ConfigPlace};
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

/// Reads what a former process remembered of `place`.
///
/// # Errors
/// What cannot be used of it, in words: the config will be read anew.
pub(super) fn load(dir: &Path, place: &ConfigPlace) -> Result<Option<Remembered>, String> {
    let path = dir.join(FILE);
    let unusable = |why: &dyn Display| {
        format!(
            "the last good config, in {}, cannot be read: {why}",
            path.display()
        )
    };
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&error)),
    };
    match serde_json::from_slice::<Remembered>(&text) {
        Ok(found) if found.version != VERSION => {
            Err(unusable(&format!("version {} is unknown", found.version)))
        }
        Ok(found) => Ok((found.place == place.to_string()).then_some(found)),
        Err(error) => Err(unusable(&error)),
    }
}

/// The text that the config file of these settings had when it could last be used, if a former
/// process has written it down.
///
/// # Errors
/// Why what was written down cannot be read, for people.
pub fn last_good_text(settings: &Config) -> Result<Option<String>, String> {
    let found = load(&settings.state_dir, &settings.source.place)?;
    Ok(found.map(|found| found.text))
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
                "the config cannot be written down; a restart could not go on with it where the \
                 Kubernetes API is away or the config cannot be used any more (mount a writable \
                 directory and set --state-dir)"
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
        assert_eq!(load(&dir, &place("/a")), Ok(Some(config)));
        assert_eq!(load(&dir, &place("/b")), Ok(None));
        let file = ConfigPlace::File("/a".into());
        assert_eq!(load(&dir, &file), Ok(None), "a file is no directory");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_told_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path(), &place("/a")), Ok(None));
        for text in [
            "{",
            r#"{"version": 2, "place": "the directory /a", "text": ""}"#,
        ] {
            fs::write(dir.path().join(FILE), text).unwrap();
            let error = load(dir.path(), &place("/a")).unwrap_err();
            assert!(error.contains(FILE), "{error}");
        }
    }
}
