//! Whether a GPU is partitioned.

use crate::csv::{Column, column};

use super::value::enabled;

pub(super) const COLUMNS: &[Column] = &[
    column(
        "mig.mode.current",
        "",
        "",
        |row| enabled(row.device.mig_mode().map(|modes| modes.0)),
        "Whether the GPU is partitioned.",
    ),
    column(
        "mig.mode.pending",
        "",
        "",
        |row| enabled(row.device.mig_mode().map(|modes| modes.1)),
        "Whether it will be after the next reset.",
    ),
];
