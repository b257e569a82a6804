//! `health.json`: what is known of sick GPUs, kept over restarts of this process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mizzen_core::state::{GpuRecord, HealthRecord};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::durable;
use crate::supervisor::TaskError;

const FILE: &str = "health.json";
/// Where a file that cannot be used is kept for somebody to look at.
const ASIDE: &str = "health.json.unusable";
/// How long more changes may take to join the first.
const GATHER: Duration = Duration::from_millis(10);

/// The kernel's name for this boot; a place-holder where it cannot be read.
pub(crate) fn boot_id(host_root: &Path) -> String {
    let path = "proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(host_root.join(path))
        .or_else(|_| fs::read_to_string(Path::new("/").join(path)));
    text.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// Reads what a former process left in `dir`. A file that cannot be used is put aside with a
/// warning: a GPU that is still sick will show it again.
pub(crate) fn load(dir: &Path, boot_id: &str) -> Vec<GpuRecord> {
    let path = dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return put_aside(&path, dir, &error),
    };
    let record = serde_json::from_str::<HealthRecord>(&text);
    match record.map(|record| record.of_boot(boot_id)) {
        Ok(Ok(gpus)) => gpus,
        Ok(Err(error)) => put_aside(&path, dir, &error),
        Err(error) => put_aside(&path, dir, &error),
    }
}

fn put_aside(path: &Path, dir: &Path, why: &dyn std::error::Error) -> Vec<GpuRecord> {
    let aside = dir.join(ASIDE);
    let kept = fs::rename(path, &aside);
    tracing::warn!(
        event = "record-unusable",
        path = %path.display(),
        error = %why,
        kept = kept.is_ok().then(|| aside.display().to_string()),
        "what was known of sick GPUs cannot be read; starting without it"
    );
    Vec::new()
}

fn save(dir: &Path, record: &HealthRecord) -> io::Result<()> {
    durable::replace(dir, FILE, &serde_json::to_vec_pretty(record)?)
}

/// Writes each new record down; of several that come at once, the last.
pub(crate) async fn keep(
    dir: PathBuf,
    mut records: watch::Receiver<Option<HealthRecord>>,
) -> Result<(), TaskError> {
    let mut fails = false;
    while records.changed().await.is_ok() {
        // What comes together is written together, and the kubelet's first list goes first.
        sleep(GATHER).await;
        let Some(record) = records.borrow_and_update().clone() else {
            continue;
        };
        let place = dir.clone();
        // A disk may take its time, and this thread has a kubelet to answer.
        let saved = spawn_blocking(move || save(&place, &record)).await?;
        match saved {
            Ok(()) => fails = false,
            Err(error) if !fails => {
                fails = true;
                tracing::warn!(
                    event = "record-not-kept",
                    path = %dir.join(FILE).display(),
                    %error,
                    "what is known of sick GPUs cannot be written; it would be lost in a restart \
                     of the agent (mount a writable directory and set --state-dir)"
                );
            }
            Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mizzen_core::health::{Reason, Sign};
    use mizzen_core::state::RECORD_VERSION;
    use mizzen_core::xid::Xid;
    use mizzen_testkit::gpus;

    use super::*;

    fn record(boot_id: &str) -> HealthRecord {
        let signs = vec![Sign {
            reason: Reason::Xid(Xid(79)),
            since: 1_700_000_000,
        }];
        let gpu = gpus(1).remove(0);
        HealthRecord {
            version: RECORD_VERSION,
            boot_id: boot_id.to_owned(),
            gpus: vec![GpuRecord {
                gpu,
                signs,
                mig: Vec::new(),
            }],
        }
    }

    #[test]
    fn what_was_written_is_read_again_in_the_same_boot_only() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("made/as/needed");
        save(&place, &record("a")).unwrap();
        assert_eq!(load(&place, "a"), record("a").gpus);
        assert_eq!(load(&place, "b"), []);
        let files = fs::read_dir(&place).unwrap();
        assert_eq!(files.count(), 1, "nothing is left beside it");
    }

    #[test]
    fn an_unusable_file_is_put_aside_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let newer = HealthRecord {
            version: RECORD_VERSION + 1,
            ..record("a")
        };
        let texts = ["{".to_owned(), serde_json::to_string(&newer).unwrap()];
        for text in texts {
            fs::write(dir.path().join(FILE), &text).unwrap();
            assert_eq!(load(dir.path(), "a"), []);
            assert!(!dir.path().join(FILE).exists());
            assert_eq!(fs::read_to_string(dir.path().join(ASIDE)).unwrap(), text);
        }
    }

    #[test]
    fn without_a_file_nothing_is_known() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path(), "a"), []);
        assert!(!dir.path().join(ASIDE).exists());
    }
}
