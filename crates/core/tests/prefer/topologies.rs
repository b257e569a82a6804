//! What is chosen on real machines.

use crate::machines::Machine;
use crate::oracle;

fn all(machine: &Machine) -> Vec<usize> {
    (0..machine.size()).collect()
}

fn choose(machine: &Machine, available: &[usize], must: &[usize], size: usize) -> Vec<usize> {
    machine.chooser().choose(available, must, size)
}

#[test]
fn on_every_machine_every_size_is_the_oracles_choice() {
    for (name, machine) in Machine::all() {
        let gpus = all(&machine);
        let chooser = machine.chooser();
        for size in 0..=machine.size() {
            let best = oracle::best(
                &machine.nodes,
                &machine.links,
                &gpus,
                &[],
                size,
                oracle::Order::Aligned,
            );
            assert_eq!(chooser.choose(&gpus, &[], size), best, "{name}: {size}");
        }
    }
}

#[test]
fn on_every_machine_with_holes_and_must_includes_it_is_the_oracles_choice() {
    for (name, machine) in Machine::all() {
        // Every third GPU is taken, and one that is not must be included.
        let free: Vec<usize> = all(&machine)
            .into_iter()
            .filter(|gpu| gpu % 3 != 1)
            .collect();
        let must = [free[free.len() / 2]];
        let chooser = machine.chooser();
        for size in 1..=free.len() {
            let best = oracle::best(
                &machine.nodes,
                &machine.links,
                &free,
                &must,
                size,
                oracle::Order::Aligned,
            );
            assert_eq!(chooser.choose(&free, &must, size), best, "{name}: {size}");
        }
    }
}

#[test]
fn dgx1_v100_gives_pairs_with_two_nvlinks_and_quads_of_one_mesh() {
    let machine = Machine::dgx1_v100();
    // 2 and 3 share a switch besides their two links.
    assert_eq!(choose(&machine, &all(&machine), &[], 2), [2, 3]);
    assert_eq!(choose(&machine, &all(&machine), &[], 4), [0, 1, 2, 3]);
    assert_eq!(choose(&machine, &[4, 5, 6, 7, 1], &[], 4), [4, 5, 6, 7]);
    assert_eq!(choose(&machine, &all(&machine), &[5], 2), [5, 6]);
    assert_eq!(choose(&machine, &[0, 1, 7], &[0], 2), [0, 1]);
}

#[test]
fn an_nvswitch_node_keeps_a_pod_on_one_socket_and_goes_on_without_dead_gpus() {
    let machine = Machine::hgx_h100();
    assert_eq!(choose(&machine, &all(&machine), &[], 4), [0, 1, 2, 3]);
    assert_eq!(choose(&machine, &all(&machine), &[6], 2), [4, 6]);
    // GPUs 1 and 2 are dead: four fit on the second socket only.
    assert_eq!(choose(&machine, &[0, 3, 4, 5, 6, 7], &[], 4), [4, 5, 6, 7]);
    // One GPU comes from where it breaks least: the socket that has only one pair left.
    assert_eq!(choose(&machine, &[0, 3, 4, 5, 6, 7], &[], 1), [0]);
    assert_eq!(choose(&machine, &[0, 3, 4, 5, 6, 7], &[], 2), [0, 3]);
}

#[test]
fn dgx_a100_gives_pairs_behind_one_switch_and_leaves_pairs_whole() {
    let machine = Machine::dgx_a100();
    assert_eq!(choose(&machine, &all(&machine), &[], 2), [0, 1]);
    // GPU 2 is alone behind its switch: it goes first, so that no pair is broken.
    assert_eq!(choose(&machine, &[0, 1, 2, 4, 5, 6, 7], &[], 1), [2]);
    assert_eq!(choose(&machine, &[0, 1, 2, 4, 5, 6, 7], &[], 2), [0, 1]);
}

#[test]
fn pcie_boxes_fill_one_switch_then_one_socket() {
    let machine = Machine::pcie16();
    assert_eq!(choose(&machine, &all(&machine), &[], 4), [0, 1, 2, 3]);
    assert_eq!(
        choose(&machine, &all(&machine), &[], 8),
        [0, 1, 2, 3, 4, 5, 6, 7]
    );
    assert_eq!(choose(&machine, &all(&machine), &[13], 3), [12, 13, 14]);
    let machine = Machine::pcie8();
    assert_eq!(choose(&machine, &[1, 2, 3, 6], &[], 2), [2, 3]);
}

#[test]
fn bridged_gpus_go_in_pairs() {
    let machine = Machine::bridged16();
    assert_eq!(choose(&machine, &all(&machine), &[], 2), [0, 1]);
    assert_eq!(choose(&machine, &[0, 2, 5, 8, 9], &[], 2), [8, 9]);
    assert_eq!(choose(&machine, &[0, 1, 2, 4, 5], &[], 3), [0, 1, 2]);
}

#[test]
fn gpus_of_which_nothing_is_known_go_by_index() {
    let machine = Machine::unknown8();
    assert_eq!(choose(&machine, &[7, 5, 3, 1], &[], 2), [1, 3]);
}

#[test]
fn numa_decides_where_links_are_equal() {
    use mizzen_core::topology::{Link, LinkMatrix, PcieRelation};
    let link = Link {
        pcie: PcieRelation::HostBridge,
        nvlinks: 18,
    };
    let machine = Machine {
        nodes: vec![Some(0), Some(1), Some(0), Some(1), Some(1), None],
        links: LinkMatrix::from_fn(6, |_, _| link),
    };
    assert_eq!(choose(&machine, &all(&machine), &[], 2), [0, 2]);
    assert_eq!(choose(&machine, &all(&machine), &[], 3), [1, 3, 4]);
    assert_eq!(choose(&machine, &all(&machine), &[5], 2), [0, 5]);
}

#[test]
fn pcie_decides_where_links_and_numa_are_equal() {
    use mizzen_core::topology::{Link, LinkMatrix, PcieRelation};
    // Ten steps of PCIe are worth one NVLink, so sums of unlike pairs can be equal: 3 × 160 with
    // one NVLink and SameBoard, 200 + 260 + 20 with four NVLinks and the far end of PCIe.
    let near = Link {
        pcie: PcieRelation::SameBoard,
        nvlinks: 1,
    };
    let far = |pcie, nvlinks| Link { pcie, nvlinks };
    let machine = Machine {
        nodes: vec![Some(0); 6],
        links: LinkMatrix::from_fn(6, |a, b| match (a, b) {
            (3 | 4, 4 | 5) => near,
            (0, 1) => far(PcieRelation::Unknown, 2),
            (0, 2) => far(PcieRelation::SameBoard, 2),
            (1, 2) => far(PcieRelation::SameCpu, 0),
            _ => Link::UNKNOWN,
        }),
    };
    assert_eq!(choose(&machine, &all(&machine), &[], 3), [3, 4, 5]);
}
