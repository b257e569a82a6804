//! GPUs, and groups of GPUs, that can be exchanged for each other without anything changing.
//!
//! Of two sets that an exchange turns into each other, only the one with the lower positions can
//! be the choice, so the search need not look at the other. On real machines that leaves little
//! to search: behind NVSwitch nearly all GPUs are alike, and in a PCIe box all switches of a
//! socket are.

use super::Weight;

/// What can be exchanged among all GPUs of a node.
#[derive(Debug, Clone)]
pub(super) struct Symmetry {
    /// For each GPU its group: GPUs with the same links to every other GPU.
    groups: Vec<usize>,
    /// For each group its kind: groups that can be exchanged as a whole.
    kinds: Vec<usize>,
}

impl Symmetry {
    /// Finds the symmetries of `size` GPUs whose pairs weigh `pair`.
    pub(super) fn new(size: usize, pair: impl Fn(usize, usize) -> (u32, Weight)) -> Self {
        let alike = |a: usize, b: usize| {
            (0..size)
                .filter(|c| *c != a && *c != b)
                .all(|c| pair(a, c) == pair(b, c))
        };
        let mut members: Vec<Vec<usize>> = Vec::new();
        let mut groups = Vec::with_capacity(size);
        for gpu in 0..size {
            let known = members.iter().position(|group| alike(group[0], gpu));
            let group = known.unwrap_or_else(|| {
                members.push(Vec::new());
                members.len() - 1
            });
            members[group].push(gpu);
            groups.push(group);
        }
        let inner = |group: &[usize]| group.get(1).map(|&second| pair(group[0], second));
        let exchangeable = |a: &[usize], b: &[usize]| {
            let outside = (0..size).filter(|c| !a.contains(c) && !b.contains(c));
            inner(a) == inner(b) && outside.into_iter().all(|c| pair(a[0], c) == pair(b[0], c))
        };
        let kinds = members
            .iter()
            .map(|group| members.iter().position(|other| exchangeable(other, group)))
            .map(Option::unwrap_or_default)
            .collect();
        Self { groups, kinds }
    }

    /// For each of `candidates`, given in ascending order with what each adds to a set, the
    /// places of candidates without which it cannot be in the choice: the one before it in its
    /// group, and the one of its rank in an earlier group of its kind.
    pub(super) fn prerequisites(&self, candidates: &[usize], gains: &[Weight]) -> Vec<Before> {
        let mut groups: Vec<Vec<usize>> = vec![Vec::new(); self.kinds.len()];
        for (place, &gpu) in candidates.iter().enumerate() {
            groups[self.groups[gpu]].push(place);
        }
        let mut before = vec![Before::default(); candidates.len()];
        for (at, group) in groups.iter().enumerate() {
            let twin =
                (0..at)
                    .rev()
                    .map(|other| (other, &groups[other]))
                    .find(|(other, places)| {
                        self.kinds[*other] == self.kinds[at] && mirrors(places, group, gains)
                    });
            for (rank, &place) in group.iter().enumerate() {
                before[place] = Before {
                    in_group: rank.checked_sub(1).map(|previous| group[previous]),
                    in_kind: twin.map(|(_, places)| places[rank]),
                };
            }
        }
        before
    }
}

/// What must be chosen before a candidate can be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Before {
    in_group: Option<usize>,
    in_kind: Option<usize>,
}

impl Before {
    /// Whether all of it is chosen.
    pub(super) fn holds(self, is_chosen: &[bool]) -> bool {
        [self.in_group, self.in_kind]
            .into_iter()
            .flatten()
            .all(|place| is_chosen[place])
    }
}

/// Whether, of the candidates, `earlier` and `later` can still be exchanged one for one: there
/// are as many, they add the same, and each of `earlier` comes before its counterpart, so that
/// the exchange never makes a set's positions lower.
fn mirrors(earlier: &[usize], later: &[usize], gains: &[Weight]) -> bool {
    earlier.len() == later.len()
        && earlier
            .iter()
            .zip(later)
            .all(|(&a, &b)| a < b && gains[a] == gains[b])
}
