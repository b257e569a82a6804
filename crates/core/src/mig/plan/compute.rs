//! How compute instances share the slices of GPU instances of one kind.

use crate::mig::layout::{ComputeInstance, Placement};

/// Slices of the largest GPU instance that is planned for; no GPU has more than 8.
pub(super) const MOST_SLICES: usize = 16;

/// Whether a GPU instance of `all` slices can have compute instances of `size`, as drivers list
/// them: the whole of it, or 1, 2, 3, 4 or 7 slices, but not 3 of 4.
pub(super) fn is_size(all: u32, size: u32) -> bool {
    size == all || size < all && matches!(size, 1..=4 | 7) && (size, all) != (3, 4)
}

/// The sizes that compute instances can have in a GPU instance of `all` slices.
pub(super) fn sizes(all: u32) -> impl Iterator<Item = u32> {
    (1..=all).filter(move |size| is_size(all, *size))
}

/// Where a compute instance can be in an empty GPU instance: it begins at a multiple of its size,
/// and one of three slices at a multiple of four.
fn places(all: u32, size: u32) -> impl Iterator<Item = Placement> {
    let step = if size == 3 { 4 } else { size.max(1) };
    (0..all)
        .step_by(step as usize)
        .filter(move |start| start + size <= all)
        .map(move |start| Placement { start, size })
}

/// How many compute instances of one size an empty GPU instance can have.
pub(super) fn most(all: u32, size: u32) -> u32 {
    u32::try_from(places(all, size).count()).unwrap_or(u32::MAX)
}

/// The slices of a place as bits; all of them for one that is beyond what is planned for, so
/// that nothing is put beside it.
pub(super) fn bits(place: Placement) -> u64 {
    let end = place.start.saturating_add(place.size);
    if end > u64::BITS || place.size == 0 {
        return u64::MAX;
    }
    (u64::MAX >> (u64::BITS - place.size)) << place.start
}

/// Where the driver puts the next compute instance of a size: as far down as there is room.
pub(super) fn first_fit(all: u32, taken: u64, size: u32) -> Option<Placement> {
    places(all, size).find(|place| bits(*place) & taken == 0)
}

/// How many compute instances of each size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Sizes([u32; MOST_SLICES + 1]);

impl Sizes {
    pub(super) fn add(&mut self, size: u32, count: u32) {
        self.0[size as usize] += count;
    }

    /// Takes one away; false if there is none.
    fn take(&mut self, size: u32) -> bool {
        match self.0.get_mut(size as usize) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }

    pub(super) fn of(self, size: u32) -> u32 {
        self.0.get(size as usize).copied().unwrap_or(0)
    }

    /// How many are in both.
    pub(super) fn common(self, other: Self) -> u32 {
        let both = self.0.iter().zip(&other.0);
        both.map(|(a, b)| a.min(b)).sum()
    }

    pub(super) fn total(self) -> u32 {
        self.0.iter().sum()
    }

    pub(super) fn slices(self) -> u32 {
        let each = self.0.iter().zip(0..);
        each.map(|(count, size)| count * size).sum()
    }

    /// Those that there are, the largest first.
    fn descending(self) -> impl Iterator<Item = u32> {
        (1..=MOST_SLICES)
            .rev()
            .filter(move |size| self.0[*size] > 0)
            .map(|size| u32::try_from(size).unwrap_or(0))
    }
}

/// The order in which compute instances must be made so that the driver finds room for all of
/// them beside those that are there: the largest first wherever that goes well. `None` if they
/// do not fit at all: whatever fits somehow fits from the lowest slice upwards, too.
pub(super) fn order(all: u32, taken: u64, wanted: Sizes) -> Option<Vec<u32>> {
    let mut order = Vec::new();
    ordered(all, taken, wanted, &mut order).then_some(order)
}

fn ordered(all: u32, taken: u64, mut wanted: Sizes, order: &mut Vec<u32>) -> bool {
    if wanted.total() == 0 {
        return true;
    }
    for size in wanted.descending() {
        let Some(place) = first_fit(all, taken, size) else {
            return false;
        };
        order.push(size);
        wanted.take(size);
        if ordered(all, taken | bits(place), wanted, order) {
            return true;
        }
        wanted.add(size, 1);
        order.pop();
    }
    false
}

/// A GPU instance that is to be filled: what is in it, and which of that must stay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bin<'a> {
    pub(super) compute: &'a [ComputeInstance],
    /// Bits by position.
    pub(super) held: u64,
}

/// What becomes of a GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Filled {
    /// Which of its compute instances stay, as bits by position.
    pub(super) kept: u64,
    /// What is made in it, in this order.
    pub(super) made: Vec<u32>,
}

impl Filled {
    /// Whether the compute instance at this position stays.
    pub(super) fn keeps(&self, at: u32) -> bool {
        self.kept.checked_shr(at).is_some_and(|kept| kept & 1 == 1)
    }
}

/// How GPU instances are filled so that no more compute instances than needed are destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filling {
    pub(super) destroyed: u32,
    /// In the order of the bins.
    pub(super) bins: Vec<Filled>,
}

/// Fills GPU instances of `all` slices with exactly what is wanted, so that none is left empty.
/// Of equals it finds the one that keeps what comes first, and fills the first bins first.
pub(super) fn fill(all: u32, bins: &[Bin<'_>], wanted: Sizes) -> Option<Filling> {
    let mut there = Sizes::default();
    for inside in bins.iter().flat_map(|bin| bin.compute) {
        if wanted.of(inside.slices) > 0 {
            there.add(inside.slices, 1);
        }
    }
    let count: usize = bins.iter().map(|bin| bin.compute.len()).sum();
    let kept = there.common(wanted);
    let mut filler = Filler {
        all,
        bins,
        least: u32::try_from(count)
            .unwrap_or(u32::MAX)
            .saturating_sub(kept),
        best: None,
        current: Vec::with_capacity(bins.len()),
    };
    filler.descend(wanted, 0, None);
    filler.best
}

struct Filler<'a> {
    all: u32,
    bins: &'a [Bin<'a>],
    /// What must be destroyed in any case.
    least: u32,
    best: Option<Filling>,
    current: Vec<Filled>,
}

impl Filler<'_> {
    /// Whether nothing better than what was found can be.
    fn is_done(&self) -> bool {
        let best = self.best.as_ref();
        best.is_some_and(|best| best.destroyed <= self.least)
    }

    fn descend(&mut self, wanted: Sizes, destroyed: u32, last_new: Option<Sizes>) {
        let at = self.current.len();
        let Some(bin) = self.bins.get(at).copied() else {
            if wanted.total() == 0 {
                self.best = Some(Filling {
                    destroyed,
                    bins: self.current.clone(),
                });
            }
            return;
        };
        let left = u32::try_from(self.bins.len() - at).unwrap_or(u32::MAX);
        if wanted.total() < left || wanted.slices() > left.saturating_mul(self.all) {
            return;
        }
        for (kept, gone) in subsets(self.all, bin) {
            let best = self.best.as_ref().map(|best| best.destroyed);
            if best.is_some_and(|best| destroyed + gone >= best) {
                break;
            }
            let mut rest = wanted;
            let mut taken = 0;
            let fits = kept_in(bin, kept).all(|inside| {
                let bits = bits(inside.placement);
                let free = taken & bits == 0;
                taken |= bits;
                free && rest.take(inside.slices)
            });
            if fits {
                self.fill_bin(bin, kept, taken, rest, destroyed + gone, last_new);
            }
            if self.is_done() {
                return;
            }
        }
    }

    /// Tries everything that can be made beside what is kept.
    fn fill_bin(
        &mut self,
        bin: Bin<'_>,
        kept: u64,
        taken: u64,
        rest: Sizes,
        destroyed: u32,
        last_new: Option<Sizes>,
    ) {
        let is_last = self.current.len() + 1 == self.bins.len();
        let choices = if is_last {
            vec![rest]
        } else {
            multisets(rest, self.all - taken.count_ones().min(self.all))
        };
        for made in choices {
            let is_new = bin.compute.is_empty();
            // New ones are all alike: one order of them is enough.
            let again = is_new && last_new.is_some_and(|last| made > last);
            if again || kept == 0 && made.total() == 0 {
                continue;
            }
            let Some(order) = order(self.all, taken, made) else {
                continue;
            };
            let mut then = rest;
            for size in &order {
                then.take(*size);
            }
            self.current.push(Filled { kept, made: order });
            self.descend(then, destroyed, is_new.then_some(made));
            self.current.pop();
            let best = self.best.as_ref();
            if best.is_some_and(|best| best.destroyed <= destroyed) {
                return;
            }
        }
    }
}

fn kept_in(bin: Bin<'_>, kept: u64) -> impl Iterator<Item = &ComputeInstance> {
    let all = bin.compute.iter().zip(0..u64::BITS);
    all.filter(move |(_, at)| kept >> at & 1 == 1)
        .map(|(inside, _)| inside)
}

/// What can be kept of a GPU instance and how many go, the fewest first; of equals those that
/// keep what comes first.
fn subsets(all: u32, bin: Bin<'_>) -> Vec<(u64, u32)> {
    let mut subsets = vec![(0_u64, 0_u64)];
    for (inside, at) in bin.compute.iter().zip(0..u64::BITS) {
        let slices = bits(inside.placement);
        if slices >> all != 0 {
            continue;
        }
        let with: Vec<_> = subsets
            .iter()
            .filter(|(_, taken)| taken & slices == 0)
            .map(|(kept, taken)| (kept | 1 << at, taken | slices))
            .collect();
        subsets.extend(with);
    }
    let count = u32::try_from(bin.compute.len()).unwrap_or(u32::MAX);
    let mut subsets: Vec<_> = subsets
        .into_iter()
        .filter(|(kept, _)| kept & bin.held == bin.held)
        .map(|(kept, _)| (kept, count - kept.count_ones()))
        .collect();
    subsets.sort_unstable_by_key(|(kept, gone)| (*gone, std::cmp::Reverse(kept.reverse_bits())));
    subsets
}

/// Everything that can be taken of `wanted` for so many slices, the fullest first.
fn multisets(wanted: Sizes, room: u32) -> Vec<Sizes> {
    let mut sets = vec![Sizes::default()];
    for size in wanted.descending() {
        for at in 0..sets.len() {
            let mut set = sets[at];
            for _ in 0..wanted.of(size) {
                set.add(size, 1);
                if set.slices() > room {
                    break;
                }
                sets.push(set);
            }
        }
    }
    sets.sort_unstable_by_key(|set| (std::cmp::Reverse(set.slices()), std::cmp::Reverse(*set)));
    sets
}
