//! GPUs on the bus, and the kernel's module for them.

use std::fs;
use std::path::Path;

use mizzen_core::doctor::{BusGpu, DriverFacts};
use mizzen_nvml::HostRoot;

use super::{Host, text};
use crate::cdi::{Asked, Places, discover, version_of_kernel};

/// NVIDIA, as PCI knows it.
const VENDOR: &str = "0x10de";
/// Display controllers, by the first byte of their class.
const DISPLAY: &str = "0x03";
/// Drivers that are not NVIDIA's and take its GPUs.
const RIVALS: [&str; 2] = ["nouveau", "nova_core"];
/// Whether secure boot is on: four bytes of attributes, and one that is 1.
const SECURE_BOOT: &str =
    "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

pub(super) fn facts(host: &Host, places: &Places) -> DriverFacts {
    let kernel = text(host.kernel.join("proc/sys/kernel/osrelease"));
    let files = discover(places, &Asked::default());
    let module = text(host.kernel.join("sys/module/nvidia/version"));
    DriverFacts {
        platform: files.platform,
        bus: bus(&host.kernel),
        module: module.or_else(|| version_of_kernel(&host.kernel)),
        rival: rival(&host.kernel),
        is_built: kernel
            .as_ref()
            .and_then(|kernel| is_built(&host.files, kernel)),
        kernel,
        secure_boot: secure_boot(&host.kernel),
        libraries: files.version.filter(|_| !files.libraries.is_empty()),
        root: places.driver_root().display().to_string(),
    }
}

fn bus(kernel: &HostRoot) -> Vec<BusGpu> {
    let entries = fs::read_dir(kernel.join("sys/bus/pci/devices"));
    let entries = entries.into_iter().flatten().flatten();
    let mut gpus: Vec<BusGpu> = entries
        .filter_map(|entry| {
            let device = entry.path();
            let is = |file: &str, start: &str| {
                text(device.join(file)).is_some_and(|text| text.starts_with(start))
            };
            if !is("vendor", VENDOR) || !is("class", DISPLAY) {
                return None;
            }
            let driver = fs::read_link(device.join("driver")).ok();
            Some(BusGpu {
                pci: entry.file_name().to_str()?.parse().ok()?,
                driver: driver.as_deref().and_then(name),
            })
        })
        .collect();
    gpus.sort_by_key(|gpu| gpu.pci);
    gpus
}

fn name(path: &Path) -> Option<String> {
    path.file_name()?.to_str().map(str::to_owned)
}

fn rival(kernel: &HostRoot) -> Option<String> {
    let modules = text(kernel.join("proc/modules"))?;
    let loaded = |rival: &&&str| {
        let mut lines = modules.lines();
        lines.any(|line| line.split(' ').next() == Some(rival))
    };
    RIVALS.iter().find(loaded).map(|rival| (*rival).to_owned())
}

/// Whether the modules of this kernel have NVIDIA's among them.
fn is_built(files: &HostRoot, kernel: &str) -> Option<bool> {
    let index = ["lib/modules", "usr/lib/modules"]
        .iter()
        .find_map(|directory| text(files.join(format!("{directory}/{kernel}/modules.dep"))))?;
    let mut modules = index.lines().filter_map(|line| line.split(':').next());
    Some(modules.any(|path| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file == "nvidia.ko" || file.starts_with("nvidia.ko.")
    }))
}

fn secure_boot(kernel: &HostRoot) -> Option<bool> {
    let variable = fs::read(kernel.join(SECURE_BOOT)).ok()?;
    variable.get(4).map(|value| *value == 1)
}
