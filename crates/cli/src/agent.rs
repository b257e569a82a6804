//! The `mizzen agent` command.

mod flags;
mod logging;
mod settings;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use mizzen_agent::{Agent, ConfigText};

pub(crate) use flags::AgentArgs;

/// What `mizzen agent --help` says first.
pub(crate) const ABOUT: &str = "\
Run the node agent: report this node's GPUs to the kubelet, allocate them, watch them

Flags, their aliases and variables are those of NVIDIA's k8s-device-plugin, and Mizzen's own. The \
command line outranks the environment, which outranks the config file.

Signals: SIGTERM, SIGINT and SIGQUIT end the agent in order; SIGHUP makes it read its config file \
again and look at the driver anew.";

/// The exit code for settings that cannot be used, as for a command line that cannot be read.
const BAD_SETTINGS: u8 = 2;

/// Carries the command out.
pub(crate) fn run(args: AgentArgs) -> anyhow::Result<ExitCode> {
    let AgentArgs { settings, log } = args;
    let config = match logging::start(&log).and_then(|()| settings::read(&settings)) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("mizzen: {errors}");
            return Ok(ExitCode::from(BAD_SETTINGS));
        }
    };
    for warning in &config.warnings {
        tracing::warn!(event = "config", "{warning}");
    }
    tracing::info!(
        event = "starting",
        version = env!("CARGO_PKG_VERSION"),
        "mizzen agent"
    );
    let interpreter =
        Arc::new(move |text: Option<ConfigText<'_>>| settings::with_text(&settings, text));
    let agent = Agent::new(config).with_interpreter(interpreter);
    mizzen_agent::run_process(agent).context("the agent cannot run")?;
    Ok(ExitCode::SUCCESS)
}
