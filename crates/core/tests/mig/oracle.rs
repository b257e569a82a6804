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
    let all: Vec<(usize, &ComputeInstance)> = layout
        .instances
        .iter()
        .enumerate()
        .flat_map(|(at, instance)| instance.compute.iter().map(move |inside| (at, inside)))
        .collect();
    let mut best = None;
    for compute in subsets(all.len()) {
        let lost = |at: &usize| !compute.contains(at);
        let held_lost = (0..all.len()).filter(lost).any(|at| {
            let (of, inside) = all[at];
            held.contains(&(layout.instances[of].id, inside.id))
        });
        if held_lost {
            continue;
        }
        for kept in subsets(layout.instances.len()) {
            if compute.iter().any(|at| !kept.contains(&all[*at].0)) {
                continue;
            }
            let destroyed = all.len() - compute.len();
            let gone = layout.instances.len() - kept.len();
            let after = best.map_or(usize::MAX, |best: Cost| {
                if (destroyed, gone) > (best.0, best.1) {
                    0
                } else if (destroyed, gone) < (best.0, best.1) {
                    usize::MAX
                } else {
                    best.2
                }
            });
            let instances = kept.iter().map(|of| {
                let instance = &layout.instances[*of];
                let inside = compute.iter().map(|at| all[*at]);
                Instance {
                    profile: instance.profile,
                    placement: instance.placement,
                    taken: inside
                        .filter(|(at, _)| at == of)
                        .map(|(_, inside)| inside.placement)
                        .collect(),
                }
            });
            let instances: Vec<Instance> = instances.collect();
            let mut wanted = target.devices.clone();
            let surplus = compute.iter().any(|at| {
                let (of, inside) = all[*at];
                let profile = layout.instances[of]
                    .profile
                    .with_compute_slices(inside.slices);
                let count = wanted.get_mut(&profile).filter(|count| **count > 0);
                count.map(|count| *count -= 1).is_none()
            });
            if surplus {
                continue;
            }
            let wanted: Vec<MigProfile> = wanted
                .iter()
                .flat_map(|(profile, count)| vec![*profile; *count as usize])
                .collect();
            let found = fewest(table, engines, &instances, &wanted, 0, after);
            if let Some(count) = found {
                let cost = (destroyed, gone, count);
                best = Some(best.map_or(cost, |best| best.min(cost)));
            }
        }
    }
    best
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
