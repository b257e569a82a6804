//! Why the clocks of a GPU are not higher.

use crate::csv::{Column, column};

use super::value::reason;

pub(super) const COLUMNS: &[Column] = &[
    column(
        "clocks_event_reasons.active",
        "clocks_throttle_reasons.active",
        "",
        |row| Ok(format!("0x{:016X}", row.device.clock_event_reasons()?)),
        "The set of reasons why the clocks are not higher, as in nvml.h.",
    ),
    column(
        "clocks_event_reasons.gpu_idle",
        "clocks_throttle_reasons.gpu_idle",
        "",
        |row| reason(row, 0),
        "Nothing runs on the GPU.",
    ),
    column(
        "clocks_event_reasons.applications_clocks_setting",
        "clocks_throttle_reasons.applications_clocks_setting",
        "",
        |row| reason(row, 1),
        "The clocks that were set for programs.",
    ),
    column(
        "clocks_event_reasons.sw_power_cap",
        "clocks_throttle_reasons.sw_power_cap",
        "",
        |row| reason(row, 2),
        "The power limit.",
    ),
    column(
        "clocks_event_reasons.hw_slowdown",
        "clocks_throttle_reasons.hw_slowdown",
        "",
        |row| reason(row, 3),
        "The hardware slows down: temperature, power brake or power supply.",
    ),
    column(
        "clocks_event_reasons.sync_boost",
        "clocks_throttle_reasons.sync_boost",
        "",
        |row| reason(row, 4),
        "Another GPU of its sync-boost group.",
    ),
    column(
        "clocks_event_reasons.sw_thermal_slowdown",
        "clocks_throttle_reasons.sw_thermal_slowdown",
        "",
        |row| reason(row, 5),
        "The temperature, by the driver.",
    ),
    column(
        "clocks_event_reasons.hw_thermal_slowdown",
        "clocks_throttle_reasons.hw_thermal_slowdown",
        "",
        |row| reason(row, 6),
        "The temperature, by the hardware.",
    ),
    column(
        "clocks_event_reasons.hw_power_brake_slowdown",
        "clocks_throttle_reasons.hw_power_brake_slowdown",
        "",
        |row| reason(row, 7),
        "A power brake from outside.",
    ),
];
