//! A process's view of the node, from `nvmlInit` to `nvmlShutdown`.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{Device, Failure};
use crate::environment::Place;
use crate::identity::{PciAddress, Uuid};
use crate::mig::capability;
use crate::node::DeviceNodes;
use crate::state::{NodeFacts, SlotGpu, StateError, Store};

/// Why a session cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The simulator's own files are the reason, not the simulated driver.
    #[error(transparent)]
    State(#[from] StateError),
    /// `/dev/nvidiactl` does not open.
    #[error("/dev/nvidiactl does not open: {}", .0.message().to_string_lossy())]
    Control(Failure),
}

impl SessionError {
    /// What `nvmlInit` answers.
    pub fn failure(&self) -> Failure {
        match self {
            Self::State(_) => Failure::Unknown,
            Self::Control(failure) => *failure,
        }
    }
}

/// A process's view of the node. The list of GPUs is fixed when it begins, as with the real
/// library: a GPU that is added appears in the next session, one that is removed is lost here.
#[derive(Debug)]
pub struct Session {
    pub(super) store: Store,
    facts: NodeFacts,
    /// Where device nodes are, if they matter.
    dev: Option<PathBuf>,
}

impl Session {
    /// Begins a session on the node of `place`.
    ///
    /// # Errors
    /// The state cannot be used, or device nodes are enforced and `/dev/nvidiactl` does not open.
    pub fn open(place: &Place) -> Result<Self, SessionError> {
        let store = Store::open(place)?;
        let mut facts = store.facts()?;
        let mut enforced = None;
        if facts.device_nodes == DeviceNodes::Enforce {
            let dev = place.dev_root.join("dev");
            probe(&dev.join("nvidiactl")).map_err(|error| SessionError::Control(denial(error)))?;
            facts
                .gpus
                .retain(|entry| probe(&dev.join(format!("nvidia{}", entry.gpu.minor))).is_ok());
            enforced = Some(dev);
        }
        Ok(Self {
            store,
            facts,
            dev: enforced,
        })
    }

    /// Whether the process may use an instance of a GPU, or a compute instance in it.
    pub(super) fn may_use(&self, gpu_minor: u32, instance: u32, compute: Option<u32>) -> bool {
        let Some(dev) = &self.dev else {
            return true;
        };
        capability(gpu_minor, instance, compute).is_some_and(|minor| {
            let node = dev.join(format!("nvidia-caps/nvidia-cap{minor}"));
            OpenOptions::new().read(true).open(node).map_or_else(
                |error| error.raw_os_error() == Some(Errno::NXIO.raw_os_error()),
                |_| true,
            )
        })
    }

    /// How many GPUs it sees, lost ones included.
    pub fn count(&self) -> usize {
        self.facts.gpus.len()
    }

    /// Driver version.
    pub fn driver_version(&self) -> &str {
        &self.facts.driver_version
    }

    /// NVML's own version: the CUDA version's first number and the driver's version.
    pub fn nvml_version(&self) -> String {
        format!(
            "{}.{}",
            self.facts.cuda_version.0, self.facts.driver_version
        )
    }

    /// CUDA version as NVML packs it: 13.0 is 13000.
    pub fn cuda_version(&self) -> i32 {
        let (major, minor) = self.facts.cuda_version;
        i32::try_from(major * 1000 + minor * 10).unwrap_or(i32::MAX)
    }

    /// The node's name.
    pub fn hostname(&self) -> &str {
        &self.facts.hostname
    }

    /// The GPU with this index. Blocks for as long as the GPU hangs.
    ///
    /// # Errors
    /// There is no such index, or the GPU is lost.
    pub fn device(&self, index: usize) -> Result<Device<'_>, Failure> {
        let entry = self.entry(index)?;
        let slot = self.store.slot(entry.slot);
        slot.wait_until_responsive();
        if !slot.holds(entry.incarnation) || slot.is_lost() {
            return Err(Failure::GpuIsLost);
        }
        Ok(Device {
            session: self,
            index,
            entry,
            slot,
        })
    }

    /// The index of the GPU with this UUID.
    ///
    /// # Errors
    /// There is none.
    pub fn by_uuid(&self, uuid: Uuid) -> Result<usize, Failure> {
        self.position(|entry| entry.gpu.uuid == uuid)
    }

    /// The index of the GPU at this place on the bus.
    ///
    /// # Errors
    /// There is none.
    pub fn by_pci(&self, pci: PciAddress) -> Result<usize, Failure> {
        self.position(|entry| entry.gpu.pci == pci)
    }

    /// The index of the GPU with this serial number.
    ///
    /// # Errors
    /// There is none.
    pub fn by_serial(&self, serial: &str) -> Result<usize, Failure> {
        self.position(|entry| entry.gpu.serial == serial)
    }

    fn position(&self, wanted: impl Fn(&SlotGpu) -> bool) -> Result<usize, Failure> {
        let position = self.facts.gpus.iter().position(wanted);
        position.ok_or(Failure::NotFound)
    }

    pub(super) fn entry(&self, index: usize) -> Result<&SlotGpu, Failure> {
        self.facts.gpus.get(index).ok_or(Failure::InvalidArgument)
    }

    pub(super) fn entries(&self) -> &[SlotGpu] {
        &self.facts.gpus
    }
}

/// Opens a device node as the driver's library does. A node without a kernel driver behind it
/// answers ENXIO, but only after every permission was checked: that counts as open.
fn probe(path: &Path) -> Result<(), Errno> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0))
        .open(path);
    match opened {
        Ok(_) => Ok(()),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NXIO) => Ok(()),
            errno => Err(errno.unwrap_or(Errno::IO)),
        },
    }
}

/// What the real `nvmlInit` makes of an unusable `/dev/nvidiactl`: no node means no driver; a
/// mode that forbids it "Insufficient Permissions"; a device cgroup that forbids it (EPERM)
/// "Unknown Error", as users of containers know it.
fn denial(error: Errno) -> Failure {
    match error {
        Errno::NOENT | Errno::NODEV | Errno::NOTDIR => Failure::DriverNotLoaded,
        Errno::ACCESS => Failure::NoPermission,
        _ => Failure::Unknown,
    }
}
