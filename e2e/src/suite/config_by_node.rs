//! The config that a Node's label chooses, through a real API server and its rules.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Context;
use super::gpu_pods::wait_for_node;
use crate::agent::Manifest;
use crate::cluster::NODE;
use crate::{client, report};

const LABEL: &str = "nvidia.com/device-plugin.config";
/// From a change to the agent's word that it is in force, the reading of its log included.
const PROMISE: Duration = Duration::from_secs(1);
/// How long an Event may take to be stored.
const EVENT_LIMIT: Duration = Duration::from_secs(5);

/// Label, content and mistakes in both.
pub(super) async fn the_label_chooses_the_config(context: &Context<'_>) -> Result<()> {
    install(context).await?;
    let tested = choices(context).await;
    remove(context).await?;
    tested
}

/// Installs the agent with a config for each node; none is chosen yet.
pub(super) async fn install(context: &Context<'_>) -> Result<()> {
    context.without_agent().await?;
    let agent = context.any_agent();
    let mut documents = Manifest::Config.documents()?;
    for document in &mut documents {
        reach_the_api(context, document)?;
    }
    agent.install_with(documents, &context.hardware).await?;
    let gpus = context.hardware.gpus().await?;
    wait_for_node(context, gpus.len(), gpus.len()).await
}

/// Removes it, and the label.
pub(super) async fn remove(context: &Context<'_>) -> Result<()> {
    set_label(context, None).await?;
    context.without_agent().await
}

/// Here no proxy leads from pods to the API server, which listens on this machine alone.
pub(super) fn reach_the_api(context: &Context<'_>, document: &mut Value) -> Result<()> {
    if document["kind"] != "DaemonSet" {
        return Ok(());
    }
    let url = client::api_server(&context.cluster.layout().admin_kubeconfig())?;
    let pod = &mut document["spec"]["template"]["spec"];
    pod["hostNetwork"] = json!(true);
    let environment = pod["containers"][0]["env"].as_array_mut();
    let environment = environment.context("the container has an environment")?;
    for (name, value) in [
        ("KUBERNETES_SERVICE_HOST", url.host().map(str::to_owned)),
        (
            "KUBERNETES_SERVICE_PORT",
            url.port_u16().map(|port| port.to_string()),
        ),
    ] {
        environment.push(json!({ "name": name, "value": value }));
    }
    Ok(())
}

async fn choices(context: &Context<'_>) -> Result<()> {
    says(context, "beginning with the config \"default\"").await?;

    set_label(context, Some("index")).await?;
    let switched = says(context, "in force: the config \"index\"").await?;

    set_config(context, "index", "version: v1\n").await?;
    let edited = says_times(context, "in force: the config \"index\"", 2).await?;
    report::line(&format!(
        "  label to config: {} ms; ConfigMap to config: {} ms",
        switched.as_millis(),
        edited.as_millis()
    ));
    ensure!(
        switched < PROMISE && edited < PROMISE,
        "it takes {switched:?} and {edited:?}"
    );

    set_label(context, Some("indx")).await?;
    says(context, "did you mean \"index\"?").await?;
    let warning = event(context, "InvalidConfig", &["indx"]).await?;
    ensure!(
        warning.type_.as_deref() == Some("Warning"),
        "its type is {:?}",
        warning.type_
    );
    event(context, "ConfigApplied", &[]).await?;
    Ok(())
}

/// The Event of this reason about the Node whose message has these words, as
/// `kubectl describe node` finds it.
pub(super) async fn event(context: &Context<'_>, reason: &str, words: &[&str]) -> Result<Event> {
    let events: Api<Event> = Api::namespaced(context.client.clone(), "default");
    let about = format!(
        "involvedObject.kind=Node,involvedObject.name={NODE},involvedObject.uid={NODE},\
         reason={reason}"
    );
    let meant = |event: &Event| {
        let message = event.message.as_deref().unwrap_or_default();
        words.iter().all(|word| message.contains(word))
    };
    let deadline = Instant::now() + EVENT_LIMIT;
    loop {
        let found = events.list(&ListParams::default().fields(&about)).await?;
        let messages: Vec<_> = found
            .items
            .iter()
            .map(|event| event.message.clone())
            .collect();
        if let Some(event) = found.items.into_iter().find(meant) {
            return Ok(event);
        }
        ensure!(
            Instant::now() < deadline,
            "there is no Event {reason} with {words:?} among {messages:?}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the agent's log has `words`, and says how long that took.
async fn says(context: &Context<'_>, words: &str) -> Result<Duration> {
    says_times(context, words, 1).await
}

async fn says_times(context: &Context<'_>, words: &str, times: usize) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        let log = context.any_agent().log().await?;
        if log.matches(words).count() >= times {
            return Ok(begun.elapsed());
        }
        ensure!(
            begun.elapsed() < EVENT_LIMIT,
            "the agent's log does not say {words:?}:\n{log}"
        );
        sleep(Duration::from_millis(10)).await;
    }
}

pub(super) async fn set_label(context: &Context<'_>, value: Option<&str>) -> Result<()> {
    let change = json!({ "metadata": { "labels": { LABEL: value } } });
    let nodes: Api<Node> = Api::all(context.client.clone());
    patch(&nodes, NODE, &change).await.context("label the Node")
}

pub(super) async fn set_config(context: &Context<'_>, name: &str, text: &str) -> Result<()> {
    let change = json!({ "data": { name: text } });
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), "mizzen-system");
    patch(&maps, "mizzen-config", &change)
        .await
        .context("edit the ConfigMap")
}

pub(super) async fn patch<K>(api: &Api<K>, name: &str, change: &Value) -> Result<()>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(change))
        .await?;
    Ok(())
}
