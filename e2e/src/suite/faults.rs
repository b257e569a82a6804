//! A GPU that fails while a pod uses it, and recovers.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;

use super::Context;
use super::gpu_pods::{device_health, gpu_of, wait_for_node, workload};
use crate::pods;

/// Xid 79: "GPU has fallen off the bus".
pub(super) async fn a_sick_gpu_is_shown_and_comes_back(context: &Context<'_>) -> Result<()> {
    context.agent().await?;
    let count = context.hardware.gpus().await?.len();
    context
        .pods
        .run(&workload(context, "patient", Some(1)))
        .await?;
    let gpu = gpu_of(context, "patient").await?;
    let tested = async {
        context.hardware.inject(&["xid", "79"], &gpu.uuid).await?;
        wait_for_node(context, count, count - 1).await?;
        let is = |health: &'static str| {
            let device = (gpu.uuid.clone(), health.to_owned());
            move |pod: &Pod| device_health(pod).contains(&device)
        };
        context
            .pods
            .wait("patient", "shown as Unhealthy", is("Unhealthy"))
            .await?;
        let log = context.agent().await?.log().await?;
        let line = log
            .lines()
            .find(|line| line.contains(&gpu.uuid) && line.contains("79"));
        line.context("the agent's log does not name the GPU and its Xid")?;
        // The sick one is not given out: a pod for all the others still runs.
        let others = u32::try_from(count - 2)?;
        context
            .pods
            .run(&workload(context, "others", Some(others)))
            .await?;

        context.hardware.heal().await?;
        wait_for_node(context, count, count).await?;
        let pod = context
            .pods
            .wait("patient", "shown as Healthy", is("Healthy"))
            .await?;
        ensure!(
            pods::phase(&pod) == "Running",
            "its pod is {}",
            pods::phase(&pod)
        );
        let still = gpu_of(context, "patient").await?;
        ensure!(still == gpu, "its pod now has {}", still.uuid);
        Ok(())
    };
    let outcome = tested.await;
    // Whatever was found, the next test starts with healthy GPUs.
    context.hardware.heal().await?;
    outcome.and(wait_for_node(context, count, count).await)
}
