//! What a cluster leaves on the machine, and how it goes: servers, the processes of pods,
//! shims, mounts, control groups, directories. It is the same work after a clean run, a crash
//! and a kill -9, so there is one path for all three.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::configs::POD_NETWORK_NAME;
use super::server::Process;
use crate::layout::{AGENT_STATE, KUBELET, Layout};

/// The control group of all pods, below each hierarchy.
const PODS_CGROUP: &str = "kubepods";
const CGROUPS: &str = "/sys/fs/cgroup";
/// Where CNI caches its results, whatever containerd's own directories are.
const CNI_RESULTS: &str = "/var/lib/cni/results";
/// What a kubelet, and nothing else, makes in its directory.
const KUBELETS_OWN: [&str; 3] = ["config.yaml", "pki", "pods"];
/// What the owner's mark says where the root mount was private before.
const PRIVATE_ROOT: &str = "the root mount was private";
/// Where the kubelet links the containers' logs.
const CONTAINER_LOGS: &str = "/var/log/containers";
/// How long the kernel may take to let go of a control group whose processes have ended.
const CGROUP_LIMIT: Duration = Duration::from_secs(5);

/// Refuses a machine on which another kubelet lives: its directory would be taken over. Empty
/// directories, or a device plugin's without a kubelet, are nobody's.
pub(crate) fn refuse_foreign_kubelet(layout: &Layout) -> Result<()> {
    let directory = Path::new(KUBELET);
    let is_a_kubelets = KUBELETS_OWN
        .iter()
        .any(|name| directory.join(name).exists());
    if is_a_kubelets && !layout.owner_mark().exists() {
        bail!(
            "{KUBELET} belongs to another kubelet: run the suite on a machine that is not a \
             node, or remove that directory"
        );
    }
    Ok(())
}

/// Marks the machine as this cluster's, and makes its root a shared mount where it is not: a
/// container that follows the node's mounts (`mountPropagation: HostToContainer`) is refused
/// otherwise. Distributions with systemd share it; [`remove`] restores what was found.
pub(crate) fn own(layout: &Layout) -> Result<()> {
    let shared = root_is_shared(&fs::read_to_string("/proc/self/mountinfo")?);
    fs::write(layout.owner_mark(), if shared { "" } else { PRIVATE_ROOT })?;
    if !shared {
        mount_change("/", MountPropagationFlags::SHARED).context("share the root mount")?;
    }
    Ok(())
}

/// Whether the last mount on / has a peer group (the optional field `shared:N`).
fn root_is_shared(mountinfo: &str) -> bool {
    let root = mountinfo
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some("/"));
    root.is_some_and(|line| {
        let optional = line.split(' ').skip(6).take_while(|field| *field != "-");
        optional
            .into_iter()
            .any(|field| field.starts_with("shared:"))
    })
}

/// Ends every process of the cluster and removes what it left, its logs excepted.
pub(crate) async fn remove(layout: &Layout) -> Result<()> {
    if !layout.owner_mark().exists() {
        return Ok(());
    }
    // First those that would start others again: the kubelet, then containerd.
    for server in ["kubelet", "containerd", "kube-scheduler"] {
        end_recorded(layout, server).await?;
    }
    end_pods().await?;
    end_shims(layout).await?;
    for server in ["kube-controller-manager", "kube-apiserver", "etcd"] {
        end_recorded(layout, server).await?;
    }
    unmount_below(&[layout.root(), Path::new(KUBELET)])?;
    remove_cgroups().await?;
    remove_cni_results()?;
    remove_log_links(layout)?;
    for directory in [
        layout.run(),
        layout.data(),
        layout.etc(),
        layout.pki(),
        layout.hardware(),
        layout.mig_hardware(),
        layout.cdi_hardware(),
        layout.images(),
    ] {
        remove_tree(&directory)?;
    }
    for directory in AGENT_STATE.into_iter().chain([KUBELET]) {
        remove_tree(Path::new(directory))?;
    }
    if fs::read_to_string(layout.owner_mark())? == PRIVATE_ROOT {
        mount_change("/", MountPropagationFlags::PRIVATE).context("restore the root mount")?;
    }
    fs::remove_file(layout.owner_mark())?;
    Ok(())
}

/// Ends the server whose process id a run recorded. Only the pid file is needed, so that a
/// later version of the suite can end what an earlier one started.
async fn end_recorded(layout: &Layout, name: &'static str) -> Result<()> {
    let server = super::Server::new(layout, name, PathBuf::new());
    // Everything it holds is removed in a moment: there is nothing to be graceful about.
    server.kill().await
}

/// Ends every process in the pods' control groups.
async fn end_pods() -> Result<()> {
    for hierarchy in hierarchies()? {
        for group in tree(&hierarchy.join(PODS_CGROUP)) {
            let Ok(listed) = fs::read_to_string(group.join("cgroup.procs")) else {
                continue;
            };
            let ids = listed.lines().filter_map(|line| line.parse::<i32>().ok());
            for process in ids.filter_map(Process::of) {
                process.end(Signal::KILL).await?;
            }
        }
    }
    Ok(())
}

/// Ends the shims that serve this cluster's containerd: they name its socket.
async fn end_shims(layout: &Layout) -> Result<()> {
    let socket = layout.containerd_socket().display().to_string();
    for process in Process::all()? {
        let program = process.program().unwrap_or_default();
        let is_shim = program
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("containerd-shim-"));
        if is_shim && process.command_line().contains(&socket) {
            process.end(Signal::KILL).await?;
        }
    }
    Ok(())
}

/// Unmounts everything below the given directories, the last mounted first.
fn unmount_below(directories: &[&Path]) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|point| directories.iter().any(|dir| point.starts_with(dir)));
    let points: Vec<PathBuf> = points.collect();
    for point in points.iter().rev() {
        match unmount(point, UnmountFlags::DETACH) {
            // Gone with the mount below it, when it had been mounted twice.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("unmount {}", point.display()));
            }
        }
    }
    Ok(())
}

/// A path of mountinfo, in which blanks, tabs, newlines and backslashes are octal escapes.
fn unescape(path: &str) -> PathBuf {
    PathBuf::from(
        path.replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\012", "\n")
            .replace("\\134", "\\"),
    )
}

async fn remove_cgroups() -> Result<()> {
    let deadline = Instant::now() + CGROUP_LIMIT;
    for hierarchy in hierarchies()? {
        for group in tree(&hierarchy.join(PODS_CGROUP)).iter().rev() {
            while let Err(error) = fs::remove_dir(group) {
                if error.kind() == std::io::ErrorKind::NotFound {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(error).with_context(|| format!("remove {}", group.display()));
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    Ok(())
}

/// The mounted hierarchies: one with cgroup v2 alone, one per controller with v1.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let below = fs::read_dir(CGROUPS)?.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(std::iter::once(PathBuf::from(CGROUPS))
        .chain(below.filter(|path| path.is_dir() && !path.is_symlink()))
        .filter(|path| path.join(PODS_CGROUP).is_dir())
        .collect())
}

/// A directory and those below it, parents first; empty when it does not exist.
fn tree(directory: &Path) -> Vec<PathBuf> {
    if !directory.is_dir() {
        return Vec::new();
    }
    let mut found = vec![directory.to_path_buf()];
    let mut next = 0;
    while let Some(directory) = found.get(next).cloned() {
        next += 1;
        let entries = fs::read_dir(directory).into_iter().flatten();
        found.extend(
            entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.is_dir() && !path.is_symlink()),
        );
    }
    found
}

fn remove_cni_results() -> Result<()> {
    let Ok(results) = fs::read_dir(CNI_RESULTS) else {
        return Ok(());
    };
    for result in results {
        let path = result?.path();
        let ours = fs::read_to_string(&path)
            .is_ok_and(|text| text.contains(POD_NETWORK_NAME) || text.contains("cni-loopback"));
        if ours {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The kubelet also links the pods' logs from a directory that cannot be chosen.
fn remove_log_links(layout: &Layout) -> Result<()> {
    let Ok(links) = fs::read_dir(CONTAINER_LOGS) else {
        return Ok(());
    };
    for link in links {
        let path = link?.path();
        if fs::read_link(&path).is_ok_and(|target| target.starts_with(layout.logs())) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Removes a directory with all that is in it, where it exists.
pub(crate) fn remove_tree(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_lists_parents_before_their_children() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("kubepods");
        fs::create_dir_all(root.join("besteffort/pod1")).unwrap();
        fs::write(root.join("cgroup.procs"), "").unwrap();
        assert_eq!(
            tree(&root),
            [
                root.clone(),
                root.join("besteffort"),
                root.join("besteffort/pod1")
            ]
        );
        assert!(tree(&directory.path().join("absent")).is_empty());
    }

    #[test]
    fn a_shared_root_is_told_from_a_private_one() {
        let private = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw";
        let shared = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw";
        let below = "23 22 0:5 / /dev rw shared:2 - devtmpfs devtmpfs rw";
        assert!(!root_is_shared(&format!("{private}\n{below}")));
        assert!(root_is_shared(&format!("{shared}\n{below}")));
    }

    #[test]
    fn escapes_of_mountinfo_are_undone() {
        assert_eq!(unescape("/a\\040b\\134c"), Path::new("/a b\\c"));
    }
}
