//! The `mizzen config` command.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use mizzen_agent::CONFIG_LIMIT;
use mizzen_core::config::{RawConfig, file};

mod args;
mod check;
mod choice;
pub(crate) mod findings;
mod keys;
mod node;
mod offer;
mod schema;

pub(crate) use args::{ABOUT, ConfigArgs};

use args::{ConfigCommand, SchemaForm};

use crate::stdout::{print, print_json};

/// The exit code of a config file that cannot be used.
const UNUSABLE: u8 = 1;
/// The exit code of a command line, a file that cannot be read or a scenario that cannot be
/// understood, as clap has it.
const MISUNDERSTOOD: u8 = 2;

/// Carries the command out.
pub(crate) fn run(args: ConfigArgs) -> Result<ExitCode> {
    match args.command {
        ConfigCommand::Schema { output } => {
            let text = match output {
                SchemaForm::Json => serde_json::to_string_pretty(&schema::of_file())? + "\n",
                SchemaForm::Markdown => keys::table(),
            };
            print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        ConfigCommand::Check(args) => check::run(&args),
        ConfigCommand::ExplainChoice(args) => choice::run(&args),
    }
}

/// Says what cannot be understood.
fn misunderstood(error: &anyhow::Error) -> ExitCode {
    eprintln!("mizzen config: {error:#}");
    MISUNDERSTOOD.into()
}

/// The text of a config, which is no longer than the agent would take: some files never end.
///
/// # Errors
/// It cannot be read, is longer, or is no text.
pub(crate) fn text_of(path: &Path) -> Result<String> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    bounded(file, &name)
}

/// The same of what is no file.
///
/// # Errors
/// As for [`text_of`].
pub(crate) fn bounded(source: impl Read, name: &str) -> Result<String> {
    let mut text = Vec::new();
    source
        .take(CONFIG_LIMIT + 1)
        .read_to_end(&mut text)
        .with_context(|| format!("cannot read {name}"))?;
    if text.len() as u64 > CONFIG_LIMIT {
        bail!("{name} is longer than {CONFIG_LIMIT} bytes, the most that a config may have");
    }
    String::from_utf8(text).with_context(|| format!("{name} is no text in UTF-8"))
}

/// A config file as an agent reads it that is given nothing else: no flags, no variables.
#[derive(Debug)]
struct ConfigFile {
    /// Its name, for people.
    name: String,
    settings: RawConfig,
}

impl ConfigFile {
    /// Reads a file, or standard input for `-`.
    fn read(path: &Path) -> Result<Self> {
        let (name, text) = if path == Path::new("-") {
            let name = "standard input".to_owned();
            let text = bounded(std::io::stdin(), &name)?;
            (name, text)
        } else {
            let name = path.display().to_string();
            (name, text_of(path)?)
        };
        Ok(Self {
            name,
            settings: file::parse(&text),
        })
    }

    /// The file of an agent without one.
    fn none() -> Self {
        Self {
            name: "no config file".to_owned(),
            settings: RawConfig::default(),
        }
    }
}
