//! What is near what.

use super::{Device, Failure, Session};

/// Scopes of affinity, numbered as `nvmlAffinityScope_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AffinityScope {
    /// The NUMA node.
    Node,
    /// The socket, which is the NUMA node here.
    Socket,
}

impl AffinityScope {
    /// The scope with NVML's number.
    ///
    /// # Errors
    /// There is no such scope.
    pub fn from_code(code: u32) -> Result<Self, Failure> {
        match code {
            0 => Ok(Self::Node),
            1 => Ok(Self::Socket),
            _ => Err(Failure::InvalidArgument),
        }
    }
}

/// `NVML_TOPOLOGY_INTERNAL`: a GPU and itself.
const INTERNAL: u32 = 0;

impl Device<'_> {
    /// The nearest thing that two GPUs have in common, `nvmlGpuTopologyLevel_t`.
    pub fn common_ancestor(&self, other: &Self) -> u32 {
        if self.index == other.index {
            return INTERNAL;
        }
        self.gpu().common_ancestor(other.gpu()) as u32
    }

    /// The CPUs near it as a mask in `words` 64-bit words.
    pub fn cpu_mask(&self, words: usize) -> Vec<u64> {
        fitted(self.session.store.numa_mask(self.numa_node()), words)
    }

    /// The NUMA nodes near it as a mask in `words` 64-bit words.
    pub fn node_mask(&self, words: usize) -> Vec<u64> {
        fitted(vec![1 << (self.numa_node() % 64)], words)
    }
}

fn fitted(mut mask: Vec<u64>, words: usize) -> Vec<u64> {
    mask.resize(words, 0);
    mask
}

impl Session {
    /// The indices of the GPUs whose nearest thing in common with `device` is that level.
    pub fn nearest(&self, device: &Device<'_>, level: u32) -> Vec<usize> {
        let entries = self.entries().iter().enumerate();
        entries
            .filter(|(index, entry)| {
                *index != device.index && device.gpu().common_ancestor(&entry.gpu) as u32 == level
            })
            .map(|(index, _)| index)
            .collect()
    }

    /// The indices of the GPUs near a CPU.
    pub fn near_cpu(&self, cpu: u32) -> Vec<usize> {
        let near = |numa: u32| {
            let mask = self.store.numa_mask(numa);
            mask.get(cpu as usize / 64)
                .is_some_and(|word| word >> (cpu % 64) & 1 == 1)
        };
        let entries = self.entries().iter().enumerate();
        entries
            .filter(|(_, entry)| near(entry.gpu.numa))
            .map(|(index, _)| index)
            .collect()
    }
}
