//! The machine below a root directory: `/sys`, `/proc` and `/dev` of the host, or of a test.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use mizzen_core::gpu::{GpuUuid, PciBusId};

/// How many symbolic links one path may lead through, as in the kernel.
const MAX_LINKS: u32 = 40;

/// The root of every access to the host's files. In a container it is the place where the
/// host's root is mounted; in tests, a temporary directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoot(PathBuf);

impl Default for HostRoot {
    /// The machine this process runs on.
    fn default() -> Self {
        Self::new("/")
    }
}

impl HostRoot {
    /// The host's files below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// The root directory itself.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Where `path`, as seen on the host, lies for this process. Leading slashes are ignored;
    /// symbolic links are not followed.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Where `path` leads when every symbolic link is read as the host would read it: an
    /// absolute link begins again at this root, and `..` never climbs above it.
    ///
    /// # Errors
    /// The file system's, and too many links.
    pub fn resolve(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let mut pending = names(path.as_ref());
        let mut inside = PathBuf::new();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                inside.pop();
                continue;
            }
            let next = self.0.join(&inside).join(&name);
            if !fs::symlink_metadata(&next)?.is_symlink() {
                inside.push(name);
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::other(format!(
                    "{}: too many symbolic links",
                    path.as_ref().display()
                )));
            }
            let target = fs::read_link(&next)?;
            if target.is_absolute() {
                inside.clear();
            }
            pending.extend(names(&target));
        }
        Ok(self.0.join(inside))
    }

    /// The NUMA node that the PCI device hangs on: known to the kernel, not negative, and a
    /// node with CPUs. A GB200 has dozens of memory-only nodes, which a kubelet must not be
    /// told of (kubernetes/kubernetes#135581).
    pub fn numa_node(&self, pci: &PciBusId) -> Option<u32> {
        let file = self.join(format!("sys/bus/pci/devices/{pci}/numa_node"));
        let node: u32 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
        let cpus = self.join(format!("sys/devices/system/node/node{node}/cpulist"));
        let cpus = fs::read_to_string(cpus).ok()?;
        (!cpus.trim().is_empty()).then_some(node)
    }

    /// The GPUs that the kernel driver has bound, by ascending PCI bus id, from
    /// `/proc/driver/nvidia/gpus`. It lists those that NVML cannot describe too. Empty where
    /// there is no such directory.
    pub fn driver_gpus(&self) -> Vec<DriverGpu> {
        let Ok(entries) = fs::read_dir(self.join("proc/driver/nvidia/gpus")) else {
            return Vec::new();
        };
        let mut gpus: Vec<DriverGpu> = entries
            .flatten()
            .filter_map(|entry| {
                let pci = entry.file_name().to_str()?.parse().ok()?;
                let information = fs::read_to_string(entry.path().join("information"));
                Some(DriverGpu::parse(pci, &information.unwrap_or_default()))
            })
            .collect();
        gpus.sort_by_key(|gpu| gpu.pci);
        gpus
    }
}

/// The names of a path, last first, without the root and dots that say nothing.
fn names(path: &Path) -> Vec<std::ffi::OsString> {
    path.components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

/// One GPU as the kernel driver lists it (`/proc/driver/nvidia/gpus/<pci>/information`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverGpu {
    /// Its place on the bus.
    pub pci: PciBusId,
    /// Its UUID; a GPU that was never opened has none yet (`GPU-????????-…`).
    pub uuid: Option<GpuUuid>,
    /// The `<minor>` of `/dev/nvidia<minor>`.
    pub minor: Option<u32>,
}

impl DriverGpu {
    fn parse(pci: PciBusId, information: &str) -> Self {
        let field = |name: &str| {
            information
                .lines()
                .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))
                .map(str::trim)
        };
        Self {
            pci,
            uuid: field("GPU UUID").and_then(|text| text.parse().ok()),
            minor: field("Device Minor").and_then(|text| text.parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_numa_node_counts_only_if_it_is_known_and_has_cpus() {
        let root = tempfile::tempdir().unwrap();
        let host = HostRoot::new(root.path());
        write(
            root.path(),
            "sys/devices/system/node/node0/cpulist",
            "0-31\n",
        );
        write(root.path(), "sys/devices/system/node/node1/cpulist", "\n");
        let cases = [
            ("0000:01:00.0", Some("0\n"), Some(0)),
            ("0000:02:00.0", Some("1\n"), None),  // memory only
            ("0000:03:00.0", Some("-1\n"), None), // unknown to the firmware
            ("0000:04:00.0", Some("7\n"), None),  // no such node
            ("0000:05:00.0", Some("zero"), None),
            ("0000:06:00.0", None, None),
        ];
        for (pci, text, expected) in cases {
            if let Some(text) = text {
                write(
                    root.path(),
                    &format!("sys/bus/pci/devices/{pci}/numa_node"),
                    text,
                );
            }
            assert_eq!(host.numa_node(&pci.parse().unwrap()), expected, "{pci}");
        }
    }

    #[test]
    fn symbolic_links_are_read_as_the_host_reads_them() {
        let root = tempfile::tempdir().unwrap();
        let host = HostRoot::new(root.path());
        write(root.path(), "nix/store/driver/lib/libnvidia-ml.so.550", "x");
        fs::create_dir_all(root.path().join("run")).unwrap();
        symlink("/nix/store/driver", root.path().join("run/opengl-driver")).unwrap();
        let lib = root.path().join("nix/store/driver/lib");
        symlink("libnvidia-ml.so.550", lib.join("libnvidia-ml.so.1")).unwrap();
        symlink("../../../../../../nix", root.path().join("run/climber")).unwrap();
        symlink("loop", root.path().join("loop")).unwrap();

        let found = host
            .resolve("/run/opengl-driver/lib/libnvidia-ml.so.1")
            .unwrap();
        assert_eq!(found, lib.join("libnvidia-ml.so.550"));
        let climbed = host.resolve("run/climber/store").unwrap();
        assert_eq!(climbed, root.path().join("nix/store"));
        assert!(host.resolve("loop").is_err());
        assert!(host.resolve("no/such/file").is_err());
    }

    #[test]
    fn the_kernel_drivers_list_of_gpus_is_read_in_the_order_of_the_bus() {
        let root = tempfile::tempdir().unwrap();
        let gpus = "proc/driver/nvidia/gpus";
        write(
            root.path(),
            &format!("{gpus}/0000:9b:00.0/information"),
            "Model: \t\t NVIDIA H100\nGPU UUID: \t GPU-????????-????-????-????-????????????\nDevice Minor: \t 1\n",
        );
        write(
            root.path(),
            &format!("{gpus}/0000:1b:00.0/information"),
            "GPU UUID: \t GPU-4d4d4d4d-0000-0000-0000-0123456789ab\nBus Location: \t 0000:1b:00.0\nDevice Minor: \t 0\n",
        );
        let gpus = HostRoot::new(root.path()).driver_gpus();
        assert_eq!(gpus.len(), 2);
        assert_eq!(gpus[0].pci, "0000:1b:00.0".parse().unwrap());
        assert_eq!(gpus[0].minor, Some(0));
        assert!(gpus[0].uuid.is_some());
        assert_eq!((gpus[1].minor, &gpus[1].uuid), (Some(1), &None));
        assert!(HostRoot::new("/no/such/place").driver_gpus().is_empty());
    }
}
