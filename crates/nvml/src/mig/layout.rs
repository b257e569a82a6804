//! All that a GPU is cut into, and what it could be.

use std::collections::BTreeMap;

use mizzen_core::driver::DriverError;
use mizzen_core::mig::{ComputeInstance, GpuInstance, Layout, MigTable, Placement, ProfileInfo};

use super::calls::{GpuInstanceHandle, had};
use crate::device::Device;
use crate::library::Library;
use crate::session::Session;

impl Session {
    /// What the GPU can be cut into and what it is cut into.
    pub(crate) fn mig_layout(&self, device: Device) -> Result<(MigTable, Layout), DriverError> {
        let library = &self.library;
        let mode = library.mig_mode(device)?.ok_or(DriverError::NotSupported)?;
        let total = library.memory_total(device)? >> 20;
        let mut profiles = library.gpu_profiles(device, total)?;
        for info in &mut profiles {
            info.placements = library.gpu_placements(device, info.id)?;
        }
        let mut instances = Vec::new();
        if mode.current {
            for info in &profiles {
                instances.extend(library.instances_of(device, info)?);
            }
        }
        instances.sort_by_key(|instance: &GpuInstance| instance.id);
        Ok((MigTable { profiles }, Layout { mode, instances }))
    }
}

impl Library {
    /// The GPU instances of a profile.
    fn instances_of(
        &self,
        device: Device,
        info: &ProfileInfo,
    ) -> Result<Vec<GpuInstance>, DriverError> {
        let mut instances = Vec::new();
        for handle in self.gpu_instances(device, info.id)? {
            // It may go between two calls.
            let Some(found) = had(self.gpu_instance_info(handle))? else {
                continue;
            };
            instances.push(GpuInstance {
                id: found.id,
                profile: info.profile,
                placement: found.placement,
                compute: self.compute_instances_in(handle)?,
            });
        }
        Ok(instances)
    }

    /// The compute instances in a GPU instance. A driver that tells no placements is taken to
    /// place them one after the other.
    fn compute_instances_in(
        &self,
        instance: GpuInstanceHandle,
    ) -> Result<Vec<ComputeInstance>, DriverError> {
        let mut found = BTreeMap::new();
        for profile in self.compute_profiles(instance)? {
            for handle in self.compute_instances(instance, profile.id)? {
                if let Some(info) = had(self.compute_instance_info(handle))? {
                    found.insert(info.id, (profile.slices, info.placement));
                }
            }
        }
        let mut next = 0;
        let placed = found.into_iter().map(|(id, (slices, placement))| {
            let placement = placement.unwrap_or(Placement {
                start: next,
                size: slices,
            });
            next = placement.start + placement.size;
            ComputeInstance {
                id,
                slices,
                placement,
            }
        });
        Ok(placed.collect())
    }
}
