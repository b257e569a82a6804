//! The part of `v1` `Pod` that matters to devices.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;

/// Annotation that says how long the simulated containers run: a whole number and `ms`, `s`, `m`
/// or `h`, such as `5s`. Then they exit with 0. Without it they run until the pod is deleted.
pub const RUN_FOR_ANNOTATION: &str = "mizzen.dev/run-for";

/// A pod as it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Its name and annotations.
    pub metadata: Metadata,
    /// What is to run.
    pub spec: PodSpec,
}

/// Name, namespace and annotations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Unique in the namespace.
    pub name: String,
    /// `default` if it was not given.
    pub namespace: String,
    /// Free-form notes; [`RUN_FOR_ANNOTATION`] is the one that is read here.
    pub annotations: BTreeMap<String, String>,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            name: String::new(),
            namespace: "default".to_owned(),
            annotations: BTreeMap::new(),
        }
    }
}

/// What is to run, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Containers that run one after the other before the others start; those that are to be
    /// restarted always (sidecars) go on running.
    pub init_containers: Vec<Container>,
    /// Containers that run together.
    pub containers: Vec<Container>,
    /// Whether containers that exit are started again.
    pub restart_policy: RestartPolicy,
    /// Set: the pod goes to that node without asking the scheduler.
    pub node_name: Option<String>,
}

/// When containers that have exited are started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Whatever the exit code; the default.
    #[default]
    Always,
    /// After a failure only.
    OnFailure,
    /// Never: the pod ends with its containers.
    Never,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Unique in the pod.
    pub name: String,
    /// Not pulled here, but required as in a cluster.
    pub image: String,
    /// Environment variables of its own.
    pub env: Vec<EnvVar>,
    /// What it needs.
    pub resources: Resources,
    /// `Always` on an init container makes it a sidecar.
    pub restart_policy: Option<RestartPolicy>,
}

/// An environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value; `None` where it comes from somewhere else (`valueFrom`).
    pub value: Option<String>,
}

/// What a container needs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// At most this much. For GPUs: exactly this many.
    pub limits: BTreeMap<String, Quantity>,
    /// At least this much; taken from the limits where it is not given.
    pub requests: BTreeMap<String, Quantity>,
}

/// Which part a container plays in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerKind {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that goes on running beside the others.
    Sidecar,
    /// An ordinary one.
    App,
}

impl Pod {
    /// `namespace/name`, as Kubernetes' logs name it.
    pub fn key(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }

    /// Every container with its part, in the order of starting.
    pub fn containers(&self) -> impl Iterator<Item = (ContainerKind, &Container)> {
        let init = self.spec.init_containers.iter().map(|container| {
            let sidecar = container.restart_policy == Some(RestartPolicy::Always);
            (
                if sidecar {
                    ContainerKind::Sidecar
                } else {
                    ContainerKind::Init
                },
                container,
            )
        });
        init.chain(
            self.spec
                .containers
                .iter()
                .map(|container| (ContainerKind::App, container)),
        )
    }

    /// How long its containers run ([`RUN_FOR_ANNOTATION`]).
    ///
    /// # Errors
    /// When the annotation is there and says no time.
    pub fn run_for(&self) -> Result<Option<Duration>, String> {
        let Some(text) = self.metadata.annotations.get(RUN_FOR_ANNOTATION) else {
            return Ok(None);
        };
        parse_duration(text).map(Some).ok_or_else(|| {
            format!(
                "annotation {RUN_FOR_ANNOTATION}: {text:?} is no time; write 500ms, 5s, 2m or 1h"
            )
        })
    }

    /// What the API server fills in: requests are the limits where only limits were given.
    pub(crate) fn set_defaults(&mut self) {
        let containers = self
            .spec
            .init_containers
            .iter_mut()
            .chain(&mut self.spec.containers);
        for resources in containers.map(|container| &mut container.resources) {
            for (name, quantity) in &resources.limits {
                resources.requests.entry(name.clone()).or_insert(*quantity);
            }
        }
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit_start = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..unit_start].parse().ok()?;
    match &text[unit_start..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}
