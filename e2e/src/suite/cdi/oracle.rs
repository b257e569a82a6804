//! Another implementation of CDI, of the format's own authors, reads the agent's specs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::super::Context;
use super::{Bench, LIBRARIES, VERSION, bench};

/// What names in the plugin's specs start with.
const KIND: &str = "k8s.device-plugin.nvidia.com/gpu";

/// Each name that the kubelet can give a pod is put into an OCI spec as it should be, and a made-up
/// one is not.
pub(in super::super) async fn another_reader_agrees(context: &Context<'_>) -> Result<()> {
    let bench = bench(context).await?;
    for gpu in bench.hardware.partitions().await?.gpus {
        let devices = gpu.mig.gpu_instances.iter().flat_map(|one| &one.devices);
        let mut names: Vec<&str> = devices.map(|device| device.uuid.as_str()).collect();
        let parts = names.len();
        if names.is_empty() {
            names.push(&gpu.uuid);
        }
        for name in names {
            let injected = inject(&bench, name).await?;
            let has = nodes(&injected)?;
            let mut expected: BTreeSet<String> =
                bench.hardware.control_nodes()?.into_iter().collect();
            expected.insert(format!("nvidia{}", gpu.minor));
            let capabilities = has.iter().filter(|node| node.contains("nvidia-caps/"));
            ensure!(
                capabilities.count() == if parts > 0 { 2 } else { 0 },
                "{name}: {has:?}"
            );
            let others = has
                .iter()
                .filter(|node| node.starts_with("nvidia") && !node.contains('/'));
            let others: BTreeSet<String> = others.cloned().collect();
            ensure!(
                others == expected,
                "{name} gives {others:?}, not {expected:?}"
            );
            has_files(&bench, &injected).with_context(|| name.to_owned())?;
        }
    }
    let made_up = inject(&bench, "GPU-made-up").await;
    let said = made_up.err().map(|error| format!("{error:#}"));
    ensure!(
        said.as_ref()
            .is_some_and(|said| said.contains("unresolvable CDI devices")),
        "a made-up name: {said:?}"
    );
    Ok(())
}

/// The names of the nodes in an OCI spec, below /dev; each is one that the container may open.
fn nodes(spec: &Value) -> Result<BTreeSet<String>> {
    let devices = spec["linux"]["devices"].as_array();
    let devices = devices.context("it has devices")?;
    let allowed = spec["linux"]["resources"]["devices"].as_array();
    let allowed = allowed.context("it has rules for devices")?;
    let mut names = BTreeSet::new();
    for device in devices {
        let path = device["path"].as_str().unwrap_or_default();
        let rules = allowed.iter().filter(|rule| {
            rule["allow"] == true
                && rule["major"] == device["major"]
                && rule["minor"] == device["minor"]
        });
        ensure!(rules.count() == 1, "{path} has no rule of its own");
        names.insert(path.trim_start_matches("/dev/").to_owned());
    }
    Ok(names)
}

/// A library, `nvidia-smi`, and hooks whose program is there.
fn has_files(bench: &Bench<'_>, spec: &Value) -> Result<()> {
    let mounts = spec["mounts"].as_array().context("it has mounts")?;
    for path in [
        format!("{LIBRARIES}/libcuda.so.{VERSION}"),
        "/usr/bin/nvidia-smi".to_owned(),
    ] {
        let source = bench.hardware.host().join(path.trim_start_matches('/'));
        let mounted = mounts
            .iter()
            .find(|mount| mount["destination"] == path.as_str())
            .with_context(|| format!("{path} is not mounted"))?;
        ensure!(
            mounted["source"].as_str().map(Path::new) == Some(&source),
            "{path} is {}",
            mounted["source"]
        );
    }
    let hooks = spec["hooks"]["createContainer"].as_array();
    let hooks = hooks.context("it has hooks")?;
    ensure!(hooks.len() >= 3, "it has {} hooks", hooks.len());
    for hook in hooks {
        let path = hook["path"].as_str().unwrap_or_default();
        fs::metadata(path).with_context(|| format!("the program {path} of a hook"))?;
    }
    Ok(())
}

/// An OCI spec with one device in it.
async fn inject(bench: &Bench<'_>, device: &str) -> Result<Value> {
    let mut oracle = Command::new(bench.context.binaries.cdi_oracle().await?);
    let oracle = oracle.arg(bench.specs()).arg(format!("{KIND}={device}"));
    let output = oracle.kill_on_drop(true).output().await?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
