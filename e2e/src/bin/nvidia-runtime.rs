//! Stands in for NVIDIA's container runtime on the suite's node: as that one does, it adds to a
//! container the GPUs that `NVIDIA_VISIBLE_DEVICES` names (device nodes, and the right to open
//! them) and the driver's library, then hands over to runc.
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
        hardware.add_to(&mut spec)?;
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

impl Hardware {
    fn add_to(&self, spec: &mut Value) -> Result<()> {
        let environment = list(&mut spec["process"]["env"])?;
        let visible = environment.iter().find_map(|variable| {
            variable
                .as_str()?
                .strip_prefix("NVIDIA_VISIBLE_DEVICES=")
                .map(String::from)
        });
        let Some(visible) = visible else {
            return Ok(());
        };
        environment.extend(self.env.iter().map(|variable| json!(variable)));
        let named = |uuid: &str| visible == "all" || visible.split(',').any(|id| id == uuid);
        let gpus = self.gpus.iter().filter(|(uuid, _)| named(uuid));
        let mut count = 0;
        for (path, major, minor) in gpus.map(|(_, node)| node).inspect(|_| count += 1) {
            add_node(spec, path, *major, *minor)?;
        }
        if count > 0 {
            for (path, major, minor) in &self.control {
                add_node(spec, path, *major, *minor)?;
            }
        }
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
            control: vec![("/dev/nvidiactl".into(), 195, 255)],
            gpus: vec![("GPU-a".into(), node(0)), ("GPU-b".into(), node(1))],
            mounts: vec![("/host/lib.so".into(), "/usr/lib/lib.so".into())],
            env: vec!["MIZZEN_SIM=x".into()],
        }
    }

    fn paths_for(visible: Option<&str>) -> Vec<String> {
        let variables: Vec<String> = visible
            .iter()
            .map(|value| format!("NVIDIA_VISIBLE_DEVICES={value}"))
            .collect();
        let mut spec = json!({
            "process": { "env": variables },
            "mounts": [],
            "linux": { "resources": { "devices": [] } },
        });
        hardware().add_to(&mut spec).unwrap();
        let devices = spec["linux"]["devices"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        devices
            .iter()
            .map(|d| d["path"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_container_gets_the_gpus_that_it_names_and_the_nodes_they_share() {
        assert_eq!(paths_for(Some("GPU-b")), ["/dev/nvidia1", "/dev/nvidiactl"]);
        assert_eq!(
            paths_for(Some("all")),
            ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl"]
        );
        assert!(paths_for(Some("void")).is_empty());
        assert!(paths_for(None).is_empty());
    }

    #[test]
    fn only_a_creation_names_a_bundle_to_change() {
        let words = |line: &str| -> Vec<OsString> { line.split(' ').map(Into::into).collect() };
        let create = words("--root /run/x create --bundle /b --pid-file p id");
        assert_eq!(bundle_to_create(&create), Some(Path::new("/b")));
        assert_eq!(bundle_to_create(&words("--root /run/x start id")), None);
    }
}
