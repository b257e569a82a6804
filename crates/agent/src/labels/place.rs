//! The object of the Kubernetes API that has the labels: what is asked of it, and what is heard.

use std::collections::{BTreeMap, BTreeSet};

use http::Request;
use kube::api::{GetParams, Patch, PatchParams};
use kube::core::Request as Path;
use mizzen_core::config::{Config, LabelsTo};
use mizzen_core::labels::Labels;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

/// Who we are among those that set fields of an object.
pub(super) const MANAGER: &str = "mizzen-labels";
const NODES: &str = "/api/v1/nodes";
const NFD: &str = "nfd.k8s-sigs.io/v1alpha1";
/// The label by which Node Feature Discovery finds the Node of a `NodeFeature` object.
const NODE_OF_FEATURES: &str = "nfd.node.kubernetes.io/node-name";
/// In which Node Feature Discovery notes the labels of a Node that it will take away.
const LABELS_OF_NFD: &str = "nfd.node.kubernetes.io/feature-labels";

/// Which object has the labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The Node of this name.
    Node(String),
    /// The `NodeFeature` object of the Node of this name.
    NodeFeature {
        /// The Node.
        node: String,
        /// Where the object is; `None` is the namespace that the client belongs to.
        namespace: Option<String>,
    },
}

impl Place {
    /// What the settings say; `None` where the labels go to no API.
    pub(super) fn of(config: &Config, to: LabelsTo) -> Option<Self> {
        let node = config.source.node_name.clone()?;
        match to {
            LabelsTo::Node => Some(Self::Node(node)),
            LabelsTo::NodeFeature => Some(Self::NodeFeature {
                node,
                namespace: config.labels.namespace.clone(),
            }),
            LabelsTo::Off | LabelsTo::File => None,
        }
    }

    pub(super) fn node(&self) -> &str {
        match self {
            Self::Node(node) | Self::NodeFeature { node, .. } => node,
        }
    }

    /// What to call it in words.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Node(node) => format!("the Node {node}"),
            Self::NodeFeature { node, namespace } => {
                let namespace = namespace.as_ref().map(|name| format!("{name}/"));
                let namespace = namespace.unwrap_or_default();
                format!("the NodeFeature {namespace}{}", features_name(node))
            }
        }
    }

    /// Which rules let it be looked at and changed, in words.
    pub(super) fn rules(&self) -> String {
        match self {
            Self::Node(_) => "give the ServiceAccount a ClusterRole with verbs [get, patch] on \
                              resources [nodes] of apiGroups [\"\"], as deploy/mizzen-labels.yaml \
                              does"
                .to_owned(),
            Self::NodeFeature { namespace, .. } => format!(
                "give the ServiceAccount a Role in {} with verbs [get, create, patch, delete] on \
                 resources [nodefeatures] of apiGroups [nfd.k8s-sigs.io], and a ClusterRole with \
                 verbs [get] on resources [nodes] of apiGroups [\"\"]",
                match namespace {
                    Some(name) => format!("the namespace {name}"),
                    None => "its namespace".to_owned(),
                }
            ),
        }
    }

    /// What a watch cache answers: this is not asked for what changed in the last second.
    pub(super) fn look_at_node(&self) -> Result<Request<Vec<u8>>, String> {
        let request = Path::new(NODES).get_metadata(self.node(), &GetParams::any());
        request.map_err(|error| error.to_string())
    }

    /// The question for the object, where it is not the Node itself. `home` is the namespace that
    /// the client belongs to.
    pub(super) fn look(&self, home: &str) -> Option<Result<Request<Vec<u8>>, String>> {
        let Self::NodeFeature { node, namespace } = self else {
            return None;
        };
        let request = features(namespace.as_deref().unwrap_or(home))
            .get(&features_name(node), &GetParams::any());
        Some(request.map_err(|error| error.to_string()))
    }

    /// Makes the object have these labels of ours and no others. `uid` is the Node's: another Node
    /// of its name is not changed, nor one made where there is none.
    pub(super) fn apply(
        &self,
        labels: &Labels,
        uid: &str,
        home: &str,
        takes_over: bool,
    ) -> Result<Request<Vec<u8>>, String> {
        let mut parameters = PatchParams::apply(MANAGER);
        parameters.force = takes_over;
        let labels: BTreeMap<&str, &str> = labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let request = match self {
            Self::Node(node) => {
                let metadata = json!({ "name": node, "uid": uid, "labels": labels });
                let change = json!({ "apiVersion": "v1", "kind": "Node", "metadata": metadata });
                Path::new(NODES).patch_metadata(node, &parameters, &Patch::Apply(change))
            }
            Self::NodeFeature { node, namespace } => {
                let namespace = namespace.as_deref().unwrap_or(home);
                let change = node_feature(node, namespace, uid, &labels);
                features(namespace).patch(&features_name(node), &parameters, &Patch::Apply(change))
            }
        };
        request.map_err(|error| error.to_string())
    }

    /// What is seen of the object, to which the labels `wanted` shall go.
    pub(super) fn read(&self, object: Object, wanted: &Labels) -> Seen {
        let metadata = object.metadata;
        let labels = match self {
            Self::Node(_) => metadata.labels,
            Self::NodeFeature { .. } => object.spec.labels,
        };
        let mut ours = BTreeSet::new();
        let mut others: BTreeSet<String> = metadata
            .annotations
            .get(LABELS_OF_NFD)
            .map(|keys| keys.split(',').map(str::to_owned).collect())
            .unwrap_or_default();
        for owned in metadata.managed_fields {
            let is_ours = owned.manager == MANAGER && owned.operation == "Apply";
            let keys = owned.fields.labels(self);
            if is_ours { &mut ours } else { &mut others }.extend(keys);
        }
        let has = |keys: &BTreeSet<String>, key: &str| keys.contains(key);
        let pairs = labels.into_iter().filter(|(key, _)| has(&ours, key));
        Seen {
            uid: metadata.uid,
            ours: pairs
                .filter_map(|(key, value)| Some((key.parse().ok()?, value.parse().ok()?)))
                .collect(),
            contested: wanted.keys().any(|key| has(&others, key.as_str())),
        }
    }
}

/// What is seen of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) uid: String,
    /// The labels that we have set and nobody else has changed.
    pub(super) ours: Labels,
    /// Whether somebody else sets, or will take away, labels that we want.
    pub(super) contested: bool,
}

/// As gpu-feature-discovery calls it.
fn features_name(node: &str) -> String {
    format!("nvidia-features-for-{node}")
}

fn features(namespace: &str) -> Path {
    Path::new(format!("/apis/{NFD}/namespaces/{namespace}/nodefeatures"))
}

/// Its owner is the Node: with an agent's pod or `DaemonSet` as its owner, labels would be gone
/// when these are replaced.
fn node_feature(node: &str, namespace: &str, uid: &str, labels: &BTreeMap<&str, &str>) -> Value {
    json!({
        "apiVersion": NFD,
        "kind": "NodeFeature",
        "metadata": {
            "name": features_name(node),
            "namespace": namespace,
            "labels": { NODE_OF_FEATURES: node },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": node, "uid": uid }],
        },
        "spec": {
            "features": { "flags": {}, "attributes": {}, "instances": {} },
            "labels": labels,
        },
    })
}

/// An object, or its metadata, as the API tells it; of it what labels need.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Object {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    uid: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    managed_fields: Vec<ManagedFields>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Spec {
    labels: BTreeMap<String, String>,
}

/// Who sets which fields.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ManagedFields {
    manager: String,
    operation: String,
    #[serde(rename = "fieldsV1")]
    fields: Fields,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(rename = "f:metadata")]
    metadata: LabelFields,
    #[serde(rename = "f:spec")]
    spec: LabelFields,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct LabelFields {
    #[serde(rename = "f:labels")]
    #[expect(
        clippy::zero_sized_map_values,
        reason = "of a map of JSON only the keys are kept"
    )]
    labels: BTreeMap<String, IgnoredAny>,
}

impl Fields {
    /// The keys of labels among them.
    fn labels(&self, place: &Place) -> Vec<String> {
        let fields = match place {
            Place::Node(_) => &self.metadata,
            Place::NodeFeature { .. } => &self.spec,
        };
        let keys = fields.labels.keys();
        keys.filter_map(|key| key.strip_prefix("f:").map(str::to_owned))
            .collect()
    }
}
