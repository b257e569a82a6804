//! The agent's log: lines on standard error, for people or for machines.

use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;

use super::settings::variable;

/// How to log.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogArgs {
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        help = "How log lines are written [default: text] [env: MIZZEN_LOG_FORMAT]"
    )]
    log_format: Option<LogFormat>,
    #[arg(
        long,
        value_enum,
        value_name = "LEVEL",
        help = "The least that is logged [default: info] [env: MIZZEN_LOG_LEVEL]"
    )]
    log_level: Option<LogLevel>,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object for each line.
    Json,
}

/// How much a line must matter to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogLevel {
    /// What somebody must act on.
    Error,
    /// What somebody should know.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Everything.
    Trace,
}

/// Sends the process's log to standard error.
///
/// # Errors
/// A variable that is not what it must be.
pub(super) fn start(args: &LogArgs) -> Result<(), String> {
    let format = choice(args.log_format, "MIZZEN_LOG_FORMAT")?.unwrap_or(LogFormat::Text);
    let level = match choice(args.log_level, "MIZZEN_LOG_LEVEL")?.unwrap_or(LogLevel::Info) {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let log = fmt().with_max_level(level).with_writer(io::stderr);
    match format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => {
            let colours = io::stderr().is_terminal()
                && anstyle_query::term_supports_ansi_color()
                && !anstyle_query::no_color();
            log.with_target(false).with_ansi(colours).init();
        }
    }
    Ok(())
}

/// What the flag says, or else the variable.
fn choice<T: ValueEnum>(flag: Option<T>, name: &str) -> Result<Option<T>, String> {
    let text = variable(name).filter(|text| !text.is_empty());
    let Some(text) = text.filter(|_| flag.is_none()) else {
        return Ok(flag);
    };
    T::from_str(&text, true).map(Some).map_err(|_| {
        let values = T::value_variants()
            .iter()
            .filter_map(ValueEnum::to_possible_value);
        let words: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
        let words = words.join(", ");
        format!("environment variable {name}: {text:?} is not one of {words}")
    })
}
