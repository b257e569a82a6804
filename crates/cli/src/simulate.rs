//! The `mizzen simulate` command.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

mod agent_log;
mod agent_process;
mod args;
mod configs;
mod driver;
mod health_story;
mod narrator;
mod observer;
mod outcome;
mod partition_story;
mod patience;
mod picture;
mod plan;
mod pods;
mod render;
mod run;
mod screen;
mod script;
mod timeline;
mod world;

pub(crate) use args::{ABOUT, SimulateArgs};

use crate::agent::CannotStart;
use plan::Plan;
use run::Run;
use screen::Screen;

/// The exit code of a command line, a scenario or a pod's file that cannot be understood, as
/// clap has it.
const MISUNDERSTOOD: u8 = 2;

/// Carries the command out.
pub(crate) fn run(args: SimulateArgs) -> Result<ExitCode> {
    let screen = Screen::new(args.output);
    let plan = match Plan::new(args) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("mizzen simulate: {error:#}");
            return Ok(MISUNDERSTOOD.into());
        }
    };
    match world::check_agent_flags(&plan.agent_flags, plan.configs.first())? {
        Err(CannotStart::CommandLine(error)) => error.exit(),
        Err(error @ CannotStart::Settings(_)) => {
            eprintln!("mizzen agent: {error}");
            return Ok(MISUNDERSTOOD.into());
        }
        Ok(()) => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(async { Run::start(plan, screen).await?.finish().await })?;
    Ok(outcome.code())
}
