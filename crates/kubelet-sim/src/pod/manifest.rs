//! Pods out of plain Kubernetes YAML.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::fields::unknown_fields;
use super::spec::Pod;

/// Why a manifest cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The text is no YAML.
    #[error("{0}")]
    Yaml(String),
    /// A document is no Kubernetes object.
    #[error("document {index}: {what}")]
    NotAnObject {
        /// Which document of the text, from 1.
        index: usize,
        /// What is missing.
        what: String,
    },
    /// A kind from which no pods come.
    #[error(
        "document {index}: kind {kind:?} starts no pods here; \
         Pod, Deployment, ReplicaSet, StatefulSet, DaemonSet, Job and List do"
    )]
    Kind {
        /// Which document of the text, from 1.
        index: usize,
        /// The kind.
        kind: String,
    },
    /// The API server's answer to fields that it cannot read or does not know.
    #[error("{kind} in version {version:?} cannot be handled as a {kind}: {what}")]
    BadRequest {
        /// The object's kind.
        kind: String,
        /// The object's `apiVersion`.
        version: String,
        /// What is wrong with it.
        what: String,
    },
}

/// Reads the pods of a manifest: one or more documents, each a Pod, a List, or a workload with a
/// pod template, which gives as many pods as it has replicas (named `<workload>-0`, `-1`, …).
/// Namespaces, services and such are passed over, as they start nothing.
///
/// # Errors
/// The first thing that cannot be read. Rules that a pod breaks are
/// [`validate`](super::validate)'s affair.
pub fn parse_manifest(text: &str) -> Result<Vec<Pod>, ManifestError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| ManifestError::Yaml(error.to_string()))?;
    let mut pods = Vec::new();
    for (document, index) in documents.into_iter().zip(1..) {
        read_object(document, index, &mut pods)?;
    }
    Ok(pods)
}

/// Kinds that often lie beside pods and start none.
const STARTS_NOTHING: &[&str] = &[
    "ConfigMap",
    "Namespace",
    "Secret",
    "Service",
    "ServiceAccount",
];

fn read_object(document: Value, index: usize, pods: &mut Vec<Pod>) -> Result<(), ManifestError> {
    let missing = |what: &str| ManifestError::NotAnObject {
        index,
        what: what.to_owned(),
    };
    let mut object = match document {
        Value::Null => return Ok(()),
        Value::Object(object) => object,
        _ => {
            return Err(missing(
                "a Kubernetes object is a map with apiVersion and kind",
            ));
        }
    };
    let text = |key| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let kind = text("kind").ok_or_else(|| missing("Object 'Kind' is missing"))?;
    let version = text("apiVersion").ok_or_else(|| missing("Object 'apiVersion' is missing"))?;
    match kind.as_str() {
        "Pod" => pods.push(read_pod(object, &kind, &version)?),
        "List" => {
            let Some(Value::Array(items)) = object.remove("items") else {
                return Ok(());
            };
            for item in items {
                read_object(item, index, pods)?;
            }
        }
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" => {
            pods.extend(read_workload(object, &kind, &version)?);
        }
        _ if STARTS_NOTHING.contains(&kind.as_str()) => {}
        _ => return Err(ManifestError::Kind { index, kind }),
    }
    Ok(())
}

fn read_pod(object: Map<String, Value>, kind: &str, version: &str) -> Result<Pod, ManifestError> {
    let bad = |what| ManifestError::BadRequest {
        kind: kind.to_owned(),
        version: version.to_owned(),
        what,
    };
    let unknown = unknown_fields(&object);
    if !unknown.is_empty() {
        let fields: Vec<String> = unknown
            .iter()
            .map(|path| format!("unknown field {path:?}"))
            .collect();
        return Err(bad(format!("strict decoding error: {}", fields.join(", "))));
    }
    // A key without a value means that the field is not set.
    let object = without_nulls(Value::Object(object));
    let mut pod = Pod::deserialize(object).map_err(|error| bad(error.to_string()))?;
    if pod.metadata.namespace.is_empty() {
        "default".clone_into(&mut pod.metadata.namespace);
    }
    Ok(pod)
}

fn read_workload(
    object: Map<String, Value>,
    kind: &str,
    version: &str,
) -> Result<Vec<Pod>, ManifestError> {
    let object = Value::Object(object);
    let spec = &object["spec"];
    let count = if kind == "Job" {
        "parallelism"
    } else {
        "replicas"
    };
    // A DaemonSet has one pod on this one node.
    let replicas = if kind == "DaemonSet" {
        1
    } else {
        spec[count].as_u64().unwrap_or(1)
    };
    let Value::Object(template) = spec["template"].clone() else {
        let what = "spec.template: Required value".to_owned();
        return Err(ManifestError::BadRequest {
            kind: kind.to_owned(),
            version: version.to_owned(),
            what,
        });
    };
    let mut pod = read_pod(template, kind, version)?;
    let text = |key: &str| object["metadata"][key].as_str().map(str::to_owned);
    let name = text("name").unwrap_or_default();
    if let Some(namespace) = text("namespace") {
        pod.metadata.namespace = namespace;
    }
    let named = |ordinal| {
        let mut pod = pod.clone();
        pod.metadata.name = format!("{name}-{ordinal}");
        pod
    };
    Ok((0..replicas).map(named).collect())
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let kept = object.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                kept.map(|(key, value)| (key, without_nulls(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: train, annotations: {mizzen.dev/run-for: 5s}}
spec:
  restartPolicy: Never
  volumes:
  containers:
  - name: main
    image: busybox
    command: [sleep, inf]
    resources: {limits: {nvidia.com/gpu: 2, memory: 16Gi}}
";

    #[test]
    fn a_pod_is_read_with_defaults_where_nothing_is_said() {
        let pods = parse_manifest(POD).unwrap();
        assert_eq!(pods.len(), 1);
        assert_eq!(pods[0].key(), "default/train");
        assert_eq!(
            pods[0].spec.containers[0].resources.limits["nvidia.com/gpu"].value(),
            2
        );
        assert_eq!(pods[0].run_for().unwrap().unwrap().as_secs(), 5);
    }

    #[test]
    fn several_documents_and_what_starts_nothing_are_read_in_order() {
        let text = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: ml}}\n---{POD}---\n---{}",
            POD.replace("train", "eval")
        );
        let names: Vec<String> = parse_manifest(&text)
            .unwrap()
            .iter()
            .map(|pod| pod.metadata.name.clone())
            .collect();
        assert_eq!(names, ["train", "eval"]);
    }

    #[test]
    fn a_deployment_gives_a_pod_for_each_replica() {
        let text = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: serve, namespace: ml}
spec:
  replicas: 3
  template:
    metadata: {labels: {app: serve}}
    spec: {containers: [{name: c, image: i}]}
";
        let keys: Vec<String> = parse_manifest(text).unwrap().iter().map(Pod::key).collect();
        assert_eq!(keys, ["ml/serve-0", "ml/serve-1", "ml/serve-2"]);
    }

    #[test]
    fn limits_in_the_wrong_place_are_refused_as_the_api_server_refuses_them() {
        let text = "
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{name: c, image: i, limits: {nvidia.com/gpu: 1}}]}
";
        assert_eq!(
            parse_manifest(text).unwrap_err().to_string(),
            "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: \
             unknown field \"spec.containers[0].limits\""
        );
    }

    #[test]
    fn a_quantity_that_is_none_is_refused() {
        let text = POD.replace("nvidia.com/gpu: 2", "nvidia.com/gpu: two");
        let error = parse_manifest(&text).unwrap_err().to_string();
        assert!(
            error.contains("quantities must match the regular expression"),
            "{error}"
        );
    }

    #[test]
    fn a_kind_that_starts_no_pods_is_named() {
        let error = parse_manifest("apiVersion: v1\nkind: Nope\n")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("document 1: kind \"Nope\" starts no pods"),
            "{error}"
        );
    }
}
