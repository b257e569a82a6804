//! What a GPU is, and where.

use crate::csv::{Column, column};
use crate::time;

pub(super) const COLUMNS: &[Column] = &[
    column(
        "timestamp",
        "",
        "",
        |row| Ok(time::short(row.now)),
        "When it was asked, in UTC.",
    ),
    column(
        "driver_version",
        "",
        "",
        |row| row.nvml.driver_version(),
        "The version of the kernel driver.",
    ),
    column(
        "count",
        "",
        "",
        |row| Ok(row.nvml.count()?.to_string()),
        "How many GPUs there are.",
    ),
    column(
        "name",
        "gpu_name",
        "",
        |row| row.device.name(),
        "The product's name.",
    ),
    column(
        "serial",
        "gpu_serial",
        "",
        |row| row.device.serial(),
        "The board's serial number.",
    ),
    column(
        "uuid",
        "gpu_uuid",
        "",
        |row| row.device.uuid(),
        "The GPU's UUID.",
    ),
    column(
        "pci.bus_id",
        "gpu_bus_id",
        "",
        |row| Ok(row.device.pci()?.bus_id),
        "Its place on the bus, domain:bus:device.function.",
    ),
    column(
        "pci.domain",
        "",
        "",
        |row| Ok(format!("0x{:04X}", row.device.pci()?.domain)),
        "The domain of its place on the bus.",
    ),
    column(
        "pci.bus",
        "",
        "",
        |row| Ok(format!("0x{:02X}", row.device.pci()?.bus)),
        "The bus.",
    ),
    column(
        "pci.device",
        "",
        "",
        |row| Ok(format!("0x{:02X}", row.device.pci()?.device)),
        "The place on the bus.",
    ),
    column(
        "pci.device_id",
        "",
        "",
        |row| Ok(format!("0x{:08X}", row.device.pci()?.device_id)),
        "PCI device and vendor.",
    ),
    column(
        "pci.sub_device_id",
        "",
        "",
        |row| Ok(format!("0x{:08X}", row.device.pci()?.sub_device_id)),
        "PCI device and vendor of the board.",
    ),
    column(
        "vbios_version",
        "",
        "",
        |row| row.device.vbios_version(),
        "The version of the board's firmware.",
    ),
    column(
        "inforom.img",
        "inforom.image",
        "",
        |row| row.device.inforom_version(),
        "The version of the infoROM image.",
    ),
];
