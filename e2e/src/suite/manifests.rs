//! The manifests as users apply them, without a change.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::gpu_pods::{gpu_of, wait_for_node};
use super::{Context, Skipped};
use crate::agent::Manifest;
use crate::{client, pods};

/// How long the agent may take to say why it has no GPU.
const WORD_LIMIT: Duration = Duration::from_secs(20);
/// For how long an agent without a driver is watched.
const STAY: Duration = Duration::from_secs(3);

/// There is no runtime of NVIDIA's here to run it; that every field means something, the API
/// server knows.
pub(super) async fn the_api_server_accepts_all(context: &Context<'_>) -> Result<()> {
    for manifest in [
        Manifest::Driver,
        Manifest::RuntimeClass,
        Manifest::Simulated,
        Manifest::Config,
        Manifest::Mig,
        Manifest::Labels,
        Manifest::Privacy,
        Manifest::Dashboards,
    ] {
        for document in manifest.documents()? {
            // A namespace that is only tried does not exist for what comes after it.
            if document["kind"] == "Namespace" {
                client::apply(&context.client, &document).await?;
            } else {
                let accepted = client::would_apply(&context.client, &document).await;
                accepted.with_context(|| format!("{manifest:?}"))?;
            }
        }
    }
    Ok(())
}

/// The privileged manifest on a node that has no driver yet.
pub(super) async fn without_a_driver_it_stays_up(context: &Context<'_>) -> Result<()> {
    if Path::new("/dev/nvidiactl").exists() {
        bail!(Skipped("this machine has NVIDIA's driver".to_owned()));
    }
    context.without_agent().await?;
    let agent = context.any_agent();
    agent.apply(&Manifest::Driver.documents()?).await?;
    let deadline = Instant::now() + WORD_LIMIT;
    while !agent.log().await?.contains("libnvidia-ml.so.1") {
        ensure!(
            Instant::now() < deadline,
            "it does not say what it searched for:\n{}",
            agent.log().await?
        );
        sleep(Duration::from_millis(100)).await;
    }
    sleep(STAY).await;
    let status = agent.pod().await?.status.context("it has a status")?;
    let containers = status.container_statuses.unwrap_or_default();
    ensure!(
        containers
            .iter()
            .all(|container| container.restart_count == 0 && container.ready),
        "it does not stay up: {containers:?}"
    );
    context.without_agent().await
}

/// An agent without privileges sees every GPU, and a pod its own, by what the runtime adds.
pub(super) async fn unprivileged_with_a_runtime_class(context: &Context<'_>) -> Result<()> {
    context.without_agent().await?;
    let runtime_class = json!({
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": { "name": "nvidia" },
        "handler": "nvidia",
    });
    client::apply(&context.client, &runtime_class).await?;
    context
        .any_agent()
        .apply(&Manifest::RuntimeClass.documents()?)
        .await?;
    let gpus = context.hardware.gpus().await?;
    wait_for_node(context, gpus.len(), gpus.len()).await?;
    let mut pod = pods::workload("with-runtime", Some(1));
    pod["spec"]["runtimeClassName"] = json!("nvidia");
    let command = json!(["/bin/sh", "-c", "echo $(nvml-list) seen; sleep inf"]);
    pod["spec"]["containers"][0]["command"] = command;
    context.pods.run(&pod).await?;
    let gpu = gpu_of(context, "with-runtime").await?;
    // Its own process, not a later one: what a runtime adds to the environment, a shell that is
    // attached afterwards does not have.
    let seen = context.pods.first_line("with-runtime").await?;
    ensure!(
        seen == format!("{} seen", gpu.uuid),
        "NVML shows it {seen:?}, not {} alone",
        gpu.uuid
    );
    context.pods.remove("with-runtime").await?;
    context.without_agent().await
}

/// Eight GPUs from nothing, and faults by `mizzen sim` in the agent's own container.
pub(super) async fn simulated_gpus_for_any_cluster(context: &Context<'_>) -> Result<()> {
    context.without_agent().await?;
    let agent = context.any_agent();
    agent.apply(&Manifest::Simulated.documents()?).await?;
    wait_for_node(context, 8, 8).await?;
    agent
        .exec(&["mizzen", "sim", "inject", "xid", "79", "--gpu", "2"])
        .await?;
    wait_for_node(context, 8, 7).await?;
    context.without_agent().await
}
