//! `mizzen mig`, on the simulated driver.

mod change;
mod document;
mod file;
mod held;
mod in_use;
mod profiles;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Ran, mizzen, run};

/// GPUs 0 and 1 are H100 (Hopper: MIG at once), 2 an A100 and 3 an A30 (Ampere: MIG with a
/// reset), 4 a T4, which has no MIG.
const NODE: &str = "gpus:
- {model: h100-80gb, count: 2}
- {model: a100-40gb}
- {model: a30}
- {model: t4}
";

/// The simulated library, placed once for all tests.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mig-library");
        let ran = run(["sim".as_ref(), "library".as_ref(), directory.as_os_str()]);
        PathBuf::from(ran.ended_with(0).stdout().trim_end())
    })
}

/// A simulated machine of its own.
pub(crate) struct Machine {
    pub(crate) dir: TempDir,
}

impl Machine {
    /// That of [`NODE`].
    fn new() -> Self {
        Self::of(NODE)
    }

    fn of(scenario: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("node.yaml"), scenario).unwrap();
        Self { dir }
    }

    /// A command that works on this machine.
    pub(crate) fn command(&self) -> Command {
        let mut command = mizzen();
        command
            .env("MIZZEN_SIM", self.dir.path().join("node.yaml"))
            .env("MIZZEN_SIM_STATE", self.dir.path().join("state"))
            .env("MIZZEN_NVML_LIBRARY", library())
            .current_dir(self.dir.path());
        command
    }

    fn sim(&self, arguments: &[&str]) -> Ran {
        Ran(self.command().arg("sim").args(arguments).output().unwrap())
    }

    /// `mizzen mig …` on a machine without a kubelet.
    fn mig(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command();
        let nowhere = self.dir.path().join("nowhere/device-plugins/kubelet.sock");
        command.env("KUBELET_SOCKET", nowhere);
        Ran(command.arg("mig").args(arguments).output().unwrap())
    }

    fn json(&self, arguments: &[&str], code: i32) -> Value {
        let ran = self.mig(&[arguments, &["--output", "json"]].concat());
        let ran = ran.ended_with(code);
        serde_json::from_str(&ran.stdout()).unwrap()
    }

    /// The profiles and placements of a GPU's instances, as the simulator knows them.
    fn instances(&self, gpu: usize) -> Vec<String> {
        let status = self.sim(&["status", "--output", "json"]).ended_with(0);
        let status: Value = serde_json::from_str(&status.stdout()).unwrap();
        let instances = status["gpus"][gpu]["mig"]["gpu_instances"].as_array();
        let instances = instances.into_iter().flatten().map(|instance| {
            let devices = instance["devices"].as_array().unwrap();
            let profiles: Vec<&str> = devices
                .iter()
                .map(|device| device["profile"].as_str().unwrap())
                .collect();
            profiles.join("+")
        });
        let mut instances: Vec<String> = instances.collect();
        instances.sort();
        instances
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    }
}
