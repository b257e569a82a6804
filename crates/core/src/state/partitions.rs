//! MIG devices: how they come and go, what faults of theirs mean, and what is kept back while a
//! GPU is partitioned anew.

use std::collections::{BTreeMap, BTreeSet};

use super::{DriverStatus, Effect, KnownGpu, Line, NodeState, log, words};
use crate::config::MigStrategy;
use crate::driver::{DriverEvent, GpuCondition, RecoveryAction};
use crate::gpu::GpuUuid;
use crate::health::{Change, GpuHealth, HealthPolicy, Moment, Reason};
use crate::mig::{GpuMig, MigDevice, MigUuid};
use crate::pool::{DevicePool, Share};

/// What of a GPU is kept back from the kubelet, which is told that it is unhealthy, so that it
/// gives it to nobody while it is about to go away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Withheld {
    /// All of it.
    Whole,
    /// These of its MIG devices.
    Devices(BTreeSet<MigUuid>),
}

impl KnownGpu {
    /// The MIG devices that an event names; none where it names no instance, or none that there
    /// is.
    fn named_by(&self, event: &DriverEvent) -> Vec<MigUuid> {
        let Some(gpu_instance) = event.gpu_instance else {
            return Vec::new();
        };
        let is_named = |device: &&MigDevice| {
            let compute = event.compute_instance;
            device.gpu_instance == gpu_instance
                && compute.is_none_or(|compute| compute == device.compute_instance)
        };
        let named = self.mig_devices().iter().filter(is_named);
        named.map(|device| device.uuid.clone()).collect()
    }

    /// Drops the health of MIG devices that are not there any more. One that is made again has
    /// begun anew.
    pub(super) fn forget_gone_instances(&mut self) {
        let devices = self.gpu.mig.as_ref().map_or(&[][..], |mig| &mig.devices);
        let is_there = |uuid: &MigUuid| devices.iter().any(|device| device.uuid == *uuid);
        self.instances.retain(|uuid, _| is_there(uuid));
    }
}

impl Share {
    /// The MIG device that it is of its GPU.
    pub(super) fn device<'a>(&self, known: &'a KnownGpu) -> Option<&'a MigDevice> {
        known.mig_devices().get(self.mig?)
    }
}

impl NodeState {
    /// What is kept back from the kubelet.
    pub fn withheld(&self) -> &BTreeMap<GpuUuid, Withheld> {
        &self.withheld
    }

    /// The GPUs at which has to be looked now and then for changes of their partitions, which
    /// others may make at any time: those that can be partitioned, where that decides what is
    /// offered, or a MIG manager wants to know.
    pub fn partitions_to_watch(&self) -> Vec<GpuUuid> {
        let running = matches!(self.driver, DriverStatus::Running(_));
        let managed = self.config.mig_manager.enabled;
        if !running || (self.config.mig_strategy == MigStrategy::None && !managed) {
            return Vec::new();
        }
        let gpus = self.roster.gpus.iter();
        let watched = gpus.filter(|known| {
            let changing = self.withheld.contains_key(&known.gpu.uuid);
            known.gpu.mig.is_some() && known.health.is_usable() && !changing
        });
        watched.map(|known| known.gpu.uuid.clone()).collect()
    }

    /// The first of these devices of a pool that is kept back. The kubelet may ask for one that it
    /// chose before it was told; it must not get it, for it may be gone the next moment.
    pub fn withheld_among<'a>(
        &self,
        pool: &DevicePool,
        mut ids: impl Iterator<Item = &'a str>,
    ) -> Option<&'a str> {
        if self.withheld.is_empty() {
            return None;
        }
        ids.find(|id| {
            let share = pool.share_of(id);
            share.is_some_and(|share| {
                let known = self.roster.gpus.get(share.gpu);
                known.is_some_and(|known| self.is_withheld(known, share.device(known)))
            })
        })
    }

    pub(super) fn is_withheld(&self, known: &KnownGpu, device: Option<&MigDevice>) -> bool {
        match (self.withheld.get(&known.gpu.uuid), device) {
            (None, _) => false,
            (Some(Withheld::Whole), _) | (Some(Withheld::Devices(_)), None) => true,
            (Some(Withheld::Devices(devices)), Some(device)) => devices.contains(&device.uuid),
        }
    }

    pub(super) fn withhold(&mut self, withheld: BTreeMap<GpuUuid, Withheld>) -> Vec<Effect> {
        if self.withheld == withheld {
            return Vec::new();
        }
        self.withheld = withheld;
        vec![Effect::Publish]
    }

    pub(super) fn partitioned(&mut self, uuid: &GpuUuid, mig: Option<GpuMig>) -> Vec<Effect> {
        let Some(known) = self.roster.find_mut(uuid) else {
            return Vec::new();
        };
        if known.gpu.mig == mig {
            return Vec::new();
        }
        known.gpu.mig = mig;
        known.forget_gone_instances();
        let line = words::partitioned(&known.gpu);
        let mut effects = vec![log(line)];
        effects.extend(self.renew_offer());
        effects.extend([Effect::Publish, Effect::Persist]);
        effects
    }

    /// Somebody has changed a GPU, or the driver does not say which. Whoever has one withheld is
    /// changing it, and tells when that is done.
    pub(super) fn partition_changed(&self, gpu: Option<&GpuUuid>) -> Vec<Effect> {
        let gpus = self.roster.gpus.iter().map(|known| &known.gpu);
        let meant = gpus.filter(|known| {
            known.mig.is_some()
                && gpu.is_none_or(|gpu| *gpu == known.uuid)
                && !self.withheld.contains_key(&known.uuid)
        });
        let meant: Vec<GpuUuid> = meant.map(|gpu| gpu.uuid.clone()).collect();
        if meant.is_empty() {
            return Vec::new();
        }
        vec![Effect::LookAtPartitions(meant)]
    }

    /// Takes in a fault of single MIG devices. `None` where the event is about the GPU: it names
    /// no instance, or one that is not known, or no instances are offered.
    pub(super) fn fault_of_instances(
        &mut self,
        event: &DriverEvent,
        reason: &Reason,
        now: Moment,
    ) -> Option<Vec<Effect>> {
        if self.config.mig_strategy == MigStrategy::None {
            return None;
        }
        let uuid = event.gpu.as_ref()?;
        let named = self.roster.find(uuid)?.named_by(event);
        if named.is_empty() {
            return None;
        }
        let policy = HealthPolicy::of(&self.config);
        let known = self.roster.find_mut(uuid)?;
        let mut changes = Vec::new();
        for device in named {
            let health = known.instances.entry(device.clone()).or_default();
            let change = health.happened(reason.clone(), 1, now, policy);
            changes.extend(change.map(|change| (device, change)));
        }
        let mut effects = self.instances_changed(uuid, changes, now);
        // The GPU says whether it is well otherwise.
        effects.push(Effect::Check(vec![uuid.clone()]));
        Some(effects)
    }

    /// Lets the sick MIG devices of a GPU that has answered and is well recover with it: what the
    /// driver tells of the recovery, it tells of the GPU as a whole.
    pub(super) fn instances_answered(
        &mut self,
        uuid: &GpuUuid,
        condition: GpuCondition,
        now: Moment,
    ) -> Vec<Effect> {
        let policy = HealthPolicy::of(&self.config);
        let Some(known) = self.roster.find_mut(uuid) else {
            return Vec::new();
        };
        if known.instances.is_empty() || !known.health.is_healthy() {
            return Vec::new();
        }
        let condition = GpuCondition {
            // An action that the rules let pass is no sign of sickness of an instance either.
            recovery_action: condition.recovery_action.map(|_| RecoveryAction::None),
            ..GpuCondition::default()
        };
        let mut changes = Vec::new();
        for (device, health) in &mut known.instances {
            let answered = health.answered(condition, now, policy);
            changes.extend(answered.into_iter().map(|change| (device.clone(), change)));
        }
        known
            .instances
            .retain(|_, health| *health != GpuHealth::default());
        self.instances_changed(uuid, changes, now)
    }

    fn instances_changed(
        &mut self,
        uuid: &GpuUuid,
        mut changes: Vec<(MigUuid, Change)>,
        now: Moment,
    ) -> Vec<Effect> {
        let mentions = &mut self.mentions;
        changes.retain(|(_, change)| match change {
            Change::Reported(reason, _) => mentions.is_due(Some(uuid), reason, now),
            _ => true,
        });
        let reported = |(_, change): &(_, Change)| matches!(change, Change::Reported(..));
        let differs = !changes.iter().all(reported);
        let Some(known) = self.roster.find(uuid) else {
            return Vec::new();
        };
        let policy = self.policy();
        let line = |(device, change): &(MigUuid, Change)| {
            let devices = known.mig_devices().iter();
            let device = devices.clone().find(|known| known.uuid == *device)?;
            let line = Line::health(&known.gpu, change, now.wall, policy);
            Some(log(line.of_instance(device)))
        };
        let mut effects = Vec::new();
        effects.extend(differs.then_some(Effect::Publish));
        effects.extend(changes.iter().filter_map(line));
        effects.extend(differs.then_some(Effect::Persist));
        effects
    }
}
