//! How a GPU comes from what it is cut into to what it is to be cut into, so that the fewest
//! instances are destroyed.
//!
//! The search is exact. Which GPU instances stay is tried in the order of what it costs: first
//! the compute instances that are destroyed count, then the GPU instances that are destroyed, then
//! the GPU instances that there are afterwards. Of equals the one is taken after which most other
//! GPU instances still fit, so that the next change finds room; then the one that keeps the
//! instances with the lower ids.

mod compute;
mod places;
mod search;
mod unreachable;

use std::collections::{BTreeMap, BTreeSet};

use compute::{MOST_SLICES, Sizes, bits, first_fit, is_size, sizes};
use places::Hardware;
use search::{Group, Search, Solution};
pub use unreachable::{HeldInstance, Shortage, Unreachable};

use super::device::MigMode;
use super::layout::{
    ComputeInstance, GpuInstance, Layout, MigStep, MigTable, Placement, ProfileInfo,
};
use super::profile::MigProfile;
use super::target::MigTarget;

/// What is to be done to one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MigPlan {
    /// The steps, in an order that the driver accepts: what goes, then what comes. After one that
    /// sets the mode the GPU is to be looked at again: where the mode waits for a reset, the
    /// steps after it must wait, too.
    pub steps: Vec<MigStep>,
    /// The MIG devices that stay as and where they are, by the ids of GPU instance and compute
    /// instance.
    pub kept: Vec<(u32, u32)>,
    /// The MIG devices that go, by the same ids.
    pub destroyed: Vec<(u32, u32)>,
    /// Whether the mode takes effect with the next reset of the GPU only. Then the steps end
    /// before anything is created; after the reset there is another plan.
    pub needs_reset: bool,
    /// How the GPU is after the steps.
    ///
    /// The driver gives ids to new instances as it likes. Here a GPU instance has the one that
    /// drivers have given so far, which follows from its place (the whole GPU is 0, its halves are
    /// 1 and 2, its quarters 3 to 6, its eighths 7 to 14), or the lowest that is free if another
    /// one has that; a compute instance has the lowest that is free. Whoever compares a GPU with
    /// this compares places.
    pub after: Layout,
}

impl MigPlan {
    /// Whether the driver has nothing to do; the GPU may need a reset all the same.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What the mode is set to, if it is set.
    pub fn changes_mode(&self) -> Option<bool> {
        self.steps.iter().find_map(|step| match step {
            MigStep::SetMode(on) => Some(*on),
            _ => None,
        })
    }
}

/// The change of one GPU that destroys the fewest compute instances, then the fewest GPU
/// instances, then leaves the fewest GPU instances; see the module for the rest of the rule, by
/// which the same question always has the same answer.
///
/// `held` are the GPU instance and compute instance of MIG devices that somebody uses, which are
/// kept in any case; those that are not there are passed over. Whatever `target` says of split
/// devices is met by any sharing of GPU instances.
///
/// # Errors
/// Why there is no such change.
pub fn plan_mig(
    table: &MigTable,
    layout: &Layout,
    target: &MigTarget,
    held: &BTreeSet<(u32, u32)>,
) -> Result<MigPlan, Unreachable> {
    let hardware = Hardware::new(table);
    // Without MIG there are no instances, whatever somebody says that there are.
    let existing: &[GpuInstance] = if layout.mode.current {
        &layout.instances
    } else {
        &[]
    };
    if !target.enabled {
        return off(layout.mode, existing, target, held);
    }
    let groups = groups(table, target)?;
    let search = Search {
        hardware: &hardware,
        groups: &groups,
        existing,
        held,
    };
    let Some(solution) = search.run() else {
        return Err(refusal(&search, target));
    };
    if !layout.mode.current && layout.mode.pending {
        return Ok(MigPlan {
            needs_reset: true,
            after: Layout {
                mode: layout.mode,
                instances: Vec::new(),
            },
            ..MigPlan::default()
        });
    }
    let mut plan = carry_out(&hardware, &groups, existing, &solution);
    if !layout.mode.pending {
        plan.steps.insert(0, MigStep::SetMode(true));
    }
    Ok(plan)
}

fn mode(on: bool) -> MigMode {
    MigMode {
        current: on,
        pending: on,
    }
}

/// Takes everything away and turns MIG off.
fn off(
    now: MigMode,
    existing: &[GpuInstance],
    target: &MigTarget,
    held: &BTreeSet<(u32, u32)>,
) -> Result<MigPlan, Unreachable> {
    if target.wanted().next().is_some() {
        let mut wanted = target.clone();
        wanted.enabled = true;
        return Err(Unreachable::DevicesWithoutMig(wanted));
    }
    let by = held_among(existing, held);
    if !by.is_empty() {
        let target = target.clone();
        return Err(Unreachable::Held { target, by });
    }
    let mut plan = MigPlan::default();
    destroy(existing, &BTreeMap::new(), &mut plan);
    plan.needs_reset = now.current && !now.pending;
    if now.pending {
        plan.steps.push(MigStep::SetMode(false));
        plan.after.mode = mode(false);
    } else {
        plan.after.mode = now;
    }
    Ok(plan)
}

/// The wanted devices by the kind of GPU instance that they are in.
fn groups<'a>(table: &'a MigTable, target: &MigTarget) -> Result<Vec<Group<'a>>, Unreachable> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (profile, count) in target.wanted() {
        let info = check(table, profile, count)?;
        let known = groups
            .iter()
            .position(|group| group.info.profile == info.profile);
        let at = known.unwrap_or_else(|| {
            groups.push(Group {
                info,
                wanted: Sizes::default(),
            });
            groups.len() - 1
        });
        groups[at].wanted.add(profile.compute_slices, count);
    }
    Ok(groups)
}

/// The kind of GPU instance that a profile's devices are in, if so many fit onto an empty GPU.
fn check(table: &MigTable, profile: MigProfile, wanted: u32) -> Result<&ProfileInfo, Unreachable> {
    let whole = profile.gpu_instance();
    let all = whole.gpu_slices;
    let info = table.find(whole).filter(|_| all as usize <= MOST_SLICES);
    let Some(info) = info else {
        let known = table.profiles.iter().map(|info| info.profile).collect();
        return Err(Unreachable::NoSuchProfile { profile, known });
    };
    if !is_size(all, profile.compute_slices) {
        let known = sizes(all).map(|size| whole.with_compute_slices(size));
        let known = known.collect();
        return Err(Unreachable::NoSuchProfile { profile, known });
    }
    let most = info
        .most
        .saturating_mul(compute::most(all, profile.compute_slices));
    if wanted > most {
        return Err(Unreachable::TooMany {
            profile,
            wanted,
            most,
        });
    }
    Ok(info)
}

fn held_among(existing: &[GpuInstance], held: &BTreeSet<(u32, u32)>) -> Vec<HeldInstance> {
    let mut found = Vec::new();
    for instance in existing {
        let inside = instance.compute.iter();
        let inside = inside.filter(|inside| held.contains(&(instance.id, inside.id)));
        found.extend(inside.map(|inside| HeldInstance {
            gpu_instance: instance.id,
            compute_instance: inside.id,
            profile: instance.profile.with_compute_slices(inside.slices),
            placement: instance.placement,
        }));
    }
    found
}

/// Why a search has found nothing.
fn refusal(search: &Search<'_>, target: &MigTarget) -> Unreachable {
    let target = target.clone();
    let empty = Search {
        existing: &[],
        ..*search
    };
    if empty.run().is_none() {
        let shortage = unreachable::shortage(search.hardware, search.groups);
        return Unreachable::NotTogether { target, shortage };
    }
    // Whoever is let go of without effect does not stand in the way.
    let mut by = held_among(search.existing, search.held);
    let pairs = |by: &[HeldInstance]| -> BTreeSet<(u32, u32)> {
        by.iter()
            .map(|held| (held.gpu_instance, held.compute_instance))
            .collect()
    };
    let mut at = 0;
    while at < by.len() {
        let mut fewer = by.clone();
        fewer.remove(at);
        let held = pairs(&fewer);
        let freed = Search {
            held: &held,
            ..*search
        };
        if freed.run().is_none() {
            by = fewer;
        } else {
            at += 1;
        }
    }
    Unreachable::Held { target, by }
}

/// Destroys what is not kept, compute instances first.
fn destroy(existing: &[GpuInstance], kept: &BTreeMap<usize, compute::Filled>, plan: &mut MigPlan) {
    let mut last = Vec::new();
    for (at, instance) in existing.iter().enumerate() {
        let filled = kept.get(&at);
        for (inside, bit) in instance.compute.iter().zip(0..) {
            let ids = (instance.id, inside.id);
            if filled.is_some_and(|filled| filled.keeps(bit)) {
                plan.kept.push(ids);
                continue;
            }
            plan.destroyed.push(ids);
            plan.steps.push(MigStep::DestroyComputeInstance {
                gpu_instance: instance.id,
                id: inside.id,
            });
        }
        if filled.is_none() {
            last.push(MigStep::DestroyGpuInstance { id: instance.id });
        }
    }
    plan.steps.extend(last);
}

/// The steps of a solution and what comes of them.
fn carry_out(
    hardware: &Hardware<'_>,
    groups: &[Group<'_>],
    existing: &[GpuInstance],
    solution: &Solution,
) -> MigPlan {
    let mut plan = MigPlan::default();
    destroy(existing, &solution.kept, &mut plan);
    plan.after.mode = mode(true);
    for (at, filled) in &solution.kept {
        let mut instance = existing[*at].clone();
        let mut bit = 0;
        instance.compute.retain(|_| {
            bit += 1;
            filled.keeps(bit - 1)
        });
        if !filled.made.is_empty() {
            plan.steps.push(MigStep::CreateComputeInstances {
                gpu_instance: instance.id,
                slices: filled.made.clone(),
            });
            make_compute(&mut instance, &filled.made);
        }
        plan.after.instances.push(instance);
    }
    let mut new: Vec<_> = solution.new.iter().collect();
    new.sort_by_key(|(_, place, _)| *place);
    for (group, place, made) in new {
        let profile = groups[*group].info.profile;
        plan.steps.push(MigStep::CreateGpuInstance {
            profile,
            placement: *place,
            slices: made.clone(),
        });
        let mut instance = GpuInstance {
            id: new_id(hardware, &plan.after.instances, *place),
            profile,
            placement: *place,
            compute: Vec::new(),
        };
        make_compute(&mut instance, made);
        plan.after.instances.push(instance);
    }
    plan.after.instances.sort_by_key(|instance| instance.id);
    plan
}

fn make_compute(instance: &mut GpuInstance, made: &[u32]) {
    let all = instance.profile.gpu_slices;
    for slices in made {
        let there = &instance.compute;
        let taken = there
            .iter()
            .fold(0, |taken, inside| taken | bits(inside.placement));
        let is_free = |id: &u32| there.iter().all(|inside| inside.id != *id);
        let id = (0..=u32::MAX).find(is_free);
        if let (Some(placement), Some(id)) = (first_fit(all, taken, *slices), id) {
            instance.compute.push(ComputeInstance {
                id,
                slices: *slices,
                placement,
            });
        }
    }
    instance.compute.sort_by_key(|inside| inside.id);
}

fn new_id(hardware: &Hardware<'_>, there: &[GpuInstance], place: Placement) -> u32 {
    let is_free = |id: &u32| there.iter().all(|instance| instance.id != *id);
    let size = place.size.max(1);
    let usual = (hardware.memory_slices / size + place.start / size).saturating_sub(1);
    let mut ids = std::iter::once(usual).chain(0..=u32::MAX);
    ids.find(is_free).unwrap_or(usual)
}
