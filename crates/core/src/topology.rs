//! How well two GPUs are connected, and what that is worth.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The nearest thing two GPUs share on the way through PCIe (NVML's `nvmlGpuTopologyLevel_t`),
/// from far to near.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PcieRelation {
    /// Nothing is known; scores nothing.
    Unknown,
    /// Only the link between CPU sockets (`NVML_TOPOLOGY_SYSTEM`).
    CrossCpu,
    /// The same CPU socket (`NVML_TOPOLOGY_NODE`).
    SameCpu,
    /// The same host bridge (`NVML_TOPOLOGY_HOSTBRIDGE`).
    HostBridge,
    /// Several PCIe switches (`NVML_TOPOLOGY_MULTIPLE`).
    MultiSwitch,
    /// One PCIe switch (`NVML_TOPOLOGY_SINGLE`).
    SingleSwitch,
    /// The same board (`NVML_TOPOLOGY_INTERNAL`).
    SameBoard,
}

/// A set of GPUs, of several nodes, that reach each other's memory over NVLink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FabricClique {
    /// The UUID of the NVLink domain; never zero.
    pub cluster: [u8; 16],
    /// The number of the clique in it.
    pub clique: u32,
}

/// Writes `<UUID of the domain>.<number>`.
impl fmt::Display for FabricClique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.cluster.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        write!(f, ".{}", self.clique)
    }
}

/// How one GPU reaches another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Link {
    /// The way through PCIe.
    pub pcie: PcieRelation,
    /// Active NVLinks between the two, direct ones and those through NVSwitch, 0 to 18.
    pub nvlinks: u8,
}

impl Link {
    /// Two GPUs of which nothing is known.
    pub const UNKNOWN: Self = Self {
        pcie: PcieRelation::Unknown,
        nvlinks: 0,
    };

    /// The reference's worth of a pair: 10 for the far end of the machine to 60 for the same
    /// board, and 100 for each NVLink.
    pub fn score(self) -> u32 {
        let pcie = match self.pcie {
            PcieRelation::Unknown => 0,
            PcieRelation::CrossCpu => 10,
            PcieRelation::SameCpu => 20,
            PcieRelation::HostBridge => 30,
            PcieRelation::MultiSwitch => 40,
            PcieRelation::SingleSwitch => 50,
            PcieRelation::SameBoard => 60,
        };
        pcie + 100 * u32::from(self.nvlinks)
    }
}

/// The links between all GPUs of a node: symmetric, addressed by position in
/// [`Inventory::gpus`](crate::inventory::Inventory::gpus).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LinkMatrix {
    size: usize,
    links: Vec<Link>,
}

impl LinkMatrix {
    /// A matrix for `size` GPUs of whose links nothing is known.
    pub fn unknown(size: usize) -> Self {
        Self {
            size,
            links: vec![Link::UNKNOWN; size * size],
        }
    }

    /// A matrix for `size` GPUs, asking `link(a, b)` once for each pair with `a < b`.
    pub fn from_fn(size: usize, mut link: impl FnMut(usize, usize) -> Link) -> Self {
        let mut matrix = Self::unknown(size);
        for a in 0..size {
            for b in a + 1..size {
                matrix.set(a, b, link(a, b));
            }
        }
        matrix
    }

    /// Records the link between `a` and `b`, both ways; positions outside the matrix are ignored.
    pub fn set(&mut self, a: usize, b: usize, link: Link) {
        if a < self.size && b < self.size {
            self.links[a * self.size + b] = link;
            self.links[b * self.size + a] = link;
        }
    }

    /// The link between `a` and `b`; unknown outside the matrix.
    pub fn get(&self, a: usize, b: usize) -> Link {
        if a < self.size && b < self.size {
            self.links[a * self.size + b]
        } else {
            Link::UNKNOWN
        }
    }

    /// The number of GPUs.
    pub fn size(&self) -> usize {
        self.size
    }
}
