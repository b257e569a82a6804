//! `mig.json`: which GPUs are being changed, and to what, so that a process that was killed
//! meanwhile goes on where it was.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mizzen_core::gpu::GpuUuid;
use mizzen_core::mig::{MigProfile, MigTarget};
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::durable;

const FILE: &str = "mig.json";
/// Where a file that cannot be used is kept for somebody to look at.
const ASIDE: &str = "mig.json.unusable";
const VERSION: u32 = 1;
/// How long the disk may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The targets on their way.
#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    gpus: BTreeMap<GpuUuid, MigTarget>,
    /// A write that did not come back in time.
    stuck: Option<JoinHandle<io::Result<()>>>,
    /// Whether the disk may have something else than `gpus`.
    unsure: bool,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    version: u32,
    gpus: BTreeMap<GpuUuid, WrittenTarget>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenTarget {
    enabled: bool,
    devices: BTreeMap<MigProfile, u32>,
}

impl Journal {
    /// Reads what a former process left in `dir`. A file that cannot be used is put aside with a
    /// warning: the Node's label says what is wanted, and the GPUs what they are.
    pub(super) fn load(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            gpus: read(dir),
            stuck: None,
            unsure: false,
        }
    }

    /// What is on its way.
    pub(super) fn gpus(&self) -> &BTreeMap<GpuUuid, MigTarget> {
        &self.gpus
    }

    /// Writes down that this GPU is being changed.
    ///
    /// # Errors
    /// The disk's: without the entry nothing may be taken away.
    pub(super) async fn begin(&mut self, gpu: &GpuUuid, target: &MigTarget) -> io::Result<()> {
        if self.gpus.get(gpu) == Some(target) && !self.unsure {
            return Ok(());
        }
        let mut gpus = self.gpus.clone();
        gpus.insert(gpu.clone(), target.clone());
        self.write(gpus).await
    }

    /// Keeps those entries that `is_wanted`.
    ///
    /// # Errors
    /// The disk's: an entry that stays is worked off once more.
    pub(super) async fn retain(
        &mut self,
        mut is_wanted: impl FnMut(&GpuUuid, &MigTarget) -> bool,
    ) -> io::Result<()> {
        let mut gpus = self.gpus.clone();
        gpus.retain(|gpu, target| is_wanted(gpu, target));
        if gpus.len() == self.gpus.len() && !self.unsure {
            return Ok(());
        }
        self.write(gpus).await
    }

    async fn write(&mut self, gpus: BTreeMap<GpuUuid, MigTarget>) -> io::Result<()> {
        let written = |(gpu, target): (&GpuUuid, &MigTarget)| {
            let target = WrittenTarget {
                enabled: target.enabled,
                devices: target.devices.clone(),
            };
            (gpu.clone(), target)
        };
        let file = Written {
            version: VERSION,
            gpus: gpus.iter().map(written).collect(),
        };
        let text = serde_json::to_vec_pretty(&file)?;
        let dir = self.dir.clone();
        // A disk may take its time, and this thread has a kubelet to answer.
        self.save(move || durable::replace(&dir, FILE, &text))
            .await?;
        self.gpus = gpus;
        self.unsure = false;
        Ok(())
    }

    /// Has something written, unless the disk does not come back from what it was given before.
    async fn save(
        &mut self,
        write: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        if self
            .stuck
            .as_ref()
            .is_some_and(|write| !write.is_finished())
        {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the disk has not come back from a former write",
            ));
        }
        self.stuck = None;
        let mut saving = spawn_blocking(write);
        if let Ok(saved) = timeout(LIMIT, &mut saving).await {
            return saved.map_err(io::Error::other)?;
        }
        self.stuck = Some(saving);
        self.unsure = true;
        let seconds = LIMIT.as_secs();
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the disk has not written it within {seconds} s"),
        ))
    }
}

fn read(dir: &Path) -> BTreeMap<GpuUuid, MigTarget> {
    let path = dir.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(error) => return put_aside(&path, &error.to_string()),
    };
    let target = |target: WrittenTarget| MigTarget {
        enabled: target.enabled,
        devices: target.devices,
    };
    match serde_json::from_slice::<Written>(&text) {
        Ok(file) if file.version == VERSION => {
            let gpus = file.gpus.into_iter();
            gpus.map(|(gpu, written)| (gpu, target(written))).collect()
        }
        Ok(file) => put_aside(&path, &format!("version {} is unknown", file.version)),
        Err(error) => put_aside(&path, &error.to_string()),
    }
}

fn put_aside(path: &Path, why: &str) -> BTreeMap<GpuUuid, MigTarget> {
    let aside = path.with_file_name(ASIDE);
    let kept = fs::rename(path, &aside);
    tracing::warn!(
        event = "mig-journal-unusable",
        path = %path.display(),
        error = why,
        kept = kept.is_ok().then(|| aside.display().to_string()),
        "which GPUs were being partitioned cannot be read; the Node's label will say"
    );
    BTreeMap::new()
}

#[cfg(test)]
mod tests {
    use mizzen_testkit::gpus;

    use super::*;

    fn target(count: u32) -> MigTarget {
        MigTarget {
            enabled: true,
            devices: [("1g.10gb".parse().unwrap(), count)].into(),
        }
    }

    #[tokio::test]
    async fn what_was_begun_is_read_again_until_it_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("made/as/needed");
        let mut journal = Journal::load(&place);
        assert!(journal.gpus().is_empty());
        let [one, two] = [0, 1].map(|index: usize| gpus(2)[index].uuid.clone());
        journal.begin(&one, &target(7)).await.unwrap();
        journal.begin(&two, &target(2)).await.unwrap();
        let again = Journal::load(&place);
        assert_eq!(
            *again.gpus(),
            [(one.clone(), target(7)), (two.clone(), target(2))].into()
        );
        journal.retain(|gpu, _| *gpu == two).await.unwrap();
        assert_eq!(*Journal::load(&place).gpus(), [(two, target(2))].into());
    }

    #[tokio::test]
    async fn where_it_cannot_be_written_nothing_is_begun() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("file");
        fs::write(&place, "").unwrap();
        let mut journal = Journal::load(&place.join("below"));
        let gpu = gpus(1).remove(0).uuid;
        assert!(journal.begin(&gpu, &target(7)).await.is_err());
        assert!(journal.gpus().is_empty());
    }

    #[test]
    fn an_unusable_file_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["{", r#"{"version": 2, "gpus": {}}"#] {
            fs::write(dir.path().join(FILE), text).unwrap();
            assert!(Journal::load(dir.path()).gpus().is_empty());
            assert!(!dir.path().join(FILE).exists());
            assert_eq!(fs::read_to_string(dir.path().join(ASIDE)).unwrap(), text);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_given_up_and_given_nothing_more_until_it_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::load(dir.path());
        let (release, released) = std::sync::mpsc::channel::<()>();
        let hang = move || {
            let _ = released.recv();
            Ok(())
        };
        // A thread that blocks keeps paused time from going on by itself.
        let (given_up, ()) = tokio::join!(journal.save(hang), async {
            tokio::task::yield_now().await;
            tokio::time::advance(LIMIT).await;
        });
        let error = given_up.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("within 10 s"), "{error}");
        let gpu = &gpus(1)[0].uuid;
        let error = journal.begin(gpu, &target(7)).await.unwrap_err();
        assert!(error.to_string().contains("former write"), "{error}");
        drop(release);
        while journal.begin(gpu, &target(7)).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(Journal::load(dir.path()).gpus().len(), 1);
    }
}
