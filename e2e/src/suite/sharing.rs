//! GPUs for several pods at a time, by a config that the node's label chooses.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::Context;
use super::config_by_node::{event, install, remove, set_config, set_label};
use super::gpu_pods::{
    device_health_of, environment, gpu_of, wait_for_amounts, wait_for_node, workload,
};
use crate::images::BUSYBOX_IMAGE;
use crate::pods;

/// What the replicas are offered as.
const SHARED: &str = "nvidia.com/gpu.shared";
/// How often each of the first two GPUs is offered.
const REPLICAS: usize = 5;

/// The first two GPUs for so many pods each, the others whole.
fn two_shared(replicas: usize) -> String {
    format!(
        "version: v1
flags: {{plugin: {{passDeviceSpecs: true}}}}
sharing:
  timeSlicing:
    renameByDefault: true
    failRequestsGreaterThanOne: true
    resources:
    - {{name: nvidia.com/gpu, devices: [0, 1], replicas: {replicas}}}
"
    )
}

/// An agent whose node is labelled with [`two_shared`] while `test` runs.
async fn on_shared_gpus(
    context: &Context<'_>,
    test: impl AsyncFnOnce(&Context<'_>) -> Result<()>,
) -> Result<()> {
    install(context).await?;
    let tested = async {
        set_config(context, "two-shared", &two_shared(REPLICAS)).await?;
        set_label(context, Some("two-shared")).await?;
        wait_for_amounts(context, SHARED, (2 * REPLICAS, 2 * REPLICAS)).await?;
        let whole = context.hardware.gpus().await?.len() - 2;
        wait_for_node(context, whole, whole).await?;
        test(context).await
    };
    let outcome = tested.await;
    context.hardware.heal().await?;
    context.pods.remove_all().await?;
    remove(context).await?;
    outcome
}

/// A pod that asks for so many replicas.
fn sharer(name: &str, replicas: usize) -> Value {
    let resources = json!({ "limits": { SHARED: replicas.to_string() } });
    pods::pod(name, BUSYBOX_IMAGE, &resources)
}

/// Ten pods on two GPUs, one too many, and one that asks for too much.
pub(super) async fn ten_pods_on_two_gpus(context: &Context<'_>) -> Result<()> {
    on_shared_gpus(context, async |context: &Context<'_>| {
        context.pods.create(&sharer("greedy", 2)).await?;
        let ended = |pod: &Pod| pods::phase(pod) == "Failed";
        let greedy = context.pods.wait("greedy", "refused", ended).await?;
        let status = greedy.status.unwrap_or_default();
        let message = status.message.unwrap_or_default();
        ensure!(
            status.reason.as_deref() == Some("UnexpectedAdmissionError")
                && message.contains("maximum request size for shared resources is 1; found 2"),
            "it is refused by {:?}: {message}",
            status.reason
        );
        let mut on: BTreeMap<String, usize> = BTreeMap::new();
        for number in 0..2 * REPLICAS {
            let name = format!("sharer-{number}");
            context.pods.run(&sharer(&name, 1)).await?;
            let visible = environment(context, &name).await?;
            *on.entry(visible.context("it has a GPU")?).or_default() += 1;
        }
        let even = on.len() == 2 && on.values().all(|pods| *pods == REPLICAS);
        ensure!(even, "the pods are on {on:?}");
        context.pods.create(&sharer("late", 1)).await?;
        let refused = |pod: &Pod| pods::unschedulable(pod).is_some();
        let late = context
            .pods
            .wait("late", "refused a place", refused)
            .await?;
        let message = pods::unschedulable(&late).unwrap_or_default();
        ensure!(
            message.contains(&format!("Insufficient {SHARED}")),
            "the scheduler says {message:?}"
        );
        Ok(())
    })
    .await
}

/// Xid 79 on a GPU that a pod shares.
pub(super) async fn a_sick_gpu_takes_its_replicas_along(context: &Context<'_>) -> Result<()> {
    on_shared_gpus(context, async |context: &Context<'_>| {
        context.pods.run(&sharer("patient", 1)).await?;
        let gpu = gpu_of(context, "patient").await?;
        context.hardware.inject(&["xid", "79"], &gpu.uuid).await?;
        wait_for_amounts(context, SHARED, (2 * REPLICAS, REPLICAS)).await?;
        let is = |wanted: &'static str| {
            let uuid = gpu.uuid.clone();
            move |pod: &Pod| {
                let devices = device_health_of(pod, SHARED);
                let of_gpu = |id: &str| id.starts_with(&uuid);
                devices
                    .iter()
                    .any(|(id, health)| of_gpu(id) && health == wanted)
            }
        };
        let pods = &context.pods;
        pods.wait("patient", "shown as Unhealthy", is("Unhealthy"))
            .await?;
        // None of its replicas is given out: what is left goes to the other GPU. The patient counts
        // for the scheduler as it did before.
        for number in 1..REPLICAS {
            let name = format!("other-{number}");
            pods.run(&sharer(&name, 1)).await?;
            let other = gpu_of(context, &name).await?;
            ensure!(other != gpu, "{name} is given the sick GPU");
        }
        context.hardware.heal().await?;
        wait_for_amounts(context, SHARED, (2 * REPLICAS, 2 * REPLICAS)).await?;
        let pod = pods
            .wait("patient", "shown as Healthy", is("Healthy"))
            .await?;
        ensure!(pods::phase(&pod) == "Running", "its pod has ended");
        Ok(())
    })
    .await
}

/// An edit that nobody can use.
pub(super) async fn a_misspelt_config_is_harmless(context: &Context<'_>) -> Result<()> {
    on_shared_gpus(context, async |context: &Context<'_>| {
        context.pods.run(&sharer("before", 1)).await?;
        let misspelt = two_shared(REPLICAS).replace("replicas", "replica");
        set_config(context, "two-shared", &misspelt).await?;
        let words = ["line 8", "\"replica\"", "did you mean \"replicas\""];
        event(context, "InvalidConfig", &words).await?;
        wait_for_amounts(context, SHARED, (2 * REPLICAS, 2 * REPLICAS)).await?;
        context.pods.run(&sharer("after", 1)).await?;
        let pod = context.pods.get("before").await?;
        ensure!(
            pods::phase(&pod) == "Running",
            "the pod before it has ended"
        );
        Ok(())
    })
    .await
}

/// What a change of the shared GPUs must not touch.
#[derive(Debug, PartialEq, Eq)]
struct Whole {
    /// Of the plugin's socket for whole GPUs.
    inode: u64,
    /// How often the kubelet has taken a registration of it. A stream that ends is registered
    /// anew.
    registrations: usize,
    /// The container of a pod that has one.
    container: Option<String>,
}

impl Whole {
    async fn now(context: &Context<'_>) -> Result<Self> {
        let socket = "/var/lib/kubelet/device-plugins/nvidia-gpu.sock";
        let log = context.cluster.layout().logs().join("kubelet.log");
        let log = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        let registered = |line: &&str| {
            line.contains("Got registration request from device plugin")
                && line.contains("resourceName=\"nvidia.com/gpu\"")
        };
        let pod = context.pods.get("whole").await?;
        let statuses = pod.status.and_then(|status| status.container_statuses);
        Ok(Self {
            inode: fs::metadata(socket).context(socket)?.ino(),
            registrations: log.lines().filter(registered).count(),
            container: statuses
                .and_then(|mut statuses| statuses.pop())
                .and_then(|status| status.container_id),
        })
    }
}

/// From five replicas to ten, and to none, beside a pod with a whole GPU.
pub(super) async fn another_resource_is_left_alone(context: &Context<'_>) -> Result<()> {
    on_shared_gpus(context, async |context: &Context<'_>| {
        context
            .pods
            .run(&workload(context, "whole", Some(1)))
            .await?;
        let gpu = gpu_of(context, "whole").await?;
        let before = Whole::now(context).await?;
        ensure!(
            before.registrations > 0 && before.container.is_some(),
            "before the change: {before:?}"
        );
        set_config(context, "ten", &two_shared(10)).await?;
        set_label(context, Some("ten")).await?;
        wait_for_amounts(context, SHARED, (20, 20)).await?;
        context.pods.run(&sharer("sharer", 1)).await?;

        let renamed = two_shared(10).replace("replicas: 10", "replicas: 10, rename: slice");
        set_config(context, "ten", &renamed).await?;
        wait_for_amounts(context, "nvidia.com/slice", (20, 20)).await?;
        let after = Whole::now(context).await?;
        ensure!(before == after, "it was {before:?} and is {after:?}");
        let still = gpu_of(context, "whole").await?;
        ensure!(still == gpu, "its pod now has {}", still.uuid);
        Ok(())
    })
    .await
}
