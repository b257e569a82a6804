//! Loads, and GPUs that come and go.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mig::{partitioned, refused};
use super::{Affected, ControlError, Gpus, Simulator, affected};
use crate::node::{LinkPeer, MAX_GPUS};
use crate::scenario::{GpuGroup, Mebibytes, add_group};
use crate::state::load::{Load, Program};
use crate::state::{SlotGpu, SlotProcess, Writer, clock};

/// What GPUs do from now on. What is not said follows from the utilisation, and an empty change
/// idles the GPU. Processes stay until they are ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadChange {
    /// GPU utilisation, %.
    pub utilization: Option<Program>,
    /// Memory utilisation, %.
    pub memory_utilization: Option<Program>,
    /// Used framebuffer, MiB; else the sum of the processes'.
    pub memory: Option<Program>,
    /// Power draw, W.
    pub power: Option<Program>,
    /// Temperature, °C.
    pub temperature: Option<Program>,
    /// Encoder utilisation, %.
    pub encoder: Option<Program>,
    /// Decoder utilisation, %.
    pub decoder: Option<Program>,
    /// After which the GPU is idle again.
    pub lasting: Option<Duration>,
    /// What its GPU instances are busy with; those that are not named are idle.
    pub instances: Vec<InstanceLoad>,
    /// Processes that appear on the GPU, or change.
    pub processes: Vec<ProcessLoad>,
    /// Processes that end, by id.
    pub end_processes: Vec<u32>,
    /// Ends every other process.
    pub end_all_processes: bool,
}

/// What a GPU instance is busy with, from now on and as long as its GPU's load lasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceLoad {
    /// Its id.
    pub gpu_instance: u32,
    /// Utilisation of what it has, %.
    pub utilization: Program,
}

/// A process on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessLoad {
    /// Process id on the host.
    pub pid: u32,
    /// Framebuffer that it uses, MiB.
    pub memory_mib: u64,
    /// SM utilisation, %.
    #[serde(default)]
    pub utilization: u16,
    /// Whether it draws rather than computes.
    #[serde(default)]
    pub graphics: bool,
    /// The GPU instance and compute instance that it is on; without them it holds the whole GPU.
    #[serde(default)]
    pub instance: Option<(u32, u32)>,
}

impl Simulator {
    /// Gives GPUs something to do.
    ///
    /// # Errors
    /// A GPU does not exist, has no such instance or no room for a process, or the state cannot
    /// be written.
    pub fn load(&self, gpus: &Gpus, change: &LoadChange) -> Result<Vec<Affected>, ControlError> {
        let writer = self.store.write()?;
        let facts = writer.facts();
        let chosen = gpus.choose(&facts.gpus)?;
        for (index, entry) in &chosen {
            has_instances(&writer, *index, entry, change)?;
        }
        for (index, entry) in &chosen {
            apply(&writer, *index, entry, change)?;
        }
        Ok(chosen
            .iter()
            .map(|(index, entry)| affected(*index, entry))
            .collect())
    }

    /// Adds GPUs. Processes see them when they initialise NVML the next time, as with a real
    /// driver.
    ///
    /// # Errors
    /// The node has no room for them or they clash with its GPUs, or the state cannot be
    /// written; then none is added.
    pub fn add(&self, group: &GpuGroup) -> Result<Vec<Affected>, ControlError> {
        let writer = self.store.write()?;
        let mut node = writer.node();
        let before = node.gpus.len();
        let total = before.saturating_add(group.count);
        if total > MAX_GPUS {
            return Err(ControlError::CannotAdd {
                reasons: vec![format!(
                    "a node has at most {MAX_GPUS} GPUs and this one has {before}"
                )],
            });
        }
        let switched = node
            .gpus
            .iter()
            .any(|gpu| gpu.links.contains(&LinkPeer::Switch));
        for _ in 0..group.count {
            let one = GpuGroup {
                count: 1,
                ..group.clone()
            };
            add_group(&mut node, &one, total, writer.next_ordinal(), None)
                .map_err(|reasons| ControlError::CannotAdd { reasons })?;
        }
        let mut added = node.gpus.split_off(before);
        for gpu in &mut added {
            if switched || before == 0 {
                gpu.links.fill(LinkPeer::Switch);
            }
        }
        let uuids: Vec<_> = added.iter().map(|gpu| gpu.uuid).collect();
        writer.add_gpus(&added);
        let facts = writer.facts();
        let new = facts.gpus.iter().enumerate();
        Ok(new
            .filter(|(_, entry)| uuids.contains(&entry.gpu.uuid))
            .map(|(index, entry)| affected(index, entry))
            .collect())
    }

    /// Takes GPUs out of the node. Processes that have them find them lost; processes that
    /// initialise NVML afterwards do not see them.
    ///
    /// # Errors
    /// A GPU does not exist, or the state cannot be written.
    pub fn remove(&self, gpus: &Gpus) -> Result<Vec<Affected>, ControlError> {
        let writer = self.store.write()?;
        let facts = writer.facts();
        let chosen = gpus.choose(&facts.gpus)?;
        let slots: Vec<usize> = chosen.iter().map(|(_, entry)| entry.slot).collect();
        writer.remove_gpus(&slots);
        Ok(chosen
            .iter()
            .map(|(index, entry)| affected(*index, entry))
            .collect())
    }
}

/// That a GPU has the instances that a change names.
fn has_instances(
    writer: &Writer<'_>,
    index: usize,
    entry: &SlotGpu,
    change: &LoadChange,
) -> Result<(), ControlError> {
    let loads = change
        .instances
        .iter()
        .map(|load| (load.gpu_instance, None));
    let placed = change
        .processes
        .iter()
        .filter_map(|process| process.instance);
    let placed = placed.map(|(gpu, compute)| (gpu, Some(compute)));
    for (gpu_instance, compute_instance) in loads.chain(placed) {
        let partition = partitioned(writer, index, entry)?;
        let found = partition.gpu_instance(gpu_instance).is_ok()
            && compute_instance.is_none_or(|id| {
                let mut inside = partition.inside(gpu_instance);
                inside.any(|instance| instance.id == id)
            });
        if !found {
            let named = match compute_instance {
                Some(id) => format!("{gpu_instance}/{id}"),
                None => gpu_instance.to_string(),
            };
            let reason = format!("it has no instance {named}: `mizzen sim mig list` shows them");
            return Err(refused(index, entry, reason));
        }
    }
    Ok(())
}

fn apply(
    writer: &Writer<'_>,
    index: usize,
    entry: &SlotGpu,
    change: &LoadChange,
) -> Result<(), ControlError> {
    let slot = entry.slot;
    let (before, instances) = writer.slot(slot).loads();
    let settled = before.settled(&entry.gpu);
    let load = Load {
        utilization: change.utilization,
        memory_utilization: change.memory_utilization,
        memory: change.memory,
        power: change.power,
        temperature: change.temperature,
        encoder: change.encoder,
        decoder: change.decoder,
        started: clock::now(),
        until: clock::deadline(change.lasting),
        ..settled
    };
    let programs = change.instances.iter();
    let programs: Vec<_> = programs
        .map(|load| (load.gpu_instance, load.utilization))
        .collect();
    writer.store_load(slot, &load, &instances.replaced(&before, &programs));
    if change.end_all_processes {
        writer.clear_processes(slot);
    }
    for pid in &change.end_processes {
        writer.end_process(slot, *pid);
    }
    for process in &change.processes {
        let new = SlotProcess {
            pid: process.pid,
            compute: !process.graphics,
            graphics: process.graphics,
            instance: process.instance.and_then(|(gpu, compute)| {
                Some((u8::try_from(gpu).ok()?, u8::try_from(compute).ok()?))
            }),
            memory: process.memory_mib.saturating_mul(1 << 20),
            utilization: [process.utilization, process.utilization / 2, 0, 0],
            started: 0,
        };
        if !writer.set_process(slot, new) {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            return Err(ControlError::TooManyProcesses { index });
        }
    }
    Ok(())
}

impl Writer<'_> {
    fn add_gpus(&self, gpus: &[crate::node::Gpu]) {
        self.restructure(|| {
            for gpu in gpus {
                if let Some(slot) = self.free_slot() {
                    self.occupy(slot, gpu);
                }
            }
        });
        self.wake_listeners();
    }

    fn remove_gpus(&self, slots: &[usize]) {
        self.restructure(|| {
            for slot in slots {
                self.vacate(*slot);
            }
        });
        self.wake_listeners();
    }
}

/// How much framebuffer a GPU's load and processes use now, MiB, the driver's own share apart.
pub(crate) fn used_mib(slot: &crate::state::Slot, entry: &SlotGpu) -> u64 {
    let free = entry
        .gpu
        .memory_mib
        .saturating_sub(entry.gpu.model.reserved_mib);
    let programmed = slot.load().sample(&entry.gpu).memory_mib;
    let used = match programmed {
        Some(mib) => Mebibytes(rounded(mib)),
        None => Mebibytes(
            slot.processes()
                .iter()
                .map(|process| process.memory >> 20)
                .sum(),
        ),
    };
    used.0.min(free)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "samples are clamped to small positive numbers"
)]
pub(crate) fn rounded(value: f64) -> u64 {
    // Not `round`, which would need libm.
    (value.max(0.0) + 0.5) as u64
}

/// Whether the GPU keeps its driver loaded without clients.
pub(crate) fn is_persistent(slot: &crate::state::Slot) -> bool {
    slot.persistence.load(Relaxed) == 1
}
