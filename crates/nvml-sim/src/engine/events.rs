//! Event sets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Failure, Session};
use crate::state::{Event, clock};

/// Kinds of events that every GPU supports, `nvmlEventType*`: memory errors, performance state,
/// Xid and clocks.
const SUPPORTED: u64 = 0x1 | 0x2 | 0x4 | 0x8 | 0x10;
/// Kinds of events that Hopper and later support besides: unavailable, recovery action.
const SUPPORTED_LATE: u64 = 0x4000 | 0x8000;
/// The kind of event that GPUs that can be partitioned support besides: changes of it.
const SUPPORTED_MIG: u64 = 0x100;

/// An event of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceEvent {
    /// NVML's index of the GPU in the session.
    pub device: usize,
    /// `nvmlEventType*`.
    pub kind: u64,
    /// The Xid, for an Xid event.
    pub data: u64,
    /// GPU instance; `u32::MAX` = the whole GPU.
    pub gpu_instance: u32,
    /// Compute instance; `u32::MAX` = the whole GPU.
    pub compute_instance: u32,
}

/// A set of events that somebody waits for.
#[derive(Debug)]
pub struct EventSet {
    session: Arc<Session>,
    listening: Mutex<Listening>,
}

#[derive(Debug, Default)]
struct Listening {
    /// Number of the next event to look at.
    cursor: u64,
    registrations: Vec<Registration>,
}

#[derive(Debug)]
struct Registration {
    device: usize,
    slot: usize,
    incarnation: u32,
    kinds: u64,
    /// Events before this number came before the registration.
    since: u64,
}

impl Registration {
    fn wants(&self, event: &Event, number: u64) -> bool {
        self.slot == event.slot as usize
            && self.incarnation == event.incarnation
            && self.kinds & event.kind != 0
            && number >= self.since
    }
}

impl EventSet {
    /// An empty set.
    pub fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            listening: Mutex::default(),
        }
    }

    /// Adds kinds of events of a GPU.
    ///
    /// # Errors
    /// The GPU is lost, a kind is not supported, or the simulator was told to refuse.
    pub fn register(&self, device: usize, kinds: u64) -> Result<(), Failure> {
        let gpu = self.session.device(device)?;
        let (_, refusal) = gpu.slot.event_errors();
        if refusal != 0 {
            return Err(Failure::from_code(refusal));
        }
        if kinds & !gpu.supported_events() != 0 {
            return Err(Failure::NotSupported);
        }
        let mut listening = self.lock();
        let since = self.session.store.next_event();
        if listening.registrations.is_empty() {
            listening.cursor = since;
        }
        let (slot, incarnation) = (gpu.entry.slot, gpu.entry.incarnation);
        let known = listening.registrations.iter_mut().find(|entry| {
            entry.slot == slot && entry.incarnation == incarnation && entry.kinds & kinds == kinds
        });
        if known.is_none() {
            let before = listening
                .registrations
                .iter()
                .filter(|entry| entry.slot == slot);
            let known_kinds = before.fold(0, |known, entry| known | entry.kinds);
            listening.registrations.push(Registration {
                device,
                slot,
                incarnation,
                kinds: kinds & !known_kinds,
                since,
            });
        }
        Ok(())
    }

    /// Waits for an event, at most `milliseconds`. Events that came are told first; after them a
    /// lost GPU in the set is told by `GpuIsLost`, as nvml.h says.
    ///
    /// # Errors
    /// `Timeout`; `GpuIsLost`; or what the simulator was told to answer.
    pub fn wait(&self, milliseconds: u32) -> Result<DeviceEvent, Failure> {
        let store = &self.session.store;
        let end = clock::now() + u64::from(milliseconds) * 1_000_000;
        loop {
            let seen = store.wake_word();
            {
                let mut listening = self.lock();
                if let Some(event) = self.next(&mut listening) {
                    return Ok(event);
                }
                self.check(&listening)?;
            }
            let now = clock::now();
            if now >= end {
                return Err(Failure::Timeout);
            }
            store.sleep(seen, end - now);
        }
    }

    fn next(&self, listening: &mut Listening) -> Option<DeviceEvent> {
        while let Some((event, after)) = self.session.store.read_event(listening.cursor) {
            listening.cursor = after;
            let wanted = listening
                .registrations
                .iter()
                .find(|registration| registration.wants(&event, after - 1));
            if let Some(registration) = wanted {
                return Some(DeviceEvent {
                    device: registration.device,
                    kind: event.kind,
                    data: event.data,
                    gpu_instance: event.gpu_instance,
                    compute_instance: event.compute_instance,
                });
            }
        }
        None
    }

    /// Whether a GPU of the set keeps waiting from making sense.
    fn check(&self, listening: &Listening) -> Result<(), Failure> {
        for registration in &listening.registrations {
            let slot = self.session.store.slot(registration.slot);
            let (failure, _) = slot.event_errors();
            if failure != 0 {
                return Err(Failure::from_code(failure));
            }
            if !slot.holds(registration.incarnation) || slot.is_lost() {
                return Err(Failure::GpuIsLost);
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Listening> {
        self.listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl super::Device<'_> {
    /// Kinds of events that can be waited for.
    pub fn supported_events(&self) -> u64 {
        let model = self.model();
        let late = if model.has_gpm() { SUPPORTED_LATE } else { 0 };
        let mig = if model.mig.is_some() {
            SUPPORTED_MIG
        } else {
            0
        };
        SUPPORTED | late | mig
    }
}
