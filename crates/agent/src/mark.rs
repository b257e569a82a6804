//! What tells a file from the one that is made or written anew in its place.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileMark {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl FileMark {
    /// The file's as it is now; `None` if there is none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            inode: found.ino(),
            size: found.size(),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}
