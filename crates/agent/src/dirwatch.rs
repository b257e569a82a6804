//! Directories whose changes are noticed at once.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use inotify::{EventMask, EventStream, Inotify, WatchMask};

/// Room for one event with the longest name, many times over: `sizeof(inotify_event) + NAME_MAX`.
const BUFFER: usize = 4096;

/// What happened in a watched directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DirEvent {
    /// An entry of this name is there now, perhaps in place of another.
    Appeared(OsString),
    /// The entry of this name is gone.
    Vanished(OsString),
    /// The entry of this name has new content, and whole: it was written and closed, or moved
    /// here. Told only by a watch on contents.
    Written(OsString),
    /// More happened than the system could tell.
    Overflow,
    /// A directory itself is gone, and with it the watch.
    Ended,
}

/// A watch on the entries of directories, not of those below them.
pub(crate) struct DirWatch {
    events: EventStream<Vec<u8>>,
    watched: usize,
    contents: bool,
}

impl DirWatch {
    /// Watches those of `directories` that exist; must be called in a tokio runtime.
    ///
    /// # Errors
    /// The system's, when it has no watches left or none of the directories can be watched.
    pub(crate) fn new<'a>(directories: impl IntoIterator<Item = &'a Path>) -> io::Result<Self> {
        Self::with(directories, false)
    }

    /// The same, and tells what is written into the files of `directories`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn on_contents<'a>(
        directories: impl IntoIterator<Item = &'a Path>,
    ) -> io::Result<Self> {
        Self::with(directories, true)
    }

    fn with<'a>(
        directories: impl IntoIterator<Item = &'a Path>,
        contents: bool,
    ) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let mut mask = WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        if contents {
            mask |= WatchMask::CLOSE_WRITE;
        }
        let mut refusal = None;
        let mut watched = 0;
        for directory in directories {
            match inotify.watches().add(directory, mask) {
                Ok(_) => watched += 1,
                Err(error) => refusal = Some(error),
            }
        }
        match refusal {
            Some(error) if watched == 0 => Err(error),
            _ => Ok(Self {
                events: inotify.into_event_stream(vec![0; BUFFER])?,
                watched,
                contents,
            }),
        }
    }

    /// The next event; after the last directory is gone, [`DirEvent::Ended`] for ever. Cancel
    /// safe.
    pub(crate) async fn next(&mut self) -> io::Result<DirEvent> {
        loop {
            if self.watched == 0 {
                return Ok(DirEvent::Ended);
            }
            let Some(event) = self.events.next().await else {
                return Ok(DirEvent::Ended);
            };
            let event = event?;
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                return Ok(DirEvent::Overflow);
            }
            if event.mask.contains(EventMask::IGNORED) {
                self.watched -= 1;
                continue;
            }
            if event.mask.contains(EventMask::MOVE_SELF) {
                self.watched = 0;
                continue;
            }
            let Some(name) = event.name else { continue };
            let whole = EventMask::CLOSE_WRITE | EventMask::MOVED_TO;
            if self.contents && event.mask.intersects(whole) {
                return Ok(DirEvent::Written(name));
            }
            if event
                .mask
                .intersects(EventMask::CREATE | EventMask::MOVED_TO)
            {
                return Ok(DirEvent::Appeared(name));
            }
            if event
                .mask
                .intersects(EventMask::DELETE | EventMask::MOVED_FROM)
            {
                return Ok(DirEvent::Vanished(name));
            }
        }
    }
}

impl std::fmt::Debug for DirWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirWatch")
            .field("watched", &self.watched)
            .finish_non_exhaustive()
    }
}

/// `path`'s nearest directory that exists.
pub(crate) fn nearest_directory(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|ancestor| ancestor.is_dir());
    found.unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn entries_that_come_and_go_are_told_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = DirWatch::new([dir.path()]).unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        fs::remove_file(dir.path().join("b")).unwrap();
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(watch.next().await.unwrap());
        }
        assert_eq!(
            seen,
            [
                DirEvent::Appeared("a".into()),
                DirEvent::Vanished("a".into()),
                DirEvent::Appeared("b".into()),
                DirEvent::Vanished("b".into()),
            ]
        );
    }

    #[tokio::test]
    async fn what_is_written_is_told_to_those_who_watch_contents() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "old").unwrap();
        let mut watch = DirWatch::on_contents([dir.path()]).unwrap();
        fs::write(dir.path().join("a"), "new").unwrap();
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(watch.next().await.unwrap());
        }
        assert_eq!(
            seen,
            [
                DirEvent::Written("a".into()),
                DirEvent::Vanished("a".into()),
                DirEvent::Written("b".into()),
            ]
        );
    }

    #[tokio::test]
    async fn the_end_of_the_directory_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let mut watch = DirWatch::new([inner.as_path()]).unwrap();
        fs::remove_dir(&inner).unwrap();
        assert_eq!(watch.next().await.unwrap(), DirEvent::Ended);
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_cannot_be_watched() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing/deeper");
        assert!(DirWatch::new([missing.as_path()]).is_err());
        assert_eq!(nearest_directory(&missing), dir.path());
    }
}
