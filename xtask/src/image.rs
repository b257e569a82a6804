//! `cargo xtask image`: the agent's OCI image, made from our own binary without a container
//! engine.
//!
//! The image holds the binary, the glibc it runs on, and the simulated
//! `libnvidia-ml.so.1`. It is not a static binary because NVML is loaded at run time, from
//! the driver installation that the node mounts, and that takes the dynamic loader. The same
//! inputs give the same bytes: fixed times, sorted entries, no host names.

pub mod elf;
pub mod oci;
pub mod rootfs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use self::oci::ImageConfig;
use self::rootfs::Rootfs;

/// Where the image keeps the binary.
pub const BINARY: &str = "/usr/bin/mizzen";
/// Where the image keeps the simulated NVML library.
pub const SIM_LIBRARY: &str = "/usr/lib/mizzen/libnvidia-ml.so.1";

/// What an NVIDIA driver's `libnvidia-ml.so.1` asks the loader for (its `DT_NEEDED` entries),
/// which the binary itself may not: since glibc 2.34 some of these are empty shells, but a
/// library that names one is refused where the file is missing.
const NEEDED_BY_NVML: [&str; 5] = [
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
];

const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\n\
                      nonroot:x:65532:65532:nonroot:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\n";

/// What `cargo xtask image` was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Options {
    /// The OCI archive to write
    #[arg(long, value_name = "FILE.tar")]
    pub output: PathBuf,
    /// The `mizzen` binary to put into it
    #[arg(long, value_name = "PATH", default_value = "target/release/mizzen")]
    pub binary: PathBuf,
    /// The name that the image has in its archive, as an image store will list it
    #[arg(long, value_name = "NAME:TAG", default_value_t = default_reference())]
    pub reference: String,
}

/// The name the manifests in `deploy/` use: an image that was imported on the node, not one
/// to pull.
pub fn default_reference() -> String {
    format!("localhost/mizzen:{}", env!("CARGO_PKG_VERSION"))
}

/// Runs `cargo xtask image` and says what was written in one line.
pub fn run(options: &Options) -> Result<String> {
    let digest = build(options)?;
    let size = fs::metadata(&options.output)?.len();
    Ok(format!(
        "{}: {} ({:.1} MiB, manifest {digest})",
        options.output.display(),
        options.reference,
        as_mebibytes(size),
    ))
}

/// Writes the agent's image and returns its manifest's digest.
pub fn build(options: &Options) -> Result<String> {
    let config = ImageConfig {
        entrypoint: vec![BINARY.into()],
        labels: vec![
            ("org.opencontainers.image.title".into(), "mizzen".into()),
            (
                "org.opencontainers.image.version".into(),
                env!("CARGO_PKG_VERSION").into(),
            ),
            (
                "org.opencontainers.image.licenses".into(),
                "Apache-2.0".into(),
            ),
        ],
        ..ImageConfig::default()
    };
    let rootfs = agent_rootfs(&options.binary)?;
    oci::write_archive(
        &options.output,
        &options.reference,
        &config,
        &[rootfs.to_tar()?],
    )
}

/// The files of the agent's image: the binary, what it is linked with, the simulated
/// library, and the few files of /etc that programs expect.
pub fn agent_rootfs(binary: &Path) -> Result<Rootfs> {
    let mut rootfs = Rootfs::with_merged_usr();
    add_program(&mut rootfs, binary, BINARY)?;
    let sim_library = simulated_library(binary)?;
    for library in elf::closure(&sim_library, &[])? {
        rootfs.copy_in(&library.found, &library.wanted)?;
    }
    rootfs.file(SIM_LIBRARY, 0o644, sim_library);
    rootfs.file("/etc/passwd", 0o644, PASSWD);
    rootfs.file("/etc/group", 0o644, GROUP);
    // Where the hostPath volumes of the manifests are mounted: with a read-only root the
    // runtime cannot make the directories itself.
    for directory in ["/driver-root", "/tmp", "/var/lib/mizzen"] {
        rootfs.directory(directory, 0o755);
    }
    Ok(rootfs)
}

/// Adds a dynamically linked program, and every library it and an NVIDIA driver's NVML need.
pub fn add_program(rootfs: &mut Rootfs, program: &Path, at: &str) -> Result<()> {
    let bytes = fs::read(program).with_context(|| {
        format!(
            "read {} (build it with `cargo build --release -p mizzen`)",
            program.display()
        )
    })?;
    for library in elf::closure(&bytes, &NEEDED_BY_NVML)
        .with_context(|| format!("find what {} is linked with", program.display()))?
    {
        rootfs.copy_in(&library.found, &library.wanted)?;
    }
    rootfs.file(at, 0o755, bytes);
    Ok(())
}

/// The simulated library that this binary carries, by asking it to place it.
fn simulated_library(binary: &Path) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    let binary = fs::canonicalize(binary)?;
    let placed = Command::new(&binary)
        .args(["sim", "library"])
        .arg(directory.path())
        .output()
        .with_context(|| format!("run {}", binary.display()))?;
    if !placed.status.success() {
        bail!(
            "{} sim library: {}: {}",
            binary.display(),
            placed.status,
            String::from_utf8_lossy(&placed.stderr).trim()
        );
    }
    let library = directory.path().join("libnvidia-ml.so.1");
    fs::read(&library).with_context(|| format!("read {}", library.display()))
}

fn as_mebibytes(bytes: u64) -> f64 {
    #[allow(
        clippy::cast_precision_loss,
        reason = "a size for people, shown with one decimal"
    )]
    let bytes = bytes as f64;
    bytes / f64::from(1 << 20)
}
