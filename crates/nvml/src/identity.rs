//! Who the GPUs are that cannot say it themselves.
//!
//! A GPU that is lost or hung when a session opens tells neither its UUID nor its place on the
//! bus, but the node must go on reporting it by its name. The kernel driver's list in `/proc`
//! knows both, and so does the loader of an earlier session.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mizzen_core::driver::DriverError;
use mizzen_core::gpu::{Gpu, GpuUuid, PciBusId};
use mizzen_core::inventory::BrokenGpu;

use crate::host::DriverGpu;

/// What the GPUs of earlier sessions told, by index.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<BTreeMap<u32, (GpuUuid, PciBusId)>>);

impl Remembered {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, (GpuUuid, PciBusId)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what these GPUs told.
    pub(crate) fn note(&self, gpus: &[Gpu]) {
        let mut remembered = self.lock();
        for gpu in gpus {
            remembered.insert(gpu.index, (gpu.uuid.clone(), gpu.pci));
        }
    }

    /// Names hung GPUs by what the one of the same index told before. Only these: a call stuck
    /// since then has kept NVML open, so its indices still mean the same.
    pub(crate) fn name(&self, broken: &mut [BrokenGpu], gpus: &[Gpu]) {
        let remembered = self.lock();
        for gpu in broken {
            let hung = matches!(gpu.error, DriverError::Hung { .. });
            if let Some((uuid, pci)) = remembered.get(&gpu.index).filter(|_| hung)
                && gpu.uuid.is_none()
                && gpus.iter().all(|other| other.uuid != *uuid)
            {
                gpu.uuid = Some(uuid.clone());
                gpu.pci = Some(*pci);
            }
        }
    }
}

/// Names broken GPUs by the kernel driver's list: NVML counts in the order of the bus, so those
/// of the list that nobody else is are, in order, the nameless ones. Nothing is named unless
/// there are exactly as many of both.
pub(crate) fn name_by_driver_list(broken: &mut [BrokenGpu], gpus: &[Gpu], listed: &[DriverGpu]) {
    let taken: Vec<PciBusId> = gpus
        .iter()
        .map(|gpu| gpu.pci)
        .chain(broken.iter().filter_map(|gpu| gpu.pci))
        .collect();
    let free: Vec<&DriverGpu> = listed
        .iter()
        .filter(|gpu| !taken.contains(&gpu.pci))
        .collect();
    let mut nameless: Vec<&mut BrokenGpu> =
        broken.iter_mut().filter(|gpu| gpu.pci.is_none()).collect();
    if nameless.len() != free.len() {
        return;
    }
    for (gpu, listed) in nameless.iter_mut().zip(free) {
        gpu.pci = Some(listed.pci);
        gpu.uuid = gpu.uuid.take().or_else(|| listed.uuid.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn uuid(number: u32) -> GpuUuid {
        format!("GPU-{number:08x}-0000-0000-0000-000000000000")
            .parse()
            .unwrap()
    }

    fn place(bus: u8) -> PciBusId {
        PciBusId {
            domain: 0,
            bus,
            device: 0,
            function: 0,
        }
    }

    fn gpu(index: u32, bus: u8) -> Gpu {
        Gpu {
            index,
            minor: index,
            uuid: uuid(u32::from(bus)),
            pci: place(bus),
            name: "NVIDIA L4".to_owned(),
            memory_mib: 23034,
            compute_capability: (8, 9),
            numa_node: None,
            device_id: 0,
            mig: None,
        }
    }

    fn broken(index: u32, error: DriverError) -> BrokenGpu {
        BrokenGpu {
            index,
            uuid: None,
            pci: None,
            error,
        }
    }

    fn listed(bus: u8) -> DriverGpu {
        DriverGpu {
            pci: place(bus),
            uuid: Some(uuid(u32::from(bus))),
            minor: None,
        }
    }

    const HUNG: DriverError = DriverError::Hung {
        after: Duration::from_secs(5),
    };

    #[test]
    fn the_drivers_list_names_the_gpus_that_nobody_else_is() {
        let gpus = [gpu(1, 2)];
        let mut sick = [broken(0, DriverError::GpuLost), broken(2, HUNG)];
        name_by_driver_list(&mut sick, &gpus, &[listed(1), listed(2), listed(3)]);
        assert_eq!(sick[0].uuid, Some(uuid(1)));
        assert_eq!(sick[0].pci, Some(place(1)));
        assert_eq!(sick[1].uuid, Some(uuid(3)));
    }

    #[test]
    fn the_drivers_list_names_nothing_when_the_numbers_differ() {
        let mut sick = [broken(0, DriverError::GpuLost)];
        for list in [&[][..], &[listed(1), listed(2)]] {
            name_by_driver_list(&mut sick, &[], list);
            assert_eq!(sick[0].pci, None);
        }
    }

    #[test]
    fn only_a_hung_gpu_is_named_by_what_it_told_before() {
        let remembered = Remembered::default();
        remembered.note(&[gpu(0, 1), gpu(1, 2), gpu(2, 3)]);
        let mut sick = [
            broken(0, HUNG),
            broken(1, DriverError::GpuLost),
            broken(2, HUNG),
        ];
        // Another GPU is now what was index 2.
        remembered.name(&mut sick, &[gpu(3, 3)]);
        assert_eq!(sick[0].uuid, Some(uuid(1)));
        assert_eq!(sick[1].uuid, None);
        assert_eq!(sick[2].uuid, None);
    }
}
