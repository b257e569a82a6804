//! Memory errors: whether they are corrected, and how many there were.

use mizzen_nvml::direct::EccCounter::{Corrected, Uncorrected};
use mizzen_nvml::direct::EccMemory;
use mizzen_nvml::direct::EccSpan::{Aggregate, Volatile};

use crate::csv::{Column, column};

use super::value::{enabled, errors};

/// A column of what is counted in one place. What is counted: `[counter, its name, span, its
/// name, the span in words]`.
macro_rules! place {
    (
        [$counter:ident, $counted:literal, $span:ident, $spanned:literal, $since:literal],
        $place:literal,
        $memory:ident
    ) => {
        column(
            concat!("ecc.errors.", $counted, ".", $spanned, ".", $place),
            "",
            "",
            |row| errors(row, $counter, $span, Some(EccMemory::$memory)),
            concat!(stringify!($counter), " errors there, ", $since, "."),
        )
    };
}

/// The column of what is counted in all places.
macro_rules! total {
    ([$counter:ident, $counted:literal, $span:ident, $spanned:literal, $since:literal]) => {
        column(
            concat!("ecc.errors.", $counted, ".", $spanned, ".total"),
            "",
            "",
            |row| errors(row, $counter, $span, None),
            concat!(stringify!($counter), " errors, ", $since, "."),
        )
    };
}

/// The columns of what is counted, place by place and in all.
macro_rules! counted {
    ($what:tt) => {
        &[
            place!($what, "device_memory", Dram),
            place!($what, "dram", Dram),
            place!($what, "register_file", RegisterFile),
            place!($what, "l1_cache", L1Cache),
            place!($what, "l2_cache", L2Cache),
            place!($what, "texture_memory", TextureMemory),
            place!($what, "cbu", Cbu),
            place!($what, "sram", Sram),
            total!($what),
        ]
    };
}

pub(super) const COLUMNS: [&[Column]; 5] = [
    &[
        column(
            "ecc.mode.current",
            "",
            "",
            |row| enabled(row.device.ecc_mode().map(|modes| modes.0)),
            "Whether memory errors are corrected.",
        ),
        column(
            "ecc.mode.pending",
            "",
            "",
            |row| enabled(row.device.ecc_mode().map(|modes| modes.1)),
            "Whether they will be after the next reboot.",
        ),
    ],
    counted!([
        Corrected,
        "corrected",
        Volatile,
        "volatile",
        "since the driver was loaded"
    ]),
    counted!([
        Corrected,
        "corrected",
        Aggregate,
        "aggregate",
        "in the GPU's life"
    ]),
    counted!([
        Uncorrected,
        "uncorrected",
        Volatile,
        "volatile",
        "since the driver was loaded"
    ]),
    counted!([
        Uncorrected,
        "uncorrected",
        Aggregate,
        "aggregate",
        "in the GPU's life"
    ]),
];
