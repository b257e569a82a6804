//! How GPUs are, as the cluster is told it: the Node's condition, Events and taint, through a real
//! API server, on a machine of eight GPUs.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::api::Api;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Context;
use super::config_by_node::{event, patch};
use super::labels::on_labelled;
use super::restarts::new_agent_process;
use crate::cluster::NODE;
use crate::hardware::Hardware;
use crate::{agent, client, report};

const CONDITION: &str = "GPUHealthy";
const TAINT: &str = "mizzen.dev/gpus-lost";
/// A taint of somebody else.
const THEIRS: &str = "example.com/theirs";
/// How long the condition may take: an agent that starts anew takes up to half a minute for it.
const LIMIT: Duration = Duration::from_secs(45);
/// How long the taint may take, for which a loss must last half a minute.
const TAINT_LIMIT: Duration = Duration::from_secs(75);

async fn condition(context: &Context<'_>) -> Result<Option<NodeCondition>> {
    let node = client::node(&context.client).await?;
    let conditions = node.status.and_then(|status| status.conditions);
    let mut conditions = conditions.unwrap_or_default().into_iter();
    Ok(conditions.find(|condition| condition.type_ == CONDITION))
}

/// Waits until the condition is this, and says how it is then.
async fn condition_is(context: &Context<'_>, status: &str, reason: &str) -> Result<NodeCondition> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let now = condition(context).await?;
        if let Some(now) = &now
            && now.status == status
            && now.reason.as_deref() == Some(reason)
        {
            return Ok(now.clone());
        }
        ensure!(
            Instant::now() < deadline,
            "it is not {status} ({reason}) after {LIMIT:?}: {now:?}"
        );
        sleep(Duration::from_millis(100)).await;
    }
}

/// The Node's taints of ours and of somebody else, as `key:effect`.
async fn taints(context: &Context<'_>) -> Result<Vec<String>> {
    let node = client::node(&context.client).await?;
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    let mut taints: Vec<String> = taints
        .into_iter()
        .filter(|taint| taint.key == TAINT || taint.key == THEIRS)
        .map(|taint| format!("{}:{}", taint.key, taint.effect))
        .collect();
    taints.sort();
    Ok(taints)
}

async fn taints_are(context: &Context<'_>, wanted: &[String]) -> Result<()> {
    let deadline = Instant::now() + TAINT_LIMIT;
    loop {
        let now = taints(context).await?;
        if now == wanted {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "they are {now:?}, not {wanted:?}, after {TAINT_LIMIT:?}"
        );
        sleep(Duration::from_millis(200)).await;
    }
}

/// An Xid and its end, as `kubectl describe node` shows them.
pub(super) async fn a_lost_gpu_and_its_recovery_are_told(context: &Context<'_>) -> Result<()> {
    on_labelled(context, async |hardware: &Hardware| {
        condition_is(context, "True", "GPUsHealthy").await?;
        let gpu = hardware.gpus().await?.swap_remove(2).uuid;
        let begun = Instant::now();
        hardware.inject(&["xid", "79"], &gpu).await?;
        let sick = condition_is(context, "False", "GPULost").await?;
        report::line(&format!(
            "  from an Xid to the condition: {} ms",
            begun.elapsed().as_millis()
        ));
        let message = sick.message.clone().unwrap_or_default();
        for words in [gpu.as_str(), "1 of 8 GPUs", "Xid 79", "to do: "] {
            ensure!(message.contains(words), "no {words:?} in {message:?}");
        }
        ensure!(
            sick.last_transition_time.is_some() && sick.last_heartbeat_time.is_some(),
            "{sick:?}"
        );
        let told = event(context, "GPULost", &[&gpu, "Xid 79"]).await?;
        ensure!(told.type_.as_deref() == Some("Warning"), "{told:?}");

        hardware.heal().await?;
        condition_is(context, "True", "GPUsHealthy").await?;
        let told = event(context, "GPUHealthy", &[&gpu, "healthy again"]).await?;
        ensure!(told.type_.as_deref() == Some("Normal"), "{told:?}");
        Ok(())
    })
    .await
}

/// A taint while all GPUs are lost, beside one of somebody else, over a restart of the agent.
pub(super) async fn a_node_whose_gpus_are_lost_is_tainted(context: &Context<'_>) -> Result<()> {
    let nodes: Api<Node> = Api::all(context.client.clone());
    let theirs = format!("{THEIRS}:PreferNoSchedule");
    let ours = format!("{TAINT}:NoSchedule");
    let tested = on_labelled(context, async |hardware: &Hardware| {
        condition_is(context, "True", "GPUsHealthy").await?;
        let spec = client::node(&context.client).await?.spec;
        let mut taints = json!(spec.unwrap_or_default().taints.unwrap_or_default());
        if let Some(list) = taints.as_array_mut() {
            list.push(json!({ "key": THEIRS, "effect": "PreferNoSchedule" }));
        }
        patch(&nodes, NODE, &json!({ "spec": { "taints": taints } })).await?;
        for gpu in hardware.gpus().await? {
            hardware.inject(&["xid", "79"], &gpu.uuid).await?;
        }
        let all = condition_is(context, "False", "GPULost").await?;
        let message = all.message.unwrap_or_default();
        ensure!(message.contains("8 of 8 GPUs are not well"), "{message}");
        taints_are(context, &[theirs.clone(), ours.clone()]).await?;

        let old = agent::process()?.context("no agent runs")?;
        old.end(rustix::process::Signal::KILL).await?;
        new_agent_process(old).await?;
        sleep(Duration::from_secs(5)).await;
        taints_are(context, &[theirs.clone(), ours.clone()]).await?;
        hardware.heal().await?;
        taints_are(context, std::slice::from_ref(&theirs)).await?;
        condition_is(context, "True", "GPUsHealthy").await?;
        Ok(())
    })
    .await;
    let mut left = json!(
        client::node(&context.client)
            .await?
            .spec
            .unwrap_or_default()
    );
    if let Some(list) = left["taints"].as_array_mut() {
        list.retain(|taint| taint["key"] != THEIRS && taint["key"] != TAINT);
        patch(&nodes, NODE, &json!({ "spec": { "taints": list } })).await?;
    }
    tested
}
