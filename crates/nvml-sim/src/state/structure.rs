//! The constant facts: which GPUs there are, and what the node is.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use super::instance_load::InstanceLoads;
use super::layout::Layout;
use super::load::Load;
use super::store::Writer;
use super::{clock, record};
use crate::identity::PciAddress;
use crate::node::{CpuList, DeviceNodes, Gpu, LinkPeer, MAX_GPUS, MAX_NUMA_NODES, Node};

/// A GPU and where its live state is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SlotGpu {
    pub(crate) slot: usize,
    pub(crate) incarnation: u32,
    pub(crate) gpu: Gpu,
}

/// What the file says about the node, read as one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeFacts {
    pub(crate) generation: u64,
    pub(crate) driver_version: String,
    pub(crate) cuda_version: (u32, u32),
    pub(crate) hostname: String,
    pub(crate) device_nodes: DeviceNodes,
    /// In the order of NVML's indices, which is the order on the PCI bus.
    pub(crate) gpus: Vec<SlotGpu>,
}

impl Layout {
    /// Changes whenever a GPU comes or goes, or the scenario changes.
    pub(crate) fn generation(&self) -> u64 {
        self.header.structure.load(Acquire) / 2
    }

    /// Whether a change of the facts began and did not end.
    pub(super) fn is_changing(&self) -> bool {
        self.header.structure.load(Acquire) % 2 == 1
    }

    /// The facts; none while they change.
    pub(crate) fn try_facts(&self) -> Option<NodeFacts> {
        let before = self.header.structure.load(Acquire);
        if before % 2 == 1 {
            return None;
        }
        let facts = self.facts_unchecked();
        fence(Acquire);
        (self.header.structure.load(Relaxed) == before).then_some(facts)
    }

    /// The facts, for who holds the write lock or checks the generation afterwards.
    fn facts_unchecked(&self) -> NodeFacts {
        let header = &self.header;
        let mut gpus: Vec<SlotGpu> = (0..self.slots_used())
            .filter_map(|slot| self.slot_gpu(slot))
            .collect();
        gpus.sort_by_key(|entry| entry.gpu.pci);
        NodeFacts {
            generation: header.structure.load(Relaxed) / 2,
            driver_version: record::load_text(&header.driver_version),
            cuda_version: (
                header.cuda_version[0].load(Relaxed),
                header.cuda_version[1].load(Relaxed),
            ),
            hostname: record::load_text(&header.hostname),
            device_nodes: match header.device_nodes.load(Relaxed) {
                0 => DeviceNodes::Ignore,
                _ => DeviceNodes::Enforce,
            },
            gpus,
        }
    }

    /// Slots that were ever used are below this: the others' pages are left alone.
    fn slots_used(&self) -> usize {
        (self.header.slots_used.load(Acquire) as usize).min(MAX_GPUS)
    }

    /// The GPU in a slot.
    fn slot_gpu(&self, index: usize) -> Option<SlotGpu> {
        let slot = &self.slots[index];
        if slot.present.load(Acquire) == 0 {
            return None;
        }
        Some(SlotGpu {
            slot: index,
            incarnation: slot.incarnation.load(Relaxed),
            gpu: record::load(&slot.record)?,
        })
    }

    /// Where the GPU in a slot sits on the bus.
    pub(crate) fn address_in_slot(&self, slot: usize) -> Option<PciAddress> {
        let entry = (slot < self.slots_used())
            .then(|| self.slot_gpu(slot))
            .flatten();
        entry.map(|entry| entry.gpu.pci)
    }

    /// The CPUs of each NUMA node.
    pub(crate) fn numa_nodes(&self) -> Vec<CpuList> {
        let count = self.header.numa_nodes.load(Relaxed) as usize;
        self.numa[..count.min(MAX_NUMA_NODES)]
            .iter()
            .map(|words| {
                let mask: Vec<u64> = words.iter().map(|word| word.load(Relaxed)).collect();
                CpuList::from_mask(&mask)
            })
            .collect()
    }

    /// The CPUs of one NUMA node as a bit mask.
    #[cfg_attr(
        not(feature = "exports"),
        allow(dead_code, reason = "asked by C callers only")
    )]
    pub(crate) fn numa_mask(&self, node: u32) -> Vec<u64> {
        let words = self.numa.get(node as usize);
        words.map_or_else(Vec::new, |words| {
            words.iter().map(|word| word.load(Relaxed)).collect()
        })
    }
}

impl Writer<'_> {
    /// The facts; the lock keeps them still.
    pub(crate) fn facts(&self) -> NodeFacts {
        self.facts_unchecked()
    }

    /// The node as a plan, so that GPUs can be added to it; slots as positions are lost.
    pub(crate) fn node(&self) -> Node {
        let facts = self.facts();
        Node {
            driver_version: facts.driver_version,
            cuda_version: facts.cuda_version,
            hostname: facts.hostname,
            device_nodes: facts.device_nodes,
            numa_nodes: self.numa_nodes(),
            gpus: facts.gpus.into_iter().map(|entry| entry.gpu).collect(),
        }
    }

    /// Changes the facts with `change`; readers see all of it or nothing.
    pub(crate) fn restructure<T>(&self, change: impl FnOnce() -> T) -> T {
        let structure = &self.header.structure;
        structure.store(structure.load(Relaxed) | 1, Relaxed);
        fence(Release);
        let result = change();
        structure.store(structure.load(Relaxed) + 1, Release);
        result
    }

    /// Ends a change that a killed writer left open.
    pub(super) fn close_structure(&self) {
        let structure = &self.header.structure;
        let value = structure.load(Relaxed);
        structure.store(value + value % 2, Release);
    }

    /// Writes what concerns the whole node; only inside [`Self::restructure`].
    pub(super) fn store_node(&self, node: &Node) {
        let header = &self.header;
        record::store_text(&header.driver_version, &node.driver_version);
        record::store_text(&header.hostname, &node.hostname);
        header.cuda_version[0].store(node.cuda_version.0, Relaxed);
        header.cuda_version[1].store(node.cuda_version.1, Relaxed);
        header.device_nodes.store(
            u32::from(node.device_nodes == DeviceNodes::Enforce),
            Relaxed,
        );
        for (words, cpus) in self.numa.iter().zip(&node.numa_nodes) {
            for (word, value) in words.iter().zip(cpus.mask()) {
                word.store(value, Relaxed);
            }
        }
        let count = node.numa_nodes.len().min(MAX_NUMA_NODES);
        header
            .numa_nodes
            .store(u32::try_from(count).unwrap_or(0), Relaxed);
    }

    /// Makes the GPUs those of `node`. A GPU that is there already, with the same facts, keeps
    /// its live state; only inside [`Self::restructure`].
    pub(super) fn store_gpus(&self, node: &Node) {
        let old = self.facts().gpus;
        let mut place: Vec<Option<usize>> = node
            .gpus
            .iter()
            .map(|gpu| {
                old.iter()
                    .find(|entry| entry.gpu.uuid == gpu.uuid)
                    .map(|entry| entry.slot)
            })
            .collect();
        for entry in &old {
            if !place.contains(&Some(entry.slot)) {
                self.vacate(entry.slot);
            }
        }
        for position in 0..place.len() {
            if place[position].is_none() {
                let taken = |slot: &usize| place.contains(&Some(*slot));
                let wanted = Some(position).filter(|slot| *slot < MAX_GPUS && !taken(slot));
                place[position] = wanted.or_else(|| (0..MAX_GPUS).find(|slot| !taken(slot)));
            }
        }
        for (gpu, slot) in node.gpus.iter().zip(&place) {
            let Some(slot) = *slot else { continue };
            let gpu = relinked(gpu, &place);
            if self.slot_gpu(slot).is_none_or(|entry| entry.gpu != gpu) {
                self.occupy(slot, &gpu);
            }
        }
    }

    /// Puts a GPU into a slot, healthy and idle; only inside [`Self::restructure`].
    pub(crate) fn occupy(&self, index: usize, gpu: &Gpu) {
        self.vacate(index);
        let slot = &self.slots[index];
        self.heal_slot(index);
        self.clear_counters(index);
        self.clear_settings(index);
        let now = clock::now();
        let idle = Load {
            started: now,
            energy_since: now,
            ..Load::default()
        };
        self.store_load(index, &idle, &InstanceLoads::default());
        self.start_mig(index, gpu);
        record::store(&slot.record, gpu);
        let used = u32::try_from(index + 1).unwrap_or(u32::MAX);
        self.header.slots_used.fetch_max(used, Release);
        slot.present.store(1, Release);
    }

    /// Takes the GPU out of a slot; sessions that have it find it lost.
    pub(crate) fn vacate(&self, index: usize) {
        let slot = &self.slots[index];
        slot.present.store(0, Release);
        slot.incarnation
            .store(slot.incarnation.load(Relaxed).wrapping_add(1), Release);
        self.release_hang(index);
        self.clear_processes(index);
        self.clear_mig(index);
    }

    /// A slot without a GPU.
    pub(crate) fn free_slot(&self) -> Option<usize> {
        (0..MAX_GPUS).find(|slot| self.slots[*slot].present.load(Relaxed) == 0)
    }
}

/// A plan's links name positions in the plan; the file's name slots.
fn relinked(gpu: &Gpu, place: &[Option<usize>]) -> Gpu {
    let mut gpu = gpu.clone();
    for link in &mut gpu.links {
        if let LinkPeer::Gpu(position) = *link {
            let slot = place.get(usize::from(position)).copied().flatten();
            *link = slot
                .and_then(|slot| u8::try_from(slot).ok())
                .map_or(LinkPeer::Down, LinkPeer::Gpu);
        }
    }
    gpu
}
