//! `holders.json`: since when containers hold devices, kept over restarts of this process.

use std::fs;
use std::io;
use std::path::Path;

use mizzen_core::metrics::Container;
use serde::{Deserialize, Serialize};

use super::latest::Held;
use crate::durable;

const FILE: &str = "holders.json";
/// The version of the format that is written and read.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HoldersFile {
    version: u32,
    /// Of another boot nothing holds: pods have been started anew.
    boot_id: String,
    devices: Vec<Line>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    id: String,
    namespace: String,
    pod: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod_uid: Option<String>,
    container: String,
    since: u64,
}

/// Reads what a former process left. What cannot be used is not worth a word: devices are then
/// held since now.
pub(super) fn load(dir: &Path, boot_id: &str) -> Vec<Held> {
    let text = fs::read_to_string(dir.join(FILE)).unwrap_or_default();
    match serde_json::from_str::<HoldersFile>(&text) {
        Ok(file) if file.version == VERSION && file.boot_id == boot_id => {
            file.devices.into_iter().map(Held::from).collect()
        }
        _ => Vec::new(),
    }
}

pub(super) fn save(dir: &Path, boot_id: &str, held: &[Held]) -> io::Result<()> {
    let file = HoldersFile {
        version: VERSION,
        boot_id: boot_id.to_owned(),
        devices: held.iter().map(Line::from).collect(),
    };
    durable::replace(dir, FILE, &serde_json::to_vec_pretty(&file)?)
}

impl From<Line> for Held {
    fn from(line: Line) -> Self {
        Self {
            container: Container {
                namespace: line.namespace,
                pod: line.pod,
                pod_uid: line.pod_uid,
                container: line.container,
            },
            id: line.id,
            since: line.since,
        }
    }
}

impl From<&Held> for Line {
    fn from(held: &Held) -> Self {
        let container = held.container.clone();
        Self {
            id: held.id.clone(),
            namespace: container.namespace,
            pod: container.pod,
            pod_uid: container.pod_uid,
            container: container.container,
            since: held.since,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again_in_the_same_boot_only() {
        let dir = tempfile::tempdir().unwrap();
        let held = vec![Held {
            container: Container {
                namespace: "ml".to_owned(),
                pod: "train".to_owned(),
                pod_uid: Some("u".to_owned()),
                container: "main".to_owned(),
            },
            id: "GPU-1::3".to_owned(),
            since: 7,
        }];
        save(dir.path(), "a", &held).unwrap();
        assert_eq!(load(dir.path(), "a"), held);
        assert_eq!(load(dir.path(), "b"), []);
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(load(dir.path(), "a"), []);
    }
}
