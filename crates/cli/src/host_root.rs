//! The root of the machine that a command looks at, which has to be there: below one that is not,
//! everything would be missing.

use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};

const NO_DIRECTORY: &str = "there is no such directory";

/// Takes the value of a flag `--host-root`.
pub(crate) fn parser() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        if path.is_dir() {
            Ok(path)
        } else {
            Err(NO_DIRECTORY)
        }
    })
}

/// Checks the one that settings name.
///
/// # Errors
/// That it is no directory, for people.
pub(crate) fn check(host_root: &Path) -> Result<(), String> {
    if host_root.is_dir() {
        return Ok(());
    }
    let path = host_root.display();
    Err(format!(
        "--host-root (MIZZEN_HOST_ROOT) {path}: {NO_DIRECTORY}"
    ))
}
