//! `labels.json`: which labels the API has been given, so that a restart asks it nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mizzen_core::labels::Labels;
use serde::{Deserialize, Serialize};

use crate::durable;

const FILE: &str = "labels.json";
const VERSION: u32 = 1;

/// What a process knew of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    version: u32,
    /// The object, in words.
    pub(super) place: String,
    /// The kernel's name for the boot: a machine that was booted anew may be a Node anew.
    pub(super) boot_id: String,
    /// The Node's.
    pub(super) uid: String,
    labels: BTreeMap<String, String>,
}

impl Record {
    pub(super) fn new(place: String, boot_id: String, uid: String, labels: &Labels) -> Self {
        let text =
            |(key, value): (&dyn ToString, &dyn ToString)| (key.to_string(), value.to_string());
        Self {
            version: VERSION,
            place,
            boot_id,
            uid,
            labels: labels
                .iter()
                .map(|(key, value)| text((key, value)))
                .collect(),
        }
    }

    /// The labels; those that are none are left out, and set anew.
    pub(super) fn labels(&self) -> Labels {
        let pairs = self.labels.iter();
        pairs
            .filter_map(|(key, value)| Some((key.parse().ok()?, value.parse().ok()?)))
            .collect()
    }

    /// What was written about `place`. What cannot be read is as good as nothing: the API is
    /// asked then.
    pub(super) fn load(dir: &Path, place: &str) -> Option<Self> {
        let text = fs::read(dir.join(FILE)).ok()?;
        let record: Self = serde_json::from_slice(&text).ok()?;
        (record.version == VERSION && record.place == place).then_some(record)
    }

    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        durable::replace(dir, FILE, &serde_json::to_vec_pretty(self)?)
    }
}

/// Forgets what was written: whoever sets labels later is to begin anew.
pub(super) fn forget(dir: &Path) {
    // Mostly there is none.
    drop(fs::remove_file(dir.join(FILE)));
}

/// The file.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}
