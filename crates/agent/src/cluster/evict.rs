//! Pods that are asked to leave, through the Eviction API, which minds disruption budgets.

use std::fmt;

use kube::api::PostParams;
use kube::core::Request;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::time::timeout;

use super::follow::ANSWER_LIMIT;
use super::{Cluster, is_forbidden, words};

/// A pod's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodName {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Asks a pod to leave. It is gone only when the kubelet says so.
///
/// # Errors
/// Why it may not be asked now, in words: a disruption budget, a missing right, an API that does
/// not answer.
pub(crate) async fn evict(cluster: &Cluster, pod: &PodName) -> Result<(), String> {
    let client = cluster.client()?;
    let eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "namespace": pod.namespace, "name": pod.name },
    });
    let pods = format!("/api/v1/namespaces/{}/pods", pod.namespace);
    let request = Request::new(pods)
        .create_subresource(
            "eviction",
            &pod.name,
            &PostParams::default(),
            eviction.to_string().into_bytes(),
        )
        .map_err(|error| error.to_string())?;
    match timeout(ANSWER_LIMIT, client.request::<IgnoredAny>(request)).await {
        Ok(Ok(_)) => Ok(()),
        // It has left already.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Ok(Err(error)) if is_forbidden(&error) => Err(format!(
            "{}; the agent's ServiceAccount needs a ClusterRole with verbs [create] on resources \
             [pods/eviction] of apiGroups [\"\"]",
            words(&error)
        )),
        Ok(Err(error)) => Err(words(&error)),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
