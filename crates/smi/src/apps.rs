//! `--query-compute-apps`: the processes that compute.

use std::time::SystemTime;

use mizzen_nvml::direct::{Code, Nvml};

use crate::csv::{Column, Row, column};
use crate::gpus::Gpu;
use crate::time;

/// A row for each process on a GPU.
pub(crate) fn rows<'a>(nvml: &'a Nvml, gpu: &Gpu<'a>, now: SystemTime) -> Vec<Row<'a>> {
    // One that does not tell its processes has none to show.
    let processes = gpu.device.compute_processes().unwrap_or_default();
    let row = |process| Row {
        process: Some(process),
        ..Row::of_gpu(nvml, gpu, now)
    };
    processes.into_iter().map(row).collect()
}

/// What can be asked of a process.
pub(crate) const COLUMNS: &[Column] = &[
    column(
        "timestamp",
        "",
        "",
        |row| Ok(time::short(row.now)),
        "When it was asked, in UTC.",
    ),
    column(
        "gpu_name",
        "",
        "",
        |row| row.device.name(),
        "The product's name.",
    ),
    column(
        "gpu_bus_id",
        "",
        "",
        |row| Ok(row.device.pci()?.bus_id),
        "The GPU's place on the bus.",
    ),
    column(
        "gpu_serial",
        "",
        "",
        |row| row.device.serial(),
        "The board's serial number.",
    ),
    column(
        "gpu_uuid",
        "",
        "",
        |row| row.device.uuid(),
        "The GPU's UUID.",
    ),
    column(
        "pid",
        "",
        "",
        |row| Ok(row.process()?.pid.to_string()),
        "The process's id.",
    ),
    column(
        "process_name",
        "name",
        "",
        |row| row.nvml.process_name(row.process()?.pid),
        "What the process is called.",
    ),
    column(
        "used_gpu_memory",
        "used_memory",
        "MiB",
        |row| {
            let memory = row.process()?.memory.ok_or(Code::NOT_SUPPORTED)?;
            Ok((memory >> 20).to_string())
        },
        "Framebuffer that it uses.",
    ),
];
