//! NVML's event sets.
#![allow(unsafe_code, reason = "calls the library's functions")]

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::driver::{DriverError, DriverEvent, DriverEventKind};
use nvml_wrapper_sys::bindings::{nvmlEventData_t, nvmlEventSet_t};

use crate::device::{Device, call};
use crate::library::{Library, code};
use crate::session::Session;

/// `nvmlEventTypeSingleBitEccError`
const SINGLE_BIT_ECC: u64 = 1;
/// `nvmlEventTypeDoubleBitEccError`
const DOUBLE_BIT_ECC: u64 = 2;
/// `nvmlEventTypeXidCriticalError`
const XID: u64 = 8;
/// `nvmlEventMigConfigChange`
const MIG_CONFIG_CHANGE: u64 = 0x100;
/// All that are asked for.
const WATCHED: u64 = SINGLE_BIT_ECC | DOUBLE_BIT_ECC | XID | MIG_CONFIG_CHANGE;
/// What NVML writes for "no instance".
const NO_INSTANCE: u32 = u32::MAX;

/// How many events are taken from a set that nobody waits on any more: a driver that reports
/// them without end must not keep us.
const DRAIN_LIMIT: usize = 256;

/// What came of waiting.
enum Taken {
    /// An event, `None` for kinds that were never asked for.
    Event(Option<DriverEvent>),
    /// The time passed.
    Nothing,
}

/// An event set; freed when nobody waits on it or registers with it any more.
#[derive(Debug)]
pub(crate) struct EventSet {
    set: nvmlEventSet_t,
    session: Arc<Session>,
}

// SAFETY: the set is an opaque token that is never dereferenced here, and NVML's functions may
// be called from any thread.
unsafe impl Send for EventSet {}
// SAFETY: as above; the token itself never changes.
unsafe impl Sync for EventSet {}

impl EventSet {
    pub(crate) fn create(session: Arc<Session>) -> Result<Self, DriverError> {
        let mut set: nvmlEventSet_t = std::ptr::null_mut();
        let library = &session.library;
        library.checked(
            "nvmlEventSetCreate",
            call!(library, event_set_create(&raw mut set)),
        )?;
        Ok(Self { set, session })
    }

    fn library(&self) -> &Library {
        &self.session.library
    }

    /// Adds to the set those of our events that the GPU offers.
    ///
    /// # Errors
    /// [`DriverError::NotSupported`] when it offers none of them.
    pub(crate) fn register(&self, device: Device) -> Result<(), DriverError> {
        let mut offered = 0;
        self.library().checked(
            "nvmlDeviceGetSupportedEventTypes",
            call!(self.library(), supported_events(device.0, &raw mut offered)),
        )?;
        let events = offered & WATCHED;
        if events == 0 {
            return Err(DriverError::NotSupported);
        }
        match self.register_kinds(device, events) {
            // Changes of partitions are seen without it; faults are not.
            Err(DriverError::NotSupported) if events & MIG_CONFIG_CHANGE != 0 => {
                self.register_kinds(device, events & !MIG_CONFIG_CHANGE)
            }
            registered => registered,
        }
    }

    fn register_kinds(&self, device: Device, events: u64) -> Result<(), DriverError> {
        self.library().checked(
            "nvmlDeviceRegisterEvents",
            call!(self.library(), register_events(device.0, events, self.set)),
        )
    }

    /// Waits for an event, and says whose it is.
    pub(crate) fn wait(&self, timeout: Duration) -> Result<Option<DriverEvent>, DriverError> {
        match self.take(timeout)? {
            Taken::Event(event) => Ok(event),
            Taken::Nothing => Ok(None),
        }
    }

    fn take(&self, timeout: Duration) -> Result<Taken, DriverError> {
        let milliseconds =
            u32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        // SAFETY: a pointer that may be NULL and integers, for which zero bytes are a value.
        let mut data: nvmlEventData_t = unsafe { mem::zeroed() };
        // The first version of the call leaves these as they are.
        data.gpuInstanceId = NO_INSTANCE;
        data.computeInstanceId = NO_INSTANCE;
        let library = self.library();
        let (call, code) = if library.functions.event_set_wait_v2.is_some() {
            let code = call!(
                library,
                event_set_wait_v2(self.set, &raw mut data, milliseconds)
            );
            ("nvmlEventSetWait_v2", code)
        } else {
            let code = call!(
                library,
                event_set_wait(self.set, &raw mut data, milliseconds)
            );
            ("nvmlEventSetWait", code)
        };
        if code == code::TIMEOUT {
            return Ok(Taken::Nothing);
        }
        library.checked(call, code)?;
        Ok(Taken::Event(self.event(&data)))
    }

    /// Takes out what has come, without waiting, until there is no more or the set fails.
    pub(crate) fn drain(&self) -> Vec<DriverEvent> {
        let mut events = Vec::new();
        for _ in 0..DRAIN_LIMIT {
            match self.take(Duration::ZERO) {
                Ok(Taken::Event(event)) => events.extend(event),
                Ok(Taken::Nothing) | Err(_) => break,
            }
        }
        events
    }

    /// The event in our words; `None` for kinds that were never asked for.
    fn event(&self, data: &nvmlEventData_t) -> Option<DriverEvent> {
        let kind = match data.eventType {
            XID => DriverEventKind::Xid(data.eventData),
            DOUBLE_BIT_ECC => DriverEventKind::DoubleBitEcc,
            SINGLE_BIT_ECC => DriverEventKind::SingleBitEcc,
            MIG_CONFIG_CHANGE => DriverEventKind::MigConfigChange,
            _ => return None,
        };
        let owner = self.session.owner(Device(data.device));
        if let Some((index, _)) = owner
            .as_ref()
            .filter(|_| kind == DriverEventKind::MigConfigChange)
        {
            self.session.mig.forget(*index);
        }
        let instance = |id: u32| (id != NO_INSTANCE).then_some(id);
        Some(DriverEvent {
            gpu: owner.map(|(_, uuid)| uuid),
            kind,
            gpu_instance: instance(data.gpuInstanceId),
            compute_instance: instance(data.computeInstanceId),
        })
    }
}

impl Drop for EventSet {
    fn drop(&mut self) {
        let library = self.library();
        let code = call!(library, event_set_free(self.set));
        if let Err(error) = library.checked("nvmlEventSetFree", code) {
            tracing::debug!(%error, "an event set was not freed");
        }
    }
}
