//! The places of a run: one directory with everything that a node has.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{Access, StatVfsMountFlags};
use tempfile::{NamedTempFile, TempDir};

use mizzen_core::config::Config;

use super::agent_process::AgentCommand;
use crate::agent::{self, CannotStart};

/// The directory of a run.
#[derive(Debug)]
pub(crate) struct World {
    root: PathBuf,
    /// Removes the directory at the end; absent where it is to be kept.
    _temporary: Option<TempDir>,
}

impl World {
    /// Makes the directory: the one that was asked for, or a new one that is removed at the end
    /// unless it is to be kept.
    pub(crate) fn new(asked: Option<&Path>, keep: bool) -> Result<Self> {
        if let Some(dir) = asked {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
            let root = dir
                .canonicalize()
                .with_context(|| format!("cannot use {}", dir.display()))?;
            return Ok(Self {
                root,
                _temporary: None,
            });
        }
        let temporary = tempfile::Builder::new()
            .prefix("mizzen-")
            .tempdir_in(fast_directory().unwrap_or_else(std::env::temp_dir))
            .context("cannot make a temporary directory")?;
        let root = temporary.path().to_owned();
        if keep {
            let _path = temporary.keep();
            return Ok(Self {
                root,
                _temporary: None,
            });
        }
        Ok(Self {
            root,
            _temporary: Some(temporary),
        })
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The kubelet's directory, `/var/lib/kubelet` on a node.
    pub(crate) fn kubelet(&self) -> PathBuf {
        self.root.join("kubelet")
    }

    /// Where `libnvidia-ml.so.1` is placed.
    pub(crate) fn driver(&self) -> PathBuf {
        self.root.join("driver")
    }

    /// The root of the simulated machine: /sys, /proc and /dev.
    pub(crate) fn host(&self) -> PathBuf {
        self.root.join("host")
    }

    /// The simulated driver's live state.
    pub(crate) fn sim_state(&self) -> PathBuf {
        self.root.join("sim")
    }

    /// The scenario that the driver reads.
    pub(crate) fn scenario(&self) -> PathBuf {
        self.root.join("scenario.yaml")
    }

    /// The agent's config file, in a run that has one.
    pub(crate) fn agent_config(&self) -> PathBuf {
        self.root.join("config.yaml")
    }

    /// What the agent wrote to its log.
    pub(crate) fn agent_log(&self) -> PathBuf {
        self.root.join("agent.log")
    }

    /// The agent as this run starts it: this program, with everything in this directory.
    pub(crate) fn agent_command(
        &self,
        library: &Path,
        kubelet_socket: &Path,
        flags: &[OsString],
    ) -> Result<AgentCommand> {
        let mut arguments: Vec<OsString> = vec!["--end-with-parent".into()];
        arguments.extend(agent_words(&self.root, library, kubelet_socket, flags));
        let mut environment = self.sim_environment();
        environment.extend(hasty_environment());
        Ok(AgentCommand {
            binary: std::env::current_exe().context("cannot find this program's own file")?,
            arguments,
            environment,
        })
    }

    /// The variables that let a program see the simulated GPUs of this run.
    pub(crate) fn sim_environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("MIZZEN_SIM", self.scenario().into()),
            ("MIZZEN_SIM_STATE", self.sim_state().into()),
            ("MIZZEN_SIM_DEV_ROOT", self.host().into()),
        ]
    }
}

/// Checks the flags that the agent is to be given besides ours and the config file, before there
/// is anything of a run. What is wrong with them is what the agent would say of them.
///
/// # Errors
/// The config cannot be written down for the agent to be read.
pub(crate) fn check_agent_flags(
    flags: &[OsString],
    config: Option<&str>,
) -> Result<Result<(), CannotStart>> {
    let nowhere = Path::new("/");
    let mut words = agent_words(nowhere, nowhere, nowhere, flags);
    let file = config.map(temporary_file).transpose()?;
    if let Some(file) = &file {
        words.extend(["--config-file".into(), file.path().into()]);
    }
    let checked = agent::check(&words, &hasty_environment()).and_then(|config| has_place(&config));
    Ok(checked.map_err(|error| match (error, &file) {
        (CannotStart::Settings(text), Some(file)) => {
            let path = file.path().display().to_string();
            CannotStart::Settings(text.replace(&path, "of the run"))
        }
        (error, _) => error,
    }))
}

/// Refuses what a simulated node has no place for.
fn has_place(config: &Config) -> Result<(), CannotStart> {
    if config.mig_manager.enabled && config.source.kubeconfig.is_none() {
        return Err(CannotStart::Settings(NO_API.to_owned()));
    }
    Ok(())
}

/// Why the MIG manager is refused.
const NO_API: &str = "--mig-manager (MIZZEN_MIG_MANAGER) follows a label of the Node, and a \
simulated node has no Kubernetes API: give --kubeconfig for one that has, or partition GPUs with \
`--inject 'at 1s: mig create ...'`, `mizzen sim mig` or `mizzen mig`";

fn temporary_file(text: &str) -> Result<NamedTempFile> {
    let mut file = NamedTempFile::new().context("cannot make a temporary file")?;
    file.write_all(text.as_bytes())
        .context("cannot write a temporary file")?;
    Ok(file)
}

/// `agent` and all that follows it.
fn agent_words(
    root: &Path,
    library: &Path,
    kubelet_socket: &Path,
    flags: &[OsString],
) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["agent".into()];
    for (flag, value) in [
        ("--host-root", root.join("host")),
        ("--nvml-library", library.to_owned()),
        ("--kubelet-socket", kubelet_socket.to_owned()),
        ("--state-dir", root.join("state")),
    ] {
        words.extend([flag.into(), value.into_os_string()]);
    }
    words.extend(["--log-format".into(), "json".into()]);
    words.extend_from_slice(flags);
    words
}

/// A patience that suits a run of seconds: flags outrank it.
fn hasty_environment() -> Vec<(&'static str, OsString)> {
    [
        ("MIZZEN_HEALTH_HOLD_DOWN", "1s"),
        ("MIZZEN_HEALTH_CHECK_INTERVAL", "500ms"),
        ("MIZZEN_NVML_CALL_TIMEOUT", "1s"),
    ]
    .map(|(name, value)| (name, value.into()))
    .into()
}

/// A directory in memory, for the simulated machine has a thousand small files: `/dev/shm`, if
/// libraries can be loaded and device nodes opened there. Whoever sets `TMPDIR` has chosen.
fn fast_directory() -> Option<PathBuf> {
    let shared_memory = Path::new("/dev/shm");
    let flags = rustix::fs::statvfs(shared_memory).ok()?.f_flag;
    let hindered = flags.intersects(
        StatVfsMountFlags::NOEXEC | StatVfsMountFlags::NODEV | StatVfsMountFlags::RDONLY,
    );
    let chosen = std::env::temp_dir() != Path::new("/tmp");
    let writable = rustix::fs::access(shared_memory, Access::WRITE_OK).is_ok();
    (!hindered && !chosen && writable).then(|| shared_memory.to_owned())
}
