//! Tests on a simulated node, each in a process of its own: the library reads which node it
//! simulates from the environment, which one process can set for another but not safely for
//! itself.

use std::any::type_name_of_val;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mizzen_nvml::{NvmlLoader, NvmlLoaderBuilder};
use mizzen_nvml_sim::control::{Fault, GpuRef, Gpus, Simulator};
use mizzen_nvml_sim::environment::{Place, SCENARIO, STATE};
use mizzen_nvml_sim::library;

/// Set for the process that runs the test's body.
const BODY: &str = "MIZZEN_TEST_BODY";
/// After which the body counts as hanging. Far longer than any of them takes.
const LIMIT: Duration = Duration::from_mins(5);

/// The simulated node that a test's body runs on.
pub(crate) struct Node {
    /// What makes things happen on it.
    pub(crate) simulator: Simulator,
    directory: PathBuf,
}

/// Runs `body` on the node that `scenario` (YAML) describes. Called by a test, first thing: it
/// starts the same test again in a new process, and there runs the body.
pub(crate) fn on_node(scenario: &str, body: impl FnOnce(&Node)) {
    // <binary>::<test>::{{closure}}
    let path = type_name_of_val(&body);
    let test = path
        .split_once("::")
        .and_then(|(_, rest)| rest.strip_suffix("::{{closure}}"))
        .expect("called by a test with a closure");
    #[allow(clippy::disallowed_methods, reason = "the harness's own variable")]
    let directory = std::env::var_os(BODY);
    match directory {
        Some(directory) => run_body(Path::new(&directory), body),
        None => start_again(test, scenario),
    }
}

fn start_again(test: &str, scenario: &str) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.yaml");
    std::fs::write(&file, scenario).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(BODY, directory.path())
        .env(SCENARIO, &file)
        .env(STATE, directory.path().join("state"))
        // glibc makes arenas as threads happen to meet, which tests that count would count.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn run_body(directory: &Path, body: impl FnOnce(&Node)) {
    let (done, waiting) = mpsc::channel::<()>();
    thread::spawn(move || {
        if waiting.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("the test hangs");
            std::process::abort();
        }
    });
    body(&Node {
        simulator: Simulator::open(&Place::from_environment()).unwrap(),
        directory: directory.to_owned(),
    });
    drop(done);
}

impl Node {
    /// The simulated library's path; the same for all tests.
    pub(crate) fn library() -> PathBuf {
        library::place(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
    }

    /// A directory of the test's own, gone after it.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A loader of the simulated library, to be set up further.
    pub(crate) fn loader() -> NvmlLoaderBuilder {
        NvmlLoader::builder().library(Self::library())
    }

    /// Makes something go wrong with the GPU of this index.
    pub(crate) fn inject(&self, gpu: u32, fault: &Fault) {
        let gpus = Gpus::from(GpuRef::Index(gpu));
        self.simulator.inject(&gpus, fault, None).unwrap();
    }

    /// Heals every GPU.
    pub(crate) fn heal(&self) {
        self.simulator.heal(&Gpus::All).unwrap();
    }
}
