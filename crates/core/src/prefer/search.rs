//! The search for the heaviest set: branch and bound over candidates in ascending order.

use super::Weight;
use super::symmetry::Before;

/// A bound on the work of one search, so that a kubelet never waits: one that reaches it answers
/// with the best set seen.
///
/// Each step looks at another set, so with up to twenty candidates it cannot be reached. With
/// more it takes links as random as no machine's are: switched, bridged and PCIe machines with up
/// to 32 GPUs take a few hundred steps at most.
const STEP_LIMIT: u32 = 1 << 20;

/// Looks for the `wanted` candidates with the highest sum of gains and pair weights, the one
/// with the lowest places among equals.
///
/// Sums are kept twice as large as they are, so that the bound can halve pair weights exactly.
pub(super) struct Search {
    wanted: usize,
    count: usize,
    /// Twice the weight of each pair.
    pairs: Vec<Weight>,
    /// `reach[c * wanted + n]`: the sum of the `n` highest pair weights of candidate `c`.
    reach: Vec<Weight>,
    before: Vec<Before>,
    /// For each depth, twice what each candidate would add to what is chosen at that depth.
    gains: Vec<Weight>,
    chosen: Vec<usize>,
    is_chosen: Vec<bool>,
    best: Weight,
    best_set: Vec<usize>,
    steps: u32,
    /// Kept between bounds, so that they need no allocation.
    scratch: Vec<Weight>,
}

impl Search {
    /// A search for `wanted`, at least one, of `gains.len()` candidates, which are more. `before`
    /// says of each candidate which others are chosen wherever it is.
    pub(super) fn new(
        wanted: usize,
        gains: &[Weight],
        pair: impl Fn(usize, usize) -> Weight,
        before: Vec<Before>,
    ) -> Self {
        let count = gains.len();
        let pairs: Vec<Weight> = (0..count * count)
            .map(|at| 2 * pair(at / count, at % count))
            .collect();
        let mut all_gains = vec![0; (wanted + 1) * count];
        for (doubled, gain) in all_gains.iter_mut().zip(gains) {
            *doubled = 2 * gain;
        }
        Self {
            wanted,
            count,
            reach: reach(wanted, count, &pairs),
            pairs,
            before,
            gains: all_gains,
            chosen: Vec::with_capacity(wanted),
            is_chosen: vec![false; count],
            best: Weight::MIN,
            best_set: Vec::new(),
            steps: 0,
            scratch: Vec::with_capacity(count),
        }
    }

    /// The best set, in ascending order.
    pub(super) fn run(mut self) -> Vec<usize> {
        let (weight, set) = self.first_guess();
        // One less than the guess, so that of the sets as heavy as it the first one is found.
        self.best = weight - 1;
        self.best_set = set;
        self.descend(0, 0);
        self.best_set
    }

    fn gain(&self, depth: usize, candidate: usize) -> Weight {
        self.gains[depth * self.count + candidate]
    }

    /// Tries every way to complete what is chosen, whose weight is `weight`, with candidates
    /// from `from` on.
    fn descend(&mut self, from: usize, weight: Weight) {
        let depth = self.chosen.len();
        let left = self.wanted - depth;
        if left == 1 {
            self.complete(from, weight);
            return;
        }
        for candidate in from..=self.count - left {
            if !self.before[candidate].holds(&self.is_chosen) {
                continue;
            }
            self.steps += 1;
            if self.steps > STEP_LIMIT || weight + self.bound(depth, candidate) <= self.best {
                return;
            }
            self.choose(depth, candidate);
            self.descend(candidate + 1, weight + self.gain(depth, candidate));
            self.chosen.pop();
            self.is_chosen[candidate] = false;
        }
    }

    /// Adds the last candidate, the first of those that add most.
    fn complete(&mut self, from: usize, weight: Weight) {
        let depth = self.chosen.len();
        for candidate in from..self.count {
            let total = weight + self.gain(depth, candidate);
            if total > self.best {
                self.best = total;
                self.best_set.clone_from(&self.chosen);
                self.best_set.push(candidate);
            }
        }
    }

    fn choose(&mut self, depth: usize, candidate: usize) {
        self.chosen.push(candidate);
        self.is_chosen[candidate] = true;
        let (done, next) = self.gains.split_at_mut((depth + 1) * self.count);
        let gains = &done[depth * self.count..];
        let row = &self.pairs[candidate * self.count..][..self.count];
        for later in candidate + 1..self.count {
            next[later] = gains[later] + row[later];
        }
    }

    /// At least what the best completion with candidates from `from` on adds: each of those
    /// still to be chosen adds its gain and half of its heaviest pairs.
    fn bound(&mut self, depth: usize, from: usize) -> Weight {
        let left = self.wanted - depth;
        let mut most = std::mem::take(&mut self.scratch);
        most.clear();
        most.extend(
            (from..self.count)
                .map(|c| self.gain(depth, c) + self.reach[c * self.wanted + left - 1]),
        );
        most.select_nth_unstable_by(left - 1, |a, b| b.cmp(a));
        let bound = most[..left].iter().sum();
        self.scratch = most;
        bound
    }

    /// A good set to begin with: drops the candidate that adds least, again and again.
    fn first_guess(&self) -> (Weight, Vec<usize>) {
        let pair = |a: usize, b: usize| self.pairs[a * self.count + b];
        let mut set: Vec<usize> = (0..self.count).collect();
        let mut adds: Vec<Weight> = set
            .iter()
            .map(|&a| self.gain(0, a) + set.iter().map(|&b| pair(a, b)).sum::<Weight>())
            .collect();
        while set.len() > self.wanted {
            let least = set.iter().enumerate().min_by_key(|(_, c)| adds[**c]);
            let Some((at, _)) = least else { break };
            let dropped = set.remove(at);
            for &c in &set {
                adds[c] -= pair(c, dropped);
            }
        }
        // Each pair was counted from both of its ends, each gain once.
        let gains: Weight = set.iter().map(|&c| self.gain(0, c)).sum();
        let both_ends: Weight = set.iter().map(|&c| adds[c]).sum();
        (gains + (both_ends - gains) / 2, set)
    }
}

/// For each candidate the sums of its 0, 1, … `wanted - 1` heaviest pairs, not doubled.
fn reach(wanted: usize, count: usize, doubled: &[Weight]) -> Vec<Weight> {
    let mut sums = Vec::with_capacity(count * wanted);
    let mut row = Vec::with_capacity(count);
    for a in 0..count {
        row.clear();
        row.extend(
            (0..count)
                .filter(|b| *b != a)
                .map(|b| doubled[a * count + b] / 2),
        );
        row.sort_unstable_by(|x, y| y.cmp(x));
        let mut sum = 0;
        sums.push(sum);
        for weight in row.iter().take(wanted - 1) {
            sum += weight;
            sums.push(sum);
        }
    }
    sums
}
