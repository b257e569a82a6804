//! Faults of a GPU, and what they leave behind.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rustix::thread::futex;

use super::clock;
use super::layout::{Layout, Slot};
use super::store::Writer;
use crate::node::NvLinkError;

/// Longest sleep in a hung call, so that a heal whose writer was killed before the wake is seen.
const HANG_SLICE: u64 = 500_000_000;

/// `nvmlClocksEventReasonSwPowerCap`, `HwSlowdown`, `HwPowerBrakeSlowdown`.
const POWER_REASONS: u64 = 0x4 | 0x80;
/// `nvmlClocksEventReasonSwThermalSlowdown`, `HwThermalSlowdown`.
const THERMAL_REASONS: u64 = 0x20 | 0x40;

impl Slot {
    /// Whether the GPU of this incarnation is still here.
    pub(crate) fn holds(&self, incarnation: u32) -> bool {
        self.present.load(Acquire) == 1 && self.incarnation.load(Acquire) == incarnation
    }

    /// Errors of links since the last reset.
    pub(crate) fn link_errors(&self) -> u64 {
        let counters = self.nvlink_errors.iter().chain([&self.pcie_replays]);
        counters.map(|counter| counter.load(Relaxed)).sum()
    }

    /// Whether the GPU has fallen off the bus.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Acquire) == 1 && !clock::has_passed(self.lost_until.load(Relaxed))
    }

    /// Whether calls that touch the GPU block.
    pub(crate) fn is_hung(&self) -> bool {
        self.hung.load(Acquire) == 1 && !clock::has_passed(self.hung_until.load(Relaxed))
    }

    /// Blocks for as long as the GPU hangs.
    pub(crate) fn wait_until_responsive(&self) {
        while self.is_hung() {
            let left = match self.hung_until.load(Relaxed) {
                0 => HANG_SLICE,
                until => until.saturating_sub(clock::now()).clamp(1, HANG_SLICE),
            };
            let timeout = clock::timespec(left);
            // Whatever ends the wait, the loop looks again.
            let _ = futex::wait(&self.hung, futex::Flags::empty(), 1, Some(&timeout));
        }
    }

    /// `nvmlDeviceGpuRecoveryAction_t`.
    pub(crate) fn recovery_action(&self) -> u32 {
        self.recovery_action.load(Relaxed)
    }

    /// The last Xid; 0 = none.
    pub(crate) fn last_xid(&self) -> u64 {
        self.last_xid.load(Relaxed)
    }

    /// NVML return codes that waiting and registering for events answer with; 0 = none.
    pub(crate) fn event_errors(&self) -> (u32, u32) {
        (
            self.wait_error.load(Acquire),
            self.register_error.load(Acquire),
        )
    }

    /// Reasons why the clocks are held down, `nvmlClocksEventReason*`.
    pub(crate) fn throttle(&self) -> u64 {
        if clock::has_passed(self.throttle_until.load(Relaxed)) {
            return 0;
        }
        self.throttle.load(Acquire)
    }

    /// Nanoseconds for which power and heat have held the clocks down.
    pub(crate) fn throttled(&self) -> [u64; 2] {
        let since = self.throttle_since.load(Relaxed);
        let reasons = self.throttle.load(Acquire);
        let now = match self.throttle_until.load(Relaxed) {
            0 => clock::now(),
            until => clock::now().min(until),
        };
        let running = now.saturating_sub(since);
        let part = |index: usize, mask: u64| {
            let current = if reasons & mask == 0 { 0 } else { running };
            self.throttled[index].load(Relaxed) + current
        };
        [part(0, POWER_REASONS), part(1, THERMAL_REASONS)]
    }
}

impl Layout {
    /// A slot by its number.
    pub(crate) fn slot(&self, index: usize) -> &Slot {
        &self.slots[index]
    }
}

impl Writer<'_> {
    /// Makes calls that touch the GPU block, until `until` (0 = until it is healed).
    pub(crate) fn hang(&self, index: usize, until: u64) {
        let slot = &self.slots[index];
        slot.hung_until.store(until, Relaxed);
        slot.hung.store(1, Release);
    }

    /// Lets every blocked call go on.
    pub(super) fn release_hang(&self, index: usize) {
        let slot = &self.slots[index];
        slot.hung.store(0, Release);
        let _ = futex::wake(&slot.hung, futex::Flags::empty(), i32::MAX as u32);
    }

    /// Lets the GPU fall off the bus, until `until` (0 = until it is healed).
    pub(crate) fn lose(&self, index: usize, until: u64) {
        let slot = &self.slots[index];
        slot.lost_until.store(until, Relaxed);
        slot.lost.store(1, Release);
        // Listeners that wait for this GPU's events are told that it is gone.
        self.wake_listeners();
    }

    /// Sets the action that the driver asks for.
    pub(crate) fn set_recovery_action(&self, index: usize, action: u32) {
        self.slots[index].recovery_action.store(action, Release);
    }

    /// Remembers an Xid.
    pub(crate) fn set_last_xid(&self, index: usize, xid: u64) {
        self.slots[index].last_xid.store(xid, Relaxed);
    }

    /// Lets waiting or registering for the GPU's events fail with NVML return codes (0 = not).
    pub(crate) fn fail_events(&self, index: usize, wait: u32, register: u32) {
        let slot = &self.slots[index];
        slot.wait_error.store(wait, Release);
        slot.register_error.store(register, Release);
        self.wake_listeners();
    }

    /// Holds the clocks down for `reasons`, until `until` (0 = until it is healed).
    pub(crate) fn set_throttle(&self, index: usize, reasons: u64, until: u64) {
        let slot = &self.slots[index];
        let [power, thermal] = slot.throttled();
        slot.throttled[0].store(power, Relaxed);
        slot.throttled[1].store(thermal, Relaxed);
        slot.throttle_since.store(clock::now(), Relaxed);
        slot.throttle_until.store(until, Relaxed);
        slot.throttle.store(reasons, Release);
    }

    /// Counts memory errors.
    pub(crate) fn count_ecc(&self, index: usize, corrected: u64, uncorrected: u64) {
        let ecc = &self.slots[index].ecc;
        for (counter, count) in [
            (&ecc.volatile_corrected, corrected),
            (&ecc.aggregate_corrected, corrected),
            (&ecc.volatile_uncorrected, uncorrected),
            (&ecc.aggregate_uncorrected, uncorrected),
        ] {
            counter.fetch_add(count, Relaxed);
        }
    }

    /// Counts memory that is taken out of service at the next reset.
    pub(crate) fn retire_memory(&self, index: usize, remaps_rows: bool, double_bit: bool) {
        let pages = &self.slots[index].pages;
        let counter: &AtomicU64 = match (remaps_rows, double_bit) {
            (true, true) => &pages.remapped_uncorrected,
            (true, false) => &pages.remapped_corrected,
            (false, true) => &pages.retired_double,
            (false, false) => &pages.retired_single,
        };
        counter.fetch_add(1, Relaxed);
        pages.pending.store(1, Relaxed);
    }

    /// Notes that no spare row was left.
    pub(crate) fn fail_remapping(&self, index: usize) {
        self.slots[index].pages.failed.store(1, Relaxed);
    }

    /// Counts PCIe packets that were sent again.
    pub(crate) fn count_pcie_replays(&self, index: usize, count: u64) {
        self.slots[index].pcie_replays.fetch_add(count, Relaxed);
    }

    /// Counts errors of NVLinks.
    pub(crate) fn count_nvlink_errors(&self, index: usize, error: NvLinkError, count: u64) {
        self.slots[index].nvlink_errors[error as usize].fetch_add(count, Relaxed);
    }

    /// Forgets the errors of NVLinks, as a reset and `nvmlDeviceResetNvLinkErrorCounters` do.
    pub(crate) fn clear_nvlink_errors(&self, index: usize) {
        for counter in &self.slots[index].nvlink_errors {
            counter.store(0, Relaxed);
        }
    }

    /// Ends every fault; counters that outlive a reset stay. A pending MIG mode takes effect.
    pub(crate) fn heal_slot(&self, index: usize) {
        let slot = &self.slots[index];
        self.settle_mig_mode(index);
        self.set_throttle(index, 0, 0);
        slot.recovery_action.store(0, Release);
        slot.last_xid.store(0, Relaxed);
        slot.ecc.volatile_corrected.store(0, Relaxed);
        slot.ecc.volatile_uncorrected.store(0, Relaxed);
        slot.pages.pending.store(0, Relaxed);
        slot.pages.failed.store(0, Relaxed);
        slot.pcie_replays.store(0, Relaxed);
        self.clear_nvlink_errors(index);
        slot.wait_error.store(0, Release);
        slot.register_error.store(0, Release);
        slot.lost.store(0, Release);
        self.release_hang(index);
        self.wake_listeners();
    }

    /// Clears the error counts of one kind, `nvmlDeviceClearEccErrorCounts`.
    #[cfg_attr(
        not(feature = "exports"),
        allow(dead_code, reason = "asked by C callers only")
    )]
    pub(crate) fn clear_ecc(&self, index: usize, aggregate: bool) {
        let ecc = &self.slots[index].ecc;
        let (corrected, uncorrected) = if aggregate {
            (&ecc.aggregate_corrected, &ecc.aggregate_uncorrected)
        } else {
            (&ecc.volatile_corrected, &ecc.volatile_uncorrected)
        };
        corrected.store(0, Relaxed);
        uncorrected.store(0, Relaxed);
    }

    /// Forgets everything counted, for a GPU that is new in its slot.
    pub(super) fn clear_counters(&self, index: usize) {
        let slot = &self.slots[index];
        let pages = &slot.pages;
        for counter in [
            &slot.ecc.volatile_corrected,
            &slot.ecc.volatile_uncorrected,
            &slot.ecc.aggregate_corrected,
            &slot.ecc.aggregate_uncorrected,
            &pages.retired_single,
            &pages.retired_double,
            &pages.remapped_corrected,
            &pages.remapped_uncorrected,
            &slot.pcie_replays,
            &slot.throttled[0],
            &slot.throttled[1],
        ] {
            counter.store(0, Relaxed);
        }
        pages.pending.store(0, Relaxed);
        pages.failed.store(0, Relaxed);
        self.clear_nvlink_errors(index);
    }

    /// Puts back what NVML's setters changed.
    pub(super) fn clear_settings(&self, index: usize) {
        let slot = &self.slots[index];
        slot.compute_mode.store(0, Relaxed);
        slot.persistence.store(1, Relaxed);
        slot.power_limit_mw.store(0, Relaxed);
    }
}
