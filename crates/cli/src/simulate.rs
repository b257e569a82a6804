//! The `mizzen simulate` command.

use std::process::ExitCode;

mod agent_process;
mod args;
mod node;
mod picture;
mod render;
mod script;
mod timeline;

pub(crate) use args::SimulateArgs;

/// Carries the command out.
pub(crate) fn run(_args: SimulateArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
