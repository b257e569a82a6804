//! A simulated GPU that is partitioned as the planner's steps say.

use std::collections::BTreeMap;

use mizzen_core::mig::{
    ComputeInstance, Engines, GpuInstance, Layout, MigMode, MigProfile, MigStep, MigTable,
    Placement, ProfileInfo,
};
use mizzen_nvml_sim::mig::{self as sim, MigError, Partition};
use mizzen_nvml_sim::model::mig as model;
use mizzen_nvml_sim::model::{GpuModel, MODELS};
use mizzen_nvml_sim::scenario::Scenario;

/// The models that can be partitioned.
pub(crate) fn keys() -> Vec<&'static str> {
    let models = MODELS.iter().filter(|model| model.mig.is_some());
    models.map(|model| model.key).collect()
}

/// What a model can be cut into, as NVML tells it.
pub(crate) fn table(key: &str) -> MigTable {
    let table = GpuModel::by_key(key).unwrap().mig.unwrap();
    let profiles = table.profiles.iter().map(|profile| ProfileInfo {
        profile: profile.name.parse().unwrap(),
        number: profile.kind as u32,
        id: profile.id,
        memory_mib: profile.memory_mib,
        multiprocessors: profile.multiprocessors,
        engines: engines(profile.engines),
        most: table.count(profile),
        placements: table.placements(profile).into_iter().map(from).collect(),
    });
    MigTable {
        profiles: profiles.collect(),
    }
}

/// All engines of a model.
pub(crate) fn engines_of(key: &str) -> Engines {
    engines(GpuModel::by_key(key).unwrap().mig.unwrap().engines)
}

fn engines(engines: model::Engines) -> Engines {
    Engines {
        copy: engines.copy,
        decoders: engines.decoders,
        encoders: engines.encoders,
        jpeg: engines.jpeg,
        ofa: engines.ofa,
    }
}

fn from(place: model::Placement) -> Placement {
    Placement {
        start: place.start,
        size: place.size,
    }
}

fn to(place: Placement) -> model::Placement {
    model::Placement {
        start: place.start,
        size: place.size,
    }
}

/// One GPU with MIG on.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    partition: Partition,
    /// Of which others are made: only the simulator can make one of nothing.
    template: sim::ComputeInstance,
    /// The id that the simulator gives to a GPU instance at each place.
    ids: BTreeMap<Placement, u32>,
}

impl Machine {
    pub(crate) fn new(key: &str) -> Self {
        let table = GpuModel::by_key(key).unwrap().mig.unwrap();
        let mut gpu = Scenario::short(&format!("1x{key}"))
            .unwrap()
            .plan()
            .unwrap()
            .gpus
            .remove(0);
        gpu.mig.enabled = true;
        gpu.mig.instances = vec![table.profiles[0].kind];
        let template = Partition::initial(&gpu).unwrap().compute_instances[0];
        let mut ids = BTreeMap::new();
        for profile in table.profiles {
            let mut partition = Partition::empty(table);
            while let Ok(instance) = partition.add(profile) {
                ids.insert(from(instance.place), instance.id);
            }
        }
        Self {
            partition: Partition::empty(table),
            template,
            ids,
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        let on = MigMode {
            current: true,
            pending: true,
        };
        let mut layout = Layout {
            mode: on,
            instances: Vec::new(),
        };
        for instance in &self.partition.gpu_instances {
            let inside = self.partition.inside(instance.id);
            let mut compute: Vec<_> = inside
                .map(|inside| ComputeInstance {
                    id: inside.id,
                    slices: inside.profile.slices,
                    placement: from(inside.place),
                })
                .collect();
            compute.sort();
            layout.instances.push(GpuInstance {
                id: instance.id,
                profile: instance.profile.name.parse().unwrap(),
                placement: from(instance.place),
                compute,
            });
        }
        layout.instances.sort();
        layout
    }

    /// Makes a GPU instance at a place.
    pub(crate) fn create_gpu_instance(
        &mut self,
        profile: MigProfile,
        place: Placement,
    ) -> Result<u32, MigError> {
        let table = self.partition.table;
        let profile = table.by_name(&profile.to_string());
        let profile = profile.ok_or(MigError::NoSuchProfile)?;
        let place = self.partition.place(profile, Some(to(place)))?;
        self.partition.add(profile)?;
        let id = self.ids[&from(place)];
        let instance = self.partition.gpu_instances.last_mut().unwrap();
        (instance.place, instance.id) = (place, id);
        Ok(id)
    }

    /// Makes a compute instance where the driver puts it.
    pub(crate) fn create_compute_instance(
        &mut self,
        gpu_instance: u32,
        slices: u32,
    ) -> Result<(), MigError> {
        let parent = *self.partition.gpu_instance(gpu_instance)?;
        let profiles = self.partition.table.compute_profiles(parent.profile);
        let mut profiles = profiles.into_iter();
        let profile = profiles.find(|profile| profile.slices == slices);
        let profile = profile.ok_or(MigError::NoSuchProfile)?;
        let (place, id) = self.partition.place_compute(&parent, &profile, None)?;
        let mut instance = self.template;
        instance.gpu_instance = gpu_instance;
        instance.id = id;
        instance.profile = profile;
        instance.place = place;
        self.partition.compute_instances.push(instance);
        Ok(())
    }

    pub(crate) fn destroy_compute_instance(
        &mut self,
        gpu_instance: u32,
        id: u32,
    ) -> Result<(), MigError> {
        let all = &mut self.partition.compute_instances;
        let at = all
            .iter()
            .position(|found| (found.gpu_instance, found.id) == (gpu_instance, id))
            .ok_or(MigError::NoSuchInstance)?;
        all.remove(at);
        Ok(())
    }

    pub(crate) fn destroy_gpu_instance(&mut self, id: u32) -> Result<(), MigError> {
        if self.partition.inside(id).next().is_some() {
            return Err(MigError::InUse);
        }
        let all = &mut self.partition.gpu_instances;
        let at = all.iter().position(|found| found.id == id);
        all.remove(at.ok_or(MigError::NoSuchInstance)?);
        Ok(())
    }

    /// Does what a step says, as the driver would; the mode is on already.
    pub(crate) fn apply(&mut self, step: &MigStep) -> Result<(), MigError> {
        match step {
            MigStep::SetMode(_) => Err(MigError::Disabled),
            MigStep::DestroyComputeInstance { gpu_instance, id } => {
                self.destroy_compute_instance(*gpu_instance, *id)
            }
            MigStep::DestroyGpuInstance { id } => self.destroy_gpu_instance(*id),
            MigStep::CreateComputeInstances {
                gpu_instance,
                slices,
            } => self.fill(*gpu_instance, slices),
            MigStep::CreateGpuInstance {
                profile,
                placement,
                slices,
            } => {
                let id = self.create_gpu_instance(*profile, *placement)?;
                self.fill(id, slices)
            }
        }
    }

    fn fill(&mut self, gpu_instance: u32, slices: &[u32]) -> Result<(), MigError> {
        let mut slices = slices.iter();
        slices.try_for_each(|slices| self.create_compute_instance(gpu_instance, *slices))
    }
}
