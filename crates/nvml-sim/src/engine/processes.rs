//! Processes on a GPU.

use super::Device;
use crate::state::SlotProcess;

/// A process on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuProcess {
    /// Process id on the host.
    pub pid: u32,
    /// The GPU instance and compute instance that it is on; none = the whole GPU.
    pub instance: Option<(u32, u32)>,
    /// Framebuffer that it uses, bytes.
    pub memory: u64,
    /// SM, memory, encoder and decoder utilisation, %.
    pub utilization: [u32; 4],
}

impl From<SlotProcess> for GpuProcess {
    fn from(process: SlotProcess) -> Self {
        Self {
            pid: process.pid,
            instance: process
                .instance
                .map(|(gpu, compute)| (gpu.into(), compute.into())),
            memory: process.memory,
            utilization: process.utilization.map(u32::from),
        }
    }
}

impl Device<'_> {
    /// Processes that compute.
    pub fn compute_processes(&self) -> Vec<GpuProcess> {
        self.processes(|process| process.compute)
    }

    /// Processes that draw.
    pub fn graphics_processes(&self) -> Vec<GpuProcess> {
        self.processes(|process| process.graphics)
    }

    /// Every process.
    pub fn all_processes(&self) -> Vec<GpuProcess> {
        self.processes(|_| true)
    }

    fn processes(&self, wanted: impl Fn(&SlotProcess) -> bool) -> Vec<GpuProcess> {
        let processes = self.slot.processes().into_iter();
        processes
            .filter(|process| wanted(process))
            .map(GpuProcess::from)
            .collect()
    }
}
