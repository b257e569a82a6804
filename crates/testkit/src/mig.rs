//! A GPU that can be partitioned, and does what is asked of it as a driver would.

use std::collections::BTreeMap;
use std::time::Duration;

use mizzen_core::driver::DriverError;
use mizzen_core::gpu::GpuUuid;
use mizzen_core::mig::{
    Capabilities, ComputeInstance, Engines, GpuInstance, GpuMig, Layout, MigDevice, MigStep,
    MigTable, Placement, ProfileInfo,
};

use crate::driver::{FakeDriver, Script};

/// Profiles of an H100 80GB: name, number, slices, places.
const H100: [(&str, u32, u32, &[u32]); 6] = [
    ("1g.10gb", 0, 1, &[0, 1, 2, 3, 4, 5, 6]),
    ("1g.20gb", 9, 2, &[0, 2, 4, 6]),
    ("2g.20gb", 1, 2, &[0, 2, 4]),
    ("3g.40gb", 2, 4, &[0, 4]),
    ("4g.40gb", 3, 4, &[0]),
    ("7g.80gb", 4, 8, &[0]),
];
/// Memory slices of the GPU.
const SLICES: u32 = 8;

/// What an H100 80GB can be cut into, without the profiles that have more or fewer engines.
///
/// # Panics
/// Never: the names are profiles.
pub fn h100_table() -> MigTable {
    let info = |&(name, number, size, starts): &(&str, u32, u32, &[u32])| ProfileInfo {
        profile: name.parse().expect("a profile"),
        number,
        id: 19 - number,
        memory_mib: u64::from(size) * 10_000,
        multiprocessors: 16 * size,
        engines: Engines::default(),
        most: u32::try_from(starts.len()).expect("few places"),
        placements: starts
            .iter()
            .map(|start| Placement {
                start: *start,
                size,
            })
            .collect(),
    };
    MigTable {
        profiles: H100.iter().map(info).collect(),
    }
}

/// What happens to a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeTrouble {
    /// It is refused.
    Refused(DriverError),
    /// It does not come back, and nothing has happened yet.
    HangsBefore,
    /// It does not come back, and it has happened.
    HangsAfter,
}

/// How GPUs are partitioned, and what happens to changes.
#[derive(Debug, Default)]
pub(crate) struct MigScript {
    pub(crate) gpus: BTreeMap<GpuUuid, FakeMig>,
    /// GPUs that do not tell how they are partitioned.
    pub(crate) silent: BTreeMap<GpuUuid, DriverError>,
    /// By the number of the change, counted from 0.
    troubles: BTreeMap<usize, ChangeTrouble>,
    asked: usize,
    hanging: usize,
    releases: usize,
    done: Vec<(GpuUuid, MigStep)>,
}

impl FakeDriver {
    /// This GPU can be partitioned so, and its mode changes at once.
    pub fn make_partitionable(&self, gpu: &GpuUuid, table: MigTable) {
        self.change(|script| {
            script.mig.gpus.insert(gpu.clone(), FakeMig::new(table));
            script.show_mig(gpu);
        });
    }

    /// A new mode of this GPU is in force after a reset only.
    pub fn wait_for_resets(&self, gpu: &GpuUuid) {
        self.change(|script| {
            if let Some(known) = script.mig.gpus.get_mut(gpu) {
                known.resets = true;
            }
        });
    }

    /// Whoever kept the mode of this GPU from taking effect is gone: set once more, it is in force.
    pub fn free_mode(&self, gpu: &GpuUuid) {
        self.change(|script| {
            if let Some(known) = script.mig.gpus.get_mut(gpu) {
                known.resets = false;
            }
        });
    }

    /// A MIG device of this GPU that is made again where one was has its UUID, as with real drivers.
    pub fn give_uuids_again(&self, gpu: &GpuUuid) {
        self.change(|script| {
            if let Some(known) = script.mig.gpus.get_mut(gpu) {
                known.steady = true;
            }
        });
    }

    /// This GPU is reset.
    pub fn reset_gpu(&self, gpu: &GpuUuid) {
        self.change(|script| {
            if let Some(known) = script.mig.gpus.get_mut(gpu) {
                known.reset();
            }
            script.show_mig(gpu);
        });
    }

    /// This GPU does not tell what it is cut into, until it is taken back.
    pub fn hide_layout(&self, gpu: &GpuUuid, error: Option<DriverError>) {
        self.change(|script| match error {
            Some(error) => {
                script.mig.silent.insert(gpu.clone(), error);
            }
            None => {
                script.mig.silent.remove(gpu);
            }
        });
    }

    /// What this GPU is cut into.
    ///
    /// # Panics
    /// If it cannot be partitioned.
    pub fn mig_layout(&self, gpu: &GpuUuid) -> Layout {
        let script = self.lock();
        let known = script.mig.gpus.get(gpu);
        known.expect("a GPU with MIG").layout.clone()
    }

    /// Somebody else changes this GPU.
    ///
    /// # Panics
    /// If it cannot be changed so.
    pub fn meddle(&self, gpu: &GpuUuid, steps: &[MigStep]) {
        self.change(|script| {
            let known = script.mig.gpus.get_mut(gpu).expect("a GPU with MIG");
            for step in steps {
                known.change(step).expect("a step that can be made");
            }
            script.show_mig(gpu);
        });
    }

    /// What happens to the change of this number, counted from the first that was ever asked for.
    pub fn trouble_change(&self, number: usize, trouble: ChangeTrouble) {
        self.change(|script| {
            script.mig.troubles.insert(number, trouble);
        });
    }

    /// How many changes were asked for.
    pub fn changes_asked(&self) -> usize {
        self.lock().mig.asked
    }

    /// The changes that were made.
    pub fn changes_done(&self) -> Vec<(GpuUuid, MigStep)> {
        self.lock().mig.done.clone()
    }

    /// How many changes hang.
    pub fn hanging_changes(&self) -> usize {
        self.lock().mig.hanging
    }

    /// Lets the changes that hang come back: with an error, whatever they have done.
    pub fn release_changes(&self) {
        self.change(|script| script.mig.releases += 1);
    }

    /// Makes a change as the script says.
    pub(crate) fn change_mig(&self, gpu: &GpuUuid, step: &MigStep) -> Result<(), DriverError> {
        let mut script = self.lock();
        let number = script.mig.asked;
        script.mig.asked += 1;
        let trouble = script.mig.troubles.remove(&number);
        if let Some(ChangeTrouble::Refused(error)) = trouble {
            return Err(error);
        }
        if trouble != Some(ChangeTrouble::HangsBefore) {
            let known = script.mig.gpus.get_mut(gpu);
            known.ok_or(DriverError::NotSupported)?.change(step)?;
            script.mig.done.push((gpu.clone(), step.clone()));
            script.show_mig(gpu);
        }
        if trouble.is_none() {
            return Ok(());
        }
        script.mig.hanging += 1;
        let releases = script.mig.releases;
        while script.mig.releases == releases {
            script = self.wait(script);
        }
        script.mig.hanging -= 1;
        Err(DriverError::Hung {
            after: Duration::from_secs(1),
        })
    }
}

impl Script {
    /// Lets containers see what a GPU is cut into.
    fn show_mig(&mut self, gpu: &GpuUuid) {
        let known = self.gpus.iter_mut().find(|known| known.uuid == *gpu);
        if let (Some(known), Some(mig)) = (known, self.mig.gpus.get(gpu)) {
            known.mig = Some(mig.devices(known.index));
        }
    }
}

/// How a GPU is partitioned, and how it takes changes.
#[derive(Debug, Clone)]
pub(crate) struct FakeMig {
    table: MigTable,
    pub(crate) layout: Layout,
    /// A new mode is in force after a reset only.
    pub(crate) resets: bool,
    /// Numbers of the MIG devices there are, from which they have their UUIDs.
    numbers: BTreeMap<(u32, u32), u32>,
    made: u32,
    /// Whether the numbers follow from the ids of the instances.
    steady: bool,
}

impl FakeMig {
    pub(crate) fn new(table: MigTable) -> Self {
        Self {
            table,
            layout: Layout::default(),
            resets: false,
            numbers: BTreeMap::new(),
            made: 0,
            steady: false,
        }
    }

    /// A reset: the mode that was set comes into force, and instances are gone if it is off.
    pub(crate) fn reset(&mut self) {
        self.layout.mode.current = self.layout.mode.pending;
        if !self.layout.mode.current {
            self.layout.instances.clear();
            self.numbers.clear();
        }
    }

    /// The same as containers see it; `gpu` is the GPU's index.
    pub(crate) fn devices(&self, gpu: u32) -> GpuMig {
        let instances = self.layout.instances.iter();
        let each = instances.flat_map(|gi| gi.compute.iter().map(move |ci| (gi, ci)));
        let device = |(index, (gi, ci)): (u32, (&GpuInstance, &ComputeInstance))| MigDevice {
            index,
            uuid: uuid(gpu, self.numbers[&(gi.id, ci.id)]),
            gpu_instance: gi.id,
            compute_instance: ci.id,
            profile: gi.profile.with_compute_slices(ci.slices),
            memory_mib: u64::from(gi.placement.size) * 10_000,
            multiprocessors: 16 * ci.slices,
            engines: Engines::default(),
            placement: Some(gi.placement),
            capabilities: Capabilities::default(),
        };
        GpuMig {
            mode: self.layout.mode,
            devices: (0..).zip(each).map(device).collect(),
        }
    }

    /// What it can be cut into; where instances can be is told while MIG is on only.
    pub(crate) fn table(&self) -> MigTable {
        let mut table = self.table.clone();
        if !self.layout.mode.current {
            for info in &mut table.profiles {
                info.placements.clear();
            }
        }
        table
    }

    pub(crate) fn change(&mut self, step: &MigStep) -> Result<(), DriverError> {
        match step {
            MigStep::SetMode(on) => self.set_mode(*on),
            MigStep::DestroyComputeInstance { gpu_instance, id } => {
                let found = self.find(*gpu_instance)?;
                let before = found.compute.len();
                found.compute.retain(|known| known.id != *id);
                if found.compute.len() == before {
                    return Err(not_found());
                }
                self.numbers.remove(&(*gpu_instance, *id));
                Ok(())
            }
            MigStep::DestroyGpuInstance { id } => {
                if !self.find(*id)?.compute.is_empty() {
                    return Err(DriverError::InUse);
                }
                self.layout.instances.retain(|known| known.id != *id);
                Ok(())
            }
            MigStep::CreateComputeInstances {
                gpu_instance,
                slices,
            } => slices
                .iter()
                .try_for_each(|one| self.fill(*gpu_instance, *one)),
            MigStep::CreateGpuInstance {
                profile,
                placement,
                slices,
            } => {
                let fits = self
                    .table
                    .find(*profile)
                    .is_some_and(|info| info.placements.contains(placement));
                let free = |known: &GpuInstance| !known.placement.overlaps(*placement);
                if !self.layout.mode.current {
                    return Err(DriverError::NotSupported);
                }
                if !fits || !self.layout.instances.iter().all(free) {
                    return Err(DriverError::InsufficientResources);
                }
                let id = SLICES / placement.size + placement.start / placement.size - 1;
                self.layout.instances.push(GpuInstance {
                    id,
                    profile: *profile,
                    placement: *placement,
                    compute: Vec::new(),
                });
                self.layout.instances.sort_by_key(|known| known.id);
                slices.iter().try_for_each(|one| self.fill(id, *one))
            }
        }
    }

    fn set_mode(&mut self, on: bool) -> Result<(), DriverError> {
        if !self.layout.instances.is_empty() {
            return Err(DriverError::InUse);
        }
        self.layout.mode.pending = on;
        if !self.resets {
            self.layout.mode.current = on;
        }
        Ok(())
    }

    fn find(&mut self, gpu_instance: u32) -> Result<&mut GpuInstance, DriverError> {
        let mut known = self.layout.instances.iter_mut();
        known
            .find(|known| known.id == gpu_instance)
            .ok_or_else(not_found)
    }

    /// Makes one compute instance.
    fn fill(&mut self, gpu_instance: u32, slices: u32) -> Result<(), DriverError> {
        let found = self.find(gpu_instance)?;
        let used: u32 = found.compute.iter().map(|known| known.slices).sum();
        if used + slices > found.profile.gpu_slices {
            return Err(DriverError::InsufficientResources);
        }
        let is_free = |id: &u32| found.compute.iter().all(|known| known.id != *id);
        let id = (0..SLICES).find(is_free).unwrap_or_default();
        found.compute.push(ComputeInstance {
            id,
            slices,
            placement: Placement {
                start: used,
                size: slices,
            },
        });
        found.compute.sort_by_key(|known| known.id);
        let number = if self.steady {
            SLICES * gpu_instance + id
        } else {
            self.made
        };
        self.numbers.insert((gpu_instance, id), number);
        self.made += 1;
        Ok(())
    }
}

fn not_found() -> DriverError {
    DriverError::Nvml {
        call: "nvmlDeviceGetGpuInstanceById",
        code: 6,
        message: "Not Found".to_owned(),
    }
}

fn uuid(gpu: u32, number: u32) -> mizzen_core::mig::MigUuid {
    let text = format!("MIG-4d697a7a-656e-4000-9000-{:012x}", 1000 * gpu + number);
    text.parse().expect("a UUID")
}
