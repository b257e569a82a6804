//! Partitioning GPUs.

use serde::Serialize;

use super::{Affected, ControlError, Gpus, Simulator, affected};
use crate::engine::mig_devices;
use crate::identity::MigUuid;
use crate::mig::{ComputeInstance, GpuInstance, MigError, Partition, name_of};
use crate::model::mig::{MigTable, Placement};
use crate::node::{Gpu, Node};
use crate::state::{SlotGpu, Writer};

/// How a GPU that can be partitioned is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigStatus {
    /// Whether MIG is on.
    pub enabled: bool,
    /// Whether it will be on after the next reset of the GPU.
    pub pending: bool,
    /// The GPU instances by id.
    pub gpu_instances: Vec<GpuInstanceStatus>,
}

/// One GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuInstanceStatus {
    /// Id.
    pub id: u32,
    /// `1g.10gb`.
    pub profile: &'static str,
    /// Its memory slices.
    pub placement: Placement,
    /// Its framebuffer, MiB.
    pub memory_mib: u64,
    /// Its compute instances: the MIG devices.
    pub devices: Vec<MigDeviceStatus>,
}

/// One MIG device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigDeviceStatus {
    /// NVML's index among the MIG devices of the GPU.
    pub index: u32,
    /// UUID.
    pub uuid: MigUuid,
    /// Id of the compute instance.
    pub compute_instance: u32,
    /// `1g.10gb`, or `1c.3g.40gb` for a part of a GPU instance.
    pub profile: String,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
}

/// A GPU whose MIG mode was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigModeSet {
    /// The GPU.
    pub gpu: Affected,
    /// Whether the mode is in effect; else it is with the next reset of the GPU (heal).
    pub active: bool,
}

impl Simulator {
    /// That these GPUs can be partitioned and have these profiles, whether MIG is on or off.
    ///
    /// # Errors
    /// A GPU does not exist, cannot be partitioned, or has no such profile.
    pub fn check_mig_profiles<T: AsRef<str>>(
        &self,
        gpus: &Gpus,
        profiles: &[T],
    ) -> Result<(), ControlError> {
        let facts = self.store.facts()?;
        let chosen = gpus.choose(&facts.gpus)?;
        let mut chosen = chosen.into_iter();
        chosen.try_for_each(|(index, entry)| has_profiles(index, entry, profiles))
    }

    /// Turns MIG on or off, whoever uses the GPUs: at once on Hopper and later, with the next
    /// reset of the GPU (heal) on Ampere.
    ///
    /// # Errors
    /// A GPU does not exist, cannot be partitioned, or has instances and MIG shall be off; then
    /// no GPU is changed. Or the state cannot be written.
    pub fn set_mig_mode(&self, gpus: &Gpus, on: bool) -> Result<Vec<MigModeSet>, ControlError> {
        let writer = self.store.write()?;
        let facts = writer.facts();
        let chosen = gpus.choose(&facts.gpus)?;
        for (index, entry) in &chosen {
            let table = table(*index, entry)?;
            let partition = writer.slot(entry.slot).partition(table);
            if !on && !partition.gpu_instances.is_empty() {
                let advice = "it has GPU instances: `mizzen sim mig destroy` takes them away";
                return Err(refused(*index, entry, advice.to_owned()));
            }
        }
        chosen
            .into_iter()
            .map(|(index, entry)| {
                let set = writer.repartition(entry, |writer| {
                    writer.set_mig_mode(entry.slot, entry.gpu.model, on)
                });
                Ok(MigModeSet {
                    gpu: affected(index, entry),
                    active: set.map_err(|error| refused(index, entry, error.to_string()))?,
                })
            })
            .collect()
    }

    /// Creates GPU instances of these profiles on each of the GPUs, in this order and where the
    /// driver would place them, each with one compute instance over all of it.
    ///
    /// # Errors
    /// A GPU does not exist, has MIG off, has no such profile or no room for all of them; then no
    /// GPU is changed. Or the state cannot be written.
    pub fn create_mig_devices<T: AsRef<str>>(
        &self,
        gpus: &Gpus,
        profiles: &[T],
    ) -> Result<Vec<Affected>, ControlError> {
        let writer = self.store.write()?;
        let facts = writer.facts();
        let chosen = gpus.choose(&facts.gpus)?;
        let mut plans = Vec::new();
        for (index, entry) in &chosen {
            has_profiles(*index, entry, profiles)?;
            let partition = partitioned(&writer, *index, entry)?;
            let plan = partition.plan(profiles);
            plans.push(plan.map_err(|reason| refused(*index, entry, reason))?);
        }
        for ((index, entry), plan) in chosen.iter().zip(plans) {
            let created = writer.repartition(entry, |writer| {
                plan.into_iter().try_for_each(|profile| {
                    writer.create_mig_device(entry.slot, entry.gpu.model, profile)?;
                    Ok(())
                })
            });
            created.map_err(|error: MigError| refused(*index, entry, error.to_string()))?;
        }
        Ok(chosen
            .into_iter()
            .map(|(index, entry)| affected(index, entry))
            .collect())
    }

    /// Takes GPU instances away, with their compute instances: the one with an id, or all, whoever
    /// uses them.
    ///
    /// # Errors
    /// A GPU does not exist, has MIG off or no such instance; then no GPU is changed. Or the
    /// state cannot be written.
    pub fn destroy_gpu_instances(
        &self,
        gpus: &Gpus,
        id: Option<u32>,
    ) -> Result<Vec<Affected>, ControlError> {
        let writer = self.store.write()?;
        let facts = writer.facts();
        let chosen = gpus.choose(&facts.gpus)?;
        let mut partitions = Vec::new();
        for (index, entry) in &chosen {
            let partition = partitioned(&writer, *index, entry)?;
            if let Some(id) = id
                && partition.gpu_instance(id).is_err()
            {
                let known = listed(partition.gpu_instances.iter().map(|found| found.id));
                let reason = format!("there is no GPU instance {id}; there are {known}");
                return Err(refused(*index, entry, reason));
            }
            partitions.push(partition);
        }
        for ((index, entry), partition) in chosen.iter().zip(partitions) {
            let meant = |instance: &&GpuInstance| id.is_none_or(|id| instance.id == id);
            let gone = writer.repartition(entry, |writer| {
                let mut all = partition.gpu_instances.iter().filter(meant);
                all.try_for_each(|instance| destroy(writer, entry, &partition, instance.id))
            });
            gone.map_err(|error| refused(*index, entry, error.to_string()))?;
        }
        Ok(chosen
            .into_iter()
            .map(|(index, entry)| affected(index, entry))
            .collect())
    }

    /// The node with what its GPUs are partitioned into, in the same order; none for a GPU that
    /// is not.
    ///
    /// # Errors
    /// The state cannot be repaired after a writer was killed.
    pub fn partitions(&self) -> Result<(Node, Vec<Option<Partition>>), ControlError> {
        let facts = self.store.facts()?;
        let partitions = facts.gpus.iter().map(|entry| {
            let slot = self.store.slot(entry.slot);
            slot.partitioned(entry.gpu.model).ok()
        });
        let partitions = partitions.collect();
        Ok((self.planned(facts), partitions))
    }

    /// That a GPU has an instance, or a compute instance in it.
    ///
    /// # Errors
    /// It has none; the text says which it has.
    pub(super) fn check_instance(
        &self,
        index: usize,
        entry: &SlotGpu,
        instance: u32,
        compute: Option<u32>,
    ) -> Result<(), ControlError> {
        table(index, entry)?;
        let slot = self.store.slot(entry.slot);
        let partition = slot.partitioned(entry.gpu.model);
        let partition = partition.map_err(|error| refused(index, entry, error.to_string()))?;
        let known = if partition.gpu_instance(instance).is_err() {
            let known = partition.gpu_instances.iter().map(|found| found.id);
            Some((format!("GPU instance {instance}"), listed(known)))
        } else {
            let inside = || partition.inside(instance).map(|found| found.id);
            let missing = compute.filter(|compute| inside().all(|id| id != *compute));
            missing.map(|compute| {
                let what = format!("compute instance {compute} in GPU instance {instance}");
                (what, listed(inside()))
            })
        };
        known.map_or(Ok(()), |(what, known)| {
            let reason = format!("there is no {what}; there are {known}");
            Err(refused(index, entry, reason))
        })
    }

    /// How a GPU is partitioned; none for one that cannot be.
    pub(super) fn mig_status(&self, entry: &SlotGpu, driver_version: &str) -> Option<MigStatus> {
        let slot = self.store.slot(entry.slot);
        let partition = slot.partition(entry.gpu.model.mig?);
        let (enabled, pending) = slot.mig_mode();
        Some(MigStatus {
            enabled,
            pending,
            gpu_instances: gpu_instances(&entry.gpu, &partition, driver_version),
        })
    }
}

impl MigStatus {
    /// How a GPU is partitioned when it comes, as a driver of this version tells it; none for one
    /// that cannot be.
    pub fn initial(gpu: &Gpu, driver_version: &str) -> Option<Self> {
        let mut partition = Partition::initial(gpu).or(gpu.model.mig.map(Partition::empty))?;
        partition.gpu_instances.sort_by_key(|instance| instance.id);
        let order = |inside: &ComputeInstance| (inside.gpu_instance, inside.id);
        partition.compute_instances.sort_by_key(order);
        Some(Self {
            enabled: gpu.mig.enabled,
            pending: gpu.mig.enabled,
            gpu_instances: gpu_instances(gpu, &partition, driver_version),
        })
    }
}

/// The GPU instances of a partition, with the MIG devices in them.
fn gpu_instances(gpu: &Gpu, partition: &Partition, driver_version: &str) -> Vec<GpuInstanceStatus> {
    let devices: Vec<_> = mig_devices(gpu, partition).into_iter().zip(0..).collect();
    let inside = |parent: &GpuInstance| {
        let inside = devices
            .iter()
            .filter(|(device, _)| device.gpu_instance == *parent);
        inside
            .map(|(device, index)| MigDeviceStatus {
                index: *index,
                uuid: device.uuid(driver_version),
                compute_instance: device.compute_instance.id,
                profile: name_of(parent, &device.compute_instance.profile),
                multiprocessors: device.compute_instance.profile.multiprocessors,
            })
            .collect()
    };
    let gpu_instances = partition.gpu_instances.iter();
    gpu_instances
        .map(|instance| GpuInstanceStatus {
            id: instance.id,
            profile: instance.profile.name,
            placement: instance.place,
            memory_mib: instance.profile.memory_mib,
            devices: inside(instance),
        })
        .collect()
}

/// Ids in words.
fn listed(ids: impl Iterator<Item = u32>) -> String {
    let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    if ids.is_empty() {
        "none".to_owned()
    } else {
        ids.join(", ")
    }
}

pub(super) fn refused(index: usize, entry: &SlotGpu, reason: String) -> ControlError {
    ControlError::Mig {
        index,
        name: entry.gpu.name.clone(),
        reason,
    }
}

fn table(index: usize, entry: &SlotGpu) -> Result<&'static MigTable, ControlError> {
    let table = entry.gpu.model.mig;
    table.ok_or_else(|| refused(index, entry, MigError::NotCapable.to_string()))
}

fn has_profiles<T: AsRef<str>>(
    index: usize,
    entry: &SlotGpu,
    profiles: &[T],
) -> Result<(), ControlError> {
    let named = table(index, entry)?.named(profiles);
    named
        .map(|_| ())
        .map_err(|reason| refused(index, entry, reason))
}

pub(super) fn partitioned(
    writer: &Writer<'_>,
    index: usize,
    entry: &SlotGpu,
) -> Result<Partition, ControlError> {
    table(index, entry)?;
    let slot = writer.slot(entry.slot);
    slot.partitioned(entry.gpu.model).map_err(|_| {
        let advice = if slot.mig_mode().1 {
            "MIG is disabled until the GPU is reset: `mizzen sim heal` does it"
        } else {
            "MIG is disabled: `mizzen sim mig enable` turns it on"
        };
        refused(index, entry, advice.to_owned())
    })
}

fn destroy(
    writer: &Writer<'_>,
    entry: &SlotGpu,
    partition: &Partition,
    id: u32,
) -> Result<(), MigError> {
    for inside in partition.inside(id) {
        writer.destroy_compute_instance(entry.slot, entry.gpu.model, id, inside.id)?;
    }
    writer.destroy_gpu_instance(entry.slot, entry.gpu.model, id)
}
