//! A Python with the packages of `tests/python/requirements.txt`, made once for the user.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What a missing Python costs, and how to get one.
const NEEDS_PYTHON: &str = "this test reads the simulated GPUs with programs written in Python: \
    it needs `python3` 3.9 or newer with its `venv` module on the PATH (Debian, Ubuntu: \
    `apt-get install python3-venv`)";

/// The interpreter of a virtual environment in the user's cache directory, with the pinned
/// packages from pypi.org. Made by the first test that asks for it.
pub(crate) fn interpreter() -> PathBuf {
    let requirements = directory().join("requirements.txt");
    let wanted = fs::read_to_string(&requirements).unwrap();
    let mut hash = DefaultHasher::new();
    (&wanted, version_of_python()).hash(&mut hash);
    let place = cache().join(format!("mizzen/python-{:016x}", hash.finish()));
    fs::create_dir_all(&place).unwrap();

    // Other test processes may want the same at the same time.
    let lock = File::create(place.join("lock")).unwrap();
    lock.lock().unwrap();
    let python = place.join("venv/bin/python");
    let complete = place.join("complete");
    if !complete.exists() {
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(place.join("venv"));
        run(make, NEEDS_PYTHON);
        let mut install = Command::new(&python);
        install
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(&requirements);
        run(install, "the pinned packages could not be had from PyPI");
        fs::write(&complete, wanted).unwrap();
    }
    python
}

/// Where the scripts are.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python")
}

fn version_of_python() -> Vec<u8> {
    let mut version = Command::new("python3");
    version.arg("--version");
    run(version, NEEDS_PYTHON).stdout
}

fn cache() -> PathBuf {
    #[allow(clippy::disallowed_methods, reason = "the tests' own configuration")]
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    variable("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(variable("HOME").expect("HOME is set")).join(".cache"),
        PathBuf::from,
    )
}

/// Runs a command to its good end, or fails with the hint and what the command said.
pub(crate) fn run(mut command: Command, hint: &str) -> Output {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("{hint}\n{command:?}: {error}"),
    };
    assert!(
        output.status.success(),
        "{hint}\n{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
