//! What the cluster does without Mizzen: if these fail, the others mean nothing.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::Context;
use crate::images::BUSYBOX_IMAGE;
use crate::pods::{self, GPU};

/// A shell in a pod, through the whole chain: API server, scheduler, kubelet, runtime, network.
pub(super) async fn a_plain_pod_runs(context: &Context<'_>) -> Result<()> {
    let mut pod = pods::plain("plain");
    pod["spec"]["containers"][0]["command"] = json!(["/bin/sh", "-c", "echo started; sleep inf"]);
    let pod = context.pods.run(&pod).await?;
    let address = pod.status.and_then(|status| status.pod_ip);
    ensure!(address.is_some(), "the pod has no address");
    let line = context.pods.first_line("plain").await?;
    ensure!(line == "started", "its log begins {line:?}");
    let output = context.pods.exec("plain", &["ls", "/dev"]).await?;
    ensure!(output.contains("null"), "its /dev holds {output:?}");
    ensure!(
        !output.contains("nvidia"),
        "a GPU nobody asked for: {output:?}"
    );
    Ok(())
}

/// Limits only or equal requests; integers; never a request alone.
pub(super) async fn gpu_requests_follow_three_rules(context: &Context<'_>) -> Result<()> {
    let rules = [
        (
            json!({ "requests": { GPU: "1" }, "limits": { GPU: "2" } }),
            "must be equal to nvidia.com/gpu limit of 2",
        ),
        (json!({ "limits": { GPU: "0.5" } }), "must be an integer"),
        (
            json!({ "requests": { GPU: "1" } }),
            "Limit must be set for non overcommitable resources",
        ),
    ];
    for (resources, message) in rules {
        refused(context, &resources, message).await?;
    }
    Ok(())
}

async fn refused(context: &Context<'_>, resources: &Value, message: &str) -> Result<()> {
    let pod = pods::pod("refused", BUSYBOX_IMAGE, resources);
    let Err(error) = context.pods.create(&pod).await else {
        bail!("{resources} was accepted");
    };
    let error = format!("{error:#}");
    ensure!(error.contains(message), "{resources}: {error}");
    Ok(())
}
