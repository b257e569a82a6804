//! Which GPUs to hand out together, so that those chosen and those left are well connected.

mod explain;
mod search;
pub(crate) mod shared;
mod symmetry;

use std::collections::BTreeSet;

use crate::gpu::Gpu;
use crate::topology::{LinkMatrix, PcieRelation};
pub use explain::{Explainer, Explanation, Rule, Scored, Scores};
use search::Search;
use symmetry::Symmetry;

/// Chooses GPUs of one node by how well they are connected.
///
/// Of all sets that have the asked size and hold what must be included, the one is chosen that
/// 1. has the highest sum of [`Link::score`](crate::topology::Link::score) over its pairs;
/// 2. among those, leaves the best-connected remainder: the highest such sum over the pairs of
///    what is available and not chosen;
/// 3. among those, is nearest in NUMA: the fewest of its pairs straddle two NUMA nodes (a GPU of
///    unknown node straddles with every GPU of a known one), so that on a machine with two nodes
///    one node goes before a split, and 3 + 1 before 2 + 2;
/// 4. among those, is nearest in PCIe: the lowest sum over its pairs of the steps between the
///    two, 0 on one board to 5 across the sockets and 6 where nothing is known;
/// 5. among those, has the lowest positions, compared one by one from the lowest.
///
/// Positions are those of the GPUs the chooser was made for, which are in order of their index;
/// so the last rule is that of the lowest index. There is always exactly one such set.
///
/// One made by [`numa_first`](Self::numa_first) puts the third rule before the others.
///
/// Everything that depends on the node alone is worked out once, in [`new`](Self::new).
#[derive(Debug, Clone)]
pub struct AlignedChooser {
    size: usize,
    /// Link scores by pair.
    scores: Vec<u32>,
    /// What a pair is worth by rules 1, 3 and 4 at once.
    pairs: Vec<Weight>,
    /// What rule 2 takes off for each point of score between a chosen GPU and what is available.
    remainder_unit: Weight,
    symmetry: Symmetry,
}

/// The rules 1 to 4 in one number: each rule's unit is larger than all that the later ones can
/// add up to. 128 bits hold it for more GPUs than a machine could have.
type Weight = i128;

impl AlignedChooser {
    /// A chooser for `gpus`, whose links are `links` by position.
    pub fn new(gpus: &[Gpu], links: &LinkMatrix) -> Self {
        let nodes: Vec<_> = gpus.iter().map(|gpu| gpu.numa_node).collect();
        Self::from_nodes(&nodes, links)
    }

    /// A chooser for GPUs on these NUMA nodes, whose links are `links` by position.
    pub fn from_nodes(nodes: &[Option<u32>], links: &LinkMatrix) -> Self {
        Self::weighing(nodes, links, &Units::new(nodes.len(), links))
    }

    /// The same, for which nearness in NUMA goes before links.
    pub fn numa_first(nodes: &[Option<u32>], links: &LinkMatrix) -> Self {
        let units = Units::new(nodes.len(), links).numa_first();
        Self::weighing(nodes, links, &units)
    }

    fn weighing(nodes: &[Option<u32>], links: &LinkMatrix, units: &Units) -> Self {
        let size = nodes.len();
        let mut scores = vec![0; size * size];
        let mut pairs = vec![0; size * size];
        for a in 0..size {
            for b in (0..size).filter(|b| *b != a) {
                let link = links.get(a, b);
                scores[a * size + b] = link.score();
                pairs[a * size + b] = Weight::from(link.score()) * units.score
                    - Weight::from(nodes[a] != nodes[b]) * units.numa
                    - pcie_steps(link.pcie);
            }
        }
        let symmetry = Symmetry::new(size, |a, b| {
            let at = a * size + b;
            (scores[at], pairs[at])
        });
        Self {
            size,
            scores,
            pairs,
            remainder_unit: units.remainder,
            symmetry,
        }
    }

    /// The number of GPUs the chooser was made for.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Chooses `size` of the GPUs at the positions `available`, among them all of `must_include`,
    /// and returns their positions in ascending order.
    ///
    /// Never an error, since the kubelet would refuse a pod for one:
    /// - repeated positions count once, positions of no GPU not at all;
    /// - what must be included counts as available;
    /// - where there are fewer than `size`, all are chosen;
    /// - where more than `size` must be included, exactly those are chosen: the container holds
    ///   them already.
    pub fn choose(&self, available: &[usize], must_include: &[usize], size: usize) -> Vec<usize> {
        let known = |position: &&usize| **position < self.size;
        let mut chosen: BTreeSet<usize> = must_include.iter().filter(known).copied().collect();
        let candidates: BTreeSet<usize> = available.iter().filter(known).copied().collect();
        let candidates: Vec<usize> = candidates.difference(&chosen).copied().collect();
        let wanted = size.saturating_sub(chosen.len());
        if wanted >= candidates.len() {
            chosen.extend(candidates);
        } else if wanted > 0 {
            let fixed: Vec<usize> = chosen.iter().copied().collect();
            chosen.extend(self.search(&fixed, &candidates, wanted));
        }
        chosen.into_iter().collect()
    }

    /// The best `wanted` of `candidates` to go with `fixed`; `wanted` is less than there are.
    fn search(&self, fixed: &[usize], candidates: &[usize], wanted: usize) -> Vec<usize> {
        let pair = |a: usize, b: usize| self.pairs[a * self.size + b];
        let score = |a: usize, b: usize| Weight::from(self.scores[a * self.size + b]);
        let gain = |a: usize| {
            // What the remainder has is all the score there is, less what the chosen have to
            // anything available, plus what they have among themselves. The first is the same for
            // all sets, the last is equal by rule 1: so each chosen GPU costs its own links.
            let links: Weight = fixed.iter().chain(candidates).map(|&b| score(a, b)).sum();
            let to_fixed: Weight = fixed.iter().map(|&b| pair(a, b)).sum();
            to_fixed - links * self.remainder_unit
        };
        let gains: Vec<Weight> = candidates.iter().map(|&a| gain(a)).collect();
        let search = Search::new(
            wanted,
            &gains,
            |a, b| pair(candidates[a], candidates[b]),
            self.symmetry.prerequisites(candidates, &gains),
        );
        let best = search.run();
        best.into_iter().map(|place| candidates[place]).collect()
    }
}

/// What one step of each rule is worth, the last rule's being 1.
struct Units {
    score: Weight,
    remainder: Weight,
    numa: Weight,
    /// More than all steps of all rules together.
    above: Weight,
}

impl Units {
    fn new(size: usize, links: &LinkMatrix) -> Self {
        let positions = || 0..size;
        let scores = positions().flat_map(|a| positions().map(move |b| links.get(a, b).score()));
        let highest = Weight::from(scores.max().unwrap_or(0));
        let pairs = (positions().map(|_| 1).sum::<Weight>()).pow(2);
        let numa = pcie_steps(PcieRelation::Unknown) * pairs + 1;
        let remainder = numa * (pairs + 1);
        let score = remainder * (highest * pairs + 1);
        Self {
            score,
            remainder,
            numa,
            above: score * (highest * pairs + 1),
        }
    }

    fn numa_first(self) -> Self {
        Self {
            numa: self.above,
            ..self
        }
    }
}

/// How many steps two GPUs are apart in PCIe.
fn pcie_steps(relation: PcieRelation) -> Weight {
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
