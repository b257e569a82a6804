//! House rules that no compiler checks, each with the reason it exists.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The longest a source file may grow before it tells more than one story; tables of facts may
/// be as long as the facts are.
const MAX_LINES: usize = 600;

/// A text that must not appear in the files under `place`.
struct Ban {
    place: &'static str,
    text: &'static str,
    reason: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        place: "crates/core/src",
        text: "std::fs",
        reason: "core does no I/O",
    },
    Ban {
        place: "crates/core/src",
        text: "std::net",
        reason: "core does no I/O",
    },
    Ban {
        place: "crates/core/src",
        text: "std::env",
        reason: "core reads no environment",
    },
    Ban {
        place: "crates/core/src",
        text: "std::process",
        reason: "core starts nothing",
    },
    Ban {
        place: "crates/core/src",
        text: "std::thread",
        reason: "core starts nothing",
    },
    Ban {
        place: "crates/core/src",
        text: "Instant::now",
        reason: "core has no clock",
    },
    Ban {
        place: "crates/core/src",
        text: "SystemTime::now",
        reason: "core has no clock",
    },
    Ban {
        place: "crates/core/src",
        text: "tokio",
        reason: "core is not async",
    },
    Ban {
        place: "crates/core/src",
        text: "async fn",
        reason: "core is not async",
    },
    Ban {
        place: "crates/agent/src/plugin",
        text: "GpuDriver",
        reason: "Allocate answers from the state and never asks the driver",
    },
    Ban {
        place: "crates/agent/src",
        text: "mizzen_nvml_sim",
        reason: "the agent does not know that a driver is simulated",
    },
];

/// Which workspace crates each crate may be built on: the walls of ARCHITECTURE.md.
const WALLS: &[(&str, &[&str])] = &[
    ("crates/core", &[]),
    ("crates/kubelet-api", &[]),
    ("crates/hook", &["mizzen-ldcache"]),
    ("crates/inner-build", &[]),
    ("crates/ldcache", &[]),
    ("crates/nvml", &["mizzen-core", "mizzen-ldcache"]),
    ("crates/nvml-sim", &["mizzen-ldcache"]),
    ("crates/smi", &["mizzen-nvml"]),
    ("crates/kubelet-sim", &["mizzen-kubelet-api"]),
    (
        "crates/agent",
        &[
            "mizzen-core",
            "mizzen-hook",
            "mizzen-ldcache",
            "mizzen-nvml",
            "mizzen-kubelet-api",
        ],
    ),
];

/// Checks every rule and reports all that is broken at once.
pub(crate) fn run(root: &Path) -> Result<()> {
    let sources = rust_sources(root)?;
    let mut findings = Vec::new();
    for source in &sources {
        check_source(root, source, &mut findings)?;
    }
    for (place, allowed) in WALLS {
        check_wall(root, place, allowed, &mut findings)?;
    }
    if findings.is_empty() {
        println!("tidy: {} source files, no findings", sources.len());
        return Ok(());
    }
    for finding in &findings {
        println!("tidy: {finding}");
    }
    bail!("{} findings", findings.len())
}

/// Every Rust file of the workspace that a person wrote.
fn rust_sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut pending: Vec<PathBuf> = ["crates", "e2e", "xtask"]
        .iter()
        .map(|place| root.join(place))
        .collect();
    let mut sources = Vec::new();
    while let Some(folder) = pending.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(path);
            }
        }
    }
    sources.sort();
    Ok(sources)
}

fn check_source(root: &Path, path: &Path, findings: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let name = path
        .strip_prefix(root)
        .unwrap_or(path)
        .display()
        .to_string();
    let lines = text.lines().count();
    let is_table = path.ends_with("table.rs") || path.ends_with("catalog.rs");
    if lines > MAX_LINES && !is_table {
        findings.push(format!(
            "{name}: {lines} lines; over {MAX_LINES} it tells more than one story"
        ));
    }
    let is_test =
        path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
    if !is_test && !text.starts_with("//!") {
        findings.push(format!(
            "{name}: begins without a //! line that says what the file is for"
        ));
    }
    if text.contains(concat!("allow(", "unsafe_code")) && !name.starts_with("crates/nvml") {
        findings.push(format!(
            "{name}: allows unsafe code, which lives in the two NVML crates alone"
        ));
    }
    let production = text.split("#[cfg(test)]").next().unwrap_or_default();
    for ban in BANS.iter().filter(|ban| name.starts_with(ban.place)) {
        for (number, line) in production.lines().enumerate() {
            if line.contains(ban.text) && !line.trim_start().starts_with("//") {
                findings.push(format!(
                    "{name}:{}: {} ({})",
                    number + 1,
                    ban.text,
                    ban.reason
                ));
            }
        }
    }
    Ok(())
}

/// A crate's ordinary dependencies stay within its wall; tests may reach further.
fn check_wall(
    root: &Path,
    place: &str,
    allowed: &[&str],
    findings: &mut Vec<String>,
) -> Result<()> {
    let manifest = root.join(place).join("Cargo.toml");
    let text = fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
    let dependencies = text
        .split("\n[")
        .find_map(|section| section.strip_prefix("dependencies]"))
        .unwrap_or_default();
    for line in dependencies.lines() {
        let Some((name, _)) = line.split_once([' ', '.', '=']) else {
            continue;
        };
        if name.starts_with("mizzen") && !allowed.contains(&name) {
            findings.push(format!(
                "{place}/Cargo.toml: depends on {name}, beyond its wall"
            ));
        }
    }
    Ok(())
}
