//! Any links, any availability: the choice is the oracle's.

use mizzen_core::prefer::AlignedChooser;
use mizzen_core::topology::{Link, LinkMatrix, PcieRelation};
use proptest::prelude::*;

use crate::machines::Machine;
use crate::oracle;

const RELATIONS: [PcieRelation; 7] = [
    PcieRelation::Unknown,
    PcieRelation::CrossCpu,
    PcieRelation::SameCpu,
    PcieRelation::HostBridge,
    PcieRelation::MultiSwitch,
    PcieRelation::SingleSwitch,
    PcieRelation::SameBoard,
];

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) nodes: Vec<Option<u32>>,
    pub(crate) links: LinkMatrix,
    pub(crate) available: Vec<usize>,
    pub(crate) must_include: Vec<usize>,
    pub(crate) size: usize,
}

/// Up to ten GPUs; links from a palette of one to four kinds, so that ties and twins abound,
/// written both ways as an asymmetric report would be.
pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let palette = prop::collection::vec((0..RELATIONS.len(), 0_u8..=18), 1..=4);
    (1_usize..=10, palette)
        .prop_flat_map(|(size, palette)| {
            let kinds = prop::collection::vec(0..palette.len(), size * size);
            let nodes = prop::collection::vec(prop::option::weighted(0.9, 0_u32..3), size);
            let states = prop::collection::vec(0_u8..6, size);
            (kinds, nodes, states, 0..=size, Just(palette))
        })
        .prop_map(|(kinds, nodes, states, wanted, palette)| {
            let size = nodes.len();
            let mut links = LinkMatrix::unknown(size);
            for (at, kind) in kinds
                .into_iter()
                .enumerate()
                .filter(|(at, _)| at / size != at % size)
            {
                let (relation, nvlinks) = palette[kind];
                let link = Link {
                    pcie: RELATIONS[relation],
                    nvlinks,
                };
                links.set(at / size, at % size, link);
            }
            let with = |wanted: fn(u8) -> bool| {
                let places = states.iter().enumerate();
                places
                    .filter(|(_, state)| wanted(**state))
                    .map(|(at, _)| at)
                    .collect::<Vec<_>>()
            };
            let available = with(|state| state > 0);
            let must_include = with(|state| state == 1);
            let size = wanted.clamp(must_include.len(), available.len());
            Case {
                nodes,
                links,
                available,
                must_include,
                size,
            }
        })
}

/// Boxes with up to twelve GPUs, some of them taken and some to be included: machines full of
/// symmetry, with holes in it.
fn boxes() -> impl Strategy<Value = Case> {
    let shapes = (1_usize..=3, 1_usize..=4, 1_usize..=4);
    let shapes = shapes.prop_filter("at most twelve GPUs", |(a, b, c)| a * b * c <= 12);
    (shapes, 0_u8..=2, any::<bool>())
        .prop_flat_map(|(shape, nvlinks, bridged)| {
            let size = shape.0 * shape.1 * shape.2;
            let states = prop::collection::vec(0_u8..10, size);
            (Just(shape), Just((nvlinks, bridged)), states, 0..=size)
        })
        .prop_map(
            |((sockets, switches, gpus), (nvlinks, bridged), states, wanted)| {
                let linked = |a: usize, b: usize| !bridged || a / 2 == b / 2;
                let machine = Machine::boxed(sockets, switches, gpus, |a, b| {
                    nvlinks * u8::from(linked(a, b))
                });
                let with = |wanted: fn(u8) -> bool| {
                    let places = states.iter().enumerate();
                    places
                        .filter(|(_, state)| wanted(**state))
                        .map(|(at, _)| at)
                        .collect::<Vec<_>>()
                };
                let (available, must_include) = (with(|state| state > 1), with(|state| state == 2));
                let size = wanted.clamp(must_include.len(), available.len());
                let Machine { nodes, links } = machine;
                Case {
                    nodes,
                    links,
                    available,
                    must_include,
                    size,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_choice_is_the_oracles(case in cases()) {
        let chooser = AlignedChooser::from_nodes(&case.nodes, &case.links);
        let chosen = chooser.choose(&case.available, &case.must_include, case.size);
        let best = oracle::best(
            &case.nodes, &case.links, &case.available, &case.must_include, case.size,
            oracle::Order::Aligned,
        );
        prop_assert_eq!(chosen, best);
    }

    #[test]
    fn numa_first_the_choice_is_the_oracles(case in cases()) {
        let chooser = AlignedChooser::numa_first(&case.nodes, &case.links);
        let chosen = chooser.choose(&case.available, &case.must_include, case.size);
        let best = oracle::best(
            &case.nodes, &case.links, &case.available, &case.must_include, case.size,
            oracle::Order::NumaFirst,
        );
        prop_assert_eq!(chosen, best);
    }

    #[test]
    fn in_a_box_full_of_symmetry_the_choice_is_the_oracles(case in boxes()) {
        let chooser = AlignedChooser::from_nodes(&case.nodes, &case.links);
        let chosen = chooser.choose(&case.available, &case.must_include, case.size);
        let best = oracle::best(
            &case.nodes, &case.links, &case.available, &case.must_include, case.size,
            oracle::Order::Aligned,
        );
        prop_assert_eq!(chosen, best);
    }

    #[test]
    fn order_and_repetition_of_the_question_change_nothing(
        case in cases(),
        seed in any::<u64>(),
    ) {
        let chooser = AlignedChooser::from_nodes(&case.nodes, &case.links);
        let chosen = chooser.choose(&case.available, &case.must_include, case.size);
        let mut shuffled = [case.available.clone(), case.available.clone()].concat();
        shuffled.sort_by_key(|gpu| (*gpu as u64 + 1).wrapping_mul(seed | 1) >> 7);
        let mut must_include = case.must_include.clone();
        must_include.reverse();
        prop_assert_eq!(chooser.choose(&shuffled, &must_include, case.size), chosen);
    }

    /// Whatever a kubelet may send: positions of no GPU, sizes out of range, must-includes that
    /// are not available.
    #[test]
    fn no_question_is_an_error(
        case in cases(),
        available in prop::collection::vec(0_usize..14, 0..20),
        must_include in prop::collection::vec(0_usize..14, 0..6),
        size in 0_usize..20,
    ) {
        let chooser = AlignedChooser::from_nodes(&case.nodes, &case.links);
        let count = case.nodes.len();
        let chosen = chooser.choose(&available, &must_include, size);

        let known = |list: &[usize]| -> std::collections::BTreeSet<usize> {
            list.iter().copied().filter(|gpu| *gpu < count).collect()
        };
        let (musts, mut all) = (known(&must_include), known(&available));
        all.extend(&musts);
        prop_assert!(chosen.is_sorted() && chosen.windows(2).all(|pair| pair[0] != pair[1]));
        prop_assert!(chosen.iter().all(|gpu| all.contains(gpu)));
        prop_assert!(musts.iter().all(|must| chosen.contains(must)));
        prop_assert_eq!(chosen.len(), size.min(all.len()).max(musts.len()));
    }
}
