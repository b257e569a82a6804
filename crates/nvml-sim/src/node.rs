//! The simulated node, resolved: what a scenario means, with nothing left to choose.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::identity::{PciAddress, Uuid};
use crate::model::GpuModel;
use crate::model::mig::ProfileKind;

/// Most GPUs that a node can have.
pub const MAX_GPUS: usize = 64;
/// Most NVLinks that a GPU can have, `NVML_NVLINK_MAX_LINKS`.
pub const MAX_NVLINKS: usize = 18;
/// Most NUMA nodes; a GB200 machine has 34.
pub const MAX_NUMA_NODES: usize = 64;
/// Highest number of CPUs, and one more than the highest CPU number.
pub const MAX_CPUS: usize = 1024;
/// Most GPU instances, and most compute instances, of a GPU.
pub const MAX_INSTANCES: usize = 7;
/// Most PCIe switches between a root complex and a GPU.
pub const MAX_SWITCH_DEPTH: usize = 4;

/// Kinds of errors that NVLinks count.
pub const NVLINK_ERRORS: usize = 4;

/// Errors of NVLinks, as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(usize)]
pub enum NvLinkError {
    /// A packet was damaged in its header.
    CrcFlit = 0,
    /// A packet was damaged in its data.
    CrcData = 1,
    /// A packet was sent again.
    Replay = 2,
    /// The link was brought up again.
    Recovery = 3,
}

/// What is at the other end of an NVLink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkPeer {
    /// Nothing: the link is down.
    Down,
    /// An NVSwitch.
    Switch,
    /// The GPU in this slot.
    Gpu(u8),
}

/// Whether GPUs are hidden from processes that cannot open their device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceNodes {
    /// Every process sees every GPU.
    #[default]
    Ignore,
    /// As with the real library: `/dev/nvidiactl` and `/dev/nvidia<minor>` must open.
    Enforce,
}

/// One GPU's facts, constant while it is in the node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gpu {
    /// Model that gives everything not said here.
    pub model: &'static GpuModel,
    /// `nvmlDeviceGetName`.
    pub name: String,
    /// UUID.
    pub uuid: Uuid,
    /// Board serial number.
    pub serial: String,
    /// The `<minor>` of `/dev/nvidia<minor>`.
    pub minor: u32,
    /// Place on the PCI bus.
    pub pci: PciAddress,
    /// PCI device id (the vendor is 0x10de).
    pub device_id: u16,
    /// PCI subsystem id (the vendor is 0x10de).
    pub subsystem_id: u16,
    /// Total framebuffer in MiB.
    pub memory_mib: u64,
    /// CUDA compute capability.
    pub compute_capability: (u32, u32),
    /// Power limit in watts.
    pub power_limit: u32,
    /// NUMA node that the board hangs on.
    pub numa: u32,
    /// Root complex that the board hangs on, unique in the node.
    pub pcie_root: u16,
    /// PCIe switches from the root complex down to the board.
    pub pcie_switches: Vec<u16>,
    /// Position on its baseboard, 1 to 8.
    pub module_id: u32,
    /// The other ends of its NVLinks.
    pub links: Vec<LinkPeer>,
    /// How it is partitioned when it comes, and after a reset of the node.
    pub mig: InitialMig,
}

/// How a GPU is partitioned when it comes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct InitialMig {
    /// Whether MIG is on.
    pub enabled: bool,
    /// The profiles of its GPU instances, each with one compute instance over all of it.
    pub instances: Vec<ProfileKind>,
}

impl Gpu {
    /// The nearest thing that two GPUs have in common, numbered as `nvmlGpuTopologyLevel_t`.
    pub fn common_ancestor(&self, other: &Self) -> Ancestor {
        if self.pcie_root != other.pcie_root {
            return if self.numa == other.numa {
                Ancestor::NumaNode
            } else {
                Ancestor::System
            };
        }
        match (self.pcie_switches.first(), other.pcie_switches.first()) {
            (Some(_), Some(_)) if self.pcie_switches == other.pcie_switches => Ancestor::Switch,
            (Some(mine), Some(theirs)) if mine == theirs => Ancestor::Switches,
            _ => Ancestor::HostBridge,
        }
    }
}

/// The nearest common ancestor of two GPUs, numbered as `nvmlGpuTopologyLevel_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Ancestor {
    /// One PCIe switch (`nvidia-smi topo` prints PIX).
    Switch = 10,
    /// Several PCIe switches below one host bridge (PXB).
    Switches = 20,
    /// One host bridge (PHB).
    HostBridge = 30,
    /// One NUMA node (NODE).
    NumaNode = 40,
    /// The interconnect between NUMA nodes (SYS).
    System = 50,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// Driver version, `580.95.05`.
    pub driver_version: String,
    /// CUDA version of the driver.
    pub cuda_version: (u32, u32),
    /// Name that the GPUs' identities are derived from.
    pub hostname: String,
    /// Whether device nodes matter.
    pub device_nodes: DeviceNodes,
    /// CPUs of each NUMA node; a node may have none.
    pub numa_nodes: Vec<CpuList>,
    /// The GPUs; the position is the slot in the live state.
    pub gpus: Vec<Gpu>,
}

/// A set of CPUs in the kernel's list form, `0-55,112-167`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuList(Vec<(u32, u32)>);

impl CpuList {
    /// The CPUs of one range, both ends included.
    pub fn range(first: u32, last: u32) -> Self {
        Self(vec![(first, last)])
    }

    /// Every CPU, lowest first.
    pub fn cpus(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|&(first, last)| first..=last)
    }

    /// The set as a bit mask in 64-bit words, bit 0 of word 0 being CPU 0.
    pub fn mask(&self) -> [u64; MAX_CPUS / 64] {
        let mut mask = [0; MAX_CPUS / 64];
        for cpu in self.cpus() {
            mask[cpu as usize / 64] |= 1 << (cpu % 64);
        }
        mask
    }

    /// The set that a mask describes.
    pub fn from_mask(mask: &[u64]) -> Self {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for cpu in 0..64 * u32::try_from(mask.len()).unwrap_or(0) {
            if mask[cpu as usize / 64] >> (cpu % 64) & 1 == 0 {
                continue;
            }
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == cpu => *last = cpu,
                _ => ranges.push((cpu, cpu)),
            }
        }
        Self(ranges)
    }
}

/// Why a text is no list of CPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a list of CPUs below 1024: expected ranges such as 0-55,112-167")]
pub struct InvalidCpuList(String);

impl FromStr for CpuList {
    type Err = InvalidCpuList;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || InvalidCpuList(text.to_owned());
        let mut mask = [0_u64; MAX_CPUS / 64];
        for range in text.split(',').filter(|_| !text.trim().is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let first: usize = first.trim().parse().map_err(|_| refuse())?;
            let last: usize = last.trim().parse().map_err(|_| refuse())?;
            if first > last || last >= MAX_CPUS {
                return Err(refuse());
            }
            for cpu in first..=last {
                mask[cpu / 64] |= 1 << (cpu % 64);
            }
        }
        Ok(Self::from_mask(&mask))
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (first, last)) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "," };
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for CpuList {
    type Error = InvalidCpuList;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CpuList> for String {
    fn from(list: CpuList) -> Self {
        list.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_is_normalised_and_round_trips() {
        for (text, shown) in [
            ("0-55,112-167", "0-55,112-167"),
            ("3,1,2", "1-3"),
            ("", ""),
            ("1023", "1023"),
        ] {
            let list: CpuList = text.parse().unwrap();
            assert_eq!(list.to_string(), shown);
            assert_eq!(CpuList::from_mask(&list.mask()), list);
        }
        for text in ["1024", "5-2", "a", "1,,2", "-1"] {
            assert!(text.parse::<CpuList>().is_err(), "{text:?} was accepted");
        }
    }
}
