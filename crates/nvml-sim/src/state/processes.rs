//! The processes on a GPU.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::clock;
use super::layout::{MAX_PROCESSES, ProcessEntry, Slot};
use super::store::Writer;

/// One process on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotProcess {
    /// Process id on the host.
    pub(crate) pid: u32,
    /// Whether it computes.
    pub(crate) compute: bool,
    /// Whether it draws.
    pub(crate) graphics: bool,
    /// Framebuffer that it uses, bytes.
    pub(crate) memory: u64,
    /// GPU instance and compute instance that it is on; none = the whole GPU.
    pub(crate) instance: Option<(u8, u8)>,
    /// SM, memory, encoder and decoder utilisation, %.
    pub(crate) utilization: [u16; 4],
    /// When it came, microseconds since the epoch.
    pub(crate) started: u64,
}

impl ProcessEntry {
    fn read(&self) -> Option<SlotProcess> {
        let pid = self.pid.load(Acquire);
        if pid == 0 {
            return None;
        }
        let kind = self.kind.load(Relaxed);
        let packed = self.utilization.load(Relaxed).to_le_bytes();
        let part = |index: usize| u16::from_le_bytes([packed[2 * index], packed[2 * index + 1]]);
        Some(SlotProcess {
            pid,
            compute: kind & 1 != 0,
            graphics: kind & 2 != 0,
            instance: placed(kind),
            memory: self.memory.load(Relaxed),
            utilization: [part(0), part(1), part(2), part(3)],
            started: self.started.load(Relaxed),
        })
    }

    fn write(&self, process: &SlotProcess) {
        self.pid.store(0, Release);
        let does = u8::from(process.compute) | u8::from(process.graphics) << 1;
        let (gpu_instance, compute_instance) = match process.instance {
            Some((gpu_instance, compute_instance)) => (gpu_instance + 1, compute_instance),
            None => (0, 0),
        };
        let kind = u32::from_le_bytes([does, gpu_instance, compute_instance, 0]);
        self.kind.store(kind, Relaxed);
        self.memory.store(process.memory, Relaxed);
        let mut packed = [0; 8];
        for (bytes, percent) in packed.chunks_exact_mut(2).zip(process.utilization) {
            bytes.copy_from_slice(&percent.to_le_bytes());
        }
        self.utilization.store(u64::from_le_bytes(packed), Relaxed);
        self.started.store(process.started, Relaxed);
        self.pid.store(process.pid, Release);
    }
}

/// The instances that a process is on, by its word.
fn placed(kind: u32) -> Option<(u8, u8)> {
    let [_, gpu_instance, compute_instance, _] = kind.to_le_bytes();
    Some((gpu_instance.checked_sub(1)?, compute_instance))
}

impl Slot {
    /// Whether any process is on the GPU.
    pub(crate) fn is_used(&self) -> bool {
        let mut entries = self.processes.iter();
        entries.any(|entry| entry.pid.load(Acquire) != 0)
    }

    /// Whether a process is on the GPU instance, or on the whole GPU.
    pub(crate) fn uses_instance(&self, gpu_instance: u32) -> bool {
        let on = |process: SlotProcess| match process.instance {
            Some((on, _)) => u32::from(on) == gpu_instance,
            None => true,
        };
        self.processes.iter().filter_map(ProcessEntry::read).any(on)
    }

    /// The processes on the GPU.
    pub(crate) fn processes(&self) -> Vec<SlotProcess> {
        self.processes
            .iter()
            .filter_map(ProcessEntry::read)
            .collect()
    }
}

impl Writer<'_> {
    /// Sets what a process does, adding it if need be; false if the table is full.
    pub(crate) fn set_process(&self, index: usize, process: SlotProcess) -> bool {
        let entries = &self.slots[index].processes;
        let same = |entry: &&ProcessEntry| entry.pid.load(Relaxed) == process.pid;
        let free = |entry: &&ProcessEntry| entry.pid.load(Relaxed) == 0;
        let Some(entry) = entries
            .iter()
            .find(same)
            .or_else(|| entries.iter().find(free))
        else {
            return false;
        };
        let started = match entry.read() {
            Some(old) => old.started,
            None => clock::wall_microseconds(),
        };
        entry.write(&SlotProcess { started, ..process });
        true
    }

    /// Ends a process; false if there is none of that id.
    pub(crate) fn end_process(&self, index: usize, pid: u32) -> bool {
        let entries = &self.slots[index].processes;
        let found = entries
            .iter()
            .find(|entry| pid != 0 && entry.pid.load(Relaxed) == pid);
        if let Some(entry) = found {
            entry.pid.store(0, Release);
        }
        found.is_some()
    }

    /// Ends every process on the GPU.
    pub(crate) fn clear_processes(&self, index: usize) {
        for entry in self.slots[index].processes.iter().take(MAX_PROCESSES) {
            entry.pid.store(0, Release);
        }
    }
}
