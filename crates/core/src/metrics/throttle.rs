//! Why the clocks of a GPU are below their highest.

/// A reason why clocks are below their highest, a bit of `nvmlClocksEventReasons`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClockEvent {
    /// Nothing runs.
    GpuIdle,
    /// Clocks for applications are set.
    ClocksSetting,
    /// The power limit.
    PowerCap,
    /// The hardware, by a factor of two or more: heat, a power brake, or both.
    HwSlowdown,
    /// The group of a sync boost runs at the clocks of its slowest.
    SyncBoost,
    /// Heat, by the driver.
    SwThermal,
    /// Heat, by the hardware.
    HwThermal,
    /// A power supply asks for it.
    HwPowerBrake,
    /// Clocks for displays.
    DisplayClocks,
}

impl ClockEvent {
    /// All of them, by ascending bit.
    pub const ALL: [Self; 9] = [
        Self::GpuIdle,
        Self::ClocksSetting,
        Self::PowerCap,
        Self::HwSlowdown,
        Self::SyncBoost,
        Self::SwThermal,
        Self::HwThermal,
        Self::HwPowerBrake,
        Self::DisplayClocks,
    ];

    /// Its bit in the driver's answer.
    pub fn bit(self) -> u64 {
        1 << self as u32
    }

    /// The exporter's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GpuIdle => "gpu_idle",
            Self::ClocksSetting => "clocks_setting",
            Self::PowerCap => "power_cap",
            Self::HwSlowdown => "hw_slowdown",
            Self::SyncBoost => "sync_boost",
            Self::SwThermal => "sw_thermal",
            Self::HwThermal => "hw_thermal",
            Self::HwPowerBrake => "hw_power_brake",
            Self::DisplayClocks => "display_clocks",
        }
    }
}
