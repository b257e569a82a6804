//! The fields that Kubernetes knows, so that a misspelt or misplaced one is refused as there.

use serde_json::{Map, Value};

/// Fields of every object.
const OBJECT: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];

/// Fields of `PodSpec`, Kubernetes 1.36.
const POD_SPEC: &[&str] = &[
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "ephemeralContainers",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "hostname",
    "hostnameOverride",
    "imagePullSecrets",
    "initContainers",
    "nodeName",
    "nodeSelector",
    "os",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "resources",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "schedulingGates",
    "schedulingGroup",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
    "workloadRef",
];

/// Fields of `Container`, Kubernetes 1.36.
const CONTAINER: &[&str] = &[
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "restartPolicy",
    "restartPolicyRules",
    "securityContext",
    "startupProbe",
    "stdin",
    "stdinOnce",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
];

/// Fields of `ResourceRequirements`.
const RESOURCES: &[&str] = &["claims", "limits", "requests"];

/// The paths of fields that Kubernetes does not know, such as `spec.containers[0].limits`.
pub(super) fn unknown_fields(pod: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    check(pod, "", OBJECT, &mut found);
    let Some(Value::Object(spec)) = pod.get("spec") else {
        return found;
    };
    check(spec, "spec.", POD_SPEC, &mut found);
    for list in ["initContainers", "containers"] {
        let containers = spec.get(list).and_then(Value::as_array);
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let Value::Object(container) = container else {
                continue;
            };
            let path = format!("spec.{list}[{index}].");
            check(container, &path, CONTAINER, &mut found);
            if let Some(Value::Object(resources)) = container.get("resources") {
                check(
                    resources,
                    &format!("{path}resources."),
                    RESOURCES,
                    &mut found,
                );
            }
        }
    }
    found
}

fn check(object: &Map<String, Value>, path: &str, known: &[&str], found: &mut Vec<String>) {
    let unknown = object.keys().filter(|key| !known.contains(&key.as_str()));
    found.extend(unknown.map(|key| format!("{path}{key}")));
}
