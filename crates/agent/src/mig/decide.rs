//! What is to be done about one GPU next.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use mizzen_core::gpu::GpuUuid;
use mizzen_core::mig::{
    Layout, MigDevice, MigPlan, MigStep, MigTable, MigTarget, Shortage, Unreachable, plan_mig,
};
use mizzen_core::state::Withheld;

use super::holders::Holders;
use crate::cluster::PodName;

/// How many held instances are weighed against each other; GPUs have seven at most so far.
const MOST_HELD: usize = 10;

/// A GPU as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) uuid: GpuUuid,
    pub(super) index: u32,
    /// What it can be cut into.
    pub(super) table: MigTable,
    /// What it is cut into.
    pub(super) layout: Layout,
    /// The same as the kubelet's pods know it.
    pub(super) devices: Vec<MigDevice>,
}

impl Look {
    /// The compute instances, by the ids of their GPU instance and their own.
    pub(super) fn compute_instances(&self) -> impl Iterator<Item = (u32, u32)> {
        let instances = self.layout.instances.iter();
        instances.flat_map(|gi| gi.compute.iter().map(move |ci| (gi.id, ci.id)))
    }

    /// The compute instances that the driver does not list as MIG devices: one that it cannot
    /// describe, or whose capability cannot be read.
    pub(super) fn unnamed(&self) -> impl Iterator<Item = (u32, u32)> {
        let named = |place: &(u32, u32)| {
            let mut devices = self.devices.iter();
            devices.any(|device| (device.gpu_instance, device.compute_instance) == *place)
        };
        self.compute_instances().filter(move |place| !named(place))
    }

    /// Whether it is as it shall be, and stays so after a reset.
    pub(super) fn is(&self, target: &MigTarget) -> bool {
        target.is_met_by(&self.layout) && self.layout.mode.pending == target.enabled
    }

    /// The GPU and all of its MIG devices.
    pub(super) fn everything(&self) -> BTreeSet<String> {
        let devices = self.devices.iter().map(|device| device.uuid.to_string());
        devices.chain([self.uuid.to_string()]).collect()
    }
}

/// A change, and what must not be given out meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// What is withheld from the kubelet; nothing where nothing is taken away.
    pub(super) withheld: Option<Withheld>,
    /// The devices that the kubelet must not be able to give out any more before the first step.
    pub(super) gone: BTreeSet<String>,
    pub(super) steps: Vec<MigStep>,
}

impl Change {
    /// Nothing, with the whole GPU out of the way.
    pub(super) fn nothing_but(gpu: &Look) -> Self {
        Self {
            withheld: Some(Withheld::Whole),
            gone: gpu.everything(),
            steps: Vec::new(),
        }
    }

    /// The same where the GPU is offered as a whole although it is partitioned.
    pub(super) fn of_whole(self, gpu: &Look) -> Self {
        match self.withheld {
            None => self,
            Some(_) => Self {
                withheld: Some(Withheld::Whole),
                gone: gpu.everything(),
                ..self
            },
        }
    }
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// The GPU is as it should be.
    Nothing,
    /// Its mode is set, and is in force after its next reset.
    AwaitReset,
    /// It can never be as it should be, and why.
    Impossible(String),
    /// Pods hold what must go; without them it would be this change.
    Blocked(BTreeSet<PodName>, Change),
    /// Something must go of which nobody knows whether a pod holds it, and what.
    Unclear(String),
    /// This can be done now.
    Change(Change),
}

/// Decides what comes next on the way to `target`.
pub(super) fn next(gpu: &Look, target: &MigTarget, holders: &Holders) -> Next {
    if gpu.is(target) {
        return Next::Nothing;
    }
    let plan = match plan_mig(&gpu.table, &gpu.layout, target, &holders.held(gpu)) {
        Err(Unreachable::Held { .. }) => without_the_fewest(gpu, target, holders),
        other => other,
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(why) if is_vague(gpu, target, &why) => mode_alone(gpu),
        Err(why) => return Next::Impossible(why.to_string()),
    };
    if plan.is_empty() && plan.needs_reset {
        return Next::AwaitReset;
    }
    let unnamed = holders.unnamed_among(&plan.destroyed);
    if !unnamed.is_empty() {
        return Next::Unclear(unclear(&unnamed, target));
    }
    let in_the_way = holders.hold_any(&plan.destroyed);
    let pods = holders.pods_of(&plan.destroyed);
    let change = change(gpu, target, plan);
    // Those who hold the GPU as a whole are in no plan.
    if change.withheld == Some(Withheld::Whole) && !holders.is_empty() {
        return Next::Blocked(holders.pods(), change);
    }
    if in_the_way {
        return Next::Blocked(pods, change);
    }
    Next::Change(change)
}

/// The plan for which the fewest have to let go: of all sets of held instances without which there
/// is a plan the one with the fewest instances whose holders are unknown, then with the fewest pods,
/// then with the fewest instances, then with the lowest ids.
fn without_the_fewest(
    gpu: &Look,
    target: &MigTarget,
    holders: &Holders,
) -> Result<MigPlan, Unreachable> {
    let plan = |held: &BTreeSet<_>| plan_mig(&gpu.table, &gpu.layout, target, held);
    let held: Vec<(u32, u32)> = holders.held(gpu).into_iter().collect();
    if !holders.tell_apart() || held.len() > MOST_HELD {
        return plan(&BTreeSet::new());
    }
    let chosen = |set: u32| {
        let each = held.iter().zip(0..);
        each.filter(move |(_, bit)| set >> bit & 1 == 1)
    };
    let mut sets: Vec<_> = (1_u32..1 << held.len())
        .map(|set| {
            let goes: Vec<(u32, u32)> = chosen(set).map(|(one, _)| *one).collect();
            let unknown = holders.unnamed_among(&goes).len();
            (unknown, holders.pods_of(&goes).len(), goes.len(), goes)
        })
        .collect();
    sets.sort();
    for (.., goes) in sets {
        let stays = held.iter().filter(|one| !goes.contains(one)).copied();
        match plan(&stays.collect()) {
            Err(Unreachable::Held { .. }) => {}
            decided => return decided,
        }
    }
    plan(&BTreeSet::new())
}

/// Why instances that have no name cannot go.
fn unclear(instances: &[(u32, u32)], target: &MigTarget) -> String {
    let each = instances
        .iter()
        .map(|(gpu, compute)| format!("compute instance {compute} of GPU instance {gpu}"));
    let each: Vec<String> = each.collect();
    format!(
        "{} must go for {target}, and the driver does not list it as a MIG device, so nobody knows \
         whether a pod holds it",
        each.join(", ")
    )
}

/// Whether there may be a way that cannot be seen yet: a driver tells where instances can be only
/// of a GPU whose MIG mode is on (`nvmlDeviceGetGpuInstancePossiblePlacements`).
fn is_vague(gpu: &Look, target: &MigTarget, why: &Unreachable) -> bool {
    let profiles = &gpu.table.profiles;
    let hidden = || profiles.iter().any(|info| info.placements.is_empty());
    let for_want_of_places = match why {
        Unreachable::NotTogether { shortage, .. } => *shortage == Shortage::Places && hidden(),
        Unreachable::NoSuchProfile { .. } => profiles.is_empty(),
        _ => false,
    };
    target.enabled && !gpu.layout.mode.current && for_want_of_places
}

/// MIG is turned on, and what comes then is seen then.
fn mode_alone(gpu: &Look) -> MigPlan {
    if gpu.layout.mode.pending {
        return MigPlan {
            needs_reset: true,
            ..MigPlan::default()
        };
    }
    MigPlan {
        steps: vec![MigStep::SetMode(true)],
        ..MigPlan::default()
    }
}

fn change(gpu: &Look, target: &MigTarget, plan: MigPlan) -> Change {
    let goes = |device: &&MigDevice| {
        let place = (device.gpu_instance, device.compute_instance);
        plan.destroyed.contains(&place)
    };
    let devices: BTreeSet<_> = gpu
        .devices
        .iter()
        .filter(goes)
        .map(|device| device.uuid.clone())
        .collect();
    let (withheld, gone) = if gpu.layout.mode.current != target.enabled {
        (Some(Withheld::Whole), gpu.everything())
    } else if plan.destroyed.is_empty() {
        (None, BTreeSet::new())
    } else {
        let gone = devices.iter().map(ToString::to_string).collect();
        (Some(Withheld::Devices(devices)), gone)
    };
    Change {
        withheld,
        gone,
        steps: plan.steps,
    }
}
