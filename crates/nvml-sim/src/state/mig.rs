//! How a GPU is partitioned.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::events::{Event, EventKind};
use super::layout::Slot;
use super::store::Writer;
use super::structure::SlotGpu;
use crate::mig::{ComputeInstance, GpuInstance, MigError, Partition};
use crate::model::mig::{GpuProfile, MigTable, Placement};
use crate::model::{Architecture, GpuModel};
use crate::node::Gpu;

/// An instance as one word: its serial number, its id, its profile's number, its first slice,
/// and for a compute instance the id of its GPU instance. 0 is no instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    serial: u32,
    id: u8,
    profile: u8,
    start: u8,
    parent: u8,
}

impl Word {
    fn encode(self) -> u64 {
        let low = u32::from_le_bytes([self.id, self.profile, self.start, self.parent]);
        u64::from(self.serial) << 32 | u64::from(low)
    }

    fn decode(word: u64) -> Option<Self> {
        let [id, profile, start, parent, serial @ ..] = word.to_le_bytes();
        let serial = u32::from_le_bytes(serial);
        (serial != 0).then_some(Self {
            serial,
            id,
            profile,
            start,
            parent,
        })
    }
}

fn words(places: &[AtomicU64]) -> impl Iterator<Item = Word> {
    let all = places.iter();
    all.filter_map(|place| Word::decode(place.load(Acquire)))
}

fn narrow(value: u32) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

impl Slot {
    /// Whether MIG is on, and whether it will be after the next reset of the GPU.
    pub(crate) fn mig_mode(&self) -> (bool, bool) {
        let enabled = self.mig.enabled.load(Acquire) == 1;
        (enabled, self.mig.pending.load(Acquire) == 1)
    }

    /// What a GPU of this model is partitioned into. A compute instance without its GPU
    /// instance, which a reader may see while both go, is left out.
    pub(crate) fn partition(&self, table: &'static MigTable) -> Partition {
        let mut gpu_instances: Vec<GpuInstance> = words(&self.mig.gpu_instances)
            .filter_map(|word| gpu_instance(table, word))
            .collect();
        gpu_instances.sort_unstable_by_key(|instance| instance.id);
        let mut compute_instances: Vec<ComputeInstance> = words(&self.mig.compute_instances)
            .filter_map(|word| compute_instance(table, &gpu_instances, word))
            .collect();
        compute_instances.sort_unstable_by_key(|instance| (instance.gpu_instance, instance.id));
        Partition {
            table,
            gpu_instances,
            compute_instances,
        }
    }

    /// The partition of a GPU with MIG on.
    pub(crate) fn partitioned(&self, model: &GpuModel) -> Result<Partition, MigError> {
        let table = model.mig.ok_or(MigError::NotCapable)?;
        match self.mig_mode() {
            (true, _) => Ok(self.partition(table)),
            (false, _) => Err(MigError::Disabled),
        }
    }
}

fn gpu_instance(table: &'static MigTable, word: Word) -> Option<GpuInstance> {
    let profile = table.by_kind(u32::from(word.profile))?;
    Some(GpuInstance {
        id: u32::from(word.id),
        profile,
        place: Placement {
            start: u32::from(word.start),
            size: profile.kind.memory_slices(),
        },
        serial: word.serial,
    })
}

fn compute_instance(
    table: &'static MigTable,
    gpu_instances: &[GpuInstance],
    word: Word,
) -> Option<ComputeInstance> {
    let parent = u32::from(word.parent);
    let parent = gpu_instances.iter().find(|found| found.id == parent)?;
    let profiles = table.compute_profiles(parent.profile);
    let mut profiles = profiles.into_iter();
    let profile = profiles.find(|profile| profile.id == u32::from(word.profile))?;
    Some(ComputeInstance {
        gpu_instance: parent.id,
        id: u32::from(word.id),
        profile,
        place: Placement {
            start: u32::from(word.start),
            size: profile.slices,
        },
        serial: word.serial,
    })
}

impl Writer<'_> {
    /// Makes a change of a GPU's partitions, and tells those who listen if it changed any.
    pub(crate) fn repartition<T>(&self, entry: &SlotGpu, change: impl FnOnce(&Self) -> T) -> T {
        let Some(table) = entry.gpu.model.mig else {
            return change(self);
        };
        let slot = &self.slots[entry.slot];
        let state = || (slot.mig_mode().0, slot.partition(table));
        let before = state();
        let answer = change(self);
        if state() != before {
            let number = u32::try_from(entry.slot).unwrap_or(u32::MAX);
            let kind = EventKind::MigConfigChange;
            self.publish(Event::of_gpu(number, entry.incarnation, kind, 0));
        }
        answer
    }

    /// Turns MIG on or off, whoever uses the GPU: at once on Hopper and later, with the next reset
    /// of the GPU on Ampere. Whether it is so now.
    ///
    /// # Errors
    /// The model has no MIG, or has instances and MIG shall be off.
    pub(crate) fn set_mig_mode(
        &self,
        index: usize,
        model: &GpuModel,
        on: bool,
    ) -> Result<bool, MigError> {
        self.request_mig_mode(index, model, on)?;
        let slot = &self.slots[index];
        if model.architecture > Architecture::Ampere {
            slot.mig.enabled.store(u32::from(on), Release);
        }
        Ok(slot.mig_mode().0 == on)
    }

    /// Has MIG turned on or off with the next reset of the GPU.
    ///
    /// # Errors
    /// The model has no MIG, or has instances and MIG shall be off.
    pub(crate) fn request_mig_mode(
        &self,
        index: usize,
        model: &GpuModel,
        on: bool,
    ) -> Result<(), MigError> {
        let table = model.mig.ok_or(MigError::NotCapable)?;
        let slot = &self.slots[index];
        if !on && !slot.partition(table).gpu_instances.is_empty() {
            return Err(MigError::InUse);
        }
        slot.mig.pending.store(u32::from(on), Release);
        Ok(())
    }

    /// Lets a pending MIG mode take effect, as a reset of the GPU does.
    pub(super) fn settle_mig_mode(&self, index: usize) {
        let mig = &self.slots[index].mig;
        let pending = mig.pending.load(Relaxed);
        if pending == 0 {
            self.clear_instances(index);
        }
        mig.enabled.store(pending, Release);
    }

    fn clear_instances(&self, index: usize) {
        let mig = &self.slots[index].mig;
        for place in mig.compute_instances.iter().chain(&mig.gpu_instances) {
            place.store(0, Release);
        }
    }

    /// Turns MIG off and takes every instance away, for a slot whose GPU goes.
    pub(super) fn clear_mig(&self, index: usize) {
        self.clear_instances(index);
        let mig = &self.slots[index].mig;
        mig.pending.store(0, Release);
        mig.enabled.store(0, Release);
    }

    /// Partitions a GPU that is new in its slot as its scenario says.
    pub(super) fn start_mig(&self, index: usize, gpu: &Gpu) {
        self.clear_mig(index);
        let (Some(table), true) = (gpu.model.mig, gpu.mig.enabled) else {
            return;
        };
        let mig = &self.slots[index].mig;
        mig.pending.store(1, Release);
        mig.enabled.store(1, Release);
        for kind in &gpu.mig.instances {
            let Some(profile) = table.by_kind(*kind as u32) else {
                continue;
            };
            // The scenario was refused if they do not fit.
            let _ = self.create_mig_device(index, gpu.model, profile);
        }
    }

    /// Creates a GPU instance with one compute instance over all of it: a MIG device.
    ///
    /// # Errors
    /// MIG is off, or there is no room.
    pub(crate) fn create_mig_device(
        &self,
        index: usize,
        model: &GpuModel,
        profile: &'static GpuProfile,
    ) -> Result<ComputeInstance, MigError> {
        let parent = self.create_gpu_instance(index, model, profile, None)?;
        let table = model.mig.ok_or(MigError::NotCapable)?;
        let largest = table.compute_profiles(profile).pop();
        let largest = largest.ok_or(MigError::NoSuchProfile)?;
        self.create_compute_instance(index, model, parent.id, largest.id, None)
    }

    /// Creates a GPU instance.
    ///
    /// # Errors
    /// MIG is off, it cannot be there, or there is no room.
    pub(crate) fn create_gpu_instance(
        &self,
        index: usize,
        model: &GpuModel,
        profile: &'static GpuProfile,
        wanted: Option<Placement>,
    ) -> Result<GpuInstance, MigError> {
        let slot = &self.slots[index];
        let partition = slot.partitioned(model)?;
        let place = partition.place(profile, wanted)?;
        let instance = GpuInstance {
            id: partition.table.instance_id(place),
            profile,
            place,
            serial: self.next_serial(index),
        };
        let word = Word {
            serial: instance.serial,
            id: narrow(instance.id),
            profile: profile.kind as u8,
            start: narrow(place.start),
            parent: 0,
        };
        put(&slot.mig.gpu_instances, word)?;
        Ok(instance)
    }

    /// Creates a compute instance in a GPU instance.
    ///
    /// # Errors
    /// There is no such GPU instance or profile, it cannot be there, or there is no room.
    pub(crate) fn create_compute_instance(
        &self,
        index: usize,
        model: &GpuModel,
        gpu_instance: u32,
        profile: u32,
        wanted: Option<Placement>,
    ) -> Result<ComputeInstance, MigError> {
        let slot = &self.slots[index];
        let partition = slot.partitioned(model)?;
        let parent = partition.gpu_instance(gpu_instance)?;
        let profile = partition.compute_profile(parent, profile)?;
        let (place, id) = partition.place_compute(parent, &profile, wanted)?;
        let instance = ComputeInstance {
            gpu_instance,
            id,
            profile,
            place,
            serial: self.next_serial(index),
        };
        let word = Word {
            serial: instance.serial,
            id: narrow(id),
            profile: narrow(profile.id),
            start: narrow(place.start),
            parent: narrow(gpu_instance),
        };
        put(&slot.mig.compute_instances, word)?;
        Ok(instance)
    }

    /// Takes a GPU instance away.
    ///
    /// # Errors
    /// There is none of this id, or it has compute instances.
    pub(crate) fn destroy_gpu_instance(
        &self,
        index: usize,
        model: &GpuModel,
        id: u32,
    ) -> Result<(), MigError> {
        let slot = &self.slots[index];
        let partition = slot.partitioned(model)?;
        let instance = partition.gpu_instance(id)?;
        if partition.inside(id).next().is_some() {
            return Err(MigError::InUse);
        }
        take(&slot.mig.gpu_instances, instance.serial)
    }

    /// Takes a compute instance away.
    ///
    /// # Errors
    /// There is none of these ids.
    pub(crate) fn destroy_compute_instance(
        &self,
        index: usize,
        model: &GpuModel,
        gpu_instance: u32,
        id: u32,
    ) -> Result<(), MigError> {
        let slot = &self.slots[index];
        let partition = slot.partitioned(model)?;
        let found = partition.inside(gpu_instance).find(|found| found.id == id);
        let serial = found.ok_or(MigError::NoSuchInstance)?.serial;
        take(&slot.mig.compute_instances, serial)
    }

    fn next_serial(&self, index: usize) -> u32 {
        let counter = &self.slots[index].mig.next_serial;
        let serial = counter.load(Relaxed).wrapping_add(1).max(1);
        counter.store(serial, Relaxed);
        serial
    }
}

fn put(places: &[AtomicU64], word: Word) -> Result<(), MigError> {
    let mut places = places.iter();
    let place = places.find(|place| place.load(Relaxed) == 0);
    place.ok_or(MigError::NoRoom)?.store(word.encode(), Release);
    Ok(())
}

fn take(places: &[AtomicU64], serial: u32) -> Result<(), MigError> {
    let holds = |place: &&AtomicU64| {
        Word::decode(place.load(Relaxed)).is_some_and(|word| word.serial == serial)
    };
    let place = places.iter().find(holds);
    place.ok_or(MigError::NoSuchInstance)?.store(0, Release);
    Ok(())
}
