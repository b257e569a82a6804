//! The `mizzen simulate` command.

use std::process::ExitCode;

/// What was typed after `mizzen simulate`.
#[derive(Debug, clap::Args)]
pub(crate) struct SimulateArgs {}

/// Carries the command out.
pub(crate) fn run(_args: SimulateArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
