//! An agent that chooses by itself how GPUs reach containers, and a containerd that is another
//! after its restart.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::super::gpu_pods::{nodes, seen_through_nvml, with_simulation};
use super::super::{Context, Standing};
use super::{Bench, bare};
use crate::agent;
use crate::images::users::GLIBC_IMAGE;
use crate::pods::{self, GPU};

const ON: &str = "enable_cdi = true";
/// The last part of the config begins so.
const NVIDIAS: &str = "# What the RuntimeClass `nvidia` names";
const OFF: &str = "enable_cdi = false";
/// How long an agent may take to see that the runtime is another, and to say so.
const LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// Off at first, on by `mizzen runtime configure`, and off again by `--undo`.
pub(in super::super) async fn follows_the_runtime(context: &Context<'_>) -> Result<()> {
    let bench = bare(context).await?;
    let config = context.cluster.layout().containerd_config();
    let whole = fs::read_to_string(&config)?;
    // As on a node without anything of NVIDIA's.
    let plain = whole.split_once(NVIDIAS).map(|(plain, _)| plain);
    let plain = plain.with_context(|| format!("{} lacks {NVIDIAS}", config.display()))?;
    let off = plain.replace(ON, OFF);
    ensure!(off != plain, "{} has no {ON}", config.display());
    fs::write(&config, &off)?;
    let tested = async {
        context.cluster.restart_containerd().await?;
        bench.install(&[], true).await?;
        turned_on_and_off(&bench, &off).await
    };
    let tested = tested.await;
    context.installed.set(Standing::Nothing);
    fs::write(&config, whole)?;
    context.cluster.restart_containerd().await?;
    tested
}

async fn turned_on_and_off(bench: &Bench<'_>, off: &str) -> Result<()> {
    let context = bench.context;
    let agent = agent::process()?.context("no agent runs")?;
    says(bench, &["device nodes", "has CDI off", OFF]).await?;
    let first = by_nodes(bench, "by-nodes").await?;
    let runs = runs(bench, "by-nodes").await?;

    configure(bench, &[]).await?;
    context.cluster.restart_containerd().await?;
    says(bench, &["by cdi-cri", "resolves CDI names", ON]).await?;
    let by_cdi = bench.pod("by-cdi", GLIBC_IMAGE, Some(GPU));
    let second = bench.run(&by_cdi).await?;
    // Both programs are there by CDI alone.
    bench.sees("by-cdi", &[&second]).await?;
    ensure!(first != second, "{first} is given twice");

    configure(bench, &["--undo"]).await?;
    let restored = fs::read_to_string(context.cluster.layout().containerd_config())?;
    ensure!(restored == off, "--undo leaves {restored}");
    context.cluster.restart_containerd().await?;
    says(bench, &["device nodes", "has CDI off", OFF]).await?;
    by_nodes(bench, "by-nodes-again").await?;

    let still = self::runs(bench, "by-nodes").await?;
    ensure!(still == runs, "the first pod ran as {runs}, now {still}");
    let seen = seen_through_nvml(context, "by-nodes").await?;
    ensure!(seen == [first], "the first pod sees {seen:?}");
    let now = agent::process()?;
    ensure!(now == Some(agent), "the agent was {agent:?}, is {now:?}");
    Ok(())
}

/// A pod that gets its GPU without CDI: the node from the kubelet, the library from its image, and
/// nothing of the driver's.
async fn by_nodes(bench: &Bench<'_>, name: &str) -> Result<String> {
    let pod = with_simulation(pods::workload(name, Some(1)), &bench.hardware);
    let gpu = bench.run(&pod).await?;
    let seen = seen_through_nvml(bench.context, name).await?;
    ensure!(seen == [gpu.clone()], "{name} has {gpu} and sees {seen:?}");
    let nodes = nodes(bench.context, name).await?;
    ensure!(nodes.contains("nvidiactl"), "{name} has {nodes:?}");
    let program = bench.exec(name, &["test", "-e", "/usr/bin/nvidia-smi"]);
    ensure!(program.await.is_err(), "{name} has files by CDI");
    Ok(gpu)
}

/// The pod's container, and how often it was restarted.
async fn runs(bench: &Bench<'_>, name: &str) -> Result<String> {
    let status = bench.context.pods.get(name).await?.status;
    let containers = status.and_then(|status| status.container_statuses);
    let container = containers.context("it has containers")?.remove(0);
    let id = container.container_id.unwrap_or_default();
    let state = container.state.context("it has a state")?;
    ensure!(state.running.is_some(), "{name} is {state:?}");
    Ok(format!("{id}, restarts: {}", container.restart_count))
}

/// The command itself, on the config of the cluster's containerd.
async fn configure(bench: &Bench<'_>, words: &[&str]) -> Result<()> {
    let mut mizzen = Command::new(bench.context.binaries.mizzen());
    mizzen.args(["runtime", "configure"]).args(words);
    mizzen.arg("--host-root").arg(bench.hardware.host());
    let done = mizzen.kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&done.stdout);
    ensure!(
        done.status.success() && said.contains("systemctl restart containerd"),
        "{done:?}"
    );
    Ok(())
}

/// Waits until the last thing that the agent says of how GPUs reach containers has all these words.
async fn says(bench: &Bench<'_>, words: &[&str]) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let log = bench.context.any_agent().log().await?;
        let mut lines = log.lines();
        let last = lines.rfind(|line| line.contains("event=\"device-list\""));
        if last.is_some_and(|line| words.iter().all(|word| line.contains(word))) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "it says {last:?} after {LIMIT:?}, without {words:?}"
        );
        sleep(POLL).await;
    }
}
