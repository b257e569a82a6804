//! The agent's log: lines on standard error, for people or for machines.

use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;

use super::flags::Words;
use super::settings::variable;

/// How to log, as it was given.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogArgs {
    #[arg(
        long,
        value_parser = Words(&["text", "json"]),
        value_name = "FORMAT",
        help = "How log lines are written [default: text] [env: MIZZEN_LOG_FORMAT]"
    )]
    log_format: Option<String>,
    #[arg(
        long,
        value_parser = Words(&["error", "warn", "info", "debug", "trace"]),
        value_name = "LEVEL",
        help = "The least that is logged [default: info] [env: MIZZEN_LOG_LEVEL]"
    )]
    log_level: Option<String>,
}

/// The variables that say how to log.
pub(super) const VARIABLES: [&str; 2] = ["MIZZEN_LOG_FORMAT", "MIZZEN_LOG_LEVEL"];

/// How to log.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogSettings {
    format: LogFormat,
    level: LogLevel,
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

/// Joins the flags with the environment.
///
/// # Errors
/// Every flag and variable that is not what it must be, for people.
pub(super) fn read(args: &LogArgs) -> Result<LogSettings, Vec<String>> {
    let [format, level] = VARIABLES;
    let format = choice(args.log_format.as_ref(), "--log-format", format);
    let level = choice(args.log_level.as_ref(), "--log-level", level);
    match (format, level) {
        (Ok(format), Ok(level)) => Ok(LogSettings {
            format: format.unwrap_or(LogFormat::Text),
            level: level.unwrap_or(LogLevel::Info),
        }),
        (format, level) => Err(format.err().into_iter().chain(level.err()).collect()),
    }
}

/// Sends the process's log to standard error.
pub(super) fn start(settings: LogSettings) {
    let level = match settings.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let log = fmt().with_max_level(level).with_writer(io::stderr);
    match settings.format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => {
            let colours = io::stderr().is_terminal()
                && anstyle_query::term_supports_ansi_color()
                && !anstyle_query::no_color();
            log.with_target(false).with_ansi(colours).init();
        }
    }
}

/// What the flag says, or else the variable.
fn choice<T: ValueEnum>(
    given: Option<&String>,
    flag: &str,
    name: &str,
) -> Result<Option<T>, String> {
    let (origin, text) = match given {
        Some(text) => (flag.to_owned(), text.clone()),
        None => match variable(name).filter(|text| !text.is_empty()) {
            Some(text) => (format!("environment variable {name}"), text),
            None => return Ok(None),
        },
    };
    T::from_str(&text, true).map(Some).map_err(|_| {
        let values = T::value_variants()
            .iter()
            .filter_map(ValueEnum::to_possible_value);
        let words: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
        let words = words.join(", ");
        format!("{origin}: {text:?} is not valid: expected one of {words}")
    })
}
