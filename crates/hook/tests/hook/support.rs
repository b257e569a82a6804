//! Containers to be finished, and the program that does it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use mizzen_hook::program;

/// The program as it is installed.
static PROGRAM: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(program::FILE_NAME);
    fs::write(&path, program::BYTES).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (dir, path)
});

/// Where the program is.
pub(crate) fn program() -> &'static Path {
    &PROGRAM.1
}

/// A bundle as a runtime makes it: a root, and a configuration that names it.
pub(crate) struct Bundle {
    dir: tempfile::TempDir,
}

impl Bundle {
    pub(crate) fn new() -> Self {
        let bundle = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(bundle.root()).unwrap();
        let config = r#"{"ociVersion": "1.2.0", "root": {"path": "rootfs", "readonly": true}}"#;
        fs::write(bundle.path("config.json"), config).unwrap();
        fs::write(bundle.path("state.json"), bundle.state()).unwrap();
        bundle
    }

    /// Has the configuration say that these are mounted, a list in JSON.
    pub(crate) fn configure_mounts(&self, mounts: &str) {
        let config = format!(r#"{{"root": {{"path": "rootfs"}}, "mounts": {mounts}}}"#);
        fs::write(self.path("config.json"), config).unwrap();
    }

    /// The state that a runtime tells.
    pub(crate) fn state(&self) -> String {
        let bundle = self.dir.path().display();
        format!(
            r#"{{"ociVersion": "1.2.0", "id": "c", "status": "creating", "pid": 7, "bundle": "{bundle}"}}"#
        )
    }

    /// A file of the bundle.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("rootfs")
    }

    /// A file of the container.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Puts a file into the container.
    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    /// What the program says and how it ends, the state on its standard input.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        call(arguments, &self.state())
    }

    /// The same for a hook that has nothing to say.
    pub(crate) fn carry_out(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.is_empty(), "{told}");
    }
}

/// Calls the program.
pub(crate) fn call(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that does not want to read it closes it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Runs a shell's script in a mount namespace of its own, with `$1`, `$2`… being `arguments`.
/// Where that is not allowed it is `None`, and said whether the test's output is shown or not.
///
/// # Panics
/// It is not allowed, and the variable `TESTS_REQUIRE_NAMESPACES` is set.
pub(crate) fn in_namespace(script: &str, arguments: &[&Path]) -> Option<Output> {
    static IS_ALLOWED: LazyLock<bool> = LazyLock::new(|| {
        unshared("true")
            .output()
            .is_ok_and(|output| output.status.success())
    });
    if *IS_ALLOWED {
        return Some(unshared(script).args(arguments).output().unwrap());
    }
    #[allow(clippy::disallowed_methods, reason = "the tests' own configuration")]
    let is_required = std::env::var_os("TESTS_REQUIRE_NAMESPACES").is_some();
    assert!(!is_required, "no mount namespace can be made here");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Past the test harness, which shows what a test prints only if it fails.
    let said = format!("skipped: {test}: no mount namespace can be made here\n");
    std::io::stderr().write_all(said.as_bytes()).unwrap();
    None
}

fn unshared(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command.args(["sh", "-euc", script, "sh"]);
    command
}
