//! Partitioned GPUs: MIG mode, instances and MIG devices.

use super::settings::may_change;
use super::{Device, Failure, Framebuffer, GpuProcess, Session};
use crate::identity::{MigUuid, Uuid};
use crate::mig::{self, ComputeInstance, GpuInstance, MigError, Partition};
use crate::model::mig::{MigTable, Placement};
use crate::node::Gpu;
use crate::state::Writer;

impl From<MigError> for Failure {
    fn from(error: MigError) -> Self {
        match error {
            MigError::NotCapable | MigError::Disabled | MigError::NoSuchProfile => {
                Self::NotSupported
            }
            MigError::NoSuchPlacement => Self::InvalidArgument,
            MigError::NoRoom => Self::InsufficientResources,
            MigError::NoSuchInstance => Self::NotFound,
            MigError::InUse => Self::InUse,
        }
    }
}

/// What becomes of a MIG mode that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// It is in effect.
    Active,
    /// It is in effect after the next reset of the GPU.
    NeedsReset,
    /// It is pending, for processes use the GPU: once they have ended it may be set again.
    InUse,
}

/// One MIG device: a compute instance with its GPU instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigDevice {
    /// UUID of its GPU.
    pub gpu_uuid: Uuid,
    /// The GPU instance.
    pub gpu_instance: GpuInstance,
    /// The compute instance.
    pub compute_instance: ComputeInstance,
}

impl MigDevice {
    fn of(gpu: &Gpu, partition: &Partition, instance: &ComputeInstance) -> Option<Self> {
        Some(Self {
            gpu_uuid: gpu.uuid,
            gpu_instance: *partition.gpu_instance(instance.gpu_instance).ok()?,
            compute_instance: *instance,
        })
    }

    /// UUID of its own, by which it is found.
    fn own_uuid(&self) -> Uuid {
        mig::uuid(self.gpu_uuid, &self.gpu_instance, &self.compute_instance)
    }

    /// Its name on a GPU of that name: `NVIDIA H100 80GB HBM3 MIG 1g.10gb`.
    pub fn name(&self, gpu: &str) -> String {
        let profile = mig::name_of(&self.gpu_instance, &self.compute_instance.profile);
        format!("{gpu} MIG {profile}")
    }

    /// UUID as a driver of this version tells it: before R470 MIG devices had none of their own.
    pub fn uuid(&self, driver_version: &str) -> MigUuid {
        let branch = driver_version.split('.').next();
        let branch = branch.and_then(|number| number.parse::<u32>().ok());
        if branch.is_some_and(|branch| branch < 470) {
            self.placed_uuid()
        } else {
            MigUuid::Own(self.own_uuid())
        }
    }

    fn placed_uuid(&self) -> MigUuid {
        MigUuid::Placed {
            gpu: self.gpu_uuid,
            gpu_instance: self.gpu_instance.id,
            compute_instance: self.compute_instance.id,
        }
    }

    /// Whether a process is on it.
    pub fn has(&self, process: &GpuProcess) -> bool {
        process.instance == Some((self.gpu_instance.id, self.compute_instance.id))
    }
}

impl Device<'_> {
    /// How the GPU can be partitioned.
    ///
    /// # Errors
    /// It cannot.
    pub fn mig_table(&self) -> Result<&'static MigTable, Failure> {
        self.model().mig.ok_or(Failure::NotSupported)
    }

    /// Whether MIG is on, and whether it will be after the next reset of the GPU.
    ///
    /// # Errors
    /// The GPU cannot be partitioned.
    pub fn mig_mode(&self) -> Result<(bool, bool), Failure> {
        self.mig_table()?;
        Ok(self.slot.mig_mode())
    }

    /// What the GPU is partitioned into.
    ///
    /// # Errors
    /// The GPU cannot be partitioned, or MIG is off.
    pub fn partition(&self) -> Result<Partition, Failure> {
        Ok(self.slot.partitioned(self.model())?)
    }

    /// The MIG devices that the process may use, in the order of their indices.
    ///
    /// # Errors
    /// The GPU cannot be partitioned, or MIG is off.
    pub fn mig_devices(&self) -> Result<Vec<MigDevice>, Failure> {
        Ok(self.session.usable(&self.entry.gpu, &self.partition()?))
    }

    /// The MIG device of a compute instance of a partition of the GPU.
    ///
    /// # Errors
    /// The process may not use it, or its GPU instance is gone.
    pub fn mig_device(
        &self,
        partition: &Partition,
        instance: &ComputeInstance,
    ) -> Result<MigDevice, Failure> {
        let gpu = &self.entry.gpu;
        MigDevice::of(gpu, partition, instance)
            .filter(|device| self.session.is_usable(gpu, device))
            .ok_or(Failure::InvalidArgument)
    }

    /// The framebuffer of a MIG device, which it shares with the other compute instances of its
    /// GPU instance.
    pub fn mig_framebuffer(&self, device: &MigDevice) -> Framebuffer {
        let instance = device.gpu_instance;
        let total = instance.profile.memory_mib << 20;
        let processes = self.slot.processes().into_iter();
        let used: u64 = processes
            .filter(|process| {
                process
                    .instance
                    .is_some_and(|on| u32::from(on.0) == instance.id)
            })
            .map(|process| process.memory)
            .sum();
        let used = used.min(total);
        Framebuffer {
            total,
            reserved: 0,
            used,
            free: total - used,
        }
    }

    /// What the driver tells of a GPU only while it is not partitioned.
    ///
    /// # Errors
    /// MIG is on.
    pub fn as_a_whole(&self) -> Result<&Self, Failure> {
        if self.slot.mig_mode().0 {
            return Err(Failure::NotSupported);
        }
        Ok(self)
    }

    /// Turns MIG on or off, unless processes use the GPU. On Ampere it takes a reset of the GPU.
    ///
    /// # Errors
    /// The GPU cannot be partitioned, has instances, or the caller may not.
    pub fn set_mig_mode(&self, on: bool) -> Result<Activation, Failure> {
        let (slot, model) = (self.entry.slot, self.model());
        self.repartition(|writer| {
            if self.slot.mig_mode().0 != on && self.slot.is_used() {
                writer.request_mig_mode(slot, model, on)?;
                return Ok(Activation::InUse);
            }
            Ok(if writer.set_mig_mode(slot, model, on)? {
                Activation::Active
            } else {
                Activation::NeedsReset
            })
        })
    }

    /// Creates a GPU instance of the profile with this id.
    ///
    /// # Errors
    /// MIG is off, there is no such profile, it cannot be there, there is no room, or the caller
    /// may not.
    pub fn create_gpu_instance(
        &self,
        profile: u32,
        wanted: Option<Placement>,
    ) -> Result<GpuInstance, Failure> {
        let profile = self.mig_table()?.by_id(profile);
        let profile = profile.ok_or(Failure::NotSupported)?;
        self.repartition(|writer| {
            writer.create_gpu_instance(self.entry.slot, self.model(), profile, wanted)
        })
    }

    /// Takes a GPU instance away.
    ///
    /// # Errors
    /// It has compute instances, processes use the GPU, it is gone, or the caller may not.
    pub fn destroy_gpu_instance(&self, id: u32) -> Result<(), Failure> {
        self.repartition(|writer| {
            self.let_go(id)?;
            writer.destroy_gpu_instance(self.entry.slot, self.model(), id)
        })
    }

    /// Creates a compute instance of the profile with this id in a GPU instance.
    ///
    /// # Errors
    /// There is no such profile, it cannot be there, there is no room, or the caller may not.
    pub fn create_compute_instance(
        &self,
        gpu_instance: u32,
        profile: u32,
        wanted: Option<Placement>,
    ) -> Result<ComputeInstance, Failure> {
        let (slot, model) = (self.entry.slot, self.model());
        self.repartition(|writer| {
            writer.create_compute_instance(slot, model, gpu_instance, profile, wanted)
        })
    }

    /// Takes a compute instance away.
    ///
    /// # Errors
    /// Processes use the GPU, it is gone, or the caller may not.
    pub fn destroy_compute_instance(&self, gpu_instance: u32, id: u32) -> Result<(), Failure> {
        let (slot, model) = (self.entry.slot, self.model());
        self.repartition(|writer| {
            self.let_go(gpu_instance)?;
            writer.destroy_compute_instance(slot, model, gpu_instance, id)
        })
    }

    /// Whether everybody has let go of a GPU instance.
    fn let_go(&self, gpu_instance: u32) -> Result<(), MigError> {
        if self.slot.uses_instance(gpu_instance) {
            return Err(MigError::InUse);
        }
        Ok(())
    }

    fn repartition<T>(
        &self,
        change: impl FnOnce(&Writer<'_>) -> Result<T, MigError>,
    ) -> Result<T, Failure> {
        self.mig_table()?;
        may_change()?;
        let writer = self.session.store.write();
        let writer = writer.map_err(|_| Failure::NoPermission)?;
        // The slot may be another GPU's by now.
        if !self.slot.holds(self.entry.incarnation) {
            return Err(Failure::GpuIsLost);
        }
        Ok(writer.repartition(self.entry, change)?)
    }
}

impl Session {
    /// The index of the GPU that has the MIG device with this UUID in either form, and the device.
    /// Blocks on no GPU that hangs.
    ///
    /// # Errors
    /// There is none.
    pub fn by_mig_uuid(&self, uuid: MigUuid) -> Result<(usize, MigDevice), Failure> {
        self.mig_device(|device| {
            MigUuid::Own(device.own_uuid()) == uuid || device.placed_uuid() == uuid
        })
    }

    /// As [`Self::by_mig_uuid`], for bytes that do not say whose they are.
    ///
    /// # Errors
    /// There is none.
    pub fn by_mig_bytes(&self, bytes: [u8; 16]) -> Result<(usize, MigDevice), Failure> {
        self.mig_device(|device| device.own_uuid().bytes() == bytes)
    }

    /// The MIG devices whose capabilities the process can open.
    fn usable(&self, gpu: &Gpu, partition: &Partition) -> Vec<MigDevice> {
        let mut devices = mig_devices(gpu, partition);
        devices.retain(|device| self.is_usable(gpu, device));
        devices
    }

    fn is_usable(&self, gpu: &Gpu, device: &MigDevice) -> bool {
        let instance = device.gpu_instance.id;
        self.may_use(gpu.minor, instance, None)
            && self.may_use(gpu.minor, instance, Some(device.compute_instance.id))
    }

    fn mig_device(
        &self,
        wanted: impl Fn(&MigDevice) -> bool,
    ) -> Result<(usize, MigDevice), Failure> {
        for (index, entry) in self.entries().iter().enumerate() {
            let slot = self.store.slot(entry.slot);
            if !slot.holds(entry.incarnation) {
                continue;
            }
            let Ok(partition) = slot.partitioned(entry.gpu.model) else {
                continue;
            };
            let devices = self.usable(&entry.gpu, &partition);
            if let Some(device) = devices.into_iter().find(&wanted) {
                return Ok((index, device));
            }
        }
        Err(Failure::NotFound)
    }
}

pub(crate) fn mig_devices(gpu: &Gpu, partition: &Partition) -> Vec<MigDevice> {
    let instances = partition.compute_instances.iter();
    instances
        .filter_map(|instance| MigDevice::of(gpu, partition, instance))
        .collect()
}
