//! The file that Node Feature Discovery reads labels from.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use mizzen_core::labels::{Labels, features_file};

use crate::durable::is_device;

/// A file of labels: replaced whole, written only where it says something else, and, if wanted,
/// gone when its owner is.
#[derive(Debug)]
pub struct LabelsFile {
    path: PathBuf,
    /// Whether it is to be there after us.
    stays: bool,
    written: bool,
}

impl LabelsFile {
    /// The file at this path. One that does not stay is removed when this is dropped.
    pub fn new(path: impl Into<PathBuf>, stays: bool) -> Self {
        Self {
            path: path.into(),
            stays,
            written: false,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has it say these labels, and answers whether it said something else before.
    ///
    /// # Errors
    /// The file system's; the file is then as it was.
    pub fn write(&mut self, labels: &Labels) -> io::Result<bool> {
        let text = features_file(labels);
        if is_device(&self.path) {
            fs::write(&self.path, text)?;
            return Ok(true);
        }
        let is_new = fs::read(&self.path).ok().as_deref() != Some(text.as_bytes());
        if is_new {
            self.replace(&text)?;
        }
        self.written = true;
        Ok(is_new)
    }

    /// Node Feature Discovery reads every file of the directory whose name does not begin with a
    /// dot.
    fn replace(&self, text: &str) -> io::Result<()> {
        let name = self.path.file_name().ok_or_else(|| {
            let message = format!("{} is no file", self.path.display());
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        let hidden = format!(".{}.new", name.to_string_lossy());
        let temporary = self.path.with_file_name(hidden);
        let written =
            write_for_all(&temporary, text).and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            // The error that counts is the one before.
            drop(fs::remove_file(&temporary));
        }
        written
    }
}

/// Writes a file that everybody may read, whatever the process's umask.
fn write_for_all(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())
}

impl Drop for LabelsFile {
    fn drop(&mut self) {
        if self.written
            && !self.stays
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the labels' file stays behind");
        }
    }
}
