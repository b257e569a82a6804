//! Changing how a GPU is partitioned.

use mizzen_core::driver::DriverError;
use mizzen_core::mig::{MigProfile, MigStep, Placement};

use super::calls::GpuInstanceHandle;
use crate::device::Device;
use crate::library::Library;
use crate::session::Session;

impl Session {
    /// Takes one step, and has the GPU read anew whatever came of it.
    pub(crate) fn change_mig(
        &self,
        index: u32,
        device: Device,
        step: &MigStep,
    ) -> Result<(), DriverError> {
        let changed = self.library.take_step(device, step);
        self.mig.forget(index);
        self.samples.forget(index);
        changed
    }
}

impl Library {
    fn take_step(&self, device: Device, step: &MigStep) -> Result<(), DriverError> {
        match *step {
            MigStep::SetMode(on) => self.set_mig_mode(device, on),
            MigStep::DestroyComputeInstance { gpu_instance, id } => {
                let instance = self.gpu_instance(device, gpu_instance)?;
                self.destroy_compute_instance(self.compute_instance(instance, id)?)
            }
            MigStep::DestroyGpuInstance { id } => {
                self.destroy_gpu_instance(self.gpu_instance(device, id)?)
            }
            MigStep::CreateComputeInstances {
                gpu_instance,
                ref slices,
            } => self.divide(self.gpu_instance(device, gpu_instance)?, slices),
            MigStep::CreateGpuInstance {
                profile,
                placement,
                ref slices,
            } => {
                let instance = self.create(device, profile, placement)?;
                self.divide(instance, slices)
            }
        }
    }

    fn create(
        &self,
        device: Device,
        profile: MigProfile,
        place: Placement,
    ) -> Result<GpuInstanceHandle, DriverError> {
        let total = self.memory_total(device)? >> 20;
        let profiles = self.gpu_profiles(device, total)?;
        let found = profiles.iter().find(|info| info.profile == profile);
        let id = found.ok_or(DriverError::NotSupported)?.id;
        self.create_gpu_instance(device, id, place)
    }

    /// Makes compute instances of so many slices each.
    fn divide(&self, instance: GpuInstanceHandle, slices: &[u32]) -> Result<(), DriverError> {
        let profiles = self.compute_profiles(instance)?;
        for &slices in slices {
            let found = profiles.iter().find(|profile| profile.slices == slices);
            let profile = found.ok_or(DriverError::NotSupported)?;
            self.create_compute_instance(instance, profile.id)?;
        }
        Ok(())
    }
}
