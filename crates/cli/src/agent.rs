//! The `mizzen agent` command.

mod flags;
mod logging;
mod misspelt;
mod settings;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use mizzen_agent::{Agent, ConfigText, last_good_text};
use mizzen_core::config::Config;

pub(crate) use flags::{AgentArgs, flag, given, rows};
pub(crate) use logging::LogArgs;
pub(crate) use settings::{best, variable};

/// What `mizzen agent --help` says first.
pub(crate) const ABOUT: &str = "\
Run the node agent: report this node's GPUs to the kubelet, allocate them, watch them

Flags, their aliases and variables are those of NVIDIA's k8s-device-plugin, and Mizzen's own. The \
command line outranks the environment, which outranks the config file.

Signals: SIGTERM, SIGINT and SIGQUIT end the agent in order; SIGHUP makes it read its config file \
again and look at the driver anew.";

/// The agent's flags alone. Describing every command to the parser takes longer than the agent
/// needs to open the driver, and an agent is started often.
#[derive(Debug, Parser)]
#[command(name = "mizzen agent", bin_name = "mizzen agent", version, long_about = ABOUT)]
pub(crate) struct AgentCli {
    #[command(flatten)]
    pub(crate) args: AgentArgs,
}

/// The exit code for settings that cannot be used, as for a command line that cannot be read.
const BAD_SETTINGS: u8 = 2;

/// The settings of an agent that is started with these words after `mizzen`, and with these
/// variables besides those that are there, with nothing remembered.
///
/// # Errors
/// What it would say.
pub(crate) fn check(
    words: &[OsString],
    environment: &[(&'static str, OsString)],
) -> Result<Config, CannotStart> {
    let AgentArgs { settings, log } = AgentCli::try_parse_from(words)?.args;
    let variable = |name: &str| {
        let given = environment.iter().find(|(known, _)| *known == name);
        match given {
            Some((_, value)) => value.clone().into_string().ok(),
            None => settings::variable(name),
        }
    };
    settings::read_with_log(&settings, &log, variable, |_| Ok(None))
        .map(|(config, _log)| config)
        .map_err(CannotStart::Settings)
}

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotStart {
    /// Its command line cannot be read, or asks for help only.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// Its settings cannot be used.
    #[error("{0}")]
    Settings(String),
}

/// Sends the log of another command to standard error, as the agent's.
///
/// # Errors
/// What is wrong with how it is to be, for people.
pub(crate) fn start_log(args: &LogArgs) -> Result<(), String> {
    let settings = logging::read(args).map_err(|mistakes| mistakes.join("\n"))?;
    logging::start(settings);
    Ok(())
}

/// Carries the command out.
pub(crate) fn run(args: AgentArgs) -> anyhow::Result<ExitCode> {
    let AgentArgs { settings, log } = args;
    let begun = settings::read_with_log(&settings, &log, settings::variable, last_good_text);
    let config = match begun {
        Ok((config, log)) => {
            logging::start(log);
            config
        }
        Err(errors) => {
            eprintln!("mizzen: {errors}");
            return Ok(ExitCode::from(BAD_SETTINGS));
        }
    };
    let odd = config.warnings.iter().map(ToString::to_string);
    for warning in odd.chain(settings::misspelt_variables()) {
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
