//! The images of the cluster, made here and imported into containerd: no registry is needed.

pub(crate) mod users;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use xtask::image::oci::{self, ImageConfig};
use xtask::image::rootfs::Rootfs;

use crate::cluster::Cluster;
use crate::programs::{BUSYBOX, TestBinaries};

/// What holds a pod's namespaces.
pub(crate) const PAUSE_IMAGE: &str = "localhost/mizzen-e2e/pause:1";
/// A shell, and nothing of NVIDIA's or Mizzen's.
pub(crate) const BUSYBOX_IMAGE: &str = "localhost/mizzen-e2e/busybox:1";
/// A user's program that reads its GPUs through NVML.
pub(crate) const WORKLOAD_IMAGE: &str = "localhost/mizzen-e2e/workload:1";

/// The agent's image under the next version's name: what an upgrade rolls out.
pub(crate) fn next_agent_image() -> String {
    format!("{}-next", xtask::image::default_reference())
}

/// Makes and imports the images that any pod needs.
pub(crate) async fn import_base(cluster: &Cluster) -> Result<()> {
    let shell = with_busybox(Rootfs::with_merged_usr())?;
    // As the first process of a pod's namespaces it has nothing to do but to stay.
    let pause = ["/bin/busybox", "sleep", "inf"];
    for (file, reference, entrypoint) in [
        ("pause.tar", PAUSE_IMAGE, &pause[..]),
        ("busybox.tar", BUSYBOX_IMAGE, &["/bin/sh"]),
    ] {
        let archive = cluster.layout().images().join(file);
        write(&archive, reference, entrypoint, &shell)?;
        import(cluster, &archive).await?;
    }
    Ok(())
}

/// Makes and imports the images with the binaries under test: the agent's as users make it,
/// once more under the name that an upgrade rolls out, and one with a user's NVML program.
pub(crate) async fn import_tested(cluster: &Cluster, binaries: &TestBinaries) -> Result<()> {
    let directory = cluster.layout().images();
    let archive = directory.join("workload.tar");
    let mut workload = with_busybox(xtask::image::agent_rootfs(binaries.mizzen())?)?;
    xtask::image::add_program(&mut workload, binaries.nvml_list(), "/usr/bin/nvml-list")?;
    write(&archive, WORKLOAD_IMAGE, &["/bin/sh"], &workload)?;
    import(cluster, &archive).await?;
    let agent = xtask::image::Options {
        output: directory.join("agent.tar"),
        binary: binaries.mizzen().to_path_buf(),
        reference: xtask::image::default_reference(),
    };
    xtask::image::build(&agent)?;
    import(cluster, &agent.output).await?;
    let tag = [
        "images",
        "tag",
        "--force",
        &agent.reference,
        &next_agent_image(),
    ];
    ctr(cluster, &tag).await
}

fn write(archive: &Path, reference: &str, entrypoint: &[&str], rootfs: &Rootfs) -> Result<()> {
    let config = ImageConfig {
        entrypoint: entrypoint.iter().map(ToString::to_string).collect(),
        env: vec!["PATH=/usr/bin:/bin".into()],
        ..ImageConfig::default()
    };
    oci::write_archive(archive, reference, &config, &[rootfs.to_tar()?])?;
    Ok(())
}

/// Adds busybox and the few commands that the tests' pods use.
fn with_busybox(mut rootfs: Rootfs) -> Result<Rootfs> {
    let program = fs::canonicalize(BUSYBOX)?;
    rootfs.copy_in(&program, "/usr/bin/busybox")?;
    for command in ["cat", "env", "ls", "sh", "sleep", "stat", "test"] {
        rootfs.symlink(format!("/usr/bin/{command}"), "busybox");
    }
    Ok(rootfs)
}

async fn import(cluster: &Cluster, archive: &Path) -> Result<()> {
    let archive = archive.to_str().context("the cluster's paths are text")?;
    ctr(cluster, &["images", "import", archive]).await
}

async fn ctr(cluster: &Cluster, words: &[&str]) -> Result<()> {
    let output = Command::new(cluster.programs().path("ctr"))
        .arg("--address")
        .arg(cluster.layout().containerd_socket())
        .arg("--namespace=k8s.io")
        .args(words)
        .output()
        .await
        .context("run ctr")?;
    if !output.status.success() {
        bail!(
            "ctr {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
