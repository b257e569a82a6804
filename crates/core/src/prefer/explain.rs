//! Why a choice is as it is: what each rule says of the set that was chosen and of the next best.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::{AlignedChooser, pcie_steps};
use crate::config::AllocationPolicy;
use crate::gpu::Gpu;
use crate::topology::LinkMatrix;

/// The most sets that are looked at one by one: all sets of up to twenty GPUs.
const MOST_SETS: u64 = 200_000;

/// The most of the next best sets that are told.
const MOST_OTHERS: usize = 1_000;

/// A rule of [`AlignedChooser`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The highest sum of link scores over the pairs of the set.
    Links,
    /// The highest such sum over what is available and not chosen.
    Remainder,
    /// The fewest pairs that straddle two NUMA nodes.
    Numa,
    /// The fewest steps through PCIe between the two of each pair.
    Pcie,
    /// The lowest positions.
    Positions,
}

/// The rules of [`AlignedChooser`], the one that counts most first.
const ALIGNED: [Rule; 5] = [
    Rule::Links,
    Rule::Remainder,
    Rule::Numa,
    Rule::Pcie,
    Rule::Positions,
];

/// The same for [`AlignedChooser::numa_first`].
const NUMA_FIRST: [Rule; 5] = [
    Rule::Numa,
    Rule::Links,
    Rule::Remainder,
    Rule::Pcie,
    Rule::Positions,
];

/// What the rules say of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scores {
    /// The sum of [`Link::score`](crate::topology::Link::score) over its pairs.
    pub links: u64,
    /// The same over the pairs of what is available and not in it.
    pub remainder: u64,
    /// How many of its pairs straddle two NUMA nodes.
    pub numa_splits: u64,
    /// The sum over its pairs of the steps between the two, 0 on one board to 6 where nothing is
    /// known.
    pub pcie_steps: u64,
}

/// A set of GPUs and what the rules say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scored {
    /// The positions of the GPUs, ascending.
    pub gpus: Vec<usize>,
    /// What the rules say.
    pub scores: Scores,
}

impl Scored {
    /// How two sets compare by one rule; the greater one is better.
    pub fn by_rule(&self, rule: Rule, other: &Self) -> Ordering {
        let (a, b) = (&self.scores, &other.scores);
        match rule {
            Rule::Links => a.links.cmp(&b.links),
            Rule::Remainder => a.remainder.cmp(&b.remainder),
            Rule::Numa => b.numa_splits.cmp(&a.numa_splits),
            Rule::Pcie => b.pcie_steps.cmp(&a.pcie_steps),
            Rule::Positions => other.gpus.cmp(&self.gpus),
        }
    }
}

/// Why a choice is as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What [`AlignedChooser::choose`] answers.
    pub chosen: Scored,
    /// The next best sets, best first.
    pub runners_up: Vec<Scored>,
    /// How many sets there were to choose from, the chosen one included.
    pub sets: u64,
    /// Whether all sets were compared. Where there are too many,
    /// [`runners_up`](Self::runners_up) are the best of those that differ from the choice in one
    /// GPU.
    pub complete: bool,
    /// The first rule by which the choice is better than the next best set; `None` where there
    /// was nothing to choose.
    pub decided_by: Option<Rule>,
}

/// Explains the choices of an [`AlignedChooser`]. It keeps what a chooser has added up, so that
/// those who only choose need not.
#[derive(Debug, Clone)]
pub struct Explainer {
    chooser: AlignedChooser,
    rules: [Rule; 5],
    nodes: Vec<Option<u32>>,
    links: LinkMatrix,
}

impl Explainer {
    /// Explains the choices that a policy makes among `gpus`, whose links are `links` by
    /// position; `None` for a policy that does not go by how GPUs are connected.
    pub fn of_policy(policy: AllocationPolicy, gpus: &[Gpu], links: &LinkMatrix) -> Option<Self> {
        let nodes: Vec<_> = gpus.iter().map(|gpu| gpu.numa_node).collect();
        match policy {
            AllocationPolicy::Aligned => Some(Self::from_nodes(&nodes, links)),
            AllocationPolicy::Numa => Some(Self::numa_first(&nodes, links)),
            AllocationPolicy::Distributed
            | AllocationPolicy::Packed
            | AllocationPolicy::NumaDistributed
            | AllocationPolicy::NumaPacked => None,
        }
    }

    /// Explains the choices of [`AlignedChooser::from_nodes`].
    pub fn from_nodes(nodes: &[Option<u32>], links: &LinkMatrix) -> Self {
        Self {
            chooser: AlignedChooser::from_nodes(nodes, links),
            rules: ALIGNED,
            nodes: nodes.to_vec(),
            links: links.clone(),
        }
    }

    /// Explains the choices of [`AlignedChooser::numa_first`].
    pub fn numa_first(nodes: &[Option<u32>], links: &LinkMatrix) -> Self {
        Self {
            chooser: AlignedChooser::numa_first(nodes, links),
            rules: NUMA_FIRST,
            ..Self::from_nodes(nodes, links)
        }
    }

    /// The rules, the one that counts most first.
    pub fn rules(&self) -> [Rule; 5] {
        self.rules
    }

    /// The first rule by which two sets differ; `None` if they are the same set.
    fn first_difference(&self, a: &Scored, b: &Scored) -> Option<Rule> {
        self.rules
            .into_iter()
            .find(|rule| a.by_rule(*rule, b).is_ne())
    }

    /// Whether the first set goes before the second.
    fn is_better(&self, a: &Scored, b: &Scored) -> bool {
        let rule = self.first_difference(a, b);
        rule.is_some_and(|rule| a.by_rule(rule, b).is_gt())
    }

    /// What [`AlignedChooser::choose`] answers to the same question, up to `how_many` (at most a
    /// thousand) of the next best sets, and the rule that decided between them.
    pub fn explain(
        &self,
        available: &[usize],
        must_include: &[usize],
        size: usize,
        how_many: usize,
    ) -> Explanation {
        let chosen = self.chooser.choose(available, must_include, size);
        let known = |position: &&usize| **position < self.nodes.len();
        let fixed: BTreeSet<usize> = must_include.iter().filter(known).copied().collect();
        let mut pool: BTreeSet<usize> = available.iter().filter(known).copied().collect();
        pool.extend(&fixed);
        let candidates: Vec<usize> = pool.difference(&fixed).copied().collect();
        let wanted = chosen.len() - fixed.len();
        let sets = binomial(candidates.len(), wanted);
        let complete = sets <= MOST_SETS;
        let mut best = Best::new(how_many.clamp(1, MOST_OTHERS));
        let mut look = |added: &[usize]| {
            let mut gpus: Vec<usize> = fixed.iter().chain(added).copied().collect();
            gpus.sort_unstable();
            if gpus != chosen {
                let set = self.scored(gpus, &pool);
                best.consider(set, |a, b| self.is_better(a, b));
            }
        };
        if complete {
            each_subset(&candidates, wanted, &mut Vec::new(), &mut look);
        } else {
            let added: Vec<usize> = chosen
                .iter()
                .copied()
                .filter(|gpu| !fixed.contains(gpu))
                .collect();
            each_exchange(&added, &candidates, &mut look);
        }
        let chosen = self.scored(chosen, &pool);
        let mut runners_up = best.sets;
        let decided_by = runners_up
            .first()
            .and_then(|next| self.first_difference(&chosen, next));
        runners_up.truncate(how_many);
        Explanation {
            chosen,
            runners_up,
            sets,
            complete,
            decided_by,
        }
    }

    fn scored(&self, gpus: Vec<usize>, pool: &BTreeSet<usize>) -> Scored {
        let rest: Vec<usize> = pool
            .iter()
            .copied()
            .filter(|gpu| !gpus.contains(gpu))
            .collect();
        let score = |(a, b): (usize, usize)| u64::from(self.links.get(a, b).score());
        let straddles = |&(a, b): &(usize, usize)| self.nodes[a] != self.nodes[b];
        let steps = |(a, b): (usize, usize)| pcie_steps(self.links.get(a, b).pcie);
        let scores = Scores {
            links: pairs(&gpus).map(score).sum(),
            remainder: pairs(&rest).map(score).sum(),
            numa_splits: pairs(&gpus).filter(straddles).map(|_| 1).sum(),
            pcie_steps: pairs(&gpus)
                .map(steps)
                .sum::<i128>()
                .try_into()
                .unwrap_or(u64::MAX),
        };
        Scored { gpus, scores }
    }
}

/// The best sets that were seen, best first.
struct Best {
    most: usize,
    sets: Vec<Scored>,
}

impl Best {
    fn new(most: usize) -> Self {
        Self {
            most,
            sets: Vec::with_capacity(most + 1),
        }
    }

    fn consider(&mut self, set: Scored, is_better: impl Fn(&Scored, &Scored) -> bool) {
        let at = self.sets.partition_point(|other| is_better(other, &set));
        self.sets.insert(at, set);
        self.sets.truncate(self.most);
    }
}

fn pairs(set: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    let from = move |at: usize| set[at + 1..].iter().map(move |&b| (set[at], b));
    (0..set.len()).flat_map(from)
}

/// Calls `look` with every subset of `wanted` candidates.
fn each_subset(
    candidates: &[usize],
    wanted: usize,
    taken: &mut Vec<usize>,
    look: &mut impl FnMut(&[usize]),
) {
    if wanted == 0 {
        look(taken);
        return;
    }
    for at in 0..=candidates.len() - wanted {
        taken.push(candidates[at]);
        each_subset(&candidates[at + 1..], wanted - 1, taken, look);
        taken.pop();
    }
}

/// Calls `look` with every set that has one candidate in place of one of `set`.
fn each_exchange(set: &[usize], candidates: &[usize], look: &mut impl FnMut(&[usize])) {
    let mut exchanged = set.to_vec();
    for at in 0..set.len() {
        for candidate in candidates.iter().filter(|gpu| !set.contains(gpu)) {
            exchanged[at] = *candidate;
            look(&exchanged);
        }
        exchanged[at] = set[at];
    }
}

/// How many subsets of `wanted` there are of `count`; the highest number where there are more.
fn binomial(count: usize, wanted: usize) -> u64 {
    let wanted = wanted.min(count - wanted);
    let grown = (0..wanted).try_fold(1_u128, |sets, step| {
        let grown = sets.checked_mul((count - step) as u128)?;
        Some(grown / (step as u128 + 1))
    });
    grown
        .and_then(|sets| u64::try_from(sets).ok())
        .unwrap_or(u64::MAX)
}
