//! The search for the change that destroys least.

use std::collections::{BTreeMap, BTreeSet};

use super::compute::{Bin, Filled, Filling, Sizes, bits, fill};
use super::places::{Hardware, arrange, without};
use crate::mig::layout::{Engines, GpuInstance, Placement, ProfileInfo};

/// The MIG devices that are wanted in one kind of GPU instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group<'a> {
    pub(super) info: &'a ProfileInfo,
    pub(super) wanted: Sizes,
}

impl Group<'_> {
    fn slices(&self) -> u32 {
        self.info.profile.gpu_slices
    }

    /// GPU instances that they take at least.
    fn least(&self) -> u32 {
        self.wanted.slices().div_ceil(self.slices().max(1))
    }
}

/// What a change costs, in the order in which it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Cost {
    compute_instances_destroyed: u32,
    gpu_instances_destroyed: u32,
    /// Those that there are afterwards.
    gpu_instances: u32,
}

/// What becomes of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Solution {
    /// GPU instances that stay, by their position, and what becomes of each.
    pub(super) kept: BTreeMap<usize, Filled>,
    /// What is made: the group's position, where, and the compute instances in order.
    pub(super) new: Vec<(usize, Placement, Vec<u32>)>,
}

/// Which GPU instances stay.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    /// No change that keeps exactly these costs less.
    least: Cost,
    kept: u64,
    taken: u64,
}

/// How the devices of a group are made with the GPU instances that stay and so many new ones.
#[derive(Debug, Clone)]
struct Choice {
    new: u32,
    filling: Filling,
}

/// The GPU as it is and what is wanted of it.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) hardware: &'a Hardware<'a>,
    pub(super) groups: &'a [Group<'a>],
    pub(super) existing: &'a [GpuInstance],
    pub(super) held: &'a BTreeSet<(u32, u32)>,
}

impl Search<'_> {
    /// The cheapest change; of equals the one after which most still fits, then the one that
    /// keeps the GPU instances that come first.
    pub(super) fn run(&self) -> Option<Solution> {
        let mut candidates = self.candidates();
        candidates.sort_by_key(|candidate| candidate.least);
        let mut best = Best::default();
        let mut known = BTreeMap::new();
        for candidate in candidates {
            if best.cost().is_some_and(|cost| cost < candidate.least) {
                break;
            }
            self.complete(&candidate, &mut known, &mut best);
        }
        best.found.map(|(_, _, solution)| solution)
    }

    fn held_in(&self, at: usize) -> u64 {
        let instance = &self.existing[at];
        let inside = instance.compute.iter().zip(0..u64::BITS);
        inside
            .filter(|(inside, _)| self.held.contains(&(instance.id, inside.id)))
            .fold(0, |bits, (_, at)| bits | 1 << at)
    }

    fn is_held(&self, instance: &GpuInstance) -> bool {
        let mut inside = instance.compute.iter();
        inside.any(|inside| self.held.contains(&(instance.id, inside.id)))
    }

    fn group_of(&self, at: usize) -> Option<usize> {
        let profile = self.existing[at].profile;
        let mut groups = self.groups.iter();
        groups.position(|group| group.info.profile == profile)
    }

    /// Every set of GPU instances that may stay, those first that keep what comes first.
    fn candidates(&self) -> Vec<Candidate> {
        let mut sets = vec![(0_u64, 0_u64)];
        let beyond = self.existing.get(64..).unwrap_or_default();
        if beyond.iter().any(|instance| self.is_held(instance)) {
            return Vec::new();
        }
        for (at, instance) in self.existing.iter().enumerate().take(64) {
            let slices = bits(instance.placement);
            let outside = !self.hardware.has(instance.placement);
            let may = self.group_of(at).is_some() && !outside;
            let must = self.is_held(instance);
            let mut then = Vec::with_capacity(sets.len() * 2);
            for (kept, taken) in sets {
                if may && taken & slices == 0 {
                    then.push((kept | 1 << at, taken | slices));
                }
                if !must {
                    then.push((kept, taken));
                }
            }
            sets = then;
        }
        let least = |(kept, taken)| {
            let least = self.least(kept)?;
            Some(Candidate { least, kept, taken })
        };
        sets.into_iter().filter_map(least).collect()
    }

    fn staying(&self, kept: u64) -> impl Iterator<Item = usize> {
        (0..self.existing.len().min(64)).filter(move |at| kept >> at & 1 == 1)
    }

    /// What keeping exactly these GPU instances costs at least; `None` if there are more than
    /// devices for them.
    fn least(&self, kept: u64) -> Option<Cost> {
        let mut devices_kept = 0;
        let mut gpu_instances = 0;
        for (at, group) in self.groups.iter().enumerate() {
            let staying = self
                .staying(kept)
                .filter(|of| self.group_of(*of) == Some(at));
            let (mut count, mut there) = (0, Sizes::default());
            for of in staying {
                count += 1;
                for inside in &self.existing[of].compute {
                    if group.wanted.of(inside.slices) > 0 {
                        there.add(inside.slices, 1);
                    }
                }
            }
            if count > group.wanted.total() {
                return None;
            }
            devices_kept += there.common(group.wanted);
            gpu_instances += group.least().max(count);
        }
        let devices: usize = self.existing.iter().map(|found| found.compute.len()).sum();
        let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Some(Cost {
            compute_instances_destroyed: narrow(devices) - devices_kept,
            gpu_instances_destroyed: narrow(self.existing.len()) - kept.count_ones(),
            gpu_instances,
        })
    }

    /// Finds what is to be made beside the GPU instances that stay.
    fn complete(
        &self,
        candidate: &Candidate,
        known: &mut BTreeMap<(usize, u64), Vec<Choice>>,
        best: &mut Best,
    ) {
        let mut masks = Vec::with_capacity(self.groups.len());
        for at in 0..self.groups.len() {
            let staying = self.staying(candidate.kept);
            let mask = staying
                .filter(|of| self.group_of(*of) == Some(at))
                .fold(0, |mask, of| mask | 1 << of);
            known
                .entry((at, mask))
                .or_insert_with(|| self.choices(at, mask));
            masks.push(mask);
        }
        let choices: Vec<&[Choice]> = masks
            .iter()
            .enumerate()
            .map(|(at, mask)| known.get(&(at, *mask)).map_or(&[][..], Vec::as_slice))
            .collect();
        self.combine(candidate, &choices, &mut Vec::new(), best);
    }

    /// The ways to make a group's devices with these GPU instances: each with more new ones than
    /// the one before destroys fewer compute instances.
    fn choices(&self, at: usize, kept: u64) -> Vec<Choice> {
        let group = &self.groups[at];
        let mut bins: Vec<Bin<'_>> = self
            .staying(kept)
            .map(|of| Bin {
                compute: &self.existing[of].compute,
                held: self.held_in(of),
            })
            .collect();
        let there = kept.count_ones();
        let most = group.info.most.min(group.wanted.total());
        let mut choices: Vec<Choice> = Vec::new();
        for count in group.least().max(there)..=most.max(there) {
            let empty = Bin {
                compute: &[],
                held: 0,
            };
            bins.resize(count as usize, empty);
            let Some(filling) = fill(group.slices(), &bins, group.wanted) else {
                continue;
            };
            let least = choices.last().map(|choice| choice.filling.destroyed);
            if least.is_none_or(|least| filling.destroyed < least) {
                choices.push(Choice {
                    new: count - there,
                    filling,
                });
            }
        }
        choices
    }

    fn combine<'c>(
        &self,
        candidate: &Candidate,
        choices: &[&'c [Choice]],
        chosen: &mut Vec<&'c Choice>,
        best: &mut Best,
    ) {
        let Some(next) = choices.get(chosen.len()) else {
            self.consider(candidate, chosen, best);
            return;
        };
        for choice in *next {
            chosen.push(choice);
            self.combine(candidate, choices, chosen, best);
            chosen.pop();
        }
    }

    fn cost(&self, candidate: &Candidate, chosen: &[&Choice]) -> Cost {
        let going =
            (0..self.existing.len()).filter(|at| *at >= 64 || candidate.kept >> at & 1 == 0);
        let gone: usize = going.map(|at| self.existing[at].compute.len()).sum();
        let destroyed: u32 = chosen.iter().map(|choice| choice.filling.destroyed).sum();
        let new: u32 = chosen.iter().map(|choice| choice.new).sum();
        Cost {
            compute_instances_destroyed: u32::try_from(gone).unwrap_or(u32::MAX) + destroyed,
            gpu_instances_destroyed: candidate.least.gpu_instances_destroyed,
            gpu_instances: candidate.kept.count_ones() + new,
        }
    }

    /// Places what is new and keeps the whole if it is better than what was found.
    fn consider(&self, candidate: &Candidate, chosen: &[&Choice], best: &mut Best) {
        let cost = self.cost(candidate, chosen);
        if best.cost().is_some_and(|found| found < cost) {
            return;
        }
        let Some(left) = self.engines_left(candidate, chosen) else {
            return;
        };
        let mut new = Vec::new();
        for (group, choice) in self.groups.iter().zip(chosen) {
            new.extend((0..choice.new).map(|_| group.info));
        }
        let Some(found) = arrange(self.hardware, candidate.taken, &new, left) else {
            return;
        };
        if best.is_beaten_by(cost, found.room) {
            let solution = self.solution(candidate, chosen, found.places);
            best.found = Some((cost, found.room, solution));
        }
    }

    fn engines_left(&self, candidate: &Candidate, chosen: &[&Choice]) -> Option<Engines> {
        let mut left = self.hardware.engines;
        for (at, (group, choice)) in self.groups.iter().zip(chosen).enumerate() {
            let staying = self.staying(candidate.kept);
            let staying = staying.filter(|of| self.group_of(*of) == Some(at)).count();
            let count = choice.new + u32::try_from(staying).unwrap_or(u32::MAX);
            left = without(left, group.info.engines, count)?;
        }
        Some(left)
    }

    fn solution(
        &self,
        candidate: &Candidate,
        chosen: &[&Choice],
        places: Vec<Placement>,
    ) -> Solution {
        let mut solution = Solution::default();
        let mut places = places.into_iter();
        for (at, choice) in chosen.iter().enumerate() {
            let mut bins = choice.filling.bins.iter().cloned();
            let staying = self.staying(candidate.kept);
            let staying = staying.filter(|of| self.group_of(*of) == Some(at));
            for (of, filled) in staying.zip(bins.by_ref()) {
                solution.kept.insert(of, filled);
            }
            let new = bins.zip(places.by_ref().take(choice.new as usize));
            solution
                .new
                .extend(new.map(|(filled, place)| (at, place, filled.made)));
        }
        solution
    }
}

/// The best change that was found.
#[derive(Debug, Default)]
struct Best {
    found: Option<(Cost, u32, Solution)>,
}

impl Best {
    fn cost(&self) -> Option<Cost> {
        self.found.as_ref().map(|(cost, _, _)| *cost)
    }

    fn is_beaten_by(&self, cost: Cost, room: u32) -> bool {
        let found = self.found.as_ref();
        found.is_none_or(|(least, most, _)| cost < *least || cost == *least && room > *most)
    }
}
