//! Where new GPU instances go beside those that stay.

use super::compute::bits;
use crate::mig::layout::{Engines, MigTable, Placement, ProfileInfo};

/// A table with what the search asks it often.
#[derive(Debug)]
pub(super) struct Hardware<'a> {
    pub(super) table: &'a MigTable,
    /// The engines of the whole GPU. No driver tells them; the largest profile has all of each
    /// kind, and the most that any profile has is all that there is.
    pub(super) engines: Engines,
    /// Compute slices of the whole GPU.
    pub(super) slices: u32,
    /// Memory slices of the whole GPU.
    pub(super) memory_slices: u32,
    /// The places of each profile as bits.
    places: Vec<Vec<u64>>,
}

impl<'a> Hardware<'a> {
    pub(super) fn new(table: &'a MigTable) -> Self {
        let profiles = &table.profiles;
        let most = |engine: fn(&Engines) -> u32| {
            let each = profiles.iter().map(|info| engine(&info.engines));
            each.max().unwrap_or(0)
        };
        let slices = profiles.iter().map(|info| info.profile.gpu_slices);
        let ends = profiles.iter().flat_map(|info| &info.placements);
        let ends = ends.map(|place| place.start.saturating_add(place.size));
        Self {
            table,
            engines: Engines {
                copy: most(|engines| engines.copy),
                decoders: most(|engines| engines.decoders),
                encoders: most(|engines| engines.encoders),
                jpeg: most(|engines| engines.jpeg),
                ofa: most(|engines| engines.ofa),
            },
            slices: slices.max().unwrap_or(0),
            memory_slices: ends.max().unwrap_or(0),
            places: profiles
                .iter()
                .map(|info| info.placements.iter().map(|place| bits(*place)).collect())
                .collect(),
        }
    }

    /// Whether a place is on the GPU.
    pub(super) fn has(&self, place: Placement) -> bool {
        place.start.saturating_add(place.size) <= self.memory_slices
    }

    /// How many more GPU instances fit, summed over all profiles.
    fn room(&self, taken: u64, left: Engines) -> u32 {
        let each = self.table.profiles.iter().zip(&self.places);
        each.map(|(info, places)| {
            let free = places.iter().filter(|place| *place & taken == 0).count();
            let free = u32::try_from(free).unwrap_or(u32::MAX);
            limits(left, info.engines)
                .into_iter()
                .filter_map(|(left, each)| left.checked_div(each))
                .fold(free, u32::min)
        })
        .sum()
    }
}

/// Kinds of engines that limit what fits: what there is and what one takes.
pub(super) fn limits(all: Engines, each: Engines) -> [(u32, u32); 4] {
    [
        (all.decoders, each.decoders),
        (all.encoders, each.encoders),
        (all.jpeg, each.jpeg),
        (all.ofa, each.ofa),
    ]
}

/// What is left of the engines when `count` times `each` is taken; `None` if it is not enough.
pub(super) fn without(left: Engines, each: Engines, count: u32) -> Option<Engines> {
    let take = |left: u32, each: u32| left.checked_sub(each.checked_mul(count)?);
    Some(Engines {
        copy: left.copy,
        decoders: take(left.decoders, each.decoders)?,
        encoders: take(left.encoders, each.encoders)?,
        jpeg: take(left.jpeg, each.jpeg)?,
        ofa: take(left.ofa, each.ofa)?,
    })
}

/// Where new GPU instances go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrangement {
    /// What still fits beside all of them.
    pub(super) room: u32,
    /// In the order of what was asked for.
    pub(super) places: Vec<Placement>,
}

/// Places for new GPU instances beside what is taken, so that most still fits afterwards, as the
/// driver itself chooses; of equals those with the lowest starts.
pub(super) fn arrange(
    hardware: &Hardware<'_>,
    taken: u64,
    new: &[&ProfileInfo],
    left: Engines,
) -> Option<Arrangement> {
    let mut by_size: Vec<usize> = (0..new.len()).collect();
    let size = |at: usize| new[at].placements.first().map_or(0, |place| place.size);
    by_size.sort_by_key(|at| std::cmp::Reverse(size(*at)));
    let mut arranger = Arranger {
        hardware,
        new,
        by_size,
        left,
        seen: vec![Vec::new(); new.len() + 1],
        current: vec![Placement { start: 0, size: 0 }; new.len()],
        best: None,
    };
    arranger.descend(0, taken);
    arranger.best
}

struct Arranger<'a> {
    hardware: &'a Hardware<'a>,
    new: &'a [&'a ProfileInfo],
    /// The largest first, which has the fewest places.
    by_size: Vec<usize>,
    left: Engines,
    /// What was taken when so many were placed: another way there leads nowhere else.
    seen: Vec<Vec<u64>>,
    current: Vec<Placement>,
    best: Option<Arrangement>,
}

impl Arranger<'_> {
    fn descend(&mut self, level: usize, taken: u64) {
        if self.seen[level].contains(&taken) {
            return;
        }
        self.seen[level].push(taken);
        let Some(at) = self.by_size.get(level).copied() else {
            let room = self.hardware.room(taken, self.left);
            if self.best.as_ref().is_none_or(|best| best.room < room) {
                self.best = Some(Arrangement {
                    room,
                    places: self.current.clone(),
                });
            }
            return;
        };
        let info = self.new[at];
        for place in &info.placements {
            let slices = bits(*place);
            if slices & taken == 0 {
                self.current[at] = *place;
                self.descend(level + 1, taken | slices);
            }
        }
    }
}
