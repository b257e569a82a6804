//! The `mizzen agent` command.

use std::process::ExitCode;

/// What was typed after `mizzen agent`.
#[derive(Debug, clap::Args)]
pub(crate) struct AgentArgs {}

/// Carries the command out.
pub(crate) fn run(_args: AgentArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
