//! What the manifests let the agent's `ServiceAccount` do to Nodes: labels below `nvidia.com/` and
//! `gpu.mizzen.dev/` of the one that its pod runs on, which the pod's token names.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::Context;
use super::{Bench, STATE, on_bench, unchanged};
use crate::agent::NAMESPACE;
use crate::client;
use crate::cluster::NODE;

/// How long the API server may take to see a new policy.
const POLICY_LIMIT: Duration = Duration::from_secs(20);
/// A label that counts a model.
const MODEL: &str = "gpu.mizzen.dev/No-Such-Model";
/// A Node that no kubelet stands behind.
const OTHER: &str = "another-node";

/// With the token that the agent's pod has, and with one that no pod has.
pub(in super::super) async fn its_own_labels_alone(context: &Context<'_>) -> Result<()> {
    on_bench(context, unchanged, async |_: &Bench<'_>| {
        let nothing_else = "the agent may change labels of its Node, and nothing else";
        attempts_beside_another_node(context, nothing_else).await
    })
    .await
}

/// What the agent that is installed may change, and what not.
///
/// `nothing_else` are the words of a policy for what no agent may change.
pub(in super::super) async fn attempts_beside_another_node(
    context: &Context<'_>,
    nothing_else: &str,
) -> Result<()> {
    let nodes: Api<Node> = Api::all(context.client.clone());
    let other = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": OTHER } });
    client::apply(&context.client, &other).await?;
    let tested = attempts(context, nothing_else).await;
    nodes.delete(OTHER, &DeleteParams::default()).await?;
    tested
}

/// A client with a token such as the agent's pod has.
async fn client_of_the_agent(context: &Context<'_>) -> Result<Client> {
    let pod = context.any_agent().pod().await?.metadata;
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: pod.name,
        uid: pod.uid,
    };
    client_of(context, Some(bound)).await
}

/// Of conditions and taints the agent may change its own. Nothing is stored: the agent that runs
/// goes by what it has set.
pub(in super::super) async fn condition_and_taint(context: &Context<'_>) -> Result<()> {
    let agent = client_of_the_agent(context).await?;
    let nodes: Api<Node> = Api::all(agent);
    let conditions = |kind: &str| {
        let condition = json!({ "type": kind, "status": "False", "reason": "Tried" });
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE },
            "status": { "conditions": [condition] } })
    };
    let parameters = PatchParams::apply("mizzen-health").force().dry_run();
    let own = Patch::Apply(conditions("GPUHealthy"));
    let told = nodes.patch_status(NODE, &parameters, &own).await;
    told.context("its own condition")?;
    let others = Patch::Apply(conditions("Ready"));
    let told = nodes.patch_status(NODE, &parameters, &others).await;
    refused_with(
        told,
        "the agent may change the condition GPUHealthy, and no other",
    )?;

    let spec = client::node(&context.client)
        .await?
        .spec
        .unwrap_or_default();
    let before = json!(spec.taints.unwrap_or_default());
    let with = |key: &str| {
        let mut taints = before.as_array().cloned().unwrap_or_default();
        taints.push(json!({ "key": key, "effect": "NoSchedule" }));
        Patch::Merge(json!({ "spec": { "taints": taints } }))
    };
    let parameters = PatchParams::default().dry_run();
    let tainted = nodes
        .patch(NODE, &parameters, &with("mizzen.dev/gpus-lost"))
        .await;
    tainted.context("its own taint")?;
    let tainted = nodes
        .patch(NODE, &parameters, &with("example.com/mine"))
        .await;
    refused_with(
        tainted,
        "the agent may change the taint mizzen.dev/gpus-lost, and no other",
    )
}

fn refused_with(answer: Result<Node, kube::Error>, words: &str) -> Result<()> {
    let Err(error) = answer else {
        bail!("it is not refused with {words:?}");
    };
    let said = error.to_string();
    ensure!(said.contains(words), "{said}");
    Ok(())
}

async fn attempts(context: &Context<'_>, nothing_else: &str) -> Result<()> {
    let agent = client_of_the_agent(context).await?;
    let foreign = json!({ "metadata": { "labels": { "example.com/mine": "yes" } } });
    wait_for_policy(&agent, &foreign).await?;

    let own = json!({ "metadata": { "labels": { STATE: "success" } } });
    for (key, value) in [
        (STATE, json!("success")),
        (MODEL, json!("1")),
        (MODEL, Value::Null),
    ] {
        let own = json!({ "metadata": { "labels": { key: value } } });
        try_patch(&agent, NODE, &own)
            .await
            .context("its own label")?;
    }
    let refused = async |who: &Client, node: &str, change: &Value, words: &str| {
        let Err(error) = try_patch(who, node, change).await else {
            bail!("{change} of {node} is not refused");
        };
        let said = error.to_string();
        ensure!(said.contains(words), "{change} of {node}: {said}");
        Ok(())
    };
    let no_other = "the agent may change the Node that it runs on, and no other";
    refused(&agent, OTHER, &own, no_other).await?;
    let labels_alone =
        "the agent may change labels below nvidia.com/ and gpu.mizzen.dev/, and no others";
    refused(&agent, NODE, &foreign, labels_alone).await?;
    let removal = json!({ "metadata": { "labels": { "kubernetes.io/os": null } } });
    refused(&agent, NODE, &removal, labels_alone).await?;
    for change in [
        json!({ "spec": { "unschedulable": true } }),
        json!({ "metadata": { "annotations": { "example.com/mine": "yes" } } }),
    ] {
        refused(&agent, NODE, &change, nothing_else).await?;
    }
    let nobody = client_of(context, None).await?;
    refused(&nobody, NODE, &own, no_other).await?;
    let gone = json!({ "metadata": { "labels": { STATE: null } } });
    try_patch(&agent, NODE, &gone)
        .await
        .context("its own label")
}

/// A client with a token of the agent's `ServiceAccount`, such as a pod's.
async fn client_of(context: &Context<'_>, pod: Option<BoundObjectReference>) -> Result<Client> {
    let accounts: Api<ServiceAccount> = Api::namespaced(context.client.clone(), NAMESPACE);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            bound_object_ref: pod,
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let answer = accounts
        .create_token_request("mizzen-agent", &PostParams::default(), &request)
        .await?;
    let token = answer.status.and_then(|status| status.token);
    let token = token.context("it has a token")?;
    client::with_token(&context.cluster.layout().admin_kubeconfig(), token).await
}

async fn try_patch(client: &Client, node: &str, change: &Value) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let patched = nodes
        .patch(node, &PatchParams::default(), &Patch::Merge(change))
        .await;
    patched.map(|_| ())
}

/// The API server learns of a policy a moment after it has stored it.
async fn wait_for_policy(agent: &Client, forbidden: &Value) -> Result<()> {
    let nodes: Api<Node> = Api::all(agent.clone());
    let attempt = PatchParams::default().dry_run();
    let deadline = Instant::now() + POLICY_LIMIT;
    while nodes
        .patch(NODE, &attempt, &Patch::Merge(forbidden))
        .await
        .is_ok()
    {
        ensure!(
            Instant::now() < deadline,
            "{forbidden} is accepted {POLICY_LIMIT:?} after the policy was made"
        );
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
