//! Node labels that the agent sets through a real API server, on a machine of eight GPUs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Context;
use super::config_by_node::{patch, reach_the_api};
use super::mig::policy;
use crate::agent::{Manifest, list};
use crate::cluster::NODE;
use crate::hardware::Hardware;
use crate::layout::AGENT_STATE;
use crate::pods::GPU;
use crate::{client, devices, report};

/// Who the agent is among those that set fields of the Node.
const MANAGER: &str = "mizzen-labels";
/// What the manifest's policy says of everything that is not for the agent.
const NOTHING_ELSE: &str =
    "the agent may change labels, its condition and its taint of its Node, and nothing else";
const COUNT: &str = "nvidia.com/gpu.count";
const PRODUCT: &str = "nvidia.com/gpu.product";
const SMALL: &str = "nvidia.com/mig-1g.10gb.count";
/// How long a label may take; a second of it is the agent's wait for more changes.
const LIMIT: Duration = Duration::from_secs(20);
/// How long an agent that has just started is watched for what it should not do.
const STAY: Duration = Duration::from_secs(5);

/// Runs a test on such a node, with the manifest as it is but for the strategy of MIG.
pub(super) async fn on_labelled(
    context: &Context<'_>,
    test: impl AsyncFnOnce(&Hardware) -> Result<()>,
) -> Result<()> {
    context.without_agent().await?;
    let layout = context.cluster.layout();
    let hardware = Hardware::install_for_mig(layout, context.binaries).await?;
    let tested = async {
        install(context, &hardware).await?;
        test(&hardware).await
    };
    let outcome = tested.await;
    context.without_agent().await?;
    remove_labels(context).await?;
    // What an agent remembers of the API is no longer true.
    for record in ["labels.json", "node-health.json", "health-told.json"] {
        let path = Path::new(AGENT_STATE[0]).join(record);
        if let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error.into());
        }
    }
    hardware.reset().await?;
    outcome
}

async fn install(context: &Context<'_>, hardware: &Hardware) -> Result<()> {
    let mut documents = Manifest::Labels.documents()?;
    for document in &mut documents {
        reach_the_api(context, document)?;
        if document["kind"] == "DaemonSet" {
            let container = &mut document["spec"]["template"]["spec"]["containers"][0];
            list(&mut container["env"])?.push(json!({ "name": "MIG_STRATEGY", "value": "mixed" }));
        }
    }
    let agent = context.any_agent();
    agent.install_with(documents, hardware).await?;
    devices::offers(&[(GPU, 8)]).await?;
    Ok(())
}

/// What the documentation says takes the labels away: an apply in the agent's name that wants none.
async fn remove_labels(context: &Context<'_>) -> Result<()> {
    let nothing = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE } });
    let nodes: Api<Node> = Api::all(context.client.clone());
    nodes
        .patch(NODE, &PatchParams::apply(MANAGER), &Patch::Apply(&nothing))
        .await?;
    let left = Ours::now(context).await?;
    ensure!(left.labels.is_empty(), "these stay: {left:?}");
    Ok(())
}

/// The labels of the Node that are the agent's, and since when it has these.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ours {
    labels: BTreeMap<String, String>,
    since: Option<String>,
}

impl Ours {
    async fn now(context: &Context<'_>) -> Result<Self> {
        let node = client::node(&context.client).await?.metadata;
        let mut labels = node.labels.unwrap_or_default();
        let managed = node.managed_fields.unwrap_or_default().into_iter();
        let ours = managed.filter(|entry| entry.manager.as_deref() == Some(MANAGER));
        let mut fields = Value::Null;
        let mut since = None;
        for entry in ours {
            ensure!(entry.operation.as_deref() == Some("Apply"), "{entry:?}");
            since = entry.time.map(|time| time.0.to_string());
            fields = entry.fields_v1.map_or(Value::Null, |fields| fields.0);
        }
        labels.retain(|key, _| {
            fields["f:metadata"]["f:labels"]
                .get(format!("f:{key}"))
                .is_some()
        });
        Ok(Self { labels, since })
    }

    /// Waits until a label is this; `None` is none.
    async fn once(context: &Context<'_>, key: &str, value: Option<&str>) -> Result<Self> {
        Self::until(context, |labels| {
            !labels.is_empty() && labels.get(key).map(String::as_str) == value
        })
        .await
        .with_context(|| format!("{key} is not {value:?}"))
    }

    /// Waits until the labels are such.
    async fn until(
        context: &Context<'_>,
        are_such: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> Result<Self> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let ours = Self::now(context).await?;
            if are_such(&ours.labels) {
                return Ok(ours);
            }
            ensure!(
                Instant::now() < deadline,
                "after {LIMIT:?} there are {:?}",
                ours.labels
            );
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Labels appear, follow what the GPUs are cut into, and stay as they are when the agent starts
/// anew.
pub(super) async fn the_node_is_labelled(context: &Context<'_>) -> Result<()> {
    on_labelled(context, async |hardware: &Hardware| {
        let whole = Ours::once(context, COUNT, Some("8")).await?;
        let product = whole.labels.get(PRODUCT).context("there is a product")?;
        let model = format!("gpu.mizzen.dev/{product}");
        ensure!(
            whole.labels.get(&model).map(String::as_str) == Some("8"),
            "{:?}",
            whole.labels
        );

        let begun = Instant::now();
        hardware.partition("0", "1g.10gb").await?;
        let cut = Ours::once(context, SMALL, Some("1")).await?;
        report::line(&format!(
            "  from a MIG device to its label: {} ms",
            begun.elapsed().as_millis()
        ));
        ensure!(
            cut.labels.len() > whole.labels.len(),
            "an instance has labels of its own: {:?}",
            cut.labels
        );
        hardware.unite("0").await?;
        let again = Ours::until(context, |labels| *labels == whole.labels)
            .await
            .with_context(|| format!("not again {:?}", whole.labels))?;

        context.any_agent().remove().await?;
        ensure!(
            Ours::now(context).await? == again,
            "labels outlive the agent"
        );
        install(context, hardware).await?;
        sleep(STAY).await;
        let restarted = Ours::now(context).await?;
        ensure!(restarted == again, "{restarted:?} is not {again:?}");
        Ok(())
    })
    .await
}

/// What others have set is taken over, and theirs stays theirs otherwise.
pub(super) async fn labels_of_others_are_taken_over(context: &Context<'_>) -> Result<()> {
    let nodes: Api<Node> = Api::all(context.client.clone());
    let theirs = |value: Option<&str>| json!({ "metadata": { "labels": { COUNT: "4", "example.com/theirs": value } } });
    patch(&nodes, NODE, &theirs(Some("yes"))).await?;
    let tested = on_labelled(context, async |_: &Hardware| {
        let ours = Ours::once(context, COUNT, Some("8")).await?;
        ensure!(!ours.labels.contains_key("example.com/theirs"), "{ours:?}");
        let log = context.any_agent().log().await?;
        ensure!(
            log.matches("labels-taken-over").count() == 1 && log.contains(COUNT),
            "{log}"
        );
        let node = client::node(&context.client).await?;
        let labels = node.metadata.labels.unwrap_or_default();
        ensure!(labels.contains_key("example.com/theirs"), "{labels:?}");
        Ok(())
    })
    .await;
    let gone = json!({ "metadata": { "labels": { COUNT: null, "example.com/theirs": null } } });
    patch(&nodes, NODE, &gone).await?;
    tested
}

/// Its own Node's labels, below the two prefixes, its condition and its taint, and nothing else.
pub(super) async fn its_own_labels_alone(context: &Context<'_>) -> Result<()> {
    on_labelled(context, async |_: &Hardware| {
        policy::attempts_beside_another_node(context, NOTHING_ELSE).await?;
        policy::condition_and_taint(context).await
    })
    .await
}
