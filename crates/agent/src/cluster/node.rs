//! The Node that the agent runs on: what is seen of its labels, and one label that is set.

use kube::api::{Patch, PatchParams};
use kube::core::Request;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use super::follow::{ANSWER_LIMIT, Object, OneObject, Sight, follow};
use super::known::{Known, update};
use super::{Cluster, is_forbidden, words};

const NODES: &str = "/api/v1/nodes";

/// Tells what `pick` takes of the Node `node`, for ever.
pub(crate) async fn follow_node<T: PartialEq>(
    cluster: Cluster,
    node: String,
    pick: impl Fn(&Object) -> T,
    tell: watch::Sender<Known<T>>,
) {
    let object = OneObject {
        path: NODES.to_owned(),
        words: format!("the Node {node}"),
        name: node,
        metadata_only: true,
        rule: "give the agent's ServiceAccount a ClusterRole with verbs [list, watch] on \
               resources [nodes] of apiGroups [\"\"]"
            .to_owned(),
    };
    let words = object.words.clone();
    let told = |sight: Sight| {
        if sight == Sight::Absent {
            tracing::warn!(
                event = "no-such-node",
                todo = "set --node-name to the pod's spec.nodeName",
                "{words} does not exist"
            );
        }
        let known = match sight {
            Sight::Present(node) => Known::Is(pick(&node)),
            Sight::Absent | Sight::Forbidden => Known::Refused,
            Sight::Away => Known::Away,
        };
        update(&tell, known);
    };
    follow(cluster, object, told).await;
}

/// Gives the label `key` of the Node this value, or takes it away.
///
/// # Errors
/// Why the API did not do it, in words.
pub(crate) async fn set_label(
    cluster: &Cluster,
    node: &str,
    key: &str,
    value: Option<&str>,
) -> Result<(), String> {
    let client = cluster.client()?;
    let change = json!({ "metadata": { "labels": { key: value } } });
    let request = Request::new(NODES)
        .patch_metadata(node, &PatchParams::default(), &Patch::Merge(change))
        .map_err(|error| error.to_string())?;
    match timeout(ANSWER_LIMIT, client.request::<IgnoredAny>(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if is_forbidden(&error) => Err(format!(
            "{}; the agent's ServiceAccount needs a ClusterRole with verbs [patch] on resources \
             [nodes] of apiGroups [\"\"]",
            words(&error)
        )),
        Ok(Err(error)) => Err(words(&error)),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
