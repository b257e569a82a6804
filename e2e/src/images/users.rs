//! Images of users who know nothing of GPUs: what their programs need of the driver has to come
//! to them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;
use xtask::image::elf;
use xtask::image::rootfs::Rootfs;

use crate::cluster::Cluster;
use crate::layout::Layout;
use crate::programs::TestBinaries;

/// As Debian's image is: a C library, a shell that is linked with it, `ldconfig` and its cache.
pub(crate) const GLIBC_IMAGE: &str = "localhost/mizzen-e2e/glibc:1";
/// As `busybox:glibc` is: busybox, a C library, and neither `ldconfig` nor a cache.
pub(crate) const SMALL_IMAGE: &str = "localhost/mizzen-e2e/busybox-glibc:1";

/// Where the linked NVML program is in both.
pub(crate) const LINKED: &str = "/usr/bin/nvml-linked";
/// Debian's, which is static.
const LDCONFIG: &str = "/sbin/ldconfig";
/// A shell that is not.
const SHELL: &str = "/bin/dash";
/// What the images' `ldconfig` looks through, as Debian's does.
const LD_SO_CONF: &str = "/usr/local/lib\n/lib/x86_64-linux-gnu\n/usr/lib/x86_64-linux-gnu\n";

/// Makes and imports both, unless they are there.
pub(crate) async fn import(cluster: &Cluster, binaries: &TestBinaries) -> Result<()> {
    for (file, reference) in [("glibc.tar", GLIBC_IMAGE), ("small.tar", SMALL_IMAGE)] {
        let archive = cluster.layout().images().join(file);
        if archive.exists() {
            continue;
        }
        let rootfs = match reference {
            GLIBC_IMAGE => glibc(cluster.layout(), binaries).await?,
            _ => small(binaries)?,
        };
        super::write(&archive, reference, &["/bin/sh"], &rootfs)?;
        super::import(cluster, &archive).await?;
    }
    Ok(())
}

/// The root directory of the image with a cache, unpacked.
pub(crate) fn unpacked(layout: &Layout) -> PathBuf {
    layout.images().join("glibc-rootfs")
}

/// Busybox and the C library.
fn small(binaries: &TestBinaries) -> Result<Rootfs> {
    let mut rootfs = super::with_busybox(Rootfs::with_merged_usr())?;
    add_c_library(&mut rootfs, binaries)?;
    add_linked(&mut rootfs, binaries)?;
    Ok(rootfs)
}

/// The same with a linked shell, `ldconfig`, and the cache that it has made of the image.
async fn glibc(layout: &Layout, binaries: &TestBinaries) -> Result<Rootfs> {
    let mut rootfs = small(binaries)?;
    rootfs.copy_in(&fs::canonicalize(SHELL)?, "/usr/bin/sh")?;
    rootfs.copy_in(&fs::canonicalize(LDCONFIG)?, "/usr/sbin/ldconfig")?;
    rootfs.file("/etc/ld.so.conf", 0o644, LD_SO_CONF);
    rootfs.directory("/tmp", 0o755);
    let directory = unpacked(layout);
    unpack(&rootfs, &directory).await?;
    let mut ldconfig = Command::new(LDCONFIG);
    run(ldconfig.arg("-r").arg(&directory)).await?;
    rootfs.copy_in(&directory.join("etc/ld.so.cache"), "/etc/ld.so.cache")?;
    Ok(rootfs)
}

/// What an NVML and a program for it need, and no program.
fn add_c_library(rootfs: &mut Rootfs, binaries: &TestBinaries) -> Result<()> {
    let program = fs::read(binaries.nvml_list())?;
    for library in elf::closure(&program, &["libdl.so.2", "libm.so.6", "libpthread.so.0"])? {
        rootfs.copy_in(&library.found, &library.wanted)?;
    }
    Ok(())
}

/// The linked program without the library that it is linked with.
fn add_linked(rootfs: &mut Rootfs, binaries: &TestBinaries) -> Result<()> {
    rootfs.copy_in(binaries.nvml_linked(), LINKED)?;
    let nvidias = |path: &Path| path.to_string_lossy().contains("libnvidia");
    ensure!(!rootfs.paths().any(nvidias), "a user's image has a driver");
    Ok(())
}

async fn unpack(rootfs: &Rootfs, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let archive = directory.with_extension("tar");
    fs::write(&archive, rootfs.to_tar()?)?;
    let mut tar = Command::new("tar");
    run(tar.arg("-C").arg(directory).arg("-xf").arg(&archive)).await?;
    Ok(fs::remove_file(archive)?)
}

async fn run(command: &mut Command) -> Result<()> {
    let output = command.kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {said}", output.status);
    }
    Ok(())
}
