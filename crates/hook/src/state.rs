//! What a runtime says of the container that it is about to start.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

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
    /// unreadable, is not looked at.
    #[serde(default)]
    root: Option<PathBuf>,
}

/// The container's configuration, as far as it matters here.
#[derive(Deserialize)]
struct Config {
    root: Option<ConfigRoot>,
}

#[derive(Deserialize)]
struct ConfigRoot {
    path: PathBuf,
}

/// Where the container's root is: as the state says that is in the file `state`, or in `input`
/// if there is none or it is `-`.
pub(crate) fn container_root(
    state: Option<&str>,
    input: &mut dyn Read,
) -> Result<PathBuf, Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new("the container's state cannot be understood", error)
    };
    let text = match state {
        None | Some("" | "-") => read(input),
        Some(path) => File::open(path).and_then(|mut file| read(&mut file)),
    };
    let text = text.map_err(|error| wrong(&error))?;
    let state: State = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
    let root = match state.root {
        Some(root) if !root.as_os_str().is_empty() => root,
        _ => configured_root(&state.bundle)?,
    };
    Ok(state.bundle.join(root))
}

fn configured_root(bundle: &std::path::Path) -> Result<PathBuf, Failure> {
    let path = bundle.join("config.json");
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(format!("{} cannot be understood", path.display()), error)
    };
    let text = File::open(&path).and_then(|mut file| read(&mut file));
    let text = text.map_err(|error| wrong(&error))?;
    let config: Config = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
    let root = config.root.map(|root| root.path);
    let root = root.filter(|path| !path.as_os_str().is_empty());
    root.ok_or_else(|| wrong(&"it names no root"))
}

fn read(input: &mut (impl Read + ?Sized)) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    input.take(LIMIT).read_to_end(&mut text)?;
    Ok(text)
}
