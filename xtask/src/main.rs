//! House rules and tools of the workspace: `cargo xtask <command>`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool for developers prints"
)]

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

mod bench;
mod tidy;
mod views;

/// Tools of the Mizzen workspace.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the house rules that no compiler checks
    Tidy,
    /// Write the agent's OCI image from the release binary, without a container engine
    Image(xtask::image::Options),
    /// Measure the figures of the README, the bare server beside them, and print the table
    Bench(bench::BenchArgs),
    /// Make trouble on a simulated node for a while, and hold that the agent does not grow
    Soak(bench::SoakArgs),
    /// Write the forms that Kubernetes takes of deploy/dashboards and deploy/alerts.yaml
    Views,
    /// The bare server that `bench` measures as the floor
    #[command(hide = true)]
    FloorPlugin {
        kubelet_socket: PathBuf,
        gpus: usize,
    },
    /// The samples that `bench` measures
    #[command(hide = true)]
    Samples { library: PathBuf, rounds: usize },
}

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask has a parent")?;
    match Cli::parse().command {
        Command::Tidy => tidy::run(root),
        Command::Views => views::run(root),
        Command::Image(options) => {
            println!("{}", xtask::image::run(&options)?);
            Ok(())
        }
        Command::Bench(args) => bench::run(root, args),
        Command::Soak(args) => bench::soak(root, &args),
        Command::FloorPlugin {
            kubelet_socket,
            gpus,
        } => bench::floor_plugin(&kubelet_socket, gpus),
        Command::Samples { library, rounds } => bench::samples(&library, rounds),
    }
}
