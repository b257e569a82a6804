//! The GPUs of this machine and how they are partitioned.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use mizzen_core::driver::{DriverError, GpuDriver};
use mizzen_core::gpu::Gpu;
use mizzen_core::inventory::BrokenGpu;
use mizzen_core::mig::{Layout, MigGpu, MigTable, Placement};
use mizzen_nvml_sim::control::{GpuRef, Gpus};

use super::Stop;
use super::args::DriverArgs;
use crate::target::Target;
use crate::words::ranges;

/// This machine.
pub(super) struct Node {
    pub(super) driver: Arc<dyn GpuDriver>,
    /// By ascending index.
    pub(super) cards: Vec<Card>,
    /// GPUs that do not even tell what they are.
    pub(super) broken: Vec<BrokenGpu>,
}

/// A GPU and how it is partitioned.
#[derive(Debug, Clone)]
pub(super) struct Card {
    pub(super) gpu: Gpu,
    /// [`DriverError::NotSupported`] for a GPU that cannot be partitioned.
    pub(super) mig: Result<(MigTable, Layout), DriverError>,
}

impl Card {
    /// What it can be cut into.
    pub(super) fn table(&self) -> Option<&MigTable> {
        self.mig.as_ref().ok().map(|(table, _)| table)
    }

    /// `GPU 0 (NVIDIA A30)`.
    pub(super) fn name(&self) -> String {
        format!("GPU {} ({})", self.gpu.index, self.gpu.name)
    }

    /// Whether it can be partitioned, also if it does not answer just now.
    pub(super) fn can_be_partitioned(&self) -> bool {
        self.mig != Err(DriverError::NotSupported)
    }

    /// Whether its mode changes with a reset only: so before Hopper.
    pub(super) fn mode_needs_reset(&self) -> bool {
        self.gpu.compute_capability < (9, 0)
    }

    /// As configs choose it.
    pub(super) fn for_configs(&self) -> MigGpu<'_> {
        MigGpu {
            index: self.gpu.index,
            device_id: self.gpu.device_id,
            name: &self.gpu.name,
            table: self.table(),
        }
    }

    fn is_named(&self, name: &GpuRef) -> bool {
        let target = Target(Gpus::These(vec![*name]));
        let (uuid, pci) = (self.gpu.uuid.as_str(), self.gpu.pci.to_string());
        target.names(self.gpu.index, uuid, &pci)
    }
}

impl Node {
    /// Opens the driver that the flags and the environment name, and asks its GPUs.
    pub(super) fn open(args: &DriverArgs) -> Result<Self, Stop> {
        let config = args.settings().validate().map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Stop::misunderstood(anyhow!("{}", errors.join("\n")))
        })?;
        let driver = mizzen_agent::nvml_loader(&config).open().map_err(failed)?;
        let inventory = driver.snapshot().map_err(failed)?;
        let cards = inventory.gpus.into_iter().map(|gpu| {
            let mig = look(driver.as_ref(), &gpu);
            Card { gpu, mig }
        });
        Ok(Self {
            cards: cards.collect(),
            broken: inventory.broken,
            driver,
        })
    }

    /// The GPUs that are meant: those that are named, or all that can be partitioned.
    pub(super) fn chosen(&self, target: Option<&Target>) -> Result<Vec<&Card>, Stop> {
        let names = match target.map(|target| &target.0) {
            Some(Gpus::These(names)) => names,
            Some(Gpus::All) | None => {
                let able = self.cards.iter().filter(|card| card.can_be_partitioned());
                let able: Vec<&Card> = able.collect();
                if able.is_empty() {
                    return Err(self.none_can_be());
                }
                return Ok(able);
            }
        };
        for name in names {
            if !self.cards.iter().any(|card| card.is_named(name)) {
                return Err(self.unknown(name));
            }
        }
        let is_meant = |card: &&Card| names.iter().any(|name| card.is_named(name));
        Ok(self.cards.iter().filter(is_meant).collect())
    }

    /// Whether no GPU can be partitioned.
    pub(super) fn none_is_able(&self) -> bool {
        !self.cards.iter().any(Card::can_be_partitioned)
    }

    /// That no GPU can be.
    pub(super) fn none_can_be(&self) -> Stop {
        let names = self.cards.iter().map(|card| card.gpu.name.as_str());
        let models = crate::words::models(names);
        Stop::failed(anyhow!(
            "no GPU of this machine can be partitioned; it has {models}"
        ))
    }

    fn unknown(&self, name: &GpuRef) -> Stop {
        let broken = self.broken.iter().find(|broken| match name {
            GpuRef::Index(index) => broken.index == *index,
            GpuRef::Uuid(uuid) => {
                let known = broken.uuid.as_ref();
                known.is_some_and(|known| known.as_str() == uuid.to_string())
            }
            GpuRef::Pci(pci) => broken
                .pci
                .is_some_and(|known| known.to_string() == pci.to_string()),
        });
        if let Some(broken) = broken {
            return Stop::failed(anyhow!("{}", in_words(broken)));
        }
        let indices = ranges(self.cards.iter().map(|card| card.gpu.index));
        Stop::misunderstood(anyhow!(
            "there is no GPU {name}; the machine has GPUs {indices}"
        ))
    }
}

/// What a GPU can be cut into and what it is cut into. While MIG is off drivers tell the profiles
/// but no places; then those are told that are expected.
pub(super) fn look(driver: &dyn GpuDriver, gpu: &Gpu) -> Result<(MigTable, Layout), DriverError> {
    let (mut table, layout) = driver.mig_layout(&gpu.uuid)?;
    let mut infos = table.profiles.iter();
    if infos.all(|info| info.placements.is_empty()) {
        expect_places(&mut table, gpu.memory_mib);
    }
    Ok((table, layout))
}

/// Places as all GPUs have had them so far: instances begin at multiples of their size in memory
/// slices, of which a GPU of seven compute slices has eight and another one as many as those, and
/// have their compute slices counted from there.
fn expect_places(table: &mut MigTable, memory_mib: u64) {
    let slices = table.profiles.iter().map(|info| info.profile.gpu_slices);
    let slices = slices.max().unwrap_or(0);
    let memory_slices = if slices == 7 { 8 } else { slices };
    for info in &mut table.profiles {
        // A little of the memory is the driver's own.
        let share = info.memory_mib.saturating_mul(u64::from(memory_slices));
        let size = share.div_ceil(memory_mib.max(1));
        let size = u32::try_from(size)
            .unwrap_or(u32::MAX)
            .clamp(1, memory_slices.max(1));
        let starts = (0..memory_slices).step_by(size as usize);
        let fits = |start: &u32| {
            start + info.profile.gpu_slices <= slices && start + size <= memory_slices
        };
        let starts = starts.filter(fits);
        info.placements = starts.map(|start| Placement { start, size }).collect();
    }
}

/// That a GPU does not tell what it is.
pub(super) fn in_words(broken: &BrokenGpu) -> String {
    format!("GPU {} cannot be described: {}", broken.index, broken.error)
}

fn failed(error: DriverError) -> Stop {
    let absent = matches!(error, DriverError::LibraryNotFound { .. });
    let error = anyhow!(error);
    Stop::failed(if absent {
        error.context(
            "there is no NVIDIA driver (--nvml-library and --driver-root say where it is; \
             `mizzen sim library` places a simulated one)",
        )
    } else {
        error
    })
}
