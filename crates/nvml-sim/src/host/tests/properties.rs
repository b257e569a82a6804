//! What holds for every node.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::bus;
use super::*;
use crate::node::{Ancestor, Gpu};

/// The directories of a GPU from the root complex down, as programs find them: by the link.
fn chain(root: &Path, gpu: &Gpu) -> Vec<String> {
    let link = root.join(format!("sys/bus/pci/devices/{}", gpu.pci));
    let whole = fs::canonicalize(link).unwrap();
    let devices = fs::canonicalize(root.join("sys/devices")).unwrap();
    let below = whole.strip_prefix(devices).unwrap();
    below
        .iter()
        .map(|name| name.to_str().unwrap().to_owned())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn writing_a_changed_node_equals_writing_it_afresh(
        before in strategies::node(),
        after in strategies::node(),
    ) {
        let root = written(&before);
        write(&after, root.path()).unwrap();
        prop_assert_eq!(snapshot(root.path()), fresh(&after));
    }

    #[test]
    fn what_two_gpus_share_is_read_from_their_links(node in strategies::node()) {
        let root = written(&node);
        let chains: Vec<Vec<String>> = node.gpus.iter().map(|gpu| chain(root.path(), gpu)).collect();
        for (a, gpu_a) in node.gpus.iter().enumerate() {
            for (b, gpu_b) in node.gpus.iter().enumerate().filter(|(b, _)| *b != a) {
                let common = chains[a].iter().zip(&chains[b]).take_while(|(x, y)| x == y).count();
                // Names before the GPU's own: the root complex, then a port and an upstream port
                // for each switch, then the port that the GPU is on.
                let whole = chains[a].len() - 2;
                let expected = match gpu_a.common_ancestor(gpu_b) {
                    Ancestor::NumaNode | Ancestor::System => 0..=0,
                    Ancestor::HostBridge => 1..=1,
                    Ancestor::Switches => 3..=whole,
                    Ancestor::Switch => whole..=whole,
                };
                prop_assert!(expected.contains(&common), "{:?} {:?}", chains[a], chains[b]);
            }
        }
    }

    #[test]
    fn every_place_on_the_bus_is_given_once(node in strategies::node()) {
        let layout = bus::Layout::of(&node);
        let mut addresses = BTreeSet::new();
        let mut directories = BTreeSet::new();
        for function in &layout.functions {
            prop_assert!(addresses.insert(function.address), "{:?}", function);
            let (above, _) = function.directory.rsplit_once('/').unwrap();
            let root = above.rsplit('/').next().unwrap().starts_with("pci");
            prop_assert!(root || directories.contains(above), "{:?}", function);
            directories.insert(function.directory.clone());
        }
    }
}
