//! What of a driver was found on a host, as plain data.

use std::collections::BTreeMap;

use crate::gpu::PciBusId;

/// How GPUs reach the programs of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Platform {
    /// The NVIDIA driver for Linux, with a node for each GPU.
    #[default]
    Linux,
    /// The Windows Subsystem for Linux: the driver is Windows's, and `/dev/dxg` is all GPUs.
    Wsl,
    /// A Tegra system on a chip: files in `/etc` list what belongs to the driver.
    Tegra,
}

/// Everything of the driver that containers may need. Paths are those of the host and those in a
/// container; they differ where the driver is installed below a root of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DriverFiles {
    /// What kind of machine it is.
    pub platform: Platform,
    /// The driver's version, as in the names of its libraries.
    pub version: Option<String>,
    /// The driver's libraries.
    pub libraries: Vec<Library>,
    /// Programs, firmware and settings.
    pub files: Vec<HostFile>,
    /// Sockets of the driver's daemons, and the directories of such.
    pub sockets: Vec<HostFile>,
    /// Links that must be there besides those of the libraries.
    pub links: Vec<Link>,
    /// The device nodes of NVIDIA and those that go with them, by their path in a container.
    pub nodes: BTreeMap<String, FoundNode>,
    /// The graphics nodes of the GPUs.
    pub dri: BTreeMap<PciBusId, DriFiles>,
    /// What `GPUDirect` Storage reads: `/run/udev`, `/etc/cufile.json`.
    pub storage: Vec<HostFile>,
    /// On WSL and Tegra, the nodes of the one device that there is.
    pub own_nodes: Vec<String>,
}

/// A file or directory of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostFile {
    /// Its path on the host.
    pub host: String,
    /// Its path in a container.
    pub container: String,
}

/// A library, and the links beside it that lead to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The file itself, no link.
    pub file: HostFile,
    /// The links in the same directory that lead to it: `libcuda.so.1`.
    pub links: Vec<Link>,
}

/// A symbolic link in a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// What it says.
    pub target: String,
    /// Where it is.
    pub path: String,
}

/// A device node that is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundNode {
    /// Its path on the host.
    pub host: String,
    /// What it is; `None` where it is no character device, as on a simulated host.
    pub numbers: Option<NodeNumbers>,
}

/// What the system knows of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeNumbers {
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// Its permission bits.
    pub mode: u32,
    /// Its group.
    pub gid: u32,
}

/// The graphics nodes of one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DriFiles {
    /// The paths of the nodes in a container, those that there are: `/dev/dri/card1`.
    pub nodes: Vec<String>,
    /// The links to them by the GPU's place on the bus.
    pub links: Vec<Link>,
}

impl Library {
    /// Its file name.
    pub(super) fn name(&self) -> &str {
        split(&self.file.container).1
    }

    /// Its directory in a container.
    pub(super) fn directory(&self) -> &str {
        split(&self.file.container).0
    }
}

/// A path's directory and name.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
