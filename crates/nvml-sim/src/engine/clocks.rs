//! Clocks, performance states and the reasons that hold them down.

use super::{Device, Failure};

/// Clock domains, numbered as `nvmlClockType_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockDomain {
    /// Graphics and SM: always equal here.
    Graphics,
    /// Memory.
    Memory,
    /// Encoder and decoder.
    Video,
}

impl ClockDomain {
    /// The domain with NVML's number.
    ///
    /// # Errors
    /// There is no such domain.
    pub fn from_code(code: u32) -> Result<Self, Failure> {
        match code {
            0 | 1 => Ok(Self::Graphics),
            2 => Ok(Self::Memory),
            3 => Ok(Self::Video),
            _ => Err(Failure::InvalidArgument),
        }
    }
}

/// `nvmlClocksEventReasonGpuIdle`.
const IDLE: u64 = 0x1;

impl Device<'_> {
    /// Whether it has nothing to do.
    pub fn is_idle(&self) -> bool {
        self.sample().utilization < 0.5 && !self.slot.is_used()
    }

    /// Clock now, MHz.
    pub fn clock(&self, domain: ClockDomain) -> u32 {
        let clocks = self.model().clocks;
        let (busy, idle) = match domain {
            ClockDomain::Graphics => (clocks.graphics, clocks.idle_graphics),
            ClockDomain::Memory => (clocks.memory, clocks.idle_memory),
            ClockDomain::Video => (clocks.video, clocks.video / 2),
        };
        if self.is_idle() {
            idle
        } else if self.slot.throttle() != 0 && domain != ClockDomain::Memory {
            busy / 2
        } else {
            busy
        }
    }

    /// Highest clock, MHz.
    pub fn max_clock(&self, domain: ClockDomain) -> u32 {
        let clocks = self.model().clocks;
        match domain {
            ClockDomain::Graphics => clocks.graphics,
            ClockDomain::Memory => clocks.memory,
            ClockDomain::Video => clocks.video,
        }
    }

    /// Memory clocks that can be asked for, MHz, highest first.
    pub fn supported_memory_clocks(&self) -> Vec<u32> {
        let clocks = self.model().clocks;
        let mut supported = vec![clocks.memory, clocks.idle_memory];
        supported.dedup();
        supported
    }

    /// Graphics clocks that go with a memory clock, MHz, highest first, in steps of 15.
    ///
    /// # Errors
    /// The memory clock is none of the supported ones.
    pub fn supported_graphics_clocks(&self, memory: u32) -> Result<Vec<u32>, Failure> {
        if !self.supported_memory_clocks().contains(&memory) {
            return Err(Failure::NotFound);
        }
        let clocks = self.model().clocks;
        let steps = (clocks.graphics - clocks.idle_graphics) / 15;
        Ok((0..=steps)
            .map(|step| clocks.graphics - 15 * step)
            .collect())
    }

    /// Performance state: P0 at work, P8 at rest where the memory clock can fall.
    pub fn performance_state(&self) -> u32 {
        let clocks = self.model().clocks;
        let rests = clocks.idle_memory < clocks.memory;
        if rests && self.is_idle() { 8 } else { 0 }
    }

    /// Reasons why the clocks are not higher, `nvmlClocksEventReason*`.
    pub fn clock_reasons(&self) -> u64 {
        match self.slot.throttle() {
            0 if self.is_idle() => IDLE,
            reasons => reasons,
        }
    }
}
