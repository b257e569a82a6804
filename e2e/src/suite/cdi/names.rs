//! Names that runtimes do not find.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;

use super::super::Context;
use super::super::gpu_pods::wait_for_amounts;
use super::{LARGE, SMALL, bench};
use crate::devices;
use crate::images::users::SMALL_IMAGE;
use crate::pods::{self, GPU};

/// Another file with the same names: runtimes find neither, so a pod that was given such a name
/// would not start. It waits instead, and starts when the file has gone.
pub(in super::super) async fn a_rival_takes_the_names(context: &Context<'_>) -> Result<()> {
    let bench = bench(context).await?;
    let ours = bench.specs().join("k8s.device-plugin.nvidia.com-gpu.json");
    let rival = bench.specs().join("rival.json");
    fs::copy(&ours, &rival).with_context(|| ours.display().to_string())?;
    let tested = async {
        devices::offers(&[]).await?;
        // The scheduler goes by what the API says.
        wait_for_amounts(context, GPU, (3, 0)).await?;
        context
            .pods
            .create(&bench.pod("patient", SMALL_IMAGE, Some(GPU)))
            .await?;
        let waits = |pod: &Pod| pods::unschedulable(pod).is_some();
        let pod = context.pods.wait("patient", "told to wait", waits).await?;
        let words = pods::unschedulable(&pod).unwrap_or_default();
        ensure!(words.contains("Insufficient nvidia.com/gpu"), "{words}");
        Ok(())
    };
    let tested = tested.await;
    fs::remove_file(&rival)?;
    tested?;
    devices::offers(&[(GPU, 3), (LARGE, 1), (SMALL, 1)]).await?;
    let runs = |pod: &Pod| pods::phase(pod) == "Running";
    context.pods.wait("patient", "Running", runs).await?;
    Ok(())
}
