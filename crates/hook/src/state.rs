//! What a runtime says of the container that it is about to start.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::failure::Failure;

/// The most that is read of a state or of a container's configuration.
const LIMIT: u64 = 16 << 20;

/// The OCI state, as far as it matters here.
#[derive(Deserialize)]
struct State {
    #[serde(default)]
    bundle: PathBuf,
    /// Where some runtimes (crun) say it themselves; then the bundle, which they may have made
    /// unreadable, need not be there.
    #[serde(default)]
    root: Option<PathBuf>,
}

/// The container's configuration, as far as it matters here.
#[derive(Deserialize)]
struct Config {
    root: Option<ConfigRoot>,
    #[serde(default)]
    mounts: Vec<ConfigMount>,
}

#[derive(Deserialize)]
struct ConfigRoot {
    path: PathBuf,
}

#[derive(Deserialize)]
struct ConfigMount {
    #[serde(default)]
    destination: PathBuf,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    options: Vec<String>,
}

/// A container that is about to start.
#[derive(Debug)]
pub(crate) struct Container {
    /// Where its root is.
    pub(crate) root: PathBuf,
    /// Whether the runtime makes its `/dev`, a tmpfs of its own, as far as its configuration says.
    pub(crate) has_own_devices: bool,
}

/// The container that the state speaks of that is in the file `state`, or in `input` if there is
/// none or it is `-`.
pub(crate) fn container(state: Option<&str>, input: &mut dyn Read) -> Result<Container, Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new("the container's state cannot be understood", error)
    };
    let text = match state {
        None | Some("" | "-") => read(input),
        Some(path) => File::open(path).and_then(|mut file| read(&mut file)),
    };
    let text = text.map_err(|error| wrong(&error))?;
    let state: State = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
    let config = config(&state.bundle);
    let has_own_devices = config
        .as_ref()
        .is_ok_and(|config| has_own_devices(&config.mounts));
    let root = match state.root {
        Some(root) if !root.as_os_str().is_empty() => root,
        _ => configured_root(config?, &state.bundle)?,
    };
    Ok(Container {
        root: state.bundle.join(root),
        has_own_devices,
    })
}

/// Where a bundle's configuration is.
fn config_path(bundle: &Path) -> PathBuf {
    bundle.join("config.json")
}

fn config(bundle: &Path) -> Result<Config, Failure> {
    let path = config_path(bundle);
    let text = File::open(&path).and_then(|mut file| read(&mut file));
    let text = text.map_err(|error| not_understood(&path, &error))?;
    serde_json::from_slice(&text).map_err(|error| not_understood(&path, &error))
}

fn configured_root(config: Config, bundle: &Path) -> Result<PathBuf, Failure> {
    let root = config.root.map(|root| root.path);
    let root = root.filter(|path| !path.as_os_str().is_empty());
    root.ok_or_else(|| not_understood(&config_path(bundle), &"it names no root"))
}

fn not_understood(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{} cannot be understood", path.display()), why)
}

/// Whether all that is mounted at `/dev` is a new tmpfs. Binding counts by the type or by an
/// option, whatever the other is.
fn has_own_devices(mounts: &[ConfigMount]) -> bool {
    let is_bound = |mount: &ConfigMount| {
        let mut options = mount.options.iter();
        options.any(|option| matches!(option.as_str(), "bind" | "rbind"))
    };
    let mut at_devices = mounts
        .iter()
        .filter(|mount| is_devices(&mount.destination))
        .peekable();
    at_devices.peek().is_some() && at_devices.all(|mount| mount.kind == "tmpfs" && !is_bound(mount))
}

/// Whether a path of the container's is `/dev` or may be: where `..` leads, the image decides.
fn is_devices(path: &Path) -> bool {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::ParentDir => return true,
            Component::Normal(name) => names.push(name),
            _ => {}
        }
    }
    names == ["dev"]
}

fn read(input: &mut (impl Read + ?Sized)) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    input.take(LIMIT).read_to_end(&mut text)?;
    Ok(text)
}
