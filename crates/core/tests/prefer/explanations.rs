//! A choice is explained by what the rules say of it and of the next best.

use mizzen_core::prefer::{AlignedChooser, Explainer, Explanation, Rule};
use proptest::prelude::*;

use crate::machines::Machine;
use crate::oracle::{self, Order};
use crate::properties::cases;

fn explain(machine: &Machine, available: &[usize], size: usize) -> Explanation {
    let explainer = Explainer::from_nodes(&machine.nodes, &machine.links);
    explainer.explain(available, &[], size, 5)
}

fn all(machine: &Machine) -> Vec<usize> {
    (0..machine.size()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_choice_is_the_choosers_and_the_others_are_the_oracles_next(
        case in cases(),
        numa_first in any::<bool>(),
    ) {
        let (nodes, links) = (&case.nodes, &case.links);
        let (explainer, chooser, order) = if numa_first {
            let chooser = AlignedChooser::numa_first(nodes, links);
            (Explainer::numa_first(nodes, links), chooser, Order::NumaFirst)
        } else {
            let chooser = AlignedChooser::from_nodes(nodes, links);
            (Explainer::from_nodes(nodes, links), chooser, Order::Aligned)
        };
        let (available, musts, size) = (&case.available, &case.must_include, case.size);
        let told = explainer.explain(available, musts, size, usize::MAX);
        prop_assert_eq!(&told.chosen.gpus, &chooser.choose(available, musts, size));
        let mut sets = vec![told.chosen.gpus.clone()];
        sets.extend(told.runners_up.iter().map(|set| set.gpus.clone()));
        let ranked = oracle::ranked(nodes, links, available, musts, size, order);
        prop_assert_eq!(told.sets, ranked.len() as u64);
        prop_assert_eq!(sets, ranked);
        prop_assert!(told.complete);
    }

    #[test]
    fn what_decided_is_the_first_rule_that_tells_the_two_best_apart(case in cases()) {
        let explainer = Explainer::from_nodes(&case.nodes, &case.links);
        let told = explainer.explain(&case.available, &case.must_include, case.size, 1);
        match (told.runners_up.first(), told.decided_by) {
            (Some(next), Some(decisive)) => {
                let rules = explainer.rules();
                let equal = rules.into_iter().take_while(|rule| *rule != decisive);
                for rule in equal {
                    prop_assert!(told.chosen.by_rule(rule, next).is_eq());
                }
                prop_assert!(told.chosen.by_rule(decisive, next).is_gt());
            }
            (next, decisive) => prop_assert_eq!((next, decisive, told.sets), (None, None, 1)),
        }
    }
}

#[test]
fn on_a_dgx1_the_links_decide_and_behind_nvswitch_the_lowest_index() {
    let machine = Machine::dgx1_v100();
    let told = explain(&machine, &[0, 1, 2, 3, 4], 2);
    assert_eq!((told.chosen.gpus, told.sets), (vec![2, 3], 10));
    assert_eq!(told.decided_by, Some(Rule::Links));

    let machine = Machine::hgx_h100();
    let told = explain(&machine, &all(&machine), 4);
    assert_eq!(told.chosen.gpus, [0, 1, 2, 3]);
    assert_eq!(told.runners_up[0].gpus, [4, 5, 6, 7]);
    assert_eq!(told.decided_by, Some(Rule::Positions));
    // Six pairs of 18 NVLinks on one socket.
    assert_eq!(told.chosen.scores.links, 6 * 1820);
    assert_eq!(told.chosen.scores.pcie_steps, 6 * 4);
    assert_eq!(told.runners_up[1].scores.numa_splits, 3);
}

#[test]
fn where_there_is_one_set_only_nothing_decided() {
    let machine = Machine::pcie8();
    for size in [0, 8, 9] {
        let told = explain(&machine, &all(&machine), size);
        assert_eq!((told.sets, told.decided_by), (1, None), "{size}");
        assert!(told.runners_up.is_empty() && told.complete);
    }
}

#[test]
fn what_must_be_included_beyond_the_size_is_all_there_is() {
    let machine = Machine::pcie8();
    let explainer = Explainer::from_nodes(&machine.nodes, &machine.links);
    let told = explainer.explain(&[1, 2, 99], &[5, 6, 7, 99], 2, 3);
    assert_eq!((told.chosen.gpus, told.sets), (vec![5, 6, 7], 1));
}

#[test]
fn with_too_many_sets_the_neighbours_of_the_choice_are_compared_and_it_says_so() {
    let machine = Machine::boxed(2, 8, 2, |_, _| 0);
    let told = explain(&machine, &all(&machine), 16);
    assert_eq!(told.sets, 601_080_390);
    assert!(!told.complete);
    assert_eq!(told.runners_up.len(), 5);
    for other in &told.runners_up {
        let kept = other
            .gpus
            .iter()
            .filter(|gpu| told.chosen.gpus.contains(gpu));
        assert_eq!(kept.count(), 15);
    }
}
