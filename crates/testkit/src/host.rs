//! Directories that look like a host's root.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// A temporary directory in which files are put as on a host.
#[derive(Debug)]
pub struct HostTree {
    root: TempDir,
}

impl Default for HostTree {
    fn default() -> Self {
        Self::new()
    }
}

impl HostTree {
    /// An empty host.
    ///
    /// # Panics
    /// If there is no room for a temporary directory.
    pub fn new() -> Self {
        Self {
            root: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// The root.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Puts a file at `path`, relative to the root, with the directories it needs.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.root.path().join(path);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).expect("directories of the host tree");
        }
        fs::write(path, text).expect("a file of the host tree");
        self
    }

    /// Takes the file at `path` away.
    ///
    /// # Panics
    /// If it is not there.
    pub fn remove(&self, path: &str) -> &Self {
        fs::remove_file(self.root.path().join(path)).expect("the file was there");
        self
    }
}
