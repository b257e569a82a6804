//! The real binary, run as people run it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The binary under test, without whatever simulation the caller's environment describes.
pub(crate) fn mizzen() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mizzen"));
    for variable in [
        "MIZZEN_SIM",
        "MIZZEN_SIM_STATE",
        "MIZZEN_SIM_DEV_ROOT",
        "NO_COLOR",
    ] {
        command.env_remove(variable);
    }
    command
}

/// A path in the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
        .canonicalize()
        .unwrap()
}

/// Runs it with these arguments to its end.
pub(crate) fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ran {
    Ran(mizzen().args(arguments).output().unwrap())
}

/// Runs `mizzen simulate` and reads its JSON document.
pub(crate) fn simulate_json(arguments: &[&str]) -> (i32, Value) {
    let ran = run([&["simulate", "--output", "json"], arguments].concat());
    let document = serde_json::from_slice(&ran.0.stdout)
        .unwrap_or_else(|error| panic!("{error} in {}\n{}", ran.stdout(), ran.stderr()));
    (ran.code(), document)
}

/// A program that has ended.
pub(crate) struct Ran(pub(crate) Output);

impl Ran {
    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    /// Panics with both outputs unless it ended with this code.
    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{}\n{}", self.stdout(), self.stderr());
        self
    }
}

/// Writes a pod with one container that asks for these resources.
pub(crate) fn pod_file(directory: &Path, name: &str, resources: &str) -> String {
    let path = directory.join(format!("{name}.yaml"));
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  \
         containers:\n  - name: main\n    image: busybox\n    resources: {resources}\n"
    );
    std::fs::write(&path, text).unwrap();
    path.into_os_string().into_string().unwrap()
}
