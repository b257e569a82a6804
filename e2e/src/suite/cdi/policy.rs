//! The admission policy that refuses pods which name GPUs themselves.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::Context;
use crate::agent::Manifest;
use crate::images::BUSYBOX_IMAGE;
use crate::{client, pods};

const POLICY: &str = "mizzen-privacy";
/// Why it refuses mounts.
const BY_MOUNT: &str = "mounts in /var/run/nvidia-container-devices give devices";
/// A pod from before it.
const EARLIER: &str = "earlier";
/// How long the API server may take to see a new policy.
const LIMIT: Duration = Duration::from_secs(20);

/// Each way of naming GPUs is refused, with its reason; ordinary pods are none of the policy's
/// business.
pub(in super::super) async fn who_names_gpus_is_refused(context: &Context<'_>) -> Result<()> {
    let mut earlier = annotated();
    earlier["metadata"]["name"] = json!(EARLIER);
    context.pods.create(&earlier).await?;
    while_applied(context, attempts(context)).await
}

/// Does something while the policy is there.
pub(super) async fn while_applied(
    context: &Context<'_>,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    for document in Manifest::Privacy.documents()? {
        client::apply(&context.client, &document).await?;
    }
    let done = work.await;
    let parameters = DeleteParams::default();
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(context.client.clone());
    bindings.delete(POLICY, &parameters).await?;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(context.client.clone());
    policies.delete(POLICY, &parameters).await?;
    done
}

/// That a pod which names GPUs by mounts is refused.
pub(super) async fn is_refused_for_mounts(context: &Context<'_>, pod: &Value) -> Result<()> {
    wait_for_policy(context, pod).await?;
    refused(context, pod, BY_MOUNT).await
}

async fn attempts(context: &Context<'_>) -> Result<()> {
    let by_annotation = "annotations below cdi.k8s.io/ give devices that were not requested";
    let by_variable = "variables of NVIDIA's runtime give devices that were not requested";
    let annotated = annotated();
    wait_for_policy(context, &annotated).await?;
    refused(context, &annotated, by_annotation).await?;
    pods_that_are_there(context, [by_annotation, by_variable]).await?;
    for value in ["all", "0", "GPU-1"] {
        let variable = json!([{ "name": "NVIDIA_VISIBLE_DEVICES", "value": value }]);
        refused(context, &changed(FIRST, "env", variable), by_variable).await?;
    }
    let from = json!([{ "name": "NVIDIA_VISIBLE_DEVICES", "valueFrom": {
        "fieldRef": { "fieldPath": "metadata.name" },
    } }]);
    refused(context, &changed(FIRST, "env", from), by_variable).await?;
    let imex = json!([{ "name": "NVIDIA_IMEX_CHANNELS", "value": "0" }]);
    let beginner = json!([{ "name": "first", "image": BUSYBOX_IMAGE, "env": imex }]);
    let beginner = changed("/spec", "initContainers", beginner);
    refused(context, &beginner, by_variable).await?;
    for path in [
        "/var/run/nvidia-container-devices",
        "/run/nvidia-container-devices/0",
        // The same places to the kernel.
        "/var//run/./nvidia-container-devices",
        "/var/log/../run/nvidia-container-devices/0",
    ] {
        let mut mounting = changed(
            FIRST,
            "volumeMounts",
            json!([{ "name": "v", "mountPath": path }]),
        );
        mounting["spec"]["volumes"] = json!([{ "name": "v", "emptyDir": {} }]);
        refused(context, &mounting, BY_MOUNT).await?;
    }
    for harmless in ["void", "none", ""] {
        let variable = json!([{ "name": "NVIDIA_VISIBLE_DEVICES", "value": harmless }]);
        context
            .pods
            .create(&changed(FIRST, "env", variable))
            .await?;
        context.pods.remove("named").await?;
    }
    let other = json!({ "example.com/cdi.k8s.io": "fine" });
    context
        .pods
        .create(&changed("/metadata", "annotations", other))
        .await
}

/// A pod from before the policy can be changed, but not so that it names more; nor can somebody who
/// debugs it.
async fn pods_that_are_there(context: &Context<'_>, words: [&str; 2]) -> Result<()> {
    let all: Api<Pod> = Api::namespaced(context.client.clone(), "default");
    let label = json!({ "metadata": { "labels": { "example.com/seen": "yes" } } });
    let parameters = PatchParams::default();
    all.patch(EARLIER, &parameters, &Patch::Merge(&label))
        .await?;
    let more = json!({ "metadata": { "annotations": { "cdi.k8s.io/b": "b/c=e" } } });
    let patched = all.patch(EARLIER, &parameters, &Patch::Merge(&more)).await;
    says(patched.err(), words[0])?;
    let ephemeral = json!({ "spec": { "ephemeralContainers": [{
        "name": "debugger",
        "image": BUSYBOX_IMAGE,
        "env": [{ "name": "NVIDIA_VISIBLE_DEVICES", "value": "all" }],
    }] } });
    let patched = all
        .patch_ephemeral_containers(EARLIER, &parameters, &Patch::Strategic(&ephemeral))
        .await;
    says(patched.err(), words[1])
}

fn says(refusal: Option<kube::Error>, words: &str) -> Result<()> {
    let said = refusal.map(|error| error.to_string());
    ensure!(
        said.as_ref().is_some_and(|said| said.contains(words)),
        "it is told {said:?}, not {words}"
    );
    Ok(())
}

/// A pod with an annotation as the kubelet gives containers.
fn annotated() -> Value {
    changed(
        "/metadata",
        "annotations",
        json!({ "cdi.k8s.io/a": "b/c=d" }),
    )
}

/// The first container.
const FIRST: &str = "/spec/containers/0";

/// A pod with one thing that it would not have.
fn changed(at: &str, key: &str, value: Value) -> Value {
    let mut pod = pods::pod("named", BUSYBOX_IMAGE, &json!({}));
    if let Some(place) = pod.pointer_mut(at) {
        place[key] = value;
    }
    pod
}

async fn refused(context: &Context<'_>, pod: &Value, words: &str) -> Result<()> {
    let Err(error) = context.pods.create(pod).await else {
        bail!("{pod} is not refused");
    };
    let said = format!("{error:#}");
    ensure!(said.contains(words), "{pod} is told {said}");
    Ok(())
}

/// The API server learns of a policy a moment after it has stored it.
async fn wait_for_policy(context: &Context<'_>, forbidden: &Value) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut forbidden = forbidden.clone();
    forbidden["apiVersion"] = json!("v1");
    forbidden["kind"] = json!("Pod");
    while client::would_apply(&context.client, &forbidden)
        .await
        .is_ok()
    {
        ensure!(
            Instant::now() < deadline,
            "{forbidden} is accepted {LIMIT:?} after the policy was made"
        );
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
