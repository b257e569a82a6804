//! One initialisation of NVML and what was learnt of its GPUs.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mizzen_core::driver::{DriverError, GpuCondition, Questions};
use mizzen_core::gpu::{Gpu, GpuUuid};

use crate::device::{Device, EccKind, Pci};
use crate::host::HostRoot;
use crate::library::Library;
use crate::mig::{self, CapabilityMinors};
use crate::sample::Memories;

/// An initialised NVML. Shut down when the last of those who use it is gone, also when that is
/// a thread that was stuck in a call for days: before that it would pull the ground from under
/// that call.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) library: Arc<Library>,
    pub(crate) mig: mig::Seen,
    pub(crate) samples: Memories,
    known: Mutex<BTreeMap<u32, Known>>,
    open: Arc<Open>,
}

/// How many sessions are open.
#[derive(Debug, Default)]
pub(crate) struct Open {
    count: Mutex<usize>,
    closed: Condvar,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is any.
    pub(crate) fn any(&self) -> bool {
        *self.lock() > 0
    }

    /// Waits until there is none, at most this long.
    pub(crate) fn wait_for_none(&self, limit: Duration) {
        let some = |count: &mut usize| *count > 0;
        // A poisoned lock has nothing that could be half done.
        drop(self.closed.wait_timeout_while(self.lock(), limit, some));
    }
}

/// What identifies a GPU, once it has told it.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) device: Device,
    pub(crate) uuid: GpuUuid,
    pub(crate) pci: Option<Pci>,
}

impl Session {
    /// Initialises NVML, one more of the sessions that are `open`.
    pub(crate) fn open(library: Library, open: Arc<Open>) -> Result<Self, DriverError> {
        library.init()?;
        *open.lock() += 1;
        Ok(Self {
            library: Arc::new(library),
            mig: mig::Seen::default(),
            samples: Memories::default(),
            known: Mutex::default(),
            open,
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the GPU of this index.
    pub(crate) fn known(&self, index: u32) -> Option<Known> {
        self.lock().get(&index).cloned()
    }

    /// The index of the GPU with this UUID, and what is known of it.
    pub(crate) fn find(&self, uuid: &GpuUuid) -> Option<(u32, Known)> {
        let known = self.lock();
        let (index, known) = known.iter().find(|(_, known)| known.uuid == *uuid)?;
        Some((*index, known.clone()))
    }

    /// Whether every one of `count` GPUs has told who it is.
    pub(crate) fn knows_all(&self, count: u32) -> bool {
        self.lock().len() >= count as usize
    }

    /// Whose handle this is: index and UUID. A lost GPU cannot be asked any more, so the answer comes from
    /// what was learnt when it still spoke.
    pub(crate) fn owner(&self, device: Device) -> Option<(u32, GpuUuid)> {
        let known = self.lock();
        let (index, owner) = known.iter().find(|(_, known)| known.device == device)?;
        Some((*index, owner.uuid.clone()))
    }

    /// Asks the GPU who it is, if it has not told yet, and remembers it for the session.
    pub(crate) fn identify(&self, index: u32) -> Result<Known, DriverError> {
        if let Some(known) = self.known(index) {
            return Ok(known);
        }
        let device = self.library.device(index)?;
        let known = Known {
            device,
            uuid: self.library.uuid(device)?,
            pci: self.library.pci(device).ok(),
        };
        self.lock().insert(index, known.clone());
        Ok(known)
    }

    /// Describes the GPU of this index.
    pub(crate) fn describe(
        &self,
        index: u32,
        host: &HostRoot,
        capabilities: &CapabilityMinors,
    ) -> Result<Gpu, DriverError> {
        let Known { device, uuid, pci } = self.identify(index)?;
        let library = &self.library;
        // Asked again even if known: these go to the GPU, and fail when it is gone.
        let pci = match pci {
            Some(pci) => pci,
            None => library.pci(device)?,
        };
        library.touch(device)?;
        Ok(Gpu {
            index,
            minor: library.minor(device)?,
            uuid,
            pci: pci.place,
            name: library.name(device)?,
            memory_mib: match library.memory_total(device) {
                Ok(bytes) => bytes >> 20,
                // GPUs that share the host's memory have none of their own to tell, and one with
                // MIG on tells it to the administrator alone.
                Err(DriverError::NotSupported | DriverError::NoPermission) => 0,
                Err(error) => return Err(error),
            },
            compute_capability: library.compute_capability(device)?,
            numa_node: host.numa_node(&pci.place),
            device_id: pci.device_id,
            mig: self.known_partition(index, device, capabilities),
        })
    }

    /// How the GPU is now. Something in here always goes to the GPU itself: the getters of
    /// constants are answered from the library's memory long after a GPU is gone.
    pub(crate) fn condition(
        &self,
        device: Device,
        questions: Questions,
    ) -> Result<GpuCondition, DriverError> {
        let library = &self.library;
        library.touch(device)?;
        Ok(GpuCondition {
            recovery_action: library.recovery_action(device)?,
            double_bit_ecc: library.ecc_errors(device, EccKind::Uncorrected)?,
            single_bit_ecc: if questions.single_bit_ecc {
                library.ecc_errors(device, EccKind::Corrected)?
            } else {
                None
            },
            row_remap: if questions.row_remap {
                library.row_remap(device)?
            } else {
                None
            },
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // They are NVML's memory, which it takes back as long as it is initialised.
        self.samples.clear();
        if let Err(error) = self.library.shutdown() {
            tracing::debug!(%error, "NVML did not shut down");
        }
        *self.open.lock() -= 1;
        self.open.closed.notify_all();
    }
}
