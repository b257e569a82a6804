//! The lock that every writer holds.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Held while the state is written; the kernel releases it if the process dies.
pub(super) struct WriteLock(
    #[allow(dead_code, reason = "the lock lives as long as the file")] File,
);

impl WriteLock {
    /// Waits for the lock of the state in `directory`.
    pub(super) fn take(directory: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join("lock"))?;
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
