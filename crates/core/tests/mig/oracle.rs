//! The rules of a change, word for word and without any cleverness.

use std::collections::BTreeSet;

use mizzen_core::mig::{
    ComputeInstance, Engines, Layout, MigProfile, MigTable, MigTarget, Placement,
};

/// Compute instances destroyed, GPU instances destroyed, GPU instances afterwards.
pub(crate) type Cost = (usize, usize, usize);

/// A GPU instance as it would be: what it is, and which of its compute slices are taken.
#[derive(Debug, Clone)]
struct Instance {
    profile: MigProfile,
    placement: Placement,
    taken: Vec<Placement>,
}

/// The least that a change costs, found by looking at every one; `None` if there is none.
pub(crate) fn least_cost(
    table: &MigTable,
    engines: Engines,
    layout: &Layout,
    target: &MigTarget,
    held: &BTreeSet<(u32, u32)>,
) -> Option<Cost> {
    let all: Vec<Inside<'_>> = layout
        .instances
        .iter()
        .enumerate()
        .flat_map(|(at, instance)| instance.compute.iter().map(move |inside| (at, inside)))
        .collect();
    let is_held = |(at, inside): &Inside<'_>| held.contains(&(layout.instances[*at].id, inside.id));
    let mut best: Option<Cost> = None;
    for compute in subsets(all.len()) {
        let compute: Vec<Inside<'_>> = compute.iter().map(|at| all[*at]).collect();
        let count = |some: &[Inside<'_>]| some.iter().filter(|inside| is_held(inside)).count();
        if count(&compute) < count(&all) {
            continue;
        }
        let Some(wanted) = still_wanted(layout, target, &compute) else {
            continue;
        };
        for kept in subsets(layout.instances.len()) {
            let instances = staying(layout, &kept, &compute);
            let destroyed = all.len() - compute.len();
            let gone = layout.instances.len() - kept.len();
            let is_worse = best.is_some_and(|best| (best.0, best.1) < (destroyed, gone));
            if is_worse || compute.iter().any(|(at, _)| !kept.contains(at)) {
                continue;
            }
            if let Some(count) = fewest(table, engines, &instances, &wanted, 0, usize::MAX) {
                let cost = (destroyed, gone, count);
                best = Some(best.map_or(cost, |best| best.min(cost)));
            }
        }
    }
    best
}

/// A compute instance with the position of its GPU instance.
type Inside<'a> = (usize, &'a ComputeInstance);

/// What is to be made beside the compute instances that stay; `None` if one of those is not
/// wanted.
fn still_wanted(
    layout: &Layout,
    target: &MigTarget,
    compute: &[Inside<'_>],
) -> Option<Vec<MigProfile>> {
    let mut wanted = target.devices.clone();
    for (at, inside) in compute {
        let whole = layout.instances[*at].profile;
        let count = wanted.get_mut(&whole.with_compute_slices(inside.slices))?;
        *count = count.checked_sub(1)?;
    }
    let each = wanted.into_iter();
    Some(
        each.flat_map(|(profile, count)| vec![profile; count as usize])
            .collect(),
    )
}

fn staying(layout: &Layout, kept: &[usize], compute: &[Inside<'_>]) -> Vec<Instance> {
    let kept = kept.iter().map(|of| Instance {
        profile: layout.instances[*of].profile,
        placement: layout.instances[*of].placement,
        taken: compute
            .iter()
            .filter(|(at, _)| at == of)
            .map(|(_, inside)| inside.placement)
            .collect(),
    });
    kept.collect()
}

fn subsets(size: usize) -> impl Iterator<Item = Vec<usize>> {
    (0_u32..1 << size).map(move |set| (0..size).filter(|at| set >> at & 1 == 1).collect())
}

/// The fewest GPU instances, fewer than `below`, with which the wanted devices fit beside what
/// there is.
fn fewest(
    table: &MigTable,
    engines: Engines,
    instances: &[Instance],
    wanted: &[MigProfile],
    from: usize,
    below: usize,
) -> Option<usize> {
    if instances.len() >= below || !in_budget(table, engines, instances) {
        return None;
    }
    let mut best = fits(instances, wanted).then_some(instances.len());
    let kinds: BTreeSet<MigProfile> = wanted.iter().map(|device| device.gpu_instance()).collect();
    let places: Vec<(MigProfile, Placement)> = table
        .profiles
        .iter()
        .filter(|info| kinds.contains(&info.profile))
        .flat_map(|info| info.placements.iter().map(|place| (info.profile, *place)))
        .collect();
    for (at, (profile, placement)) in places.iter().enumerate().skip(from) {
        let mut others = instances.iter();
        if others.any(|other| other.placement.overlaps(*placement)) {
            continue;
        }
        let mut more = instances.to_vec();
        more.push(Instance {
            profile: *profile,
            placement: *placement,
            taken: Vec::new(),
        });
        let below = best.unwrap_or(below);
        let found = fewest(table, engines, &more, wanted, at + 1, below);
        best = found.or(best);
    }
    best
}

fn in_budget(table: &MigTable, engines: Engines, instances: &[Instance]) -> bool {
    let sum = |engine: fn(&Engines) -> u32| -> u32 {
        let each = instances.iter();
        each.map(|instance| engine(&table.find(instance.profile).unwrap().engines))
            .sum()
    };
    sum(|engines| engines.decoders) <= engines.decoders
        && sum(|engines| engines.encoders) <= engines.encoders
        && sum(|engines| engines.jpeg) <= engines.jpeg
        && sum(|engines| engines.ofa) <= engines.ofa
}

/// Whether all devices can be made so that no GPU instance is left empty. Devices of one kind
/// stand next to each other.
fn fits(instances: &[Instance], wanted: &[MigProfile]) -> bool {
    place(&mut instances.to_vec(), wanted, (0, 0))
}

fn place(instances: &mut Vec<Instance>, wanted: &[MigProfile], from: (usize, u32)) -> bool {
    let Some((device, rest)) = wanted.split_first() else {
        return instances.iter().all(|instance| !instance.taken.is_empty());
    };
    let empty = instances.iter().filter(|found| found.taken.is_empty());
    if empty.count() > wanted.len() {
        return false;
    }
    let (all, size) = (device.gpu_slices, device.compute_slices);
    let step = if size == 3 { 4 } else { size };
    for at in from.0..instances.len() {
        if instances[at].profile != device.gpu_instance() {
            continue;
        }
        let first = if at == from.0 { from.1 } else { 0 };
        for start in (first..all).filter(|start| start % step == 0 && start + size <= all) {
            let place_here = Placement { start, size };
            let mut taken = instances[at].taken.iter();
            if taken.any(|other| other.overlaps(place_here)) {
                continue;
            }
            instances[at].taken.push(place_here);
            let next = if rest.first() == Some(device) {
                (at, start)
            } else {
                (0, 0)
            };
            if place(instances, rest, next) {
                return true;
            }
            instances[at].taken.pop();
        }
    }
    false
}
