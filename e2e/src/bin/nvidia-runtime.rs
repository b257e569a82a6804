//! Stands in for NVIDIA's container runtime on the suite's node: as that one does in its legacy
//! mode, it adds to a container the GPUs that are named to it (device nodes, and the right to open
//! them) and the driver's library, then hands over to runc. They are named by
//! `NVIDIA_VISIBLE_DEVICES`, or by mounts of `/dev/null` below `/var/run/nvidia-container-devices`,
//! as far as the toolkit's config on the node accepts either.
//!
//! What there is to add it reads from `<its own path>.json`, written by the suite.

#![allow(
    clippy::print_stderr,
    reason = "what a runtime writes there, the kubelet shows as the reason of a failure"
)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

/// What the node has to add to containers.
#[derive(Debug, Deserialize)]
struct Hardware {
    /// The runtime proper.
    runc: PathBuf,
    /// The toolkit's config, which need not exist.
    toolkit: PathBuf,
    /// Nodes that each container with a GPU gets: path in the container, major, minor.
    control: Vec<(String, u32, u32)>,
    /// Each GPU's UUID and node.
    gpus: Vec<(String, (String, u32, u32))>,
    /// Files and directories: source, destination.
    mounts: Vec<(PathBuf, PathBuf)>,
    /// What the driver's library needs to know.
    env: Vec<String>,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&arguments) {
        Ok(error) | Err(error) => eprintln!("nvidia-runtime: {error:#}"),
    }
    ExitCode::FAILURE
}

/// Returns only when runc cannot be started.
fn run(arguments: &[OsString]) -> Result<anyhow::Error> {
    let settings = std::env::current_exe()?.with_extension("json");
    let hardware: Hardware = serde_json::from_slice(&fs::read(settings)?)?;
    if let Some(bundle) = bundle_to_create(arguments) {
        let path = bundle.join("config.json");
        let mut spec = serde_json::from_slice(&fs::read(&path)?)?;
        let toolkit = Toolkit::read(&fs::read_to_string(&hardware.toolkit).unwrap_or_default());
        hardware.add_to(&mut spec, toolkit)?;
        fs::write(&path, serde_json::to_vec(&spec)?)?;
    }
    let error = Command::new(&hardware.runc).args(arguments).exec();
    Ok(error.into())
}

/// The bundle's directory, when a container is being created.
fn bundle_to_create(arguments: &[OsString]) -> Option<&Path> {
    let create = arguments.iter().position(|word| word == "create")?;
    let bundle = arguments[create..]
        .iter()
        .position(|word| word == "--bundle")?;
    arguments.get(create + bundle + 1).map(Path::new)
}

/// By what GPUs may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Toolkit {
    /// By the environment of any container; else of privileged ones alone.
    accepts_envvar: bool,
    /// By mounts, which come first.
    accepts_mounts: bool,
}

impl Toolkit {
    /// Reads the toolkit's `config.toml`; what it does not set is as NVIDIA has it.
    fn read(config: &str) -> Self {
        let truth = |name: &str| {
            let mut lines = config.lines().filter_map(|line| line.split_once('='));
            let (_, value) = lines.find(|(key, _)| key.trim() == name)?;
            value.trim().parse().ok()
        };
        let envvar = truth("accept-nvidia-visible-devices-envvar-when-unprivileged");
        let mounts = truth("accept-nvidia-visible-devices-as-volume-mounts");
        Self {
            accepts_envvar: envvar.unwrap_or(true),
            accepts_mounts: mounts.unwrap_or(false),
        }
    }

    /// The names of GPUs that a container has in a way that counts.
    fn named(self, spec: &Value) -> Vec<String> {
        if self.accepts_mounts {
            let names = by_mounts(spec);
            if !names.is_empty() {
                return names;
            }
        }
        if self.accepts_envvar || is_privileged(spec) {
            return by_variable(spec);
        }
        Vec::new()
    }
}

fn by_variable(spec: &Value) -> Vec<String> {
    let environment = spec["process"]["env"].as_array().into_iter().flatten();
    let mut values = environment.filter_map(|variable| {
        let variable = variable.as_str()?;
        variable.strip_prefix("NVIDIA_VISIBLE_DEVICES=")
    });
    let names = values.next().unwrap_or_default().split(',');
    names.map(String::from).collect()
}

fn by_mounts(spec: &Value) -> Vec<String> {
    let mounts = spec["mounts"].as_array().into_iter().flatten();
    let names = mounts.filter_map(|mount| {
        let destination = mount["destination"].as_str()?;
        let name = destination.strip_prefix("/var/run/nvidia-container-devices/")?;
        (mount["source"] == "/dev/null").then(|| name.to_owned())
    });
    names.collect()
}

fn is_privileged(spec: &Value) -> bool {
    let capabilities = &spec["process"]["capabilities"]["effective"];
    let mut capabilities = capabilities.as_array().into_iter().flatten();
    capabilities.any(|capability| capability == "CAP_SYS_ADMIN")
}

impl Hardware {
    fn add_to(&self, spec: &mut Value, toolkit: Toolkit) -> Result<()> {
        let names = toolkit.named(spec);
        let is_named = |uuid: &String| names.iter().any(|name| name == "all" || name == uuid);
        let gpus = self.gpus.iter().filter(|(uuid, _)| is_named(uuid));
        let gpus: Vec<_> = gpus.map(|(_, node)| node).collect();
        if gpus.is_empty() {
            return Ok(());
        }
        for (path, major, minor) in gpus.into_iter().chain(&self.control) {
            add_node(spec, path, *major, *minor)?;
        }
        let environment = list(&mut spec["process"]["env"])?;
        environment.extend(self.env.iter().map(|variable| json!(variable)));
        for (source, destination) in &self.mounts {
            list(&mut spec["mounts"])?.push(json!({
                "source": source,
                "destination": destination,
                "type": "bind",
                "options": ["rbind", "rprivate"],
            }));
        }
        Ok(())
    }
}

fn add_node(spec: &mut Value, path: &str, major: u32, minor: u32) -> Result<()> {
    let linux = &mut spec["linux"];
    if linux["devices"].is_null() {
        linux["devices"] = json!([]);
    }
    list(&mut linux["devices"])?.push(json!({
        "path": path,
        "type": "c",
        "major": major,
        "minor": minor,
        "fileMode": 0o666,
        "uid": 0,
        "gid": 0,
    }));
    list(&mut linux["resources"]["devices"])?.push(json!({
        "allow": true,
        "type": "c",
        "major": major,
        "minor": minor,
        "access": "rw",
    }));
    Ok(())
}

fn list(value: &mut Value) -> Result<&mut Vec<Value>> {
    value
        .as_array_mut()
        .context("the container's config.json has this list")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hardware() -> Hardware {
        let node = |n: u32| (format!("/dev/nvidia{n}"), 195, n);
        Hardware {
            runc: "/usr/sbin/runc".into(),
            toolkit: "/etc/toolkit.toml".into(),
            control: vec![("/dev/nvidiactl".into(), 195, 255)],
            gpus: vec![("GPU-a".into(), node(0)), ("GPU-b".into(), node(1))],
            mounts: vec![("/host/lib.so".into(), "/usr/lib/lib.so".into())],
            env: vec!["MIZZEN_SIM=x".into()],
        }
    }

    const ALL: &str = "NVIDIA_VISIBLE_DEVICES=all";

    fn spec(variables: &[&str], mounted: &[&str], capabilities: &[&str]) -> Value {
        let mount = |name: &&str| {
            let destination = format!("/var/run/nvidia-container-devices/{name}");
            json!({ "source": "/dev/null", "destination": destination })
        };
        let mounts: Vec<Value> = mounted.iter().map(mount).collect();
        json!({
            "process": { "env": variables, "capabilities": { "effective": capabilities } },
            "mounts": mounts,
            "linux": { "resources": { "devices": [] } },
        })
    }

    fn paths(mut spec: Value, config: &str) -> Vec<String> {
        let toolkit = Toolkit::read(config);
        hardware().add_to(&mut spec, toolkit).unwrap();
        let devices = spec["linux"]["devices"].as_array().cloned();
        let devices = devices.unwrap_or_default();
        let path = |device: &Value| device["path"].as_str().unwrap().to_owned();
        devices.iter().map(path).collect()
    }

    #[test]
    fn a_container_gets_the_gpus_that_it_names_and_the_nodes_they_share() {
        let named = |variables: &[&str]| paths(spec(variables, &[], &[]), "");
        let one = named(&["NVIDIA_VISIBLE_DEVICES=GPU-b"]);
        assert_eq!(one, ["/dev/nvidia1", "/dev/nvidiactl"]);
        assert_eq!(
            named(&[ALL]),
            ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl"]
        );
        assert!(named(&["NVIDIA_VISIBLE_DEVICES=void"]).is_empty());
        assert!(named(&[]).is_empty());
    }

    #[test]
    fn the_config_says_whose_words_count() {
        let refuses = "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n";
        let mounts = "accept-nvidia-visible-devices-as-volume-mounts = true\n";
        assert!(paths(spec(&[ALL], &[], &[]), refuses).is_empty());
        assert_eq!(
            paths(spec(&[ALL], &[], &["CAP_SYS_ADMIN"]), refuses).len(),
            3
        );
        let by_mount = || spec(&[ALL], &["GPU-a"], &[]);
        assert!(paths(by_mount(), refuses).is_empty());
        assert_eq!(
            paths(by_mount(), mounts),
            ["/dev/nvidia0", "/dev/nvidiactl"]
        );
        assert_eq!(
            paths(by_mount(), &format!("{refuses}{mounts}")),
            ["/dev/nvidia0", "/dev/nvidiactl"]
        );
    }

    #[test]
    fn only_a_creation_names_a_bundle_to_change() {
        let words = |line: &str| -> Vec<OsString> { line.split(' ').map(Into::into).collect() };
        let create = words("--root /run/x create --bundle /b --pid-file p id");
        assert_eq!(bundle_to_create(&create), Some(Path::new("/b")));
        assert_eq!(bundle_to_create(&words("--root /run/x start id")), None);
    }
}
