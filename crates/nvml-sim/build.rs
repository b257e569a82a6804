//! With the feature `embedded`, builds this crate a second time as `libnvidia-ml.so.1`, and
//! `nvidia-smi`, so that one program can carry the driver it is tested with.

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
        "../ldcache/src",
        "../nvml/Cargo.toml",
        "../nvml/src/direct",
        "../smi/Cargo.toml",
        "../smi/src",
    ] {
        println!("cargo::rerun-if-changed={input}");
    }
    if env::var_os("CARGO_FEATURE_EMBEDDED").is_some() {
        let out = PathBuf::from(env::var("OUT_DIR")?);
        let target_dir = inner_target_dir(&out)?;
        for (built, name, variable) in [
            (
                build_library(&target_dir)?,
                "libnvidia-ml.so.1",
                "MIZZEN_SIM_LIBRARY",
            ),
            (build_smi(&target_dir)?, "nvidia-smi", "MIZZEN_NVIDIA_SMI"),
        ] {
            let embedded = out.join(name);
            fs::copy(built, &embedded)?;
            println!("cargo::rustc-env={variable}={}", embedded.display());
        }
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
    let (mut cargo, artefacts) = inner_cargo("rustc", target_dir)?;
    cargo
        .args(["--lib", "--crate-type", "cdylib"])
        .args(["--profile", "sim-library"])
        .args(["--no-default-features", "--features", "exports"])
        // As a dynamic linker finds it: programs that link against NVML name this SONAME.
        .args(["--", "-C", "link-arg=-Wl,-soname,libnvidia-ml.so.1"]);
    carry_out(cargo, "the simulated NVML library")?;
    Ok(artefacts.join("sim-library/libmizzen_nvml_sim.so"))
}

fn build_smi(target_dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let (mut cargo, artefacts) = inner_cargo("build", target_dir)?;
    cargo.args([
        "--release",
        "--package",
        "mizzen-smi",
        "--bin",
        "nvidia-smi",
    ]);
    carry_out(cargo, "nvidia-smi")?;
    Ok(artefacts.join("release/nvidia-smi"))
}

/// A cargo of its own, which builds for the same target, and where below `target_dir` it puts
/// what it builds.
fn inner_cargo(command: &str, target_dir: &Path) -> Result<(Command, PathBuf), Box<dyn Error>> {
    let (target, host) = (env::var("TARGET")?, env::var("HOST")?);
    let mut cargo = Command::new(env::var_os("CARGO").ok_or("CARGO is not set")?);
    cargo
        .current_dir(env::var("CARGO_MANIFEST_DIR")?)
        .args([command, "--locked", "--target-dir"])
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
    Ok((cargo, artefacts))
}

fn carry_out(mut cargo: Command, what: &str) -> Result<(), Box<dyn Error>> {
    let output = cargo.output()?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("building {what} failed:\n{errors}").into())
}
