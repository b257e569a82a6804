//! For build scripts: builds a program or a shared library of this workspace by a cargo of its own,
//! so that another program can carry it.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a build script is configured by its environment and speaks to cargo by what it prints"
)]

use std::env;
use std::error::Error;
use std::fs;
use std::io;
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

/// Whether the package that is built has this feature.
pub fn is_asked_for(feature: &str) -> bool {
    env::var_os(format!("CARGO_FEATURE_{}", feature.to_uppercase())).is_some()
}

/// Copies what was built to where the package may include it from, as the file `name`, whose path
/// the package's code finds in `variable` (`include_bytes!(env!(…))`).
///
/// # Errors
/// The file system's.
pub fn embed(built: &Path, name: &str, variable: &str) -> Result<(), Box<dyn Error>> {
    let embedded = PathBuf::from(env::var("OUT_DIR")?).join(name);
    // Not into a file that is there: another target directory may have the same one by a link.
    if let Err(error) = fs::remove_file(&embedded)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error.into());
    }
    fs::copy(built, &embedded)?;
    println!("cargo::rustc-env={variable}={}", embedded.display());
    Ok(())
}

/// A cargo of its own, which builds for the same target.
#[derive(Debug)]
pub struct InnerBuild {
    cargo: Command,
    artefacts: PathBuf,
}

impl InnerBuild {
    /// `cargo command …` in the directory of the package whose build script this is, with the
    /// target directory `name` beside the outer build's.
    ///
    /// # Errors
    /// The environment is not a build script's.
    pub fn new(command: &str, name: &str) -> Result<Self, Box<dyn Error>> {
        let target_dir = target_directory(name)?;
        let (target, host) = (env::var("TARGET")?, env::var("HOST")?);
        let mut cargo = Command::new(env::var_os("CARGO").ok_or("CARGO is not set")?);
        cargo
            .current_dir(env::var("CARGO_MANIFEST_DIR")?)
            .args([command, "--locked", "--target-dir"])
            .arg(&target_dir);
        let mut artefacts = target_dir;
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
        Ok(Self { cargo, artefacts })
    }

    /// More words for cargo.
    pub fn args<'a>(&mut self, args: impl IntoIterator<Item = &'a str>) -> &mut Self {
        self.cargo.args(args);
        self
    }

    /// Builds `what`, and says where the file is that cargo puts at `artefact`
    /// (`release/nvidia-smi`).
    ///
    /// # Errors
    /// What the build says, if it fails.
    pub fn carry_out(&mut self, what: &str, artefact: &str) -> Result<PathBuf, Box<dyn Error>> {
        let output = self.cargo.output()?;
        if output.status.success() {
            return Ok(self.artefacts.join(artefact));
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!("building {what} failed:\n{errors}").into())
    }
}

/// A target directory of its own, for the outer build holds the lock of its; beside it, so that
/// debug and release builds share what was built.
fn target_directory(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    // <target>[/<triple>]/<profile>/build/<package>-<hash>/out
    let out = PathBuf::from(env::var("OUT_DIR")?);
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
        .join(name))
}
