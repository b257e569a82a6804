//! Mizzen on a real Kubernetes: builds one from its published modules, runs it on this
//! machine, installs the agent as the manifests do, and tests what pods get.
//!
//! `cargo run -p mizzen-e2e -- all` is the whole suite; `README.md` beside this crate tells
//! what it does and where it leaves its logs.

mod agent;
mod client;
mod cluster;
mod devices;
mod hardware;
mod images;
mod layout;
mod pods;
mod programs;
mod report;
mod suite;
mod views;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::Cluster;
use crate::layout::Layout;
use crate::programs::{Programs, TestBinaries};

/// Mizzen's end-to-end suite on a real Kubernetes.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The cluster's directory; short, because unix socket paths are
    #[arg(long, global = true, default_value = "/var/lib/mizzen-e2e")]
    root: PathBuf,
    /// A `mizzen` binary to test instead of building the release profile
    #[arg(long, global = true, value_name = "PATH")]
    mizzen: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build Kubernetes, etcd and containerd (cached) and the mizzen binary
    Build,
    /// Start a cluster of one node and leave it running
    Up,
    /// Stop the cluster and remove everything it left on this machine
    Down,
    /// Show each server, its process id and its log
    Status,
    /// Run the tests on the cluster that `up` started
    Test {
        /// Only the tests whose name contains this text
        #[arg(long)]
        filter: Option<String>,
    },
    /// The dashboards and alerts of deploy/ on a real Prometheus; no cluster, no root
    Views,
    /// build, up, test and down
    All {
        /// Only the tests whose name contains this text
        #[arg(long)]
        filter: Option<String>,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            report::failure(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let layout = Layout::new(&cli.root)?;
    match cli.command {
        Command::Status => cluster::status(&layout).await?,
        Command::Down => {
            let _lock = layout.lock()?;
            Cluster::down(&layout).await?;
        }
        Command::Views => return views::run(cli.mizzen).await,
        Command::Build => {
            build(cli.mizzen).await?;
        }
        Command::Up => {
            let _lock = layout.lock()?;
            let (programs, binaries) = build(cli.mizzen).await?;
            let cluster = Cluster::up(&layout, &programs).await?;
            import_images(&cluster, &binaries).await?;
            report::line(&format!(
                "up; try: kubectl --kubeconfig {} get nodes",
                layout.admin_kubeconfig().display()
            ));
        }
        Command::Test { filter } => {
            let _lock = layout.lock()?;
            let (programs, binaries) = build(cli.mizzen).await?;
            let cluster = Cluster::attach(&layout, &programs).await?;
            let tally = suite::run(&cluster, &binaries, filter.as_deref()).await?;
            return Ok(tally.conclude());
        }
        Command::All { filter } => {
            let _lock = layout.lock()?;
            return all(&layout, cli.mizzen, filter.as_deref()).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn build(mizzen: Option<PathBuf>) -> Result<(Programs, TestBinaries)> {
    let programs = Programs::build().await?;
    let binaries = TestBinaries::build(mizzen).await?;
    Ok((programs, binaries))
}

/// The whole suite. The cluster goes down whatever happened, an interrupt included.
async fn all(layout: &Layout, mizzen: Option<PathBuf>, filter: Option<&str>) -> Result<ExitCode> {
    let (programs, binaries) = build(mizzen).await?;
    let tested = async {
        let cluster = Cluster::up(layout, &programs).await?;
        import_images(&cluster, &binaries).await?;
        suite::run(&cluster, &binaries, filter).await
    };
    let outcome = tokio::select! {
        outcome = tested => outcome,
        signal = ended_from_outside() => Err(anyhow!("ended by {}", signal?)),
    };
    if outcome.is_err() {
        report::line(&format!("logs: {}", layout.logs().display()));
    }
    let down = Cluster::down(layout).await;
    match (outcome, down) {
        (Ok(tally), Ok(())) => Ok(tally.conclude()),
        (Err(error), _) => Err(error),
        (Ok(_), Err(error)) => bail!("the tests ran, but cleaning up failed: {error:#}"),
    }
}

/// Returns when somebody wants the run to end.
async fn ended_from_outside() -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

async fn import_images(cluster: &Cluster, binaries: &TestBinaries) -> Result<()> {
    let import = async {
        images::import_base(cluster).await?;
        images::import_tested(cluster, binaries).await
    };
    report::step("make and import the images", import).await
}
