//! The `mizzen sim` command.

use std::process::ExitCode;

/// What was typed after `mizzen sim`.
#[derive(Debug, clap::Args)]
pub(crate) struct SimArgs {}

/// Carries the command out.
pub(crate) fn run(_args: SimArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
