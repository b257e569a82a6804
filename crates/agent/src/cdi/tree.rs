//! A part of the host, seen from here.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use mizzen_core::cdi::HostFile;
use mizzen_nvml::HostRoot;

/// A root: where it is for this process, and where on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) here: HostRoot,
    pub(super) on_host: PathBuf,
}

impl Tree {
    pub(super) fn new(here: impl Into<PathBuf>, on_host: impl Into<PathBuf>) -> Self {
        Self {
            here: HostRoot::new(here),
            on_host: on_host.into(),
        }
    }

    /// The path below the root where `path` leads; `None` where there is nothing.
    pub(super) fn real(&self, path: &Path) -> Option<PathBuf> {
        let found = self.here.resolve(path).ok()?;
        let inside = found.strip_prefix(self.here.as_path()).ok()?;
        Some(inside.to_owned())
    }

    /// The file that `path` below the root leads to, which a container sees as `path`; `None` where
    /// there is nothing, or something that no text can name.
    pub(super) fn file(&self, path: &Path) -> Option<HostFile> {
        self.file_as(path, path)
    }

    /// The same with another path in the container.
    pub(super) fn file_as(&self, path: &Path, container: &Path) -> Option<HostFile> {
        let real = self.real(path)?;
        Some(HostFile {
            host: text(&self.on_host.join(real))?,
            container: text(&Path::new("/").join(relative(container)))?,
        })
    }

    /// The names in a directory; none where it cannot be read.
    pub(super) fn names(&self, directory: &Path) -> impl Iterator<Item = String> {
        let entries = fs::read_dir(self.here.join(directory));
        let entries = entries.into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok())
    }
}

/// A path without its leading slash.
pub(super) fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// A path as text, which all that is written into a spec must be.
pub(super) fn text(path: &Path) -> Option<String> {
    path.as_os_str().to_str().map(str::to_owned)
}

/// A name as text, if it is one.
pub(super) fn name(name: &OsStr) -> Option<&str> {
    name.to_str()
}
