//! Files that are replaced whole, with a copy of what they held before.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use mizzen_nvml::HostRoot;

/// What a file's name is followed by in that of its copy.
const BACKUP: &str = ".mizzen-backup";

/// A file of the host, behind whatever links lead to it.
pub(super) struct HostFile {
    /// Where it is for this process.
    path: PathBuf,
    /// Where the root of the host is for this process.
    root: PathBuf,
}

impl HostFile {
    /// The file at `path` on the host, which need not exist; the directories that lead to it are
    /// made when it is written.
    pub(super) fn new(host: &HostRoot, path: &str) -> Self {
        let whole = host.resolve(path);
        let path = whole.unwrap_or_else(|_| {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parent = host.resolve(parent);
            parent.map_or_else(|_| host.join(path), |parent| parent.join(name))
        });
        Self {
            path,
            root: host.as_path().to_owned(),
        }
    }

    /// Where it is for this process.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it; `None` if it is not there.
    pub(super) fn read(&self) -> Result<Option<String>> {
        read(&self.path)
    }

    /// What was kept of it.
    pub(super) fn backup(&self) -> Result<Option<String>> {
        read(&self.backup_path())
    }

    /// Where what it held is kept, for this process.
    fn backup_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(BACKUP);
        path.into()
    }

    /// Where what it held is kept, by its path on the host.
    pub(super) fn backup_on_host(&self) -> String {
        let path = self.backup_path();
        let inside = path.strip_prefix(&self.root).unwrap_or(&path);
        Path::new("/").join(inside).display().to_string()
    }

    /// Keeps what it holds, `text`, beside it.
    pub(super) fn keep(&self, text: &str) -> Result<()> {
        let like = fs::metadata(&self.path).ok();
        write(&self.backup_path(), text, like.as_ref())
    }

    /// Replaces it, if it still holds `before`.
    pub(super) fn replace(&self, before: Option<&str>, after: &str) -> Result<()> {
        if self.read()?.as_deref() != before {
            bail!("{} was changed meanwhile; try again", self.path.display());
        }
        let like = fs::metadata(&self.path).ok();
        write(&self.path, after, like.as_ref())
    }

    /// Removes it.
    pub(super) fn remove(&self) -> Result<()> {
        fs::remove_file(&self.path)
            .with_context(|| format!("cannot remove {}", self.path.display()))
    }

    /// Removes what was kept of it.
    pub(super) fn forget(&self) -> Result<()> {
        match fs::remove_file(self.backup_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let path = self.backup_path();
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn is_absent(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    kinds.contains(&error.kind())
}

/// Writes a file by rename, with the owner and mode of `like`.
fn write(path: &Path, text: &str, like: Option<&fs::Metadata>) -> Result<()> {
    let written = write_at(path, text, like);
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn write_at(path: &Path, text: &str, like: Option<&fs::Metadata>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let mut temporary = tempfile::Builder::new()
        .prefix(".mizzen-")
        .suffix(".new")
        .tempfile_in(directory)?;
    temporary.write_all(text.as_bytes())?;
    let mode = like.map_or(0o644, |like| like.permissions().mode() & 0o7777);
    let file = temporary.as_file();
    if let Some(like) = like {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
            fchown(file, Some(like.uid()), Some(like.gid()))?;
        }
    }
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}
