//! The `mizzen cdi` command.

use std::process::ExitCode;

use anyhow::Result;

mod args;
mod diff;
mod generate;
mod list;
mod make;
mod validate;

pub(crate) use args::{ABOUT, CdiArgs};

use args::CdiCommand;

use crate::stdout::{print, print_json};

/// The exit code of specs that cannot be used, or that are not as they should be.
const UNUSABLE: u8 = 1;
/// The exit code of a command line that makes no sense, a driver that cannot be asked or files
/// that cannot be read or written, as clap has it.
const MISUNDERSTOOD: u8 = 2;

/// Carries the command out.
pub(crate) fn run(args: CdiArgs) -> Result<ExitCode> {
    match args.command {
        CdiCommand::Generate(args) => generate::run(&args),
        CdiCommand::List(args) => list::run(&args),
        CdiCommand::Validate(args) => validate::run(&args),
        CdiCommand::Diff(args) => diff::run(&args),
    }
}

/// Says what could not be done.
fn misunderstood(error: &anyhow::Error) -> ExitCode {
    eprintln!("mizzen cdi: {error:#}");
    MISUNDERSTOOD.into()
}
