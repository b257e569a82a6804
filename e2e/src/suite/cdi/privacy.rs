//! Who asks for no GPU gets none, by whatever way GPUs are handed out to others.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::super::{Context, Standing};
use super::{Bench, bare, bench};
use crate::agent::list;
use crate::images::BUSYBOX_IMAGE;
use crate::images::users::{GLIBC_IMAGE, LINKED, SMALL_IMAGE};
use crate::pods::GPU;

/// Everything of the driver's by name, mounted files and nodes included; what a pod has mounted
/// itself is no driver's.
const FIND: [&str; 4] = [
    "busybox",
    "sh",
    "-c",
    "busybox find / /dev -xdev '(' -name '*nvidia*' -o -name 'libcuda*' ')' ! -name nvidia-container-devices",
];
/// Makes a node for the first GPU, as root in a container may, and opens it.
const PEEK: &str = "busybox mknod /dev/peek c 195 0; cat /dev/peek 2>&1; rm -f /dev/peek";
/// How devices are handed out: the strategies, and whether the kubelet adds nodes itself.
const WAYS: [(&[&str], bool); 5] = [
    (&["cdi-annotations"], false),
    (&["cdi-cri"], false),
    (&["envvar"], false),
    (&["envvar"], true),
    (&["volume-mounts"], false),
];

/// That a container has no file of the driver's, and may open no GPU.
pub(super) async fn has_nothing(bench: &Bench<'_>, pod: &str, container: &str) -> Result<()> {
    let pods = &bench.context.pods;
    let found = pods.exec_in(pod, container, &FIND).await?;
    ensure!(found.is_empty(), "{container} of {pod} has {found}");
    let peek = ["busybox", "sh", "-c", PEEK];
    let peeked = pods.exec_in(pod, container, &peek).await?;
    ensure!(
        peeked.contains("Operation not permitted"),
        "{container} of {pod} is told {peeked:?} of a GPU"
    );
    Ok(())
}

/// In every image; the linked program does not even start.
pub(in super::super) async fn nothing_without_a_request(context: &Context<'_>) -> Result<()> {
    let bench = bench(context).await?;
    for (name, image) in [
        ("no-glibc", GLIBC_IMAGE),
        ("no-small", SMALL_IMAGE),
        ("no-bare", BUSYBOX_IMAGE),
    ] {
        context.pods.run(&bench.pod(name, image, None)).await?;
        has_nothing(&bench, name, "main").await?;
    }
    let started = bench.exec("no-glibc", &[LINKED]).await;
    let said = started.err().map(|error| format!("{error:#}"));
    let said = said.unwrap_or_default();
    ensure!(
        said.contains("libnvidia-ml.so.1: cannot open shared object file"),
        "the linked program says {said:?}"
    );
    Ok(())
}

/// Beside a pod that has a GPU: a container of the same pod, and a pod that writes all it can think
/// of into its manifest.
pub(in super::super) async fn with_each_strategy(context: &Context<'_>) -> Result<()> {
    let bench = bare(context).await?;
    let mut tested = Ok(());
    for (strategies, device_specs) in WAYS {
        tested = with_strategy(&bench, strategies, device_specs)
            .await
            .with_context(|| format!("with {strategies:?}, device specs: {device_specs}"));
        if tested.is_err() {
            break;
        }
    }
    context.installed.set(Standing::Nothing);
    tested
}

async fn with_strategy(bench: &Bench<'_>, strategies: &[&str], device_specs: bool) -> Result<()> {
    bench.install(strategies, device_specs).await?;
    bench.context.installed.set(Standing::Cdi);
    let mut asks = bench.pod("asks", GLIBC_IMAGE, Some(GPU));
    let sidecar = json!({
        "name": "sidecar",
        "image": BUSYBOX_IMAGE,
        "command": ["/bin/sleep", "inf"],
        "env": [{ "name": "NVIDIA_VISIBLE_DEVICES", "value": "all" }],
    });
    list(&mut asks["spec"]["containers"])?.push(sidecar);
    bench.context.pods.create(&bystander(bench)?).await?;
    let gpu = bench.run(&asks).await?;
    if strategies[0].starts_with("cdi") {
        bench.sees("asks", &[&gpu]).await?;
    }
    has_nothing(bench, "asks", "sidecar").await?;
    let running = |pod: &_| crate::pods::phase(pod) == "Running";
    bench
        .context
        .pods
        .wait("bystander", "Running", running)
        .await?;
    for container in ["main", "variable", "mount"] {
        has_nothing(bench, "bystander", container).await?;
    }
    bench.context.pods.remove_all().await
}

/// A pod that requests nothing and names GPUs in every way that some runtime listens to: in an
/// annotation of CDI, by a variable, and by a mount.
fn bystander(bench: &Bench<'_>) -> Result<Value> {
    let mut pod = bench.pod("bystander", GLIBC_IMAGE, None);
    pod["metadata"]["annotations"] = json!({
        "cdi.k8s.io/mine": "k8s.device-plugin.nvidia.com/gpu=all",
    });
    let container = |name: &str, env: Value, mounts: Value| {
        json!({
            "name": name,
            "image": BUSYBOX_IMAGE,
            "command": ["/bin/sleep", "inf"],
            "env": env,
            "volumeMounts": mounts,
        })
    };
    let all = json!([{ "name": "NVIDIA_VISIBLE_DEVICES", "value": "all" }]);
    let mount = json!([{
        "name": "null",
        "mountPath": "/var/run/nvidia-container-devices/all",
    }]);
    list(&mut pod["spec"]["volumes"])?
        .push(json!({ "name": "null", "hostPath": { "path": "/dev/null" } }));
    list(&mut pod["spec"]["containers"])?.extend([
        container("variable", all, json!([])),
        container("mount", json!([]), mount),
    ]);
    Ok(pod)
}
