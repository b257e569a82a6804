//! Configuration from the environment: which node is simulated, and where its state lives.

use std::path::{Path, PathBuf};

use crate::identity::fnv1a;

/// Variable that names the scenario file.
pub const SCENARIO: &str = "MIZZEN_SIM";
/// Variable that names the directory of the live state.
pub const STATE: &str = "MIZZEN_SIM_STATE";
/// Variable that names the root below which device nodes are looked for.
pub const DEV_ROOT: &str = "MIZZEN_SIM_DEV_ROOT";

/// Which node is simulated, and where its state lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Scenario file. None = whatever node the state directory holds, or the default node.
    pub scenario: Option<PathBuf>,
    /// Directory of the live state.
    pub state: PathBuf,
    /// Root below which `/dev/nvidia*` is looked for if the scenario enforces device nodes.
    pub dev_root: PathBuf,
}

impl Place {
    /// The place that explicit choices give; `None` stands for the default of each.
    pub fn new(
        scenario: Option<PathBuf>,
        state: Option<PathBuf>,
        dev_root: Option<PathBuf>,
    ) -> Self {
        let state = state.unwrap_or_else(|| default_state(scenario.as_deref()));
        Self {
            scenario,
            state,
            dev_root: dev_root.unwrap_or_else(|| PathBuf::from("/")),
        }
    }

    /// The place that the environment names: `MIZZEN_SIM`, `MIZZEN_SIM_STATE` and
    /// `MIZZEN_SIM_DEV_ROOT`; an empty variable counts as unset.
    pub fn from_environment() -> Self {
        Self::new(path(SCENARIO), path(STATE), path(DEV_ROOT))
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "this is the configuration module"
)]
fn path(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// `/tmp/mizzen-sim-<uid>/default`, or `/tmp/mizzen-sim-<uid>/<file stem>-<hash of the path>`.
/// Not below `TMPDIR`, which differs between processes that must share the state.
fn default_state(scenario: Option<&Path>) -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    let parent = PathBuf::from(format!("/tmp/mizzen-sim-{user}"));
    let Some(scenario) = scenario else {
        return parent.join("default");
    };
    let whole = std::fs::canonicalize(scenario).unwrap_or_else(|_| scenario.to_owned());
    let hash = fnv1a(whole.as_os_str().as_encoded_bytes());
    let stem = whole.file_stem().unwrap_or_default().to_string_lossy();
    parent.join(format!("{stem}-{hash:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scenario_has_a_state_of_its_own() {
        let state =
            |scenario: Option<&str>| Place::new(scenario.map(PathBuf::from), None, None).state;
        assert!(state(None).ends_with("default"));
        assert_ne!(state(Some("/a/node.yaml")), state(Some("/b/node.yaml")));
        assert_eq!(state(Some("/a/node.yaml")), state(Some("/a/node.yaml")));
    }
}
