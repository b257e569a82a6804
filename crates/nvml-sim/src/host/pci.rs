//! The PCI devices in sysfs.

use crate::identity::PciAddress;
use crate::node::{Gpu, Node};

use super::bus::{Function, Layout, Role};
use super::files::cpu_mask;
use super::plan::Plan;

/// NVIDIA's vendor id.
const NVIDIA: u16 = 0x10de;
/// Link speeds by PCIe generation, as the kernel writes them.
const SPEEDS: [&str; 6] = [
    "2.5 GT/s PCIe",
    "5.0 GT/s PCIe",
    "8.0 GT/s PCIe",
    "16.0 GT/s PCIe",
    "32.0 GT/s PCIe",
    "64.0 GT/s PCIe",
];

/// What identifies a function to software.
struct Identity {
    /// Base class, subclass and programming interface.
    class: u32,
    vendor: u16,
    device: u16,
    subsystem_vendor: u16,
    subsystem_device: u16,
    revision: u8,
    driver: &'static str,
    generation: u32,
    width: u32,
}

impl Identity {
    fn of(role: Role, gpus: &[Gpu]) -> Option<Self> {
        // A root port of a current Xeon, a PEX 89000 switch; class: PCI bridge.
        let bridge = |vendor: u16, device: u16| Self {
            class: 0x06_0400,
            vendor,
            device,
            subsystem_vendor: vendor,
            subsystem_device: device,
            revision: 0,
            driver: "pcieport",
            generation: 5,
            width: 16,
        };
        Some(match role {
            Role::RootPort => bridge(0x8086, 0x352a),
            Role::SwitchUpstream | Role::SwitchDownstream => bridge(0x1000, 0xc030),
            Role::NvSwitch(device) => Self {
                class: 0x06_8000,
                vendor: NVIDIA,
                device,
                subsystem_vendor: NVIDIA,
                subsystem_device: device,
                revision: 0xa1,
                driver: "nvidia-nvswitch",
                generation: 4,
                width: 2,
            },
            Role::Gpu(position) => Self::of_gpu(gpus.get(position)?),
        })
    }

    fn of_gpu(gpu: &Gpu) -> Self {
        Self {
            class: if gpu.model.graphics {
                0x03_0000
            } else {
                0x03_0200
            },
            vendor: NVIDIA,
            device: gpu.device_id,
            subsystem_vendor: NVIDIA,
            subsystem_device: gpu.subsystem_id,
            revision: 0xa1,
            driver: "nvidia",
            generation: gpu.model.pcie_generation,
            width: gpu.model.pcie_width,
        }
    }

    fn modalias(&self) -> String {
        let [_, base, sub, interface] = self.class.to_be_bytes();
        format!(
            "pci:v{:08X}d{:08X}sv{:08X}sd{:08X}bc{base:02X}sc{sub:02X}i{interface:02X}",
            self.vendor, self.device, self.subsystem_vendor, self.subsystem_device
        )
    }

    fn uevent(&self, address: PciAddress) -> String {
        format!(
            "DRIVER={}\nPCI_CLASS={:X}\nPCI_ID={:04X}:{:04X}\nPCI_SUBSYS_ID={:04X}:{:04X}\n\
             PCI_SLOT_NAME={address}\nMODALIAS={}\n",
            self.driver,
            self.class,
            self.vendor,
            self.device,
            self.subsystem_vendor,
            self.subsystem_device,
            self.modalias()
        )
    }

    /// The standard header of the configuration space: type 1 for bridges to other buses, type 0
    /// for the rest, without capabilities.
    fn config(&self) -> Vec<u8> {
        let mut config = vec![0; 256];
        config[0x00..0x02].copy_from_slice(&self.vendor.to_le_bytes());
        config[0x02..0x04].copy_from_slice(&self.device.to_le_bytes());
        // Command: memory space and bus mastering.
        config[0x04] = 0x06;
        config[0x08] = self.revision;
        config[0x09..0x0c].copy_from_slice(&self.class.to_le_bytes()[..3]);
        if self.class == 0x06_0400 {
            config[0x0e] = 1;
        } else {
            config[0x2c..0x2e].copy_from_slice(&self.subsystem_vendor.to_le_bytes());
            config[0x2e..0x30].copy_from_slice(&self.subsystem_device.to_le_bytes());
        }
        config
    }

    fn speed(&self) -> &'static str {
        let index = self.generation.saturating_sub(1) as usize;
        SPEEDS.get(index).copied().unwrap_or("Unknown")
    }
}

/// Every function of the bus, bridges first.
pub(super) fn functions(plan: &mut Plan, node: &Node, layout: &Layout) {
    for function in &layout.functions {
        if let Some(identity) = Identity::of(function.role, &node.gpus) {
            attributes(plan, node, function, &identity);
            memory(plan, node, function);
            links(plan, function, &identity);
        }
    }
}

fn attributes(plan: &mut Plan, node: &Node, function: &Function, identity: &Identity) {
    let directory = &function.directory;
    let path = |name: &str| format!("{directory}/{name}");
    for (name, id) in [
        ("vendor", identity.vendor),
        ("device", identity.device),
        ("subsystem_vendor", identity.subsystem_vendor),
        ("subsystem_device", identity.subsystem_device),
    ] {
        plan.line(&path(name), format_args!("{id:#06x}"));
    }
    plan.line(&path("class"), format_args!("{:#08x}", identity.class));
    plan.line(
        &path("revision"),
        format_args!("{:#04x}", identity.revision),
    );
    plan.line(&path("numa_node"), function.numa);
    let cpus = node
        .numa_nodes
        .get(function.numa as usize)
        .cloned()
        .unwrap_or_default();
    plan.line(&path("local_cpulist"), &cpus);
    plan.line(&path("local_cpus"), cpu_mask(&cpus));
    for reach in ["current", "max"] {
        plan.line(&path(&format!("{reach}_link_speed")), identity.speed());
        plan.line(&path(&format!("{reach}_link_width")), identity.width);
    }
    plan.line(&path("enable"), 1);
    plan.line(&path("modalias"), identity.modalias());
    plan.file(&path("uevent"), identity.uevent(function.address));
    plan.file(&path("config"), identity.config());
}

/// `resource`: thirteen lines of start, end and flags. A GPU has registers (BAR 0), a window on
/// its framebuffer (BAR 1, the size that NVML reports) and one for the driver (BAR 3).
fn memory(plan: &mut Plan, node: &Node, function: &Function) {
    /// Memory, 64 bits wide, prefetchable.
    const WINDOW: u64 = 0x0014_220c;
    const MIB: u64 = 1 << 20;
    let mut regions = [(0_u64, 0_u64); 13];
    if let Role::Gpu(position) = function.role
        && let Some(gpu) = node.gpus.get(position)
    {
        // A terabyte of addresses for each place on the bus, below the 52 bits of the DMA mask.
        let place = u64::from(gpu.pci.domain % 8) << 8 | u64::from(gpu.pci.bus);
        let base = (place + 1) << 40;
        regions[1] = (base, gpu.model.bar1_mib * MIB);
        regions[3] = (base + (1 << 39), 32 * MIB);
        regions[0] = (base + (1 << 39) + 32 * MIB, 16 * MIB);
    }
    let line = |(start, size): (u64, u64)| match size {
        0 => format!("{0:#018x} {0:#018x} {0:#018x}\n", 0),
        _ => format!("{start:#018x} {:#018x} {WINDOW:#018x}\n", start + size - 1),
    };
    let lines: String = regions.into_iter().map(line).collect();
    plan.file(&format!("{}/resource", function.directory), lines);
}

/// The links by which the function is found, last: who sees them sees the whole directory.
fn links(plan: &mut Plan, function: &Function, identity: &Identity) {
    let directory = &function.directory;
    let address = function.address;
    let driver = format!("sys/bus/pci/drivers/{}", identity.driver);
    plan.directory(&driver);
    plan.link(&format!("{directory}/subsystem"), "sys/bus/pci");
    plan.link(&format!("{directory}/driver"), &driver);
    plan.link(&format!("{driver}/{address}"), directory);
    plan.link(&format!("sys/bus/pci/devices/{address}"), directory);
}
