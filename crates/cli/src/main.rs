//! The `mizzen` binary: parse, call, print.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the only crate that speaks to people directly"
)]

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use rustix::process::{Signal, set_parent_process_death_signal};

mod agent;
mod cdi;
mod config;
mod doctor;
mod duration;
mod fault;
mod hook;
mod labels;
mod metrics;
mod mig;
mod runtime;
mod sim;
mod simulate;
mod stdout;
mod target;
mod terminal;
mod words;

/// A GPU stack for Kubernetes in one small program.
#[derive(Debug, Parser)]
#[command(name = "mizzen", version, propagate_version = true)]
struct Cli {
    /// End with SIGTERM when the parent process dies (set by `mizzen simulate`)
    #[arg(long, hide = true)]
    end_with_parent: bool,

    #[command(subcommand)]
    command: Command,
}

/// What the program can be asked.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node agent: report this node's GPUs to the kubelet, allocate them, watch them
    #[command(long_about = agent::ABOUT)]
    Agent(Box<agent::AgentArgs>),
    /// Make, list, check and compare CDI specs, the files that tell container runtimes of GPUs
    #[command(long_about = cdi::ABOUT)]
    Cdi(Box<cdi::CdiArgs>),
    /// Check a config file, and see what it makes of a node
    #[command(long_about = config::ABOUT)]
    Config(Box<config::ConfigArgs>),
    /// Look for what keeps pods from their GPUs, and say how to mend it
    #[command(long_about = doctor::ABOUT)]
    Doctor(Box<doctor::DoctorArgs>),
    /// Carry out the hooks of CDI specs, or install the small program that does
    #[command(long_about = hook::ABOUT)]
    Hook(Box<hook::HookArgs>),
    /// Tell what GPUs the node has, as node labels: those of NVIDIA's gpu-feature-discovery
    #[command(long_about = labels::ABOUT)]
    Labels(Box<labels::LabelsArgs>),
    /// Serve what the GPUs measure and who holds them: those of NVIDIA's dcgm-exporter, without DCGM
    #[command(long_about = metrics::ABOUT)]
    Metrics(Box<metrics::MetricsArgs>),
    /// Cut GPUs into MIG devices: show, plan, apply, export and check how they are partitioned
    #[command(long_about = mig::ABOUT)]
    Mig(Box<mig::MigArgs>),
    /// Check the node's container runtime, and turn CDI on in it
    #[command(long_about = runtime::ABOUT)]
    Runtime(Box<runtime::RuntimeArgs>),
    /// Drive the simulated GPU driver: place its library, inject faults, load and heal GPUs
    #[command(long_about = sim::ABOUT)]
    Sim(Box<sim::SimArgs>),
    /// Try everything without a cluster or a GPU: simulated GPUs, an embedded kubelet, the real agent
    #[command(long_about = simulate::ABOUT)]
    Simulate(Box<simulate::SimulateArgs>),
    /// Print a completion script for a shell
    ///
    /// For example: `mizzen completions bash > /etc/bash_completion.d/mizzen`
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Reads the command line.
fn parse() -> Cli {
    let mut words = std::env::args_os().skip(1).peekable();
    let end_with_parent = words.next_if(|word| word == "--end-with-parent").is_some();
    // These are started often: see `AgentCli`.
    let command = match words.peek().and_then(|word| word.to_str()) {
        Some("agent") => Command::Agent(Box::new(agent::AgentCli::parse_from(words).args)),
        Some("labels") => Command::Labels(Box::new(labels::LabelsCli::parse_from(words).args)),
        _ => return Cli::parse(),
    };
    Cli {
        end_with_parent,
        command,
    }
}

fn main() -> ExitCode {
    match run(parse()) {
        Ok(code) => code,
        // Whoever read our output has seen enough, as in `mizzen sim status | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mizzen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Writes a shell's completion script.
fn print_completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mizzen", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if cli.end_with_parent {
        set_parent_process_death_signal(Some(Signal::TERM))?;
    }
    match cli.command {
        Command::Agent(args) => agent::run(*args),
        Command::Cdi(args) => cdi::run(*args),
        Command::Config(args) => config::run(*args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Hook(args) => hook::run(*args),
        Command::Labels(args) => labels::run(&args),
        Command::Metrics(args) => metrics::run(&args),
        Command::Mig(args) => mig::run(*args),
        Command::Runtime(args) => runtime::run(*args),
        Command::Sim(args) => sim::run(*args),
        Command::Simulate(args) => simulate::run(*args),
        Command::Completions { shell } => print_completions(shell),
    }
}
