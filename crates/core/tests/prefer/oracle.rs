//! The rules of the choice, word for word and without any cleverness.

use std::cmp::Reverse;

use mizzen_core::topology::{LinkMatrix, PcieRelation};

/// The worth of a set by the rules in order; the highest is the choice.
type Worth = (u32, u32, Reverse<usize>, Reverse<u32>, Reverse<Vec<usize>>);

/// In which order the rules count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Links first.
    Aligned,
    /// NUMA first, then the same.
    NumaFirst,
}

/// Looks at every set of `size` of `available` that holds `must_include`, which must all be
/// available and no more than `size`, itself no more than are available.
pub(crate) fn best(
    nodes: &[Option<u32>],
    links: &LinkMatrix,
    available: &[usize],
    must_include: &[usize],
    size: usize,
    order: Order,
) -> Vec<usize> {
    sets(available, must_include, size)
        .max_by_key(|(chosen, rest)| in_order(order, worth(nodes, links, chosen, rest)))
        .map(|(chosen, _)| chosen)
        .expect("a set of that size exists")
}

/// All such sets, the best one first.
pub(crate) fn ranked(
    nodes: &[Option<u32>],
    links: &LinkMatrix,
    available: &[usize],
    must_include: &[usize],
    size: usize,
    order: Order,
) -> Vec<Vec<usize>> {
    let mut sets: Vec<_> = sets(available, must_include, size).collect();
    sets.sort_by_cached_key(|(chosen, rest)| {
        Reverse(in_order(order, worth(nodes, links, chosen, rest)))
    });
    sets.into_iter().map(|(chosen, _)| chosen).collect()
}

/// Every set with what it leaves.
fn sets(
    available: &[usize],
    must_include: &[usize],
    size: usize,
) -> impl Iterator<Item = (Vec<usize>, Vec<usize>)> {
    let mut pool = available.to_vec();
    pool.sort_unstable();
    pool.dedup();
    (0_u32..1 << pool.len())
        .filter(move |mask| mask.count_ones() as usize == size)
        .map(move |mask| split(&pool, mask))
        .filter(|(chosen, _)| must_include.iter().all(|must| chosen.contains(must)))
}

/// The worth with the rule before it that an order puts there.
fn in_order(order: Order, worth: Worth) -> (Option<Reverse<usize>>, Worth) {
    ((order == Order::NumaFirst).then_some(worth.2), worth)
}

fn split(pool: &[usize], mask: u32) -> (Vec<usize>, Vec<usize>) {
    let in_mask = |at: usize| mask >> at & 1 == 1;
    let (chosen, rest): (Vec<_>, Vec<_>) =
        pool.iter().enumerate().partition(|(at, _)| in_mask(*at));
    let positions = |set: Vec<(usize, &usize)>| set.into_iter().map(|(_, gpu)| *gpu).collect();
    (positions(chosen), positions(rest))
}

fn worth(nodes: &[Option<u32>], links: &LinkMatrix, chosen: &[usize], rest: &[usize]) -> Worth {
    let score = |set: &[usize]| -> u32 { pairs(set).map(|(a, b)| links.get(a, b).score()).sum() };
    let straddling = pairs(chosen).filter(|&(a, b)| nodes[a] != nodes[b]).count();
    let steps = pairs(chosen)
        .map(|(a, b)| steps(links.get(a, b).pcie))
        .sum();
    (
        score(chosen),
        score(rest),
        Reverse(straddling),
        Reverse(steps),
        Reverse(chosen.to_vec()),
    )
}

fn pairs(set: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    let from = move |at: usize| set[at + 1..].iter().map(move |&b| (set[at], b));
    (0..set.len()).flat_map(from)
}

fn steps(relation: PcieRelation) -> u32 {
    match relation {
        PcieRelation::SameBoard => 0,
        PcieRelation::SingleSwitch => 1,
        PcieRelation::MultiSwitch => 2,
        PcieRelation::HostBridge => 3,
        PcieRelation::SameCpu => 4,
        PcieRelation::CrossCpu => 5,
        PcieRelation::Unknown => 6,
    }
}
