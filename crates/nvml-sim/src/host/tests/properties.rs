//! What holds for every node.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::bus;
use super::*;
use crate::node::Ancestor;

/// Root complex, ports and switches above a GPU, and the GPU itself.
fn chain(layout: &bus::Layout, position: usize) -> Vec<&str> {
    let directory = layout.gpu_directory(position).unwrap();
    let below = directory.strip_prefix("sys/devices/").unwrap();
    below.split('/').collect()
}

#[test]
fn what_a_gpu_hangs_on_is_read_from_its_link() {
    let node = super::node("4xl4");
    let root = written(&node);
    let layout = bus::Layout::of(&node);
    let devices = fs::canonicalize(root.path().join("sys/devices")).unwrap();
    for (position, gpu) in node.gpus.iter().enumerate() {
        let link = root.path().join(format!("sys/bus/pci/devices/{}", gpu.pci));
        let whole = fs::canonicalize(link).unwrap();
        let names = whole.strip_prefix(&devices).unwrap().iter();
        assert!(names.eq(chain(&layout, position)));
        for bridge in chain(&layout, position)[1..].iter().rev().skip(1) {
            let class = format!("sys/bus/pci/devices/{bridge}/class");
            assert_eq!(read(root.path(), &class), "0x060400\n");
        }
    }
    let roots: BTreeSet<&str> = (0..4).map(|position| chain(&layout, position)[0]).collect();
    assert_eq!(roots.len(), 2, "two GPUs share a root complex");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn writing_a_changed_node_equals_writing_it_afresh(
        before in strategies::node(3),
        after in strategies::node(3),
    ) {
        let root = written(&before);
        write(&after, root.path()).unwrap();
        prop_assert_eq!(snapshot(root.path()), fresh(&after));
    }
}

proptest! {
    #[test]
    fn the_tree_shows_what_two_gpus_share(node in strategies::node(12)) {
        let layout = bus::Layout::of(&node);
        let chains: Vec<Vec<&str>> =
            (0..node.gpus.len()).map(|position| chain(&layout, position)).collect();
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
    fn every_place_on_the_bus_is_given_once(node in strategies::node(12)) {
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
