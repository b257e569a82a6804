//! The Node: what is asked of it, and what is heard.

use http::Request;
use kube::api::{GetParams, Patch, PatchParams};
use kube::core::Request as Path;
use mizzen_core::node_health::{CONDITION, TAINT_KEY};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Who we are among those that set fields of the Node.
pub(super) const MANAGER: &str = "mizzen-health";
const NODES: &str = "/api/v1/nodes";

/// The Node, as far as it matters here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    uid: String,
    resource_version: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Spec {
    /// As they are, for those of others are sent back so.
    taints: Option<Vec<Value>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Option<Vec<Condition>>,
}

/// A condition as the API has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) message: String,
    /// Since when it has its status.
    #[serde(default)]
    pub(super) last_transition_time: Option<String>,
}

impl Node {
    pub(super) fn uid(&self) -> &str {
        &self.metadata.uid
    }

    /// The condition of ours.
    pub(super) fn condition(&self) -> Option<Condition> {
        let mut all = self.status.conditions.iter().flatten();
        all.find(|condition| condition.kind == CONDITION).cloned()
    }

    fn taints(&self) -> &[Value] {
        self.spec.taints.as_deref().unwrap_or_default()
    }

    /// The effect of the taint of ours.
    pub(super) fn taint(&self) -> Option<String> {
        let mut ours = self.taints().iter().filter(|taint| is_ours(taint));
        let effect = ours.next()?["effect"].as_str();
        Some(effect.unwrap_or_default().to_owned())
    }

    /// Gives the Node our taint with this effect, or takes it away; `None` if it is so already.
    /// The API knows the taints of a Node as one value, so the patch names all, and is for the
    /// Node as it was read alone: where somebody has changed it since, the API refuses it.
    pub(super) fn taint_with(
        &self,
        name: &str,
        effect: Option<&str>,
    ) -> Option<Result<Request<Vec<u8>>, String>> {
        let wanted = effect.map(|effect| json!({ "key": TAINT_KEY, "effect": effect }));
        let (ours, mut taints): (Vec<Value>, Vec<Value>) =
            self.taints().iter().cloned().partition(is_ours);
        let same = match (&wanted, ours.as_slice()) {
            (None, []) => true,
            (Some(wanted), [one]) => wanted["effect"] == one["effect"],
            _ => false,
        };
        if same {
            return None;
        }
        taints.extend(wanted);
        let Metadata {
            uid,
            resource_version,
        } = &self.metadata;
        let change = json!({
            "metadata": { "uid": uid, "resourceVersion": resource_version },
            "spec": { "taints": taints },
        });
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let request = Path::new(NODES).patch(name, &parameters, &Patch::Merge(change));
        Some(request.map_err(|error| error.to_string()))
    }
}

fn is_ours(taint: &Value) -> bool {
    taint["key"] == TAINT_KEY
}

/// The Node as a watch cache knows it, which is not asked for what changed in the last second; or
/// as it is now.
pub(super) fn get(name: &str, parameters: &GetParams) -> Result<Request<Vec<u8>>, String> {
    let request = Path::new(NODES).get(name, parameters);
    request.map_err(|error| error.to_string())
}

/// Makes the Node of this UID have this condition of ours, or none.
pub(super) fn apply(
    name: &str,
    uid: &str,
    condition: Option<&Condition>,
    now: &str,
    takes_over: bool,
) -> Result<Request<Vec<u8>>, String> {
    let mut parameters = PatchParams::apply(MANAGER);
    parameters.force = takes_over;
    let mut change = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": name, "uid": uid },
    });
    if let Some(condition) = condition {
        let mut condition = json!(condition);
        condition["lastHeartbeatTime"] = json!(now);
        change["status"] = json!({ "conditions": [condition] });
    }
    let patch = Patch::Apply(change);
    let request = Path::new(NODES).patch_subresource("status", name, &parameters, &patch);
    request.map_err(|error| error.to_string())
}
