//! The Kubernetes API as the suite uses it: clients, manifests, and a few questions.

use std::path::Path;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::api::{Api, DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config, discovery};
use serde_json::Value;

use crate::cluster::NODE;

/// Who owns the fields that the suite applies.
const FIELD_MANAGER: &str = "mizzen-e2e";

/// A client from a kubeconfig file.
pub(crate) async fn from_kubeconfig(path: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The same with a token instead of the certificate of the file's user.
pub(crate) async fn with_token(path: &Path, token: String) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.auth_info = AuthInfo {
        token: Some(token.into()),
        ..AuthInfo::default()
    };
    Ok(Client::try_from(config)?)
}

/// Where the API server of a kubeconfig file is.
pub(crate) fn api_server(path: &Path) -> Result<http::Uri> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    Ok(Config::try_from(kubeconfig)?.cluster_url)
}

/// GET of a path that answers with text.
pub(crate) async fn get_text(client: &Client, path: &str) -> Result<String> {
    let uri: http::Uri = path.parse()?;
    let request = http::Request::get(uri).body(Vec::new())?;
    Ok(client.request_text(request).await?)
}

/// The cluster's node.
pub(crate) async fn node(client: &Client) -> Result<Node> {
    Ok(Api::<Node>::all(client.clone()).get(NODE).await?)
}

/// Succeeds once the kubelet has reported the node as ready.
pub(crate) async fn node_is_ready(client: Client) -> Result<()> {
    let node = node(&client).await?;
    let conditions = node.status.and_then(|status| status.conditions);
    let ready = conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready")
        .context("the node has no Ready condition yet")?;
    if ready.status != "True" {
        bail!(
            "the node is not ready: {}",
            ready.message.as_deref().unwrap_or_default()
        );
    }
    Ok(())
}

/// Succeeds once pods can be made in the default namespace.
pub(crate) async fn has_default_service_account(client: Client) -> Result<()> {
    for namespace in ["default", "kube-system"] {
        Api::<ServiceAccount>::namespaced(client.clone(), namespace)
            .get("default")
            .await?;
    }
    Ok(())
}

/// The documents of a manifest.
pub(crate) fn documents(manifest: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifest)?;
    Ok(documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect())
}

/// Server-side apply of one object, as `kubectl apply --server-side` does; a misspelt field is
/// an error.
pub(crate) async fn apply(client: &Client, object: &Value) -> Result<()> {
    patch(client, object, &PatchParams::apply(FIELD_MANAGER)).await
}

/// Whether the API server would accept an object; nothing is stored.
pub(crate) async fn would_apply(client: &Client, object: &Value) -> Result<()> {
    patch(client, object, &PatchParams::apply(FIELD_MANAGER).dry_run()).await
}

async fn patch(client: &Client, object: &Value, parameters: &PatchParams) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object.clone())?;
    let (api, name) = api_of(client, &object).await?;
    let mut parameters = parameters.clone().force();
    parameters.field_validation = Some(ValidationDirective::Strict);
    api.patch(&name, &parameters, &Patch::Apply(&object))
        .await
        .with_context(|| format!("apply {name}"))?;
    Ok(())
}

/// The API that an object belongs to, and its name.
async fn api_of(client: &Client, object: &DynamicObject) -> Result<(Api<DynamicObject>, String)> {
    let types = object.types.as_ref().context("no apiVersion and kind")?;
    let name = object.metadata.name.clone().context("no metadata.name")?;
    let kind = GroupVersionKind::try_from(types)?;
    let (resource, capabilities) = discovery::pinned_kind(client, &kind).await?;
    let api = match (&object.metadata.namespace, capabilities.scope) {
        (_, discovery::Scope::Cluster) => Api::all_with(client.clone(), &resource),
        (Some(namespace), _) => Api::namespaced_with(client.clone(), namespace, &resource),
        (None, _) => Api::default_namespaced_with(client.clone(), &resource),
    };
    Ok((api, name))
}
