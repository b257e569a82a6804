//! The `mizzen mig` command.

use std::process::ExitCode;

use anyhow::Result;

mod apply;
mod args;
mod assert;
mod document;
mod export;
mod goal;
mod node;
mod picture;
mod plan;
mod pods;
mod profiles;
mod prospect;
mod steps;

pub(crate) use args::{ABOUT, MigArgs};

use args::MigCommand;
use node::Node;

use crate::stdout::{print, print_json};

/// The version of the JSON documents' form.
const FORM: u32 = 1;

/// The exit code of what failed or is not as it should be.
const FAILED: u8 = 1;
/// The exit code of a command line or a file that cannot be understood, as clap has it.
const MISUNDERSTOOD: u8 = 2;
/// The exit code of a change that waits for a GPU to be reset.
const WAITS: u8 = 3;

/// Why a command ends before it has an answer.
#[derive(Debug)]
struct Stop {
    code: u8,
    error: anyhow::Error,
}

impl Stop {
    fn failed(error: anyhow::Error) -> Self {
        let code = FAILED;
        Self { code, error }
    }

    fn misunderstood(error: anyhow::Error) -> Self {
        let code = MISUNDERSTOOD;
        Self { code, error }
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(error)
    }
}

/// Carries the command out.
pub(crate) fn run(args: MigArgs) -> Result<ExitCode> {
    let done = Node::open(&args.driver).and_then(|node| match args.command {
        MigCommand::Profiles(args) => profiles::run(&node, &args),
        MigCommand::Plan(args) => plan::run(&node, &args),
        MigCommand::Apply(args) if args.dry_run => plan::run(&node, &args.plan),
        MigCommand::Apply(args) => apply::run(&node, &args.plan),
        MigCommand::Export(args) => export::run(&node, &args),
        MigCommand::Assert(args) => assert::run(&node, &args),
    });
    match done {
        Ok(code) => Ok(code.into()),
        // Whoever reads our output has gone; the caller knows what to do.
        Err(stop) if crate::is_broken_pipe(&stop.error) => Err(stop.error),
        Err(stop) => {
            eprintln!("mizzen mig: {:#}", stop.error);
            Ok(stop.code.into())
        }
    }
}

/// The columns of the terminal, or as many as a usual one has.
fn columns(terminal: &crate::terminal::Terminal) -> usize {
    const USUAL: usize = 80;
    terminal.size().map_or(USUAL, |size| size.columns)
}
