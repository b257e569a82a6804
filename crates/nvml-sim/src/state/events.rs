//! The ring of events: published under the write lock, read and awaited without one.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use rustix::thread::futex;

use super::layout::{Layout, RING};
use super::{clock, store::Writer};

/// Kinds of events, numbered as `nvmlEventType*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum EventKind {
    SingleBitEcc = 0x1,
    DoubleBitEcc = 0x2,
    Clock = 0x10,
    Xid = 0x8,
    MigConfigChange = 0x100,
    Unavailable = 0x4000,
    RecoveryAction = 0x8000,
}

/// No GPU or compute instance: the event concerns the whole GPU.
pub(crate) const NO_INSTANCE: u32 = u32::MAX;

/// One event of one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) slot: u32,
    pub(crate) incarnation: u32,
    pub(crate) kind: u64,
    pub(crate) data: u64,
    pub(crate) gpu_instance: u32,
    pub(crate) compute_instance: u32,
}

impl Event {
    /// An event of a whole GPU.
    pub(crate) fn of_gpu(slot: u32, incarnation: u32, kind: EventKind, data: u64) -> Self {
        Self {
            slot,
            incarnation,
            kind: kind as u64,
            data,
            gpu_instance: NO_INSTANCE,
            compute_instance: NO_INSTANCE,
        }
    }
}

impl Layout {
    /// Number of the next event: where a new listener begins.
    pub(crate) fn next_event(&self) -> u64 {
        self.header.next_event.load(Acquire)
    }

    /// The word that changes with every event. Read it before looking for events, and hand it to
    /// [`Self::sleep`]: an event in between then ends the sleep at once.
    pub(crate) fn wake_word(&self) -> u32 {
        self.header.wake.load(Acquire)
    }

    /// Sleeps until the wake word differs from `seen`, at most `nanoseconds`.
    pub(crate) fn sleep(&self, seen: u32, nanoseconds: u64) {
        let timeout = clock::timespec(nanoseconds);
        // Whatever ends the wait (a wake, a signal, the time), the caller looks again.
        let _ = futex::wait(
            &self.header.wake,
            futex::Flags::empty(),
            seen,
            Some(&timeout),
        );
    }

    /// Wakes every listener, so that it looks at the state of its GPUs again.
    pub(crate) fn wake_listeners(&self) {
        self.header.wake.fetch_add(1, Release);
        let _ = futex::wake(&self.header.wake, futex::Flags::empty(), i32::MAX as u32);
    }

    /// The first event from `cursor` on, and the cursor after it. Events that were overwritten
    /// before they were read are skipped.
    pub(crate) fn read_event(&self, cursor: u64) -> Option<(Event, u64)> {
        let mut cursor = cursor;
        loop {
            let next = self.next_event();
            cursor = cursor.max(next.saturating_sub(RING as u64));
            if cursor >= next {
                return None;
            }
            if let Some(event) = self.entry(cursor) {
                return Some((event, cursor + 1));
            }
            cursor += 1;
        }
    }

    /// Event `number`, unless its entry holds another by now.
    fn entry(&self, number: u64) -> Option<Event> {
        let entry = &self.ring[ring_index(number)];
        if entry.number.load(Acquire) != number + 1 {
            return None;
        }
        let event = Event {
            slot: entry.slot.load(Relaxed),
            incarnation: entry.incarnation.load(Relaxed),
            kind: entry.kind.load(Relaxed),
            data: entry.data.load(Relaxed),
            gpu_instance: entry.gpu_instance.load(Relaxed),
            compute_instance: entry.compute_instance.load(Relaxed),
        };
        fence(Acquire);
        (entry.number.load(Relaxed) == number + 1).then_some(event)
    }
}

fn ring_index(number: u64) -> usize {
    usize::try_from(number % RING as u64).unwrap_or(0)
}

impl Writer<'_> {
    /// Publishes an event to every listening process and wakes them.
    ///
    /// The number of the next event is stored last: a writer killed before that has published
    /// nothing, and the next writer uses the entry again. One killed before the wake delays the
    /// event to the next wake or the end of the listener's time, whichever comes first.
    pub(crate) fn publish(&self, event: Event) {
        let number = self.header.next_event.load(Relaxed);
        let entry = &self.ring[ring_index(number)];
        entry.number.store(0, Relaxed);
        fence(Release);
        entry.slot.store(event.slot, Relaxed);
        entry.incarnation.store(event.incarnation, Relaxed);
        entry.kind.store(event.kind, Relaxed);
        entry.data.store(event.data, Relaxed);
        entry.gpu_instance.store(event.gpu_instance, Relaxed);
        entry
            .compute_instance
            .store(event.compute_instance, Relaxed);
        entry.time.store(clock::now(), Relaxed);
        entry.number.store(number + 1, Release);
        self.header.next_event.store(number + 1, Release);
        self.wake_listeners();
    }
}
