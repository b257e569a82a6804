//! With the feature `embedded`, builds this crate a second time as `libnvidia-ml.so.1`, so that
//! one program can carry the library it is tested with.

#![allow(
    clippy::disallowed_methods,
    reason = "a build script is configured by its environment"
)]

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the outer build tells the compiler and must not tell the inner one: wrappers (clippy's
/// among them), flags of other profiles, and the outer package's own description.
const LEAKING: &[&str] = &[
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
];
const LEAKING_PREFIXES: &[&str] = &["CARGO_", "CLIPPY_", "RUSTFLAGS", "RUSTDOCFLAGS", "DEP_"];
/// Cargo's own settings among those, which the inner build keeps.
const KEPT: &[&str] = &[
    "CARGO_HOME",
    "CARGO_NET_OFFLINE",
    "CARGO_HTTP_CAINFO",
    "CARGO_HTTP_PROXY",
];

fn main() -> Result<(), Box<dyn Error>> {
    for input in [
        "src",
        "Cargo.toml",
        "build.rs",
        "../../Cargo.toml",
        "../../Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={input}");
    }
    if env::var_os("CARGO_FEATURE_EMBEDDED").is_some() {
        let out = PathBuf::from(env::var("OUT_DIR")?);
        let library = build_library(&inner_target_dir(&out)?)?;
        let embedded = out.join("libnvidia-ml.so.1");
        fs::copy(library, &embedded)?;
        println!("cargo::rustc-env=MIZZEN_SIM_LIBRARY={}", embedded.display());
    }
    Ok(())
}

/// A target directory of its own, for the outer build holds the lock of its; beside it, so that
/// debug and release builds share the library.
fn inner_target_dir(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    // <target>[/<triple>]/<profile>/build/<package>-<hash>/out
    let profile = out
        .ancestors()
        .nth(3)
        .ok_or("OUT_DIR is not below a target directory")?;
    let target = match profile.parent() {
        Some(parent) if parent.ends_with(env::var("TARGET")?) => parent.parent(),
        parent => parent,
    };
    Ok(target
        .ok_or("OUT_DIR is not below a target directory")?
        .join("sim-library"))
}

fn build_library(target_dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let manifest_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let (target, host) = (env::var("TARGET")?, env::var("HOST")?);
    let mut cargo = Command::new(env::var_os("CARGO").ok_or("CARGO is not set")?);
    cargo
        .current_dir(&manifest_dir)
        .args([
            "rustc",
            "--lib",
            "--crate-type",
            "cdylib",
            "--profile",
            "sim-library",
        ])
        .args([
            "--no-default-features",
            "--features",
            "exports",
            "--locked",
            "--target-dir",
        ])
        .arg(target_dir);
    let mut artefacts = target_dir.to_owned();
    if target != host {
        cargo.args(["--target", &target]);
        artefacts.push(&target);
    }
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let leaks = LEAKING.contains(&&*text)
            || LEAKING_PREFIXES
                .iter()
                .any(|prefix| text.starts_with(prefix));
        if leaks && !KEPT.contains(&&*text) {
            cargo.env_remove(&name);
        }
    }
    // As a dynamic linker finds it: programs that link against NVML name this SONAME.
    cargo.args(["--", "-C", "link-arg=-Wl,-soname,libnvidia-ml.so.1"]);
    let output = cargo.output()?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("building the simulated NVML library failed:\n{errors}").into());
    }
    Ok(artefacts.join("sim-library/libmizzen_nvml_sim.so"))
}
