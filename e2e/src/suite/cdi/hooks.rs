//! The program of the hooks, while containers start: it is replaced, and it is killed.

use std::cell::Cell;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, ListParams};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::super::Context;
use super::{Bench, LARGE, SMALL, bench};
use crate::images::users::{GLIBC_IMAGE, SMALL_IMAGE};
use crate::pods::{GPU, phase};
use crate::{devices, layout, report};

/// How often all devices are handed out.
const ROUNDS: u32 = 4;
/// So many replacements at least, or nothing was shown.
const REPLACEMENTS: u32 = 50;
/// How often a container is started with a hook that is killed, until one is.
const ATTEMPTS: u32 = 3;
/// What users have of the whole GPUs, and the parts.
const DEVICES: [(&str, &str, &str); 5] = [
    ("first", GLIBC_IMAGE, GPU),
    ("second", SMALL_IMAGE, GPU),
    ("third", GLIBC_IMAGE, GPU),
    ("large", GLIBC_IMAGE, LARGE),
    ("small", SMALL_IMAGE, SMALL),
];
const SPEC: &str = "k8s.device-plugin.nvidia.com-gpu.json";
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// The program of the hooks on the machine, by the path that the specs name.
fn program() -> PathBuf {
    let [state, _] = layout::AGENT_STATE;
    Path::new(state).join("bin/mizzen-hook")
}

/// An older version and the one under test take turns, by the agent's own installer, as fast as it
/// goes; every container starts at the first attempt.
pub(in super::super) async fn replaced_while_containers_start(context: &Context<'_>) -> Result<()> {
    let bench = bench(context).await?;
    let older = older(&bench)?;
    let (replaced, is_over) = (Cell::new(0), Cell::new(false));
    let pods = async {
        let started = start_all(&bench).await;
        is_over.set(true);
        started
    };
    let replacing = async {
        while !is_over.get() {
            replace(&bench, &older).await?;
            replaced.set(replaced.get() + 1);
        }
        Ok(())
    };
    tokio::try_join!(pods, replacing)?;
    let replaced: u32 = replaced.get();
    report::line(&format!(
        "  replaced {replaced} times under {} containers",
        ROUNDS as usize * DEVICES.len()
    ));
    ensure!(replaced >= REPLACEMENTS, "replaced {replaced} times only");
    Ok(())
}

/// The program as another version would have it: some bytes are others, and it works.
fn older(bench: &Bench<'_>) -> Result<PathBuf> {
    let path = bench.hardware.directory().join("older-hook");
    let mut bytes = fs::read(program())?;
    bytes.extend_from_slice(b"of another version");
    // Another process that is being started must not hold it open for writing: hence the rename.
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, bytes)?;
    fs::set_permissions(&unfinished, Permissions::from_mode(0o755))?;
    fs::rename(unfinished, &path)?;
    Ok(path)
}

/// A downgrade, which takes the file's name as an installer does, and the upgrade.
async fn replace(bench: &Bench<'_>, older: &Path) -> Result<()> {
    let program = program();
    let directory = program.parent().context("it is in a directory")?;
    let beside = directory.join("older");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    fs::copy(older, &beside)?;
    fs::rename(&beside, &program)?;
    let mut install = Command::new(bench.context.binaries.mizzen());
    install.args(["hook", "install", "--dir"]).arg(directory);
    let done = install.kill_on_drop(true).output().await?;
    ensure!(done.status.success(), "mizzen hook install: {done:?}");
    let said = String::from_utf8_lossy(&done.stdout);
    // The agent may have been faster.
    ensure!(
        said.contains("installed") || said.contains("there already"),
        "{said}"
    );
    Ok(())
}

async fn start_all(bench: &Bench<'_>) -> Result<()> {
    let pods = &bench.context.pods;
    for round in 1..=ROUNDS {
        let named = |name: &str| format!("{name}-{round}");
        for (name, image, resource) in DEVICES {
            pods.create(&bench.pod(&named(name), image, Some(resource)))
                .await?;
        }
        for (name, _, resource) in DEVICES {
            let name = named(name);
            let pod = pods
                .wait(&name, "Running", |pod| phase(pod) == "Running")
                .await?;
            let warnings = warnings(bench.context, &name).await?;
            ensure!(warnings.is_empty(), "{name}: {warnings:?}");
            let containers = pod.status.and_then(|status| status.container_statuses);
            let restarts = containers
                .into_iter()
                .flatten()
                .map(|one| one.restart_count);
            ensure!(restarts.sum::<i32>() == 0, "{name} was restarted");
            // Without the hooks the linked program would not find its library.
            let seen = bench.linked(&name).await?;
            let count = if resource == GPU { 1 } else { 2 };
            ensure!(seen.len() == count, "{name} sees {seen:?}");
        }
        pods.remove_all().await?;
    }
    Ok(())
}

/// What the kubelet and the scheduler complain of.
async fn warnings(context: &Context<'_>, pod: &str) -> Result<Vec<String>> {
    let events: Api<Event> = Api::namespaced(context.client.clone(), "default");
    let of_pod = format!("involvedObject.name={pod},type=Warning");
    let events = events.list(&ListParams::default().fields(&of_pod)).await?;
    let messages = events.items.into_iter().filter_map(|event| event.message);
    Ok(messages.collect())
}

/// A hook that is killed costs its container that attempt: the next one starts. And whoever has put
/// another program in its place, the agent puts its own back when it sees to the specs.
pub(in super::super) async fn killed_under_a_container(context: &Context<'_>) -> Result<()> {
    let bench = bench(context).await?;
    let directory = bench.hardware.directory();
    let (real, killed) = (
        directory.join("real-hook"),
        directory.join("hook-was-killed"),
    );
    let program = program();
    fs::copy(&program, &real)?;
    let script = format!(
        "#!/bin/sh\nmkdir {} 2>/dev/null && kill -9 $$\nexec {} \"$@\"\n",
        killed.display(),
        real.display()
    );
    put_in_place(&script, &program)?;
    fs::remove_file(bench.specs().join(SPEC))?;
    is_mended(&bench, &real).await?;

    // The agent looks when it has a reason, and may mend this, too, before a container starts.
    for _ in 0..ATTEMPTS {
        context.pods.remove_all().await?;
        put_in_place(&script, &program)?;
        let gpu = bench
            .run(&bench.pod("unlucky", GLIBC_IMAGE, Some(GPU)))
            .await?;
        // A pod that waits for its second attempt is running, too.
        let is_up = |pod: &Pod| {
            let status = pod.status.as_ref();
            let containers = status.and_then(|status| status.container_statuses.as_ref());
            containers
                .into_iter()
                .flatten()
                .all(|container| container.ready)
        };
        context.pods.wait("unlucky", "ready", is_up).await?;
        bench.sees("unlucky", &[&gpu]).await?;
        if killed.exists() {
            break;
        }
    }
    ensure!(killed.exists(), "no hook was killed");
    let told = warnings(context, "unlucky").await?;
    ensure!(
        told.iter().any(|told| told.contains("killed")),
        "the pod's events do not tell of it: {told:?}"
    );
    fs::remove_file(bench.specs().join(SPEC))?;
    is_mended(&bench, &real).await
}

/// Puts a program where the hooks' is, whole.
fn put_in_place(script: &str, program: &Path) -> Result<()> {
    let unfinished = program.with_extension("unfinished");
    fs::write(&unfinished, script)?;
    fs::set_permissions(&unfinished, Permissions::from_mode(0o755))?;
    Ok(fs::rename(unfinished, program)?)
}

/// Waits until spec and program are the agent's again.
async fn is_mended(bench: &Bench<'_>, real: &Path) -> Result<()> {
    let (spec, program) = (bench.specs().join(SPEC), program());
    let length = fs::metadata(real)?.size();
    let deadline = Instant::now() + LIMIT;
    loop {
        let is_whole = fs::metadata(&program).is_ok_and(|known| known.size() == length);
        if spec.exists() && is_whole {
            ensure!(fs::read(&program)? == fs::read(real)?, "another program");
            return devices::offers(&[(GPU, 3), (LARGE, 1), (SMALL, 1)]).await;
        }
        ensure!(
            Instant::now() < deadline,
            "not mended after {LIMIT:?}: the spec is there: {}, the program: {is_whole}",
            spec.exists()
        );
        sleep(POLL).await;
    }
}
