//! Small libraries that behave as the simulated one never would.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles a fixture into `libnvidia-ml.so.1` below `directory`, with these words in its
/// environment.
pub(crate) fn compile(fixture: &str, directory: &Path, words: &[(&str, &str)]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(fixture);
    let library = directory.join("libnvidia-ml.so.1");
    let status = Command::new("rustc")
        .args(["--edition", "2021", "--crate-type", "cdylib", "-o"])
        .args([&library, &source])
        .envs(words.iter().copied())
        .status()
        .expect("rustc builds this very test, so it can be run");
    assert!(status.success(), "{fixture} does not compile");
    library
}
