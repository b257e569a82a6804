//! What NVML's setters change. They need root, as with the real library, and a state that this
//! process may write.

use std::sync::atomic::Ordering::{Relaxed, Release};

use super::{Device, Failure};

impl Device<'_> {
    /// Compute mode, `nvmlComputeMode_t`.
    pub fn compute_mode(&self) -> u32 {
        self.slot.compute_mode.load(Relaxed)
    }

    /// Whether the driver stays loaded without clients.
    pub fn persistence(&self) -> bool {
        crate::control::is_persistent(self.slot)
    }

    /// Power limit, mW.
    pub fn power_limit(&self) -> u32 {
        match self.slot.power_limit_mw.load(Relaxed) {
            0 => self.gpu().power_limit * 1000,
            limit => limit,
        }
    }

    /// Default power limit, mW.
    pub fn default_power_limit(&self) -> u32 {
        self.gpu().power_limit * 1000
    }

    /// Lowest and highest power limit, mW.
    pub fn power_limits(&self) -> (u32, u32) {
        let power = self.model().power;
        (
            power.min * 1000,
            power.max.max(self.gpu().power_limit) * 1000,
        )
    }

    /// Sets the compute mode.
    ///
    /// # Errors
    /// There is no such mode, or the caller may not.
    pub fn set_compute_mode(&self, mode: u32) -> Result<(), Failure> {
        match mode {
            // 1 is exclusive-thread, which the driver dropped with CUDA 8.
            0 | 2 | 3 => self.change(|device| device.slot.compute_mode.store(mode, Release)),
            1 => Err(Failure::NotSupported),
            _ => Err(Failure::InvalidArgument),
        }
    }

    /// Sets whether the driver stays loaded without clients.
    ///
    /// # Errors
    /// The caller may not.
    pub fn set_persistence(&self, on: bool) -> Result<(), Failure> {
        self.change(|device| device.slot.persistence.store(u32::from(on), Release))
    }

    /// Sets the power limit, mW.
    ///
    /// # Errors
    /// The limit is out of range, or the caller may not.
    pub fn set_power_limit(&self, limit: u32) -> Result<(), Failure> {
        let (least, most) = self.power_limits();
        if limit < least || limit > most {
            return Err(Failure::InvalidArgument);
        }
        self.change(|device| device.slot.power_limit_mw.store(limit, Release))
    }

    /// Clears the memory errors counted since the last reset, or for ever.
    ///
    /// # Errors
    /// The caller may not.
    pub fn clear_ecc(&self, aggregate: bool) -> Result<(), Failure> {
        may_change()?;
        let writer = self
            .session
            .store
            .write()
            .map_err(|_| Failure::NoPermission)?;
        writer.clear_ecc(self.entry.slot, aggregate);
        Ok(())
    }

    /// Clears the errors of a link. All of a GPU's are its first link's.
    ///
    /// # Errors
    /// There is no such link, or the caller may not.
    pub fn clear_nvlink_errors(&self, link: u32) -> Result<(), Failure> {
        self.nvlink(link)?;
        may_change()?;
        let writer = self
            .session
            .store
            .write()
            .map_err(|_| Failure::NoPermission)?;
        if link == 0 {
            writer.clear_nvlink_errors(self.entry.slot);
        }
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&Self)) -> Result<(), Failure> {
        may_change()?;
        let _writer = self
            .session
            .store
            .write()
            .map_err(|_| Failure::NoPermission)?;
        change(self);
        Ok(())
    }
}

pub(super) fn may_change() -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(Failure::NoPermission)
    }
}
