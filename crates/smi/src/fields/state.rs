//! What state a GPU is in.

use crate::csv::{Column, column};

use super::value::{enabled, number, performance};

pub(super) const COLUMNS: &[Column] = &[
    column(
        "pcie.link.gen.current",
        "pcie.link.gen.gpucurrent",
        "",
        |row| number(row.device.link_generation()),
        "The PCIe generation in use.",
    ),
    column(
        "pcie.link.gen.max",
        "",
        "",
        |row| number(row.device.max_link_generation()),
        "The highest PCIe generation possible.",
    ),
    column(
        "pcie.link.width.current",
        "",
        "",
        |row| number(row.device.link_width()),
        "PCIe lanes in use.",
    ),
    column(
        "pcie.link.width.max",
        "",
        "",
        |row| number(row.device.max_link_width()),
        "The most PCIe lanes possible.",
    ),
    column(
        "index",
        "",
        "",
        |row| Ok(row.index.to_string()),
        "Its index, from 0, in the order of the bus.",
    ),
    column(
        "display_mode",
        "",
        "",
        |row| enabled(row.device.display_mode()),
        "Whether a display is connected.",
    ),
    column(
        "display_active",
        "",
        "",
        |row| enabled(row.device.display_active()),
        "Whether a display is driven.",
    ),
    column(
        "persistence_mode",
        "",
        "",
        |row| enabled(row.device.persistence_mode()),
        "Whether the driver stays loaded without clients.",
    ),
    column(
        "fan.speed",
        "",
        "%",
        |row| number(row.device.fan_speed()),
        "What the fan shall do of what it can.",
    ),
    column(
        "pstate",
        "",
        "",
        |row| performance(row.device.performance_state()),
        "The performance state, P0 (highest) to P12.",
    ),
];
