//! NVIDIA's runtime as the node's default: what stands in for it gives every container the GPUs that
//! are named to it, by whomever. The variables and mounts of a device plugin mean something here,
//! and so do those of anybody else.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::super::{Context, Standing};
use super::doctor::Report;
use super::policy;
use super::privacy::has_nothing;
use super::{Bench, bare};
use crate::agent::list;
use crate::images::BUSYBOX_IMAGE;
use crate::images::users::{GLIBC_IMAGE, LINKED};
use crate::pods::GPU;

/// A section of containerd's config, and what makes the runtime the default.
const RUNTIMES: &str = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n";
const BY_DEFAULT: &str = "[plugins.'io.containerd.cri.v1.runtime'.containerd]\n  \
                          default_runtime_name = 'nvidia'\n\n";
/// What is recommended where NVIDIA's runtime has to stay: the environment is not heeded, and the
/// device plugin names GPUs by mounts.
const RECOMMENDED: &str = "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n\
                           accept-nvidia-visible-devices-as-volume-mounts = true\n";
/// The same with CDI, which needs no mounts either.
const WITH_CDI: &str = "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n";
/// The library that every container with a GPU gets of this runtime.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1";

/// As NVIDIA has it, any pod takes all GPUs, and the doctor warns of it; as is recommended, none does.
pub(in super::super) async fn nvidias_runtime_by_default(context: &Context<'_>) -> Result<()> {
    let bench = bare(context).await?;
    let layout = context.cluster.layout();
    let program = context.binaries.nvidia_runtime();
    bench.hardware.install_runtime(layout, program).await?;
    let config = layout.containerd_config();
    let usual = fs::read_to_string(&config)?;
    let changed = usual.replace(RUNTIMES, &format!("{BY_DEFAULT}{RUNTIMES}"));
    ensure!(changed != usual, "{} lacks {RUNTIMES}", config.display());
    fs::write(&config, changed)?;
    let tested = async {
        context.cluster.restart_containerd().await?;
        anybody_takes_them(&bench).await?;
        as_recommended(&bench).await?;
        with_cdi(&bench).await
    };
    let tested = tested.await;
    context.installed.set(Standing::Nothing);
    fs::write(&config, usual)?;
    if bench.hardware.toolkit_config().exists() {
        fs::remove_file(bench.hardware.toolkit_config())?;
    }
    context.hardware.install_runtime(layout, program).await?;
    context.cluster.restart_containerd().await?;
    tested
}

/// With the defaults of NVIDIA's toolkit.
async fn anybody_takes_them(bench: &Bench<'_>) -> Result<()> {
    let gpu = asks(bench, &["envvar"]).await?;
    sees_alone(bench, &gpu).await?;
    for container in ["sidecar", "quiet"] {
        let nothing = has_nothing(bench, "asks", container).await;
        ensure!(
            nothing.is_ok() == (container == "quiet"),
            "{container}, which names all or none: {nothing:?}"
        );
    }
    let report = Report::new(bench.context).await?;
    report.is_well()?;
    let told = report.found("pods-may-take-gpus");
    ensure!(
        told.is_some_and(|told| told.contains("NVIDIA_VISIBLE_DEVICES=all")),
        "the doctor says {told:?}"
    );
    bench.context.pods.remove_all().await
}

/// By mounts, which a policy keeps others from, and not by the environment.
async fn as_recommended(bench: &Bench<'_>) -> Result<()> {
    set_toolkit(bench, RECOMMENDED)?;
    let gpu = asks(bench, &["volume-mounts"]).await?;
    sees_alone(bench, &gpu).await?;
    for container in ["sidecar", "quiet"] {
        has_nothing(bench, "asks", container).await?;
    }
    // That is why there is a policy.
    bench.context.pods.run(&mounts_all(bench)?).await?;
    let nothing = has_nothing(bench, "mounts", "main").await;
    ensure!(nothing.is_err(), "the runtime heeds no mount");
    bench.context.pods.remove("mounts").await?;
    policy::while_applied(bench.context, async {
        policy::is_refused_for_mounts(bench.context, &mounts_all(bench)?).await
    })
    .await?;
    let report = Report::new(bench.context).await?;
    report.is_well()?;
    let takes = report.found("pods-may-take-gpus");
    ensure!(takes.is_none(), "the doctor says {takes:?}");
    let told = report.found("pods-may-ask-for-gpus");
    ensure!(
        told.is_some_and(|told| told.contains("/var/run/nvidia-container-devices")),
        "the doctor says {told:?}"
    );
    bench.context.pods.remove_all().await
}

/// By CDI, under the same runtime.
async fn with_cdi(bench: &Bench<'_>) -> Result<()> {
    set_toolkit(bench, WITH_CDI)?;
    let gpu = asks(bench, &[]).await?;
    bench.sees("asks", &[&gpu]).await?;
    for container in ["sidecar", "quiet"] {
        has_nothing(bench, "asks", container).await?;
    }
    bench.context.pods.run(&mounts_all(bench)?).await?;
    has_nothing(bench, "mounts", "main").await?;
    let report = Report::new(bench.context).await?;
    report.is_well()?;
    for id in ["pods-may-take-gpus", "pods-may-ask-for-gpus"] {
        let told = report.found(id);
        ensure!(told.is_none(), "the doctor says {told:?}");
    }
    bench.context.pods.remove_all().await
}

fn set_toolkit(bench: &Bench<'_>, text: &str) -> Result<()> {
    let config = bench.hardware.toolkit_config();
    fs::create_dir_all(config.parent().context("it is in a directory")?)?;
    Ok(fs::write(config, text)?)
}

/// An agent with these strategies, and a pod of three containers: one has a GPU, one names all
/// without being given any, and one says nothing.
async fn asks(bench: &Bench<'_>, strategies: &[&str]) -> Result<String> {
    bench.install(strategies, false).await?;
    let mut asks = bench.pod("asks", GLIBC_IMAGE, Some(GPU));
    let beside = |name: &str, env: Value| {
        json!({
            "name": name,
            "image": BUSYBOX_IMAGE,
            "command": ["/bin/sleep", "inf"],
            "env": env,
        })
    };
    let all = json!([{ "name": "NVIDIA_VISIBLE_DEVICES", "value": "all" }]);
    let containers = list(&mut asks["spec"]["containers"])?;
    containers.extend([beside("sidecar", all), beside("quiet", json!([]))]);
    bench.run(&asks).await
}

/// That the pod's linked program sees this GPU alone, by the library that the runtime adds.
async fn sees_alone(bench: &Bench<'_>, gpu: &str) -> Result<()> {
    bench.exec("asks", &["test", "-e", LIBRARY]).await?;
    let seen = bench.exec("asks", &[LINKED]).await?;
    ensure!(
        seen.trim() == gpu,
        "a linked program sees {seen}, not {gpu}"
    );
    Ok(())
}

/// A pod that requests nothing and names all GPUs by a mount.
fn mounts_all(bench: &Bench<'_>) -> Result<Value> {
    let mut pod = bench.pod("mounts", BUSYBOX_IMAGE, None);
    list(&mut pod["spec"]["volumes"])?
        .push(json!({ "name": "null", "hostPath": { "path": "/dev/null" } }));
    list(&mut pod["spec"]["containers"][0]["volumeMounts"])?.push(json!({
        "name": "null",
        "mountPath": "/var/run/nvidia-container-devices/all",
    }));
    Ok(pod)
}
