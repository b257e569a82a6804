//! The shared library itself, carried along by programs that were built with the feature
//! `embedded`.

use std::path::{Path, PathBuf};

/// The name under which programs look for NVML.
pub const FILE_NAME: &str = "libnvidia-ml.so.1";

/// The bytes of the simulated `libnvidia-ml.so.1`; none if this program was built without the
/// feature `embedded`.
#[cfg(feature = "embedded")]
pub static BYTES: &[u8] = include_bytes!(env!("MIZZEN_SIM_LIBRARY"));
/// The bytes of the simulated `libnvidia-ml.so.1`; none if this program was built without the
/// feature `embedded`.
#[cfg(not(feature = "embedded"))]
pub static BYTES: &[u8] = &[];

/// Why the library cannot be placed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// This program does not carry it.
    #[error(
        "this program was built without the simulated library: enable the feature `embedded` of mizzen-nvml-sim"
    )]
    NotEmbedded,
    /// It cannot be written.
    #[error("cannot write {path:?}: {error}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not; in the message already, so no source of this error.
        error: std::io::Error,
    },
}

/// Writes the library into `directory` (made if need be) and returns its path. Programs that
/// have an older one loaded keep it: the file is replaced, not changed.
///
/// # Errors
/// The program does not carry the library, or the directory cannot be written.
pub fn place(directory: &Path) -> Result<PathBuf, PlaceError> {
    if BYTES.is_empty() {
        return Err(PlaceError::NotEmbedded);
    }
    let path = directory.join(FILE_NAME);
    let fail = |error| PlaceError::Write {
        path: path.clone(),
        error,
    };
    if std::fs::read(&path).is_ok_and(|bytes| bytes == BYTES) {
        return Ok(path);
    }
    std::fs::create_dir_all(directory).map_err(fail)?;
    let draft = directory.join(format!(".{FILE_NAME}.{}", std::process::id()));
    let written = std::fs::write(&draft, BYTES).and_then(|()| std::fs::rename(&draft, &path));
    written.map_err(fail)?;
    Ok(path)
}
