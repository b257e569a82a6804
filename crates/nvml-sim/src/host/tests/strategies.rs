//! Nodes as strange as a scenario can make them.

use proptest::prelude::*;
use proptest::sample::subsequence;

use crate::identity::PciAddress;
use crate::node::{Gpu, Node};

use super::node as short;

/// Up to `most` GPUs of several models with any tree above them.
pub(super) fn node(most: usize) -> impl Strategy<Value = Node> {
    let whole = short("3xh100-80gb,3xt4,2xrtx-pro-6000,2xa100-80gb,2xgb200");
    let count = whole.gpus.len();
    let tree = (0_u16..40, proptest::collection::vec(0_u16..5, 0..=4));
    let chosen = subsequence((0..count).collect::<Vec<_>>(), 0..=most.min(count));
    let trees = proptest::collection::vec(tree, count);
    // The usual places, or all on few buses.
    (chosen, trees, any::<bool>(), any::<bool>()).prop_map(move |(chosen, trees, crowd, few)| {
        let mut node = whole.clone();
        for (position, (gpu, (root, switches))) in node.gpus.iter_mut().zip(trees).enumerate() {
            gpu.pcie_root = if few { root % 2 } else { root };
            gpu.pcie_switches = switches;
            if crowd {
                let place = u8::try_from(position).unwrap();
                gpu.pci = PciAddress::new(0, place % 3, place);
            }
        }
        let gpus: Vec<Gpu> = chosen
            .iter()
            .map(|&index| node.gpus[index].clone())
            .collect();
        node.gpus = gpus;
        node
    })
}
