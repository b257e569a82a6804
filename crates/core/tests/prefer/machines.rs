//! Machines as they are built: links and NUMA nodes by position.

use mizzen_core::prefer::AlignedChooser;
use mizzen_core::topology::{Link, LinkMatrix, PcieRelation};

/// A machine's GPUs.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) nodes: Vec<Option<u32>>,
    pub(crate) links: LinkMatrix,
}

impl Machine {
    /// `sockets` × `switches` PCIe switches × `gpus` each; NVLinks between each pair as given.
    pub(crate) fn boxed(
        sockets: usize,
        switches: usize,
        gpus: usize,
        nvlinks: impl Fn(usize, usize) -> u8,
    ) -> Self {
        let size = sockets * switches * gpus;
        let socket = |gpu: usize| gpu / (switches * gpus);
        let switch = |gpu: usize| gpu / gpus;
        let pcie = |a: usize, b: usize| {
            if switch(a) == switch(b) {
                PcieRelation::SingleSwitch
            } else if socket(a) == socket(b) {
                PcieRelation::SameCpu
            } else {
                PcieRelation::CrossCpu
            }
        };
        Self {
            nodes: (0..size)
                .map(|gpu| u32::try_from(socket(gpu)).ok())
                .collect(),
            links: LinkMatrix::from_fn(size, |a, b| Link {
                pcie: pcie(a, b),
                nvlinks: nvlinks(a, b),
            }),
        }
    }

    /// DGX-1 with V100: two sockets, a switch for each pair, and NVLinks as a hybrid cube mesh.
    pub(crate) fn dgx1_v100() -> Self {
        let double = [
            (0, 3),
            (0, 4),
            (1, 2),
            (1, 5),
            (2, 3),
            (4, 7),
            (5, 6),
            (6, 7),
        ];
        let single = [
            (0, 1),
            (0, 2),
            (1, 3),
            (2, 6),
            (3, 7),
            (4, 5),
            (4, 6),
            (5, 7),
        ];
        Self::boxed(2, 2, 2, |a, b| {
            if double.contains(&(a, b)) {
                2
            } else {
                u8::from(single.contains(&(a, b)))
            }
        })
    }

    /// HGX H100: eight GPUs, each behind a switch of its own, 18 NVLinks through NVSwitch.
    pub(crate) fn hgx_h100() -> Self {
        Self::boxed(2, 4, 1, |_, _| 18)
    }

    /// DGX A100: eight GPUs, two behind each switch, 12 NVLinks through NVSwitch.
    pub(crate) fn dgx_a100() -> Self {
        Self::boxed(2, 2, 2, |_, _| 12)
    }

    /// DGX-2: sixteen V100, two behind each switch, 6 NVLinks through NVSwitch.
    pub(crate) fn dgx2() -> Self {
        Self::boxed(2, 4, 2, |_, _| 6)
    }

    /// PCIe boxes without NVLink: sixteen GPUs, four behind each switch; eight, two behind each.
    pub(crate) fn pcie16() -> Self {
        Self::boxed(2, 2, 4, |_, _| 0)
    }

    /// See [`pcie16`](Self::pcie16).
    pub(crate) fn pcie8() -> Self {
        Self::boxed(2, 2, 2, |_, _| 0)
    }

    /// Sixteen PCIe GPUs, neighbours bridged by 4 NVLinks (A100 or H100 NVL).
    pub(crate) fn bridged16() -> Self {
        Self::boxed(2, 2, 4, |a, b| if a / 2 == b / 2 { 4 } else { 0 })
    }

    /// Eight GPUs of which nothing is known.
    pub(crate) fn unknown8() -> Self {
        Self {
            nodes: vec![None; 8],
            links: LinkMatrix::unknown(8),
        }
    }

    pub(crate) fn all() -> Vec<(&'static str, Self)> {
        vec![
            ("DGX-1 V100", Self::dgx1_v100()),
            ("HGX H100", Self::hgx_h100()),
            ("DGX A100", Self::dgx_a100()),
            ("DGX-2", Self::dgx2()),
            ("PCIe, 16 GPUs", Self::pcie16()),
            ("PCIe, 8 GPUs", Self::pcie8()),
            ("bridged PCIe, 16 GPUs", Self::bridged16()),
            ("nothing known, 8 GPUs", Self::unknown8()),
        ]
    }

    pub(crate) fn size(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn chooser(&self) -> AlignedChooser {
        AlignedChooser::from_nodes(&self.nodes, &self.links)
    }
}
