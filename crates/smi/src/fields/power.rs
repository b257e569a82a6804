//! Temperature, power and clocks.

use mizzen_nvml::direct::Clock;

use crate::csv::{Column, column};

use super::value::{number, watts};

pub(super) const COLUMNS: &[Column] = &[
    column(
        "temperature.gpu",
        "",
        "",
        |row| number(row.device.temperature()),
        "Degrees Celsius.",
    ),
    column(
        "power.draw",
        "",
        "W",
        |row| watts(row.device.power_usage()),
        "What it draws.",
    ),
    column(
        "power.limit",
        "",
        "W",
        |row| watts(row.device.power_limit()),
        "What it may draw.",
    ),
    column(
        "enforced.power.limit",
        "",
        "W",
        |row| watts(row.device.enforced_power_limit()),
        "The lowest of all limits.",
    ),
    column(
        "power.default_limit",
        "",
        "W",
        |row| watts(row.device.default_power_limit()),
        "The limit after a reboot.",
    ),
    column(
        "power.min_limit",
        "",
        "W",
        |row| watts(row.device.power_limits().map(|limits| limits.0)),
        "The lowest limit that can be set.",
    ),
    column(
        "power.max_limit",
        "",
        "W",
        |row| watts(row.device.power_limits().map(|limits| limits.1)),
        "The highest limit that can be set.",
    ),
    column(
        "clocks.current.graphics",
        "clocks.gr",
        "MHz",
        |row| number(row.device.clock(Clock::Graphics)),
        "The clock now.",
    ),
    column(
        "clocks.current.sm",
        "clocks.sm",
        "MHz",
        |row| number(row.device.clock(Clock::Sm)),
        "The clock now.",
    ),
    column(
        "clocks.current.memory",
        "clocks.mem",
        "MHz",
        |row| number(row.device.clock(Clock::Memory)),
        "The clock now.",
    ),
    column(
        "clocks.current.video",
        "clocks.video",
        "MHz",
        |row| number(row.device.clock(Clock::Video)),
        "The clock now.",
    ),
    column(
        "clocks.applications.graphics",
        "clocks.applications.gr",
        "MHz",
        |row| number(row.device.applications_clock(Clock::Graphics)),
        "The clock that programs are given.",
    ),
    column(
        "clocks.applications.memory",
        "clocks.applications.mem",
        "MHz",
        |row| number(row.device.applications_clock(Clock::Memory)),
        "The clock that programs are given.",
    ),
    column(
        "clocks.max.graphics",
        "clocks.max.gr",
        "MHz",
        |row| number(row.device.max_clock(Clock::Graphics)),
        "The clock at most.",
    ),
    column(
        "clocks.max.sm",
        "",
        "MHz",
        |row| number(row.device.max_clock(Clock::Sm)),
        "The clock at most.",
    ),
    column(
        "clocks.max.memory",
        "clocks.max.mem",
        "MHz",
        |row| number(row.device.max_clock(Clock::Memory)),
        "The clock at most.",
    ),
];
