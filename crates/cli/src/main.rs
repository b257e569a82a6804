//! The `mizzen` binary: parse, call, print.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod agent;
mod sim;
mod simulate;

/// A GPU stack for Kubernetes in one small program.
#[derive(Debug, Parser)]
#[command(name = "mizzen", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What the program can be asked.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node agent: report this node's GPUs to the kubelet, allocate them, watch them
    Agent(Box<agent::AgentArgs>),
    /// Drive the simulated GPU driver: place its library, inject faults, load and heal GPUs
    Sim(sim::SimArgs),
    /// Try everything without a cluster or a GPU: simulated GPUs, an embedded kubelet, the real agent
    Simulate(simulate::SimulateArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Agent(args) => agent::run(*args),
        Command::Sim(args) => sim::run(args),
        Command::Simulate(args) => simulate::run(args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mizzen: {error:#}");
            ExitCode::FAILURE
        }
    }
}
