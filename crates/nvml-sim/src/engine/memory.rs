//! Framebuffer, memory errors and repairs.

use std::sync::atomic::Ordering::Relaxed;

use super::{Device, Failure};
use crate::control::used_mib;

const MIB: u64 = 1 << 20;

/// Framebuffer in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framebuffer {
    /// All of it.
    pub total: u64,
    /// Kept by the driver.
    pub reserved: u64,
    /// Used by processes.
    pub used: u64,
    /// The rest.
    pub free: u64,
}

/// Where memory errors are counted, numbered as `nvmlMemoryLocation_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EccLocation {
    /// Framebuffer.
    Dram,
    /// Caches and registers; the simulator counts no errors there.
    Sram,
}

/// Rows of memory that were replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemappedRows {
    /// For corrected errors.
    pub corrected: u32,
    /// For errors that could not be corrected.
    pub uncorrected: u32,
    /// Whether a reset is needed for it to take effect.
    pub pending: bool,
    /// Whether no spare row was left.
    pub failed: bool,
}

impl Device<'_> {
    /// Framebuffer.
    pub fn framebuffer(&self) -> Framebuffer {
        let total = self.gpu().memory_mib * MIB;
        let reserved = self.model().reserved_mib * MIB;
        let used = used_mib(self.slot, self.entry) * MIB;
        Framebuffer {
            total,
            reserved,
            used,
            free: total - reserved - used,
        }
    }

    /// BAR1 aperture: total and used bytes.
    pub fn bar1(&self) -> (u64, u64) {
        (self.model().bar1_mib * MIB, MIB)
    }

    /// Memory errors of one kind, since the last reset or for ever.
    pub fn ecc_errors(&self, uncorrected: bool, aggregate: bool, location: EccLocation) -> u64 {
        let ecc = &self.slot.ecc;
        let counter = match (uncorrected, aggregate) {
            (false, false) => &ecc.volatile_corrected,
            (true, false) => &ecc.volatile_uncorrected,
            (false, true) => &ecc.aggregate_corrected,
            (true, true) => &ecc.aggregate_uncorrected,
        };
        match location {
            EccLocation::Dram => counter.load(Relaxed),
            EccLocation::Sram => 0,
        }
    }

    /// Rows that were remapped.
    ///
    /// # Errors
    /// The GPU is older than Ampere.
    pub fn remapped_rows(&self) -> Result<RemappedRows, Failure> {
        if !self.model().remaps_rows() {
            return Err(Failure::NotSupported);
        }
        let pages = &self.slot.pages;
        let narrow = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(RemappedRows {
            corrected: narrow(pages.remapped_corrected.load(Relaxed)),
            uncorrected: narrow(pages.remapped_uncorrected.load(Relaxed)),
            pending: pages.pending.load(Relaxed) == 1,
            failed: pages.failed.load(Relaxed) == 1,
        })
    }

    /// Pages that were retired: for several single-bit errors, for double-bit errors, and
    /// whether a reset is needed for it to take effect.
    ///
    /// # Errors
    /// The GPU is Ampere or later.
    pub fn retired_pages(&self) -> Result<(u64, u64, bool), Failure> {
        if self.model().remaps_rows() {
            return Err(Failure::NotSupported);
        }
        let pages = &self.slot.pages;
        Ok((
            pages.retired_single.load(Relaxed),
            pages.retired_double.load(Relaxed),
            pages.pending.load(Relaxed) == 1,
        ))
    }

    /// How often PCIe packets were sent again.
    pub fn pcie_replays(&self) -> u64 {
        self.slot.pcie_replays.load(Relaxed)
    }
}
