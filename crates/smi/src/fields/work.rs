//! What programs have of a GPU.

use crate::csv::{Column, column};

use super::value::{Code, compute_capability, compute_mode, mib, number};

pub(super) const COLUMNS: &[Column] = &[
    column(
        "memory.total",
        "",
        "MiB",
        |row| Ok(mib(row.device.memory()?.total)),
        "All of the framebuffer.",
    ),
    column(
        "memory.reserved",
        "",
        "MiB",
        |row| {
            Ok(mib(row
                .device
                .memory()?
                .reserved
                .ok_or(Code::NOT_SUPPORTED)?))
        },
        "What the driver keeps of it.",
    ),
    column(
        "memory.used",
        "",
        "MiB",
        |row| Ok(mib(row.device.memory()?.used)),
        "What programs use of it.",
    ),
    column(
        "memory.free",
        "",
        "MiB",
        |row| Ok(mib(row.device.memory()?.free)),
        "The rest of it.",
    ),
    column(
        "compute_mode",
        "",
        "",
        |row| compute_mode(row.device.compute_mode()),
        "Who may compute: Default, Exclusive_Process, Prohibited.",
    ),
    column(
        "compute_cap",
        "",
        "",
        |row| compute_capability(row.device.compute_capability()),
        "CUDA compute capability.",
    ),
    column(
        "utilization.gpu",
        "",
        "%",
        |row| number(row.device.utilization().map(|rates| rates.0)),
        "How long, of the last sample, a kernel ran.",
    ),
    column(
        "utilization.memory",
        "",
        "%",
        |row| number(row.device.utilization().map(|rates| rates.1)),
        "How long, of the last sample, memory was read or written.",
    ),
    column(
        "utilization.encoder",
        "",
        "%",
        |row| number(row.device.encoder_utilization().map(|rates| rates.0)),
        "How busy the video encoders are.",
    ),
    column(
        "utilization.decoder",
        "",
        "%",
        |row| number(row.device.decoder_utilization().map(|rates| rates.0)),
        "How busy the video decoders are.",
    ),
];
