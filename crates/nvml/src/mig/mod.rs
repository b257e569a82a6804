//! How a GPU is partitioned, and changing it.

mod calls;
mod change;
mod layout;
mod minors;
mod profiles;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mizzen_core::driver::DriverError;
use mizzen_core::mig::{
    GpuMig, MigDevice, MigMode, MigProfile, MigUuid, Placement, ProfileExtra, ProfileInfo,
};

use crate::device::Device;
use crate::library::Library;
use crate::session::Session;
use calls::{Attributes, Size, had};
pub(crate) use minors::CapabilityMinors;
use profiles::{guessed_extra, named};

/// What a session was told of partitions.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// What the GPUs were partitioned into when they were last asked, by index.
    sights: Mutex<BTreeMap<u32, Sight>>,
    /// The profiles of GPUs with MIG on: they are the same on all of a model, and it takes a call
    /// each to ask for them.
    profiles: Mutex<BTreeMap<Model, Arc<[ProfileInfo]>>>,
}

/// A GPU's device id and memory in MiB.
type Model = (u32, u64);

/// What was seen of one GPU.
#[derive(Debug)]
struct Sight {
    found: Vec<Found>,
    mig: GpuMig,
    at: Instant,
}

/// The parts of a GPU that can be asked, as they were seen last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Parts {
    /// Whether MIG is on.
    pub(crate) on: bool,
    /// Its MIG devices.
    pub(crate) devices: Vec<Part>,
}

/// A MIG device by its handle and its instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) handle: Device,
    pub(crate) gpu_instance: u32,
    pub(crate) compute_instance: u32,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Sight>> {
        self.sights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The profiles of the GPUs of a model, which `ask` tells where they are not known. 0 is no
    /// model.
    fn profiles(
        &self,
        model: Model,
        ask: impl FnOnce() -> Result<Vec<ProfileInfo>, DriverError>,
    ) -> Result<Arc<[ProfileInfo]>, DriverError> {
        let lock = || self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&model) {
            return Ok(known.clone());
        }
        let told: Arc<[ProfileInfo]> = ask()?.into();
        if model.0 != 0 && !told.is_empty() {
            lock().insert(model, told.clone());
        }
        Ok(told)
    }

    /// What was seen of these devices, if they are the same as then.
    fn unchanged(&self, index: u32, mode: MigMode, found: &[Found]) -> Option<Vec<MigDevice>> {
        let mut seen = self.lock();
        let sight = seen.get_mut(&index).filter(|sight| sight.found == found)?;
        sight.mig.mode = mode;
        sight.at = Instant::now();
        Some(sight.mig.devices.clone())
    }

    /// What the GPU of this index is partitioned into, if somebody has looked this lately.
    pub(crate) fn parts(&self, index: u32, lately: Duration) -> Option<Parts> {
        let seen = self.lock();
        let sight = seen
            .get(&index)
            .filter(|sight| sight.at.elapsed() < lately)?;
        let pairs = sight.found.iter().zip(&sight.mig.devices);
        Some(Parts {
            on: sight.mig.mode.current,
            devices: pairs
                .map(|(found, device)| Part {
                    handle: found.handle,
                    gpu_instance: device.gpu_instance,
                    compute_instance: device.compute_instance,
                })
                .collect(),
        })
    }

    fn note(&self, index: u32, sight: Sight) {
        self.lock().insert(index, sight);
    }

    fn take(&self, index: u32) -> Option<GpuMig> {
        self.lock().remove(&index).map(|sight| sight.mig)
    }

    /// Has the GPU of this index read anew: it was partitioned anew, perhaps so that the devices
    /// have the UUIDs of others before them.
    pub(crate) fn forget(&self, index: u32) {
        self.take(index);
    }
}

/// A MIG device that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    index: u32,
    handle: Device,
    uuid: MigUuid,
}

/// A GPU with MIG on.
struct Parent<'a> {
    device: Device,
    minor: u32,
    /// 0 where it may not be told.
    memory_mib: u64,
    capabilities: &'a CapabilityMinors,
}

/// What is known of a GPU instance; `None` where it may not be asked.
type Inside = Option<(ProfileExtra, Placement)>;

impl Session {
    /// How the GPU is partitioned; `None` where it cannot be. Devices that were seen before are
    /// not asked again.
    pub(crate) fn partition(
        &self,
        index: u32,
        device: Device,
        capabilities: &CapabilityMinors,
    ) -> Result<Option<GpuMig>, DriverError> {
        match self.library.mig_mode(device)? {
            Some(mode) => {
                let devices = self.mig_devices(index, device, mode, capabilities)?;
                Ok(Some(GpuMig { mode, devices }))
            }
            None => Ok(None),
        }
    }

    /// As [`Self::partition`], all of it asked anew, and as far as the GPU tells: a GPU must not
    /// be lost to the node for what is wrong with its partitions. What it does not tell now is
    /// what it told last.
    pub(crate) fn known_partition(
        &self,
        index: u32,
        device: Device,
        capabilities: &CapabilityMinors,
    ) -> Option<GpuMig> {
        let last = self.mig.take(index);
        let mode = match self.library.mig_mode(device) {
            Ok(mode) => mode?,
            Err(error) => {
                tracing::warn!(index, %error, "a GPU does not tell whether MIG is on");
                return last;
            }
        };
        let devices = self.mig_devices(index, device, mode, capabilities);
        let devices = devices.unwrap_or_else(|error| {
            tracing::warn!(index, %error, "a GPU does not tell its MIG devices");
            last.map(|last| last.devices).unwrap_or_default()
        });
        Some(GpuMig { mode, devices })
    }

    fn mig_devices(
        &self,
        index: u32,
        device: Device,
        mode: MigMode,
        capabilities: &CapabilityMinors,
    ) -> Result<Vec<MigDevice>, DriverError> {
        let found = if mode.current {
            self.library.found(device)?
        } else {
            Vec::new()
        };
        if let Some(devices) = self.mig.unchanged(index, mode, &found) {
            return Ok(devices);
        }
        let known = self.known(index).and_then(|known| known.pci);
        let model = known.map_or(0, |pci| pci.device_id);
        let (found, devices) = self.read(device, model, found, capabilities)?;
        let mig = GpuMig {
            mode,
            devices: devices.clone(),
        };
        let at = Instant::now();
        self.mig.note(index, Sight { found, mig, at });
        Ok(devices)
    }

    /// Reads these MIG devices of a GPU with this device id, and answers those that could be read.
    fn read(
        &self,
        device: Device,
        model: u32,
        found: Vec<Found>,
        capabilities: &CapabilityMinors,
    ) -> Result<(Vec<Found>, Vec<MigDevice>), DriverError> {
        if found.is_empty() {
            return Ok((found, Vec::new()));
        }
        let library = &self.library;
        let parent = Parent {
            device,
            minor: library.minor(device)?,
            memory_mib: library.memory_total(device).unwrap_or_default() >> 20,
            capabilities,
        };
        let ask = || match library.gpu_profiles(device, parent.memory_mib) {
            Err(DriverError::NoPermission) => Ok(Vec::new()),
            profiles => profiles,
        };
        let profiles = self.mig.profiles((model, parent.memory_mib), ask)?;
        let mut reader = Reader {
            library,
            parent,
            profiles,
            instances: BTreeMap::new(),
        };
        let read = found.into_iter().filter_map(|one| match reader.read(&one) {
            Ok(device) => Some((one, device)),
            // One that has gone meanwhile, or that will be asked again next time.
            Err(error) => {
                tracing::debug!(uuid = %one.uuid, %error, "a MIG device is left out");
                None
            }
        });
        Ok(read.unzip())
    }
}

impl Library {
    /// The MIG devices that there are.
    fn found(&self, device: Device) -> Result<Vec<Found>, DriverError> {
        let mut found = Vec::new();
        for index in 0..self.most_mig_devices(device)? {
            let Some(handle) = self.mig_device(device, index)? else {
                continue;
            };
            // It may go between two calls.
            if let Some(uuid) = had(self.mig_uuid(handle))? {
                found.push(Found {
                    index,
                    handle,
                    uuid,
                });
            }
        }
        Ok(found)
    }
}

/// Reads the MIG devices of one GPU, each GPU instance once.
struct Reader<'a> {
    library: &'a Library,
    parent: Parent<'a>,
    profiles: Arc<[ProfileInfo]>,
    instances: BTreeMap<u32, Inside>,
}

impl Reader<'_> {
    fn read(&mut self, found: &Found) -> Result<MigDevice, DriverError> {
        let (library, handle) = (self.library, found.handle);
        let gpu_instance = library.gpu_instance_id(handle)?;
        let compute_instance = library.compute_instance_id(handle)?;
        let attributes = library.mig_attributes(handle)?;
        let inside = self.inside(gpu_instance)?;
        let (profile, memory_mib) = self.name(handle, &attributes, inside)?;
        Ok(MigDevice {
            index: found.index,
            uuid: found.uuid.clone(),
            gpu_instance,
            compute_instance,
            profile,
            memory_mib,
            multiprocessors: attributes.multiprocessors,
            engines: attributes.engines,
            placement: inside.map(|(_, placement)| placement),
            capabilities: self.parent.capabilities.of(
                self.parent.minor,
                gpu_instance,
                compute_instance,
            ),
        })
    }

    /// What a GPU instance says of itself. The driver tells it to the administrator alone.
    fn inside(&mut self, id: u32) -> Result<Inside, DriverError> {
        if let Some(inside) = self.instances.get(&id) {
            return Ok(*inside);
        }
        let asked = || {
            let instance = self.library.gpu_instance(self.parent.device, id)?;
            self.library.gpu_instance_info(instance)
        };
        let inside = match asked() {
            Ok(info) => {
                let known = |profile: &&ProfileInfo| profile.id == info.profile_id;
                let profile = self.profiles.iter().find(known);
                profile.map(|profile| (profile.profile.extra, info.placement))
            }
            Err(DriverError::NoPermission | DriverError::NotSupported) => None,
            Err(error) => return Err(error),
        };
        self.instances.insert(id, inside);
        Ok(inside)
    }

    /// Its profile and its memory in MiB.
    fn name(
        &self,
        handle: Device,
        attributes: &Attributes,
        inside: Inside,
    ) -> Result<(MigProfile, u64), DriverError> {
        let named = || named(&self.library.name(handle).unwrap_or_default());
        let total = self.parent.memory_mib;
        let Some(size) = attributes.size.filter(|_| total > 0) else {
            let profile = named().ok_or(DriverError::NotSupported)?;
            let memory = match attributes.size {
                Some(size) => size.memory_mib,
                None => self.library.memory_total(handle)? >> 20,
            };
            return Ok((profile, memory));
        };
        let extra = match inside {
            Some((extra, _)) => extra,
            None => guessed_extra(size, attributes, named(), &self.profiles),
        };
        Ok((sized(size, total, extra), size.memory_mib))
    }
}

/// The profile of a device of this size on a GPU of `total_mib`.
fn sized(size: Size, total_mib: u64, extra: ProfileExtra) -> MigProfile {
    let gigabytes = MigProfile::gigabytes(total_mib, size.memory_mib);
    MigProfile::of_gpu_instance(size.gpu_slices, gigabytes, extra)
        .with_compute_slices(size.compute_slices)
}
