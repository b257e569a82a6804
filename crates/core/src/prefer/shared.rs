//! Which GPUs' replicas to hand out.
//!
//! Replicas of one GPU are all alike, so the choice is how many are taken of each GPU; each
//! policy answers that with exactly one distribution.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::AlignedChooser;
use crate::config::{AllocationPolicy, ReplicaPlacement};

/// What is known of the devices of one GPU, or of one MIG device: one, or its replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stock {
    /// The position of the GPU among all of the node, by which choosers know it.
    pub(crate) gpu: usize,
    /// Its NUMA node.
    pub(crate) numa_node: Option<u32>,
    /// How many of its devices could be had.
    pub(crate) free: usize,
    /// How many are given out, those that the container holds already among them.
    pub(crate) given: usize,
    /// How many of those the container holds already.
    pub(crate) held: usize,
}

/// The rules by which devices are chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) policy: AllocationPolicy,
    pub(crate) placement: ReplicaPlacement,
    /// For the policies `aligned` and `numa`, and for the choice within a NUMA node; `None` where
    /// no two devices are joined better than others.
    pub(crate) chooser: Option<&'a AlignedChooser>,
}

/// How many of each stock's devices to take so that they are `wanted` together, or all that is
/// free where there are fewer.
///
/// A placement that cannot be had is given up rather than the size: an error would fail a pod,
/// and whether it may run so is decided when it is allocated.
pub(crate) fn distribute(stocks: &[Stock], wanted: usize, terms: &Terms<'_>) -> Vec<usize> {
    let free: usize = stocks.iter().map(|stock| stock.free).sum();
    let wanted = wanted.min(free);
    let mut split = Split {
        stocks: stocks.to_vec(),
        taken: vec![0; stocks.len()],
        left: wanted,
    };
    match terms.placement {
        ReplicaPlacement::OneGpu => split.one_gpu(terms),
        ReplicaPlacement::DistinctGpus => {
            split.each_gpu_once(terms);
            split.by_policy(terms);
        }
        ReplicaPlacement::Any => split.by_policy(terms),
    }
    split.taken
}

/// How devices are taken of several GPUs.
#[derive(Debug, Clone, Copy)]
enum Fill {
    /// From the one with the fewest given out.
    Evenly,
    /// From the one with the most given out.
    Up,
}

struct Split {
    /// With what is taken counted as given.
    stocks: Vec<Stock>,
    taken: Vec<usize>,
    left: usize,
}

impl Split {
    fn take(&mut self, place: usize, count: usize) {
        let stock = &mut self.stocks[place];
        stock.free -= count;
        stock.given += count;
        self.taken[place] += count;
        self.left -= count;
    }

    /// The places with something free, in order.
    fn open(&self) -> Vec<usize> {
        let open = |place: &usize| self.stocks[*place].free > 0;
        (0..self.stocks.len()).filter(open).collect()
    }

    fn by_policy(&mut self, terms: &Terms<'_>) {
        match terms.policy {
            AllocationPolicy::Distributed => self.one_by_one(&self.open(), self.left, Fill::Evenly),
            AllocationPolicy::Packed => self.one_by_one(&self.open(), self.left, Fill::Up),
            AllocationPolicy::NumaDistributed => self.spread_over_nodes(terms),
            AllocationPolicy::NumaPacked => self.fill_nodes(terms),
            AllocationPolicy::Aligned | AllocationPolicy::Numa => self.together(terms),
        }
    }

    /// Takes `count` of the devices at `places`, each from the place that comes first by `fill`;
    /// among equals from the one taken from least, then from the first.
    fn one_by_one(&mut self, places: &[usize], count: usize, fill: Fill) {
        for _ in 0..count {
            let open = places.iter().filter(|place| self.stocks[**place].free > 0);
            let best = open.min_by_key(|place| {
                let given = self.stocks[**place].given;
                let rank = match fill {
                    Fill::Evenly => given,
                    Fill::Up => usize::MAX - given,
                };
                (rank, self.taken[**place], **place)
            });
            let Some(&best) = best else { return };
            self.take(best, 1);
        }
    }

    /// The policy `aligned` or `numa`: as many GPUs as can be, those that the chooser takes; over
    /// again while more is wanted than there are GPUs.
    fn together(&mut self, terms: &Terms<'_>) {
        while self.left > 0 {
            let places = self.open();
            if places.is_empty() {
                return;
            }
            for place in self.best_connected(&places, self.left, terms) {
                self.take(place, 1);
            }
        }
    }

    /// The best connected `count` of `places` to go with what the container holds, or all.
    fn best_connected(&self, places: &[usize], count: usize, terms: &Terms<'_>) -> Vec<usize> {
        let Some(chooser) = terms.chooser else {
            return places.iter().copied().take(count).collect();
        };
        let gpus: Vec<usize> = places.iter().map(|place| self.stocks[*place].gpu).collect();
        let held: Vec<usize> = (0..self.stocks.len())
            .filter(|place| self.stocks[*place].held > 0 && !places.contains(place))
            .map(|place| self.stocks[place].gpu)
            .collect();
        let chosen = chooser.choose(&gpus, &held, count + held.len());
        let is_chosen = |place: &usize| chosen.contains(&self.stocks[*place].gpu);
        places.iter().copied().filter(is_chosen).collect()
    }

    /// The places of each NUMA node with something free, and how many devices are given out there.
    fn nodes(&self) -> BTreeMap<Option<u32>, Node> {
        let mut nodes: BTreeMap<Option<u32>, Node> = BTreeMap::new();
        for (place, stock) in self.stocks.iter().enumerate() {
            let node = nodes.entry(stock.numa_node).or_default();
            node.given += stock.given;
            node.free += stock.free;
            if stock.free > 0 {
                node.places.push(place);
            }
        }
        nodes.retain(|_, node| node.free > 0);
        nodes
    }

    /// The policy `numa-distributed`: each device from the node with the fewest given out.
    fn spread_over_nodes(&mut self, terms: &Terms<'_>) {
        let mut nodes: Vec<(Node, usize)> =
            self.nodes().into_values().map(|node| (node, 0)).collect();
        for _ in 0..self.left {
            let open = nodes.iter_mut().filter(|(node, share)| node.free > *share);
            if let Some((_, share)) = open.min_by_key(|(node, share)| node.given + share) {
                *share += 1;
            }
        }
        for (node, share) in nodes {
            self.within(&node, share, terms);
        }
    }

    /// The policy `numa-packed`: from the fullest node that has enough; where none has, first all
    /// of the one that has most, which keeps the number of nodes lowest.
    fn fill_nodes(&mut self, terms: &Terms<'_>) {
        while self.left > 0 {
            let nodes: Vec<Node> = self.nodes().into_values().collect();
            let enough = nodes.iter().filter(|node| node.free >= self.left);
            let fullest = enough.min_by_key(|node| (node.free, Reverse(node.given)));
            let largest = || nodes.iter().min_by_key(|node| Reverse(node.free));
            let Some(node) = fullest.or_else(largest) else {
                return;
            };
            self.within(node, self.left.min(node.free), terms);
        }
    }

    /// Takes `count` of the devices of one node: replicas as evenly, or as packed, as the policy
    /// has it for nodes; whole GPUs so that they are well connected.
    fn within(&mut self, node: &Node, count: usize, terms: &Terms<'_>) {
        let single = node
            .places
            .iter()
            .all(|place| self.stocks[*place].free + self.stocks[*place].given == 1);
        if single {
            for place in self.best_connected(&node.places, count, terms) {
                self.take(place, 1);
            }
            return;
        }
        let fill = match terms.policy {
            AllocationPolicy::NumaPacked => Fill::Up,
            _ => Fill::Evenly,
        };
        self.one_by_one(&node.places, count, fill);
    }

    /// All from one GPU: the one the container holds already, else the first by the policy of
    /// those that have enough.
    fn one_gpu(&mut self, terms: &Terms<'_>) {
        let places = self.open();
        let held = places.iter().find(|place| self.stocks[**place].held > 0);
        let by_node = self.nodes();
        let enough = places
            .iter()
            .filter(|place| self.stocks[**place].free >= self.left);
        let rank = |place: &usize| {
            let stock = &self.stocks[*place];
            let node = by_node.get(&stock.numa_node).map_or(0, |node| node.given);
            match terms.policy {
                AllocationPolicy::Distributed => (0, stock.given),
                AllocationPolicy::NumaDistributed => (node, stock.given),
                AllocationPolicy::Packed | AllocationPolicy::Aligned | AllocationPolicy::Numa => {
                    (0, usize::MAX - stock.given)
                }
                AllocationPolicy::NumaPacked => (usize::MAX - node, usize::MAX - stock.given),
            }
        };
        let best = held
            .filter(|place| self.stocks[**place].free >= self.left)
            .or_else(|| enough.min_by_key(|place| (rank(place), **place)));
        match best.copied() {
            Some(place) => self.take(place, self.left),
            None => self.by_policy(terms),
        }
    }

    /// One from each of as many GPUs as are wanted, none from those the container holds already.
    fn each_gpu_once(&mut self, terms: &Terms<'_>) {
        let mut once = Self {
            stocks: self.stocks.clone(),
            taken: vec![0; self.taken.len()],
            left: 0,
        };
        for stock in &mut once.stocks {
            stock.free = usize::from(stock.free > 0 && stock.held == 0);
            once.left += stock.free;
        }
        once.left = once.left.min(self.left);
        once.by_policy(terms);
        for (place, count) in once.taken.into_iter().enumerate() {
            self.take(place, count);
        }
    }
}

/// The devices of one NUMA node.
#[derive(Debug, Default)]
struct Node {
    places: Vec<usize>,
    free: usize,
    given: usize,
}
