//! With the feature `embedded`, builds this crate a second time as `libnvidia-ml.so.1`, and
//! `nvidia-smi`, so that one program can carry the driver it is tested with.

use std::error::Error;
use std::path::PathBuf;

use mizzen_inner_build::{InnerBuild, embed, is_asked_for};

/// The target directory of both.
const DIRECTORY: &str = "sim-library";

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
    if is_asked_for("embedded") {
        embed(&build_library()?, "libnvidia-ml.so.1", "MIZZEN_SIM_LIBRARY")?;
        embed(&build_smi()?, "nvidia-smi", "MIZZEN_NVIDIA_SMI")?;
    }
    Ok(())
}

fn build_library() -> Result<PathBuf, Box<dyn Error>> {
    InnerBuild::new("rustc", DIRECTORY)?
        .args(["--lib", "--crate-type", "cdylib"])
        .args(["--profile", "sim-library"])
        .args(["--no-default-features", "--features", "exports"])
        // As a dynamic linker finds it: programs that link against NVML name this SONAME.
        .args(["--", "-C", "link-arg=-Wl,-soname,libnvidia-ml.so.1"])
        .carry_out(
            "the simulated NVML library",
            "sim-library/libmizzen_nvml_sim.so",
        )
}

fn build_smi() -> Result<PathBuf, Box<dyn Error>> {
    InnerBuild::new("build", DIRECTORY)?
        .args(["--release", "--package", "mizzen-smi"])
        .args(["--bin", "nvidia-smi"])
        .carry_out("nvidia-smi", "release/nvidia-smi")
}
