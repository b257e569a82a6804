//! A GPU by hand: the spec that `mizzen cdi generate` writes, and a runtime that is no kubelet's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;

use super::super::{Context, Skipped};
use super::{Bench, bare};
use crate::images::users::{self, LINKED};
use crate::programs::{self, PODMAN, RUNC};

/// Podman reads specs in two places of the machine, which shall not be changed: the second is
/// another directory for this process alone.
const WITH_SPECS: &str = "mkdir -p /run/cdi && mount --bind \"$0\" /run/cdi && exec \"$@\"";

/// By index and by UUID, in a root directory instead of an image; and without a device none.
pub(in super::super) async fn a_gpu_by_hand(context: &Context<'_>) -> Result<()> {
    if let Err(error) = programs::install_podman().await {
        // The last of many lines says why.
        let words = format!("{error:#}");
        let (first, rest) = words.split_once('\n').unwrap_or((&words, ""));
        let last = rest.trim_end().lines().last().unwrap_or_default();
        bail!(Skipped(format!(
            "podman cannot be installed: {first}: {last}"
        )));
    }
    let bench = bare(context).await?;
    let specs = generate(&bench).await?;
    for gpu in bench.hardware.gpus().await?.iter().take(2) {
        for device in [gpu.index.to_string(), gpu.uuid.clone()] {
            let device = format!("--device=nvidia.com/gpu={device}");
            let listed = podman(&bench, &specs, &[&device], &["nvidia-smi", "-L"]).await?;
            let wanted = format!("(UUID: {})", gpu.uuid);
            ensure!(
                listed.lines().count() == 1 && listed.contains(&wanted),
                "with {device} nvidia-smi -L prints {listed}"
            );
            let linked = podman(&bench, &specs, &[&device], &[LINKED]).await?;
            ensure!(linked.trim() == gpu.uuid, "a linked program sees {linked}");
        }
    }
    let without = podman(&bench, &specs, &[], &["ls", "/dev"]).await?;
    ensure!(!without.contains("nvidia"), "without a device: {without}");
    Ok(())
}

/// The specs of the simulated machine, for people, and the program of their hooks.
async fn generate(bench: &Bench<'_>) -> Result<PathBuf> {
    let specs = bench.hardware.directory().join("specs-by-hand");
    let hooks = bench.hardware.directory().join("hooks");
    fs::create_dir_all(&specs)?;
    let mut install = Command::new(bench.context.binaries.mizzen());
    output(install.args(["hook", "install", "--dir"]).arg(&hooks)).await?;
    let mut mizzen = Command::new(bench.context.binaries.mizzen());
    mizzen
        .args(["cdi", "generate", "--kind", "nvidia.com/gpu"])
        .arg("--driver-root")
        .arg(bench.hardware.host())
        .arg("--hook-dir")
        .arg(&hooks)
        .arg("--output-dir")
        .arg(&specs)
        .env("MIZZEN_SIM", bench.hardware.scenario())
        .env("MIZZEN_SIM_STATE", bench.hardware.state())
        .env("MIZZEN_SIM_DEV_ROOT", bench.hardware.host());
    output(&mut mizzen).await?;
    Ok(specs)
}

/// Runs a command in a container of the image with a C library, and says what it prints.
async fn podman(
    bench: &Bench<'_>,
    specs: &Path,
    options: &[&str],
    command: &[&str],
) -> Result<String> {
    let layout = bench.context.cluster.layout();
    let mut podman = Command::new("unshare");
    podman
        .args(["--mount", "sh", "-c", WITH_SPECS])
        .arg(specs)
        .arg(PODMAN)
        .args(["--runtime", RUNC, "--cgroup-manager", "cgroupfs"])
        .arg("--root")
        .arg(layout.data().join("podman"))
        .arg("--runroot")
        .arg(layout.run().join("podman"))
        .args(["run", "--rm", "--network=none"])
        // Root in a virtual machine may not raise its own limits to podman's.
        .args(["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"])
        .args(options);
    for (name, path) in [
        ("MIZZEN_SIM", bench.hardware.scenario()),
        ("MIZZEN_SIM_STATE", bench.hardware.state()),
    ] {
        let path = path.display();
        podman.arg(format!("--env={name}={path}"));
        podman.arg(format!("--volume={path}:{path}"));
    }
    podman
        .arg("--rootfs")
        .arg(users::unpacked(layout))
        .args(command);
    output(&mut podman).await
}

async fn output(command: &mut Command) -> Result<String> {
    let output = command.kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {said}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}
