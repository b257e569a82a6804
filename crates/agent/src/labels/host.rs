//! What the machine tells of itself in `/sys`.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use mizzen_core::labels::{DisplayController, HostFacts, Vgpu};
use mizzen_nvml::HostRoot;

/// NVIDIA's vendor id on the PCI bus.
const NVIDIA: u32 = 0x10de;
/// The base class of display controllers.
const DISPLAY: u32 = 0x03;

/// Reads what labels tell of the machine; `machine_file`, a path on the host, says what it is.
pub fn host_facts(host: &HostRoot, machine_file: Option<&Path>) -> HostFacts {
    let functions = nvidia_functions(host);
    HostFacts {
        machine: machine_file.and_then(|file| machine(host, file)),
        display: functions.iter().filter_map(Function::as_display).collect(),
        vgpu: Vgpu::of_all(functions.into_iter().map(|function| function.vgpu)),
    }
}

fn machine(host: &HostRoot, file: &Path) -> Option<String> {
    let path = host.resolve(file).ok()?;
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// An NVIDIA function on the PCI bus.
struct Function {
    place: Option<mizzen_core::gpu::PciBusId>,
    /// Base class, subclass and programming interface.
    class: u32,
    vgpu: Vgpu,
}

impl Function {
    fn as_display(&self) -> Option<DisplayController> {
        let place = self.place.filter(|_| self.class >> 16 == DISPLAY)?;
        let class = u16::try_from(self.class >> 8).ok()?;
        Some(DisplayController { place, class })
    }
}

/// NVIDIA's functions in the order of the bus; none where there is no bus.
fn nvidia_functions(host: &HostRoot) -> Vec<Function> {
    let Ok(entries) = fs::read_dir(host.join("sys/bus/pci/devices")) else {
        return Vec::new();
    };
    let mut directories: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    directories.sort_unstable();
    directories
        .iter()
        .filter(|directory| number(&directory.join("vendor")) == Some(NVIDIA))
        .map(|directory| Function {
            place: directory
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok()),
            class: number(&directory.join("class")).unwrap_or_default(),
            vgpu: Vgpu::of_config_space(&config_space(&directory.join("config"))),
        })
        .collect()
}

/// `0x10de`
fn number(file: &Path) -> Option<u32> {
    let text = fs::read_to_string(file).ok()?;
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

/// The first 256 bytes: processes without privileges get 64 of them.
fn config_space(file: &Path) -> Vec<u8> {
    const STANDARD: u64 = 256;
    let mut bytes = Vec::new();
    // What cannot be read is missing, and that is what the caller sees.
    drop(File::open(file).map(|file| file.take(STANDARD).read_to_end(&mut bytes)));
    bytes
}
