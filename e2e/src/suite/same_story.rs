//! The embedded kubelet of `mizzen simulate` and the real cluster, given the same pods: they
//! place them alike, say the same about those they do not, and give containers the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use super::Context;
use crate::images::BUSYBOX_IMAGE;
use crate::pods::{self, GPU};
use crate::{devices, layout};

/// What became of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Story {
    /// The API server's words.
    Refused(String),
    /// The scheduler's words.
    Pending(String),
    /// What its containers got, by name.
    Runs(BTreeMap<String, Given>),
}

/// What a container got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Given {
    devices: BTreeSet<String>,
    visible_devices: Option<String>,
    device_nodes: BTreeSet<String>,
}

/// Pods that fill the node in an order, with one of each kind that does not run.
fn cast() -> Vec<Value> {
    let pod = |name: &str, resources: Value| pods::pod(name, BUSYBOX_IMAGE, &resources);
    let limit = |count: &str| json!({ "limits": { GPU: count } });
    let mut sidecar = pod("two-containers", limit("1"));
    let mut second = sidecar["spec"]["containers"][0].clone();
    second["name"] = json!("second");
    second["resources"] = json!({});
    if let Some(containers) = sidecar["spec"]["containers"].as_array_mut() {
        containers.push(second);
    }
    vec![
        pod("one", limit("1")),
        pod("more-than-there-are", limit("99")),
        sidecar,
        pod("half", limit("0.5")),
        pod("requests-only", json!({ "requests": { GPU: "1" } })),
        pod(
            "unequal",
            json!({ "requests": { GPU: "1" }, "limits": { GPU: "2" } }),
        ),
        pod(
            "equal",
            json!({ "requests": { GPU: "2" }, "limits": { GPU: "2" } }),
        ),
        pod("late", limit("1")),
        pod("none", json!({})),
    ]
}

/// The test.
pub(super) async fn both_tell_the_same(context: &Context<'_>) -> Result<()> {
    context.agent().await?;
    let cast = cast();
    let embedded = simulate(context, &cast).await?;
    for pod in &cast {
        let name = pod["metadata"]["name"]
            .as_str()
            .context("pods have names")?;
        let real = real_story(context, name, pod).await?;
        let simulated = embedded
            .get(name)
            .with_context(|| format!("{name} is not in it"))?;
        ensure!(
            *simulated == real,
            "{name}:\n  embedded {simulated:?}\n  real     {real:?}"
        );
    }
    Ok(())
}

async fn real_story(context: &Context<'_>, name: &str, pod: &Value) -> Result<Story> {
    if let Err(error) = context.pods.create(pod).await {
        return match error.downcast::<kube::Error>()? {
            kube::Error::Api(status) => Ok(Story::Refused(status.message.clone())),
            other => Err(other.into()),
        };
    }
    let decided = |pod: &Pod| pods::phase(pod) == "Running" || pods::unschedulable(pod).is_some();
    let pod = context.pods.wait(name, "placed or not", decided).await?;
    if let Some(message) = pods::unschedulable(&pod) {
        return Ok(Story::Pending(message.to_owned()));
    }
    let mut holders = devices::holders().await?;
    let mut given = BTreeMap::new();
    for container in pod.spec.context("pods have a spec")?.containers {
        let devices = holders.remove(&format!("{name}/{}", container.name));
        let inside =
            |command: &'static [&'static str]| context.pods.exec_in(name, &container.name, command);
        let variables = inside(&["env"]).await?;
        let listed = inside(&["ls", "/dev"]).await?;
        let nodes = listed
            .split_whitespace()
            .filter(|name| name.starts_with("nvidia"));
        let visible = variables
            .lines()
            .find_map(|line| line.strip_prefix("NVIDIA_VISIBLE_DEVICES="));
        let container_given = Given {
            devices: devices.unwrap_or_default(),
            visible_devices: visible.map(String::from),
            device_nodes: nodes.map(|node| format!("/dev/{node}")).collect(),
        };
        given.insert(container.name.clone(), container_given);
    }
    Ok(Story::Runs(given))
}

/// The part of `mizzen simulate --output json` that is compared (docs/simulate.md).
#[derive(Deserialize)]
struct Simulation {
    pods: Vec<SimulatedPod>,
}

#[derive(Deserialize)]
struct SimulatedPod {
    name: String,
    phase: String,
    message: String,
    containers: Vec<SimulatedContainer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SimulatedContainer {
    name: String,
    devices: BTreeMap<String, BTreeSet<String>>,
    env: BTreeMap<String, String>,
    device_nodes: Vec<SimulatedNode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SimulatedNode {
    container_path: String,
}

async fn simulate(context: &Context<'_>, cast: &[Value]) -> Result<BTreeMap<String, Story>> {
    let directory = tempfile::tempdir()?;
    let mut command = Command::new(context.binaries.mizzen());
    command
        .args(["simulate", "--output", "json", "--for", "3s", "--scenario"])
        .arg(layout::repository()?.join("e2e/scenario.yaml"));
    for (index, pod) in cast.iter().enumerate() {
        let file = directory.path().join(format!("{index}.yaml"));
        fs::write(&file, serde_json::to_vec(pod)?)?;
        command.arg("--pod").arg(file);
    }
    command.args(["--", "--pass-device-specs"]);
    let output = command.output().await?;
    let simulation: Simulation = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let stories = simulation.pods.into_iter().map(|pod| {
        let name = pod.name.clone();
        Ok((name, simulated_story(pod)?))
    });
    stories.collect()
}

fn simulated_story(pod: SimulatedPod) -> Result<Story> {
    Ok(match pod.phase.as_str() {
        "Refused" => Story::Refused(pod.message),
        "Pending" => Story::Pending(pod.message),
        "Running" => Story::Runs(pod.containers.into_iter().map(simulated_given).collect()),
        other => bail!("{} is {other}: {}", pod.name, pod.message),
    })
}

fn simulated_given(mut container: SimulatedContainer) -> (String, Given) {
    let nodes = container.device_nodes.into_iter();
    let given = Given {
        devices: container.devices.remove(GPU).unwrap_or_default(),
        visible_devices: container.env.remove("NVIDIA_VISIBLE_DEVICES"),
        device_nodes: nodes.map(|node| node.container_path).collect(),
    };
    (container.name, given)
}
