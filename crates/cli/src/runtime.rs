//! The `mizzen runtime` command.

use std::process::ExitCode;

use anyhow::Result;

mod args;
mod back;
mod check;
mod configure;
mod files;
mod look;
mod patch;

pub(crate) use args::{ABOUT, RuntimeArgs};

use args::RuntimeCommand;

use crate::stdout::{print, print_json};

/// The exit code of a runtime that does not resolve CDI names, or that cannot be made to.
const NOT_ON: u8 = 1;
/// The exit code of a command line that makes no sense, or of files that cannot be read or
/// written, as clap has it.
const MISUNDERSTOOD: u8 = 2;
/// The exit code of a node whose runtime is not found or does not tell enough.
const UNKNOWN: u8 = 3;

/// Carries the command out.
pub(crate) fn run(args: RuntimeArgs) -> Result<ExitCode> {
    match args.command {
        RuntimeCommand::Check(args) => check::run(&args),
        RuntimeCommand::Configure(args) => configure::run(&args),
    }
}

/// Says why it ends with this code.
fn ended(code: u8, words: &str) -> ExitCode {
    eprintln!("mizzen runtime: {words}");
    code.into()
}
