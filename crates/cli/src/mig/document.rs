//! What is printed for programs. `docs/mig.md` describes it; names there are a promise.

use std::collections::BTreeMap;

use mizzen_core::gpu::Gpu;
use mizzen_core::mig::{Layout, MigStep, MigTarget, Placement};
use serde::Serialize;

use super::goal::Goal;
use super::pods::{Asked, Holder, Holders};
use super::prospect::{Obstacle, Prospect};
use super::{FORM, steps};

/// What `plan` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlanDocument {
    version: u32,
    target: String,
    possible: bool,
    /// Whether anything is to be done.
    changes: bool,
    /// Whether a kubelet told which pods hold devices; null if nothing made it necessary to ask.
    kubelet_asked: Option<bool>,
    remarks: Vec<String>,
    gpus: Vec<GpuPlan>,
}

/// What is to be done to one GPU.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GpuPlan {
    #[serde(flatten)]
    gpu: GpuFacts,
    /// Null if it cannot be told.
    now: Option<State>,
    /// Null if it is left as it is.
    target: Option<Target>,
    possible: bool,
    /// Why it is not.
    reason: Option<String>,
    /// Who is in the way.
    held_by: Vec<HeldDevice>,
    steps: Vec<Step>,
    kept: Vec<Device>,
    destroyed: Vec<Device>,
    needs_reset: bool,
    /// Null if it is not possible.
    then: Option<State>,
}

/// Which GPU.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GpuFacts {
    pub(super) index: u32,
    uuid: String,
    pci_bus_id: String,
    name: String,
}

impl From<&Gpu> for GpuFacts {
    fn from(gpu: &Gpu) -> Self {
        Self {
            index: gpu.index,
            uuid: gpu.uuid.to_string(),
            pci_bus_id: gpu.pci.to_string(),
            name: gpu.name.clone(),
        }
    }
}

/// How a GPU is cut.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    mig_enabled: bool,
    mig_enabled_after_reset: bool,
    gpu_instances: Vec<Instance>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Instance {
    /// Of one that is yet to be made, the id that it will probably have.
    id: u32,
    profile: String,
    placement: Place,
    compute_instances: Vec<Inside>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Inside {
    id: u32,
    profile: String,
    placement: Place,
}

/// Slices.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    start: u32,
    size: u32,
}

impl From<Placement> for Place {
    fn from(placement: Placement) -> Self {
        Self {
            start: placement.start,
            size: placement.size,
        }
    }
}

impl From<&Layout> for State {
    fn from(layout: &Layout) -> Self {
        let instances = layout.instances.iter().map(|instance| Instance {
            id: instance.id,
            profile: instance.profile.to_string(),
            placement: instance.placement.into(),
            compute_instances: instance
                .compute
                .iter()
                .map(|inside| Inside {
                    id: inside.id,
                    profile: instance
                        .profile
                        .with_compute_slices(inside.slices)
                        .to_string(),
                    placement: inside.placement.into(),
                })
                .collect(),
        });
        Self {
            mig_enabled: layout.mode.current,
            mig_enabled_after_reset: layout.mode.pending,
            gpu_instances: instances.collect(),
        }
    }
}

/// What a GPU is to be cut into.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Target {
    mig_enabled: bool,
    devices: BTreeMap<String, u32>,
}

impl From<&MigTarget> for Target {
    fn from(target: &MigTarget) -> Self {
        let devices = target.devices.iter();
        Self {
            mig_enabled: target.enabled,
            devices: devices
                .map(|(profile, count)| (profile.to_string(), *count))
                .collect(),
        }
    }
}

/// A MIG device that is there now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    gpu_instance: u32,
    compute_instance: u32,
    profile: Option<String>,
    uuid: Option<String>,
    /// The containers that hold it, as far as is known.
    held_by: Vec<Holder>,
}

impl Device {
    fn new(gpu: &Gpu, layout: &Layout, ids: (u32, u32), holders: &Holders) -> Self {
        let devices = gpu.mig.iter().flat_map(|mig| &mig.devices);
        let mut same =
            devices.filter(|device| (device.gpu_instance, device.compute_instance) == ids);
        Self {
            gpu_instance: ids.0,
            compute_instance: ids.1,
            profile: steps::profile(layout, ids).map(|profile| profile.to_string()),
            uuid: same.next().map(|device| device.uuid.to_string()),
            held_by: holders.of_device(gpu, ids),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HeldDevice {
    device: String,
    /// Absent if nobody knows whether it is held.
    #[serde(flatten)]
    holder: Option<Holder>,
}

/// One step; what it has nothing to say of is absent.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    /// `set-mode`, `destroy-compute-instance`, …
    kind: &'static str,
    words: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mig_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu_instance: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compute_instance: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<Place>,
    /// The slices of each compute instance that is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    compute_slices: Option<Vec<u32>>,
}

impl Step {
    pub(super) fn new(step: &MigStep, layout: &Layout) -> Self {
        let words = steps::in_words(step, layout);
        let of = |kind| Self {
            kind,
            words,
            ..Self::default()
        };
        match step {
            MigStep::SetMode(on) => Self {
                mig_enabled: Some(*on),
                ..of("set-mode")
            },
            MigStep::DestroyComputeInstance { gpu_instance, id } => Self {
                gpu_instance: Some(*gpu_instance),
                compute_instance: Some(*id),
                ..of("destroy-compute-instance")
            },
            MigStep::DestroyGpuInstance { id } => Self {
                gpu_instance: Some(*id),
                ..of("destroy-gpu-instance")
            },
            MigStep::CreateComputeInstances {
                gpu_instance,
                slices,
            } => Self {
                gpu_instance: Some(*gpu_instance),
                compute_slices: Some(slices.clone()),
                ..of("create-compute-instances")
            },
            MigStep::CreateGpuInstance {
                profile,
                placement,
                slices,
            } => Self {
                profile: Some(profile.to_string()),
                placement: Some((*placement).into()),
                compute_slices: Some(slices.clone()),
                ..of("create-gpu-instance")
            },
        }
    }
}

impl PlanDocument {
    pub(super) fn new(goal: &Goal, prospects: &[Prospect<'_>], asked: &Asked) -> Self {
        let ways = || prospects.iter().map(|prospect| &prospect.way);
        let holders = asked.holders();
        Self {
            version: FORM,
            target: goal.name.clone(),
            possible: ways().all(Result::is_ok),
            changes: ways().flatten().any(|way| !way.plan.is_empty()),
            kubelet_asked: match asked {
                Asked::No => None,
                Asked::NoKubelet(_) => Some(false),
                Asked::Answered(_) => Some(true),
            },
            remarks: goal.remarks.clone(),
            gpus: prospects
                .iter()
                .map(|prospect| GpuPlan::new(prospect, &holders))
                .collect(),
        }
    }
}

impl GpuPlan {
    pub(super) fn new(prospect: &Prospect<'_>, holders: &Holders) -> Self {
        let gpu = &prospect.card.gpu;
        let now = prospect.card.mig.as_ref().ok().map(|(_, layout)| layout);
        let way = prospect.way.as_ref().ok();
        let devices = |ids: &[(u32, u32)]| match now {
            Some(layout) => ids
                .iter()
                .map(|ids| Device::new(gpu, layout, *ids, holders))
                .collect(),
            None => Vec::new(),
        };
        let plan = way.map(|way| &way.plan);
        let steps = plan
            .into_iter()
            .flat_map(|plan| &plan.steps)
            .zip(now.into_iter().cycle());
        let then = match (&prospect.target, plan) {
            (None, Some(_)) => now,
            (_, plan) => plan.map(|plan| &plan.after),
        };
        Self {
            gpu: gpu.into(),
            now: now.map(State::from),
            target: prospect.target.as_ref().map(Target::from),
            possible: way.is_some(),
            reason: prospect.way.as_ref().err().map(ToString::to_string),
            held_by: held_by(prospect),
            steps: steps
                .map(|(step, layout)| Step::new(step, layout))
                .collect(),
            kept: plan.map(|plan| devices(&plan.kept)).unwrap_or_default(),
            destroyed: plan
                .map(|plan| devices(&plan.destroyed))
                .unwrap_or_default(),
            needs_reset: way.is_some_and(|way| way.needs_reset),
            then: then.map(State::from),
        }
    }
}

fn held_by(prospect: &Prospect<'_>) -> Vec<HeldDevice> {
    match &prospect.way {
        Err(Obstacle::Held { by, .. }) => by
            .iter()
            .map(|(device, holder)| HeldDevice {
                device: device.clone(),
                holder: holder.clone(),
            })
            .collect(),
        _ => Vec::new(),
    }
}
