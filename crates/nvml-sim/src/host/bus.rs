//! Where everything hangs in the PCI tree: root complexes, switches, GPUs and
//! NVSwitch chips.
//!
//! The scenario names root complexes and switches by numbers; the kernel names bridges by places
//! on the bus. The places are derived from those numbers and not from the order of the GPUs, so
//! that a GPU that comes or goes moves no other.

use std::collections::{BTreeMap, BTreeSet};

use crate::identity::PciAddress;
use crate::model::Architecture;
use crate::node::{Gpu, LinkPeer, Node};

/// Device numbers on one bus.
const DEVICES: u8 = 32;
/// Where the root complex of the NVSwitch chips is looked for first.
const NVSWITCH_ROOT: u8 = 0xf8;

/// What a PCI function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    RootPort,
    SwitchUpstream,
    SwitchDownstream,
    /// The GPU at this position of the node.
    Gpu(usize),
    /// An NVSwitch with this PCI device id.
    NvSwitch(u16),
}

/// One function on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) address: PciAddress,
    /// `sys/devices/pci0000:00/…`
    pub(super) directory: String,
    pub(super) role: Role,
    pub(super) numa: u32,
}

/// Every function, bridges before what is behind them.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) functions: Vec<Function>,
}

impl Layout {
    pub(super) fn of(node: &Node) -> Self {
        let mut builder = Builder::new(&node.gpus);
        let roots = builder.claim_roots(&node.gpus);
        let switches = builder.claim_nvswitches(node);
        for root in roots {
            builder.grow(&node.gpus, &root);
        }
        if let Some((root, chip)) = switches {
            builder.add_nvswitches(&root, chip);
        }
        Self {
            functions: builder.functions,
        }
    }

    /// Where the GPU at `position` of the node is.
    pub(super) fn gpu_directory(&self, position: usize) -> Option<&str> {
        let mut functions = self.functions.iter();
        let found = functions.find(|function| function.role == Role::Gpu(position));
        found.map(|function| function.directory.as_str())
    }
}

/// A root complex or a switch: something that ports hang on.
#[derive(Debug, Clone)]
struct Parent {
    directory: String,
    domain: u32,
    /// The bus that its ports are on.
    bus: u8,
    port: Role,
    numa: u32,
}

/// A root complex and the GPUs below it, in the order of the bus.
struct Root {
    complex: Parent,
    gpus: Vec<usize>,
}

/// The NVSwitch chips of one baseboard.
#[derive(Clone, Copy)]
struct NvSwitches {
    device_id: u16,
    count: u8,
}

struct Builder {
    buses: BTreeSet<(u32, u8)>,
    taken: BTreeSet<PciAddress>,
    functions: Vec<Function>,
}

impl Builder {
    fn new(gpus: &[Gpu]) -> Self {
        Self {
            buses: gpus
                .iter()
                .map(|gpu| (gpu.pci.domain, gpu.pci.bus))
                .collect(),
            taken: gpus.iter().map(|gpu| gpu.pci).collect(),
            functions: Vec::new(),
        }
    }

    fn claim_roots(&mut self, gpus: &[Gpu]) -> Vec<Root> {
        let mut members: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (position, gpu) in gpus.iter().enumerate() {
            members.entry(gpu.pcie_root).or_default().push(position);
        }
        let root = |(number, mut members): (u16, Vec<usize>)| {
            members.sort_by_key(|&position| gpus[position].pci);
            let first = &gpus[members[0]];
            // Below every bus of its GPUs, as firmware numbers buses.
            let below = members.iter().map(|&member| gpus[member].pci.bus).min();
            let usual = (number % 32) as u8 * 8 + (number / 32 % 2) as u8 * 4;
            let highest = usual.min(below.unwrap_or(0).saturating_sub(1));
            let domain = first.pci.domain;
            let bus = self.claim_bus(domain, (0..=highest).rev().chain(highest..=u8::MAX));
            Root {
                complex: complex(domain, bus.unwrap_or(highest), first.numa),
                gpus: members,
            }
        };
        members.into_iter().map(root).collect()
    }

    /// NVSwitch chips are PCI devices up to Hopper; later ones are managed over another network.
    fn claim_nvswitches(&mut self, node: &Node) -> Option<(Parent, NvSwitches)> {
        let gpu = node
            .gpus
            .iter()
            .find(|gpu| gpu.links.contains(&LinkPeer::Switch))?;
        let (device_id, count) = match gpu.model.architecture {
            Architecture::Volta => (0x1ac2, 6),
            Architecture::Ampere => (0x1af1, 6),
            Architecture::Hopper => (0x22a3, 4),
            Architecture::Turing | Architecture::Ada | Architecture::Blackwell => return None,
        };
        let domain = gpu.pci.domain;
        let bus = self
            .claim_bus(domain, upwards(NVSWITCH_ROOT))
            .unwrap_or(NVSWITCH_ROOT);
        Some((complex(domain, bus, 0), NvSwitches { device_id, count }))
    }

    fn add_nvswitches(&mut self, root: &Parent, chip: NvSwitches) {
        for number in 0..chip.count {
            let port = self.add_port(root, number);
            let bus = self
                .claim_bus(root.domain, upwards(root.bus))
                .unwrap_or(root.bus);
            self.add(
                &port,
                root.domain,
                bus,
                0,
                Role::NvSwitch(chip.device_id),
                root.numa,
            );
        }
    }

    /// Adds the switches and GPUs below a root complex.
    fn grow(&mut self, gpus: &[Gpu], root: &Root) {
        let mut switches: BTreeMap<&[u16], Parent> = BTreeMap::new();
        for &position in &root.gpus {
            let gpu = &gpus[position];
            let mut parent = root.complex.clone();
            for depth in 0..gpu.pcie_switches.len() {
                let path = &gpu.pcie_switches[..=depth];
                parent = match switches.get(path) {
                    Some(known) => known.clone(),
                    None => self.add_switch(&parent, path[depth]),
                };
                switches.insert(path, parent.clone());
            }
            let port = self.add_port(&parent, gpu.pci.bus);
            self.functions.push(Function {
                address: gpu.pci,
                directory: format!("{port}/{}", gpu.pci),
                role: Role::Gpu(position),
                numa: gpu.numa,
            });
        }
    }

    /// A port of `parent` with a switch on it: its upstream port, and a bus for its others.
    fn add_switch(&mut self, parent: &Parent, number: u16) -> Parent {
        let near = number.to_le_bytes()[0];
        let port = self.add_port(parent, near);
        let wanted = parent
            .bus
            .wrapping_add(1)
            .wrapping_add(near.wrapping_mul(2));
        let domain = parent.domain;
        let above = self.claim_bus(domain, upwards(wanted)).unwrap_or(wanted);
        let role = Role::SwitchUpstream;
        let directory = self.add(&port, domain, above, 0, role, parent.numa);
        let inside = self.claim_bus(domain, upwards(above)).unwrap_or(above);
        Parent {
            directory,
            bus: inside,
            port: Role::SwitchDownstream,
            ..parent.clone()
        }
    }

    fn add_port(&mut self, parent: &Parent, label: u8) -> String {
        let device = 1 + label % (DEVICES - 1);
        let directory = &parent.directory;
        self.add(
            directory,
            parent.domain,
            parent.bus,
            device,
            parent.port,
            parent.numa,
        )
    }

    fn add(
        &mut self,
        above: &str,
        domain: u32,
        bus: u8,
        device: u8,
        role: Role,
        numa: u32,
    ) -> String {
        let address = self.claim_address(PciAddress::new(domain, bus, device));
        let directory = format!("{above}/{address}");
        self.functions.push(Function {
            address,
            directory: directory.clone(),
            role,
            numa,
        });
        directory
    }

    /// The first bus that nothing is on. None where a domain is full; its buses are shared then.
    fn claim_bus(&mut self, domain: u32, mut order: impl Iterator<Item = u8>) -> Option<u8> {
        let bus = order.find(|&bus| !self.buses.contains(&(domain, bus)))?;
        self.buses.insert((domain, bus));
        Some(bus)
    }

    /// The wanted place, else the next free one. A domain has 8192 places, and 64 GPUs with four
    /// switches above each need fewer than 700.
    fn claim_address(&mut self, wanted: PciAddress) -> PciAddress {
        let buses = upwards(wanted.bus);
        let device = |step: u8| (wanted.device + step) % DEVICES;
        let places = buses.flat_map(|bus| (0..DEVICES).map(move |step| (bus, device(step))));
        let free = places
            .map(|(bus, device)| PciAddress::new(wanted.domain, bus, device))
            .find(|address| !self.taken.contains(address));
        let address = free.unwrap_or(wanted);
        self.taken.insert(address);
        address
    }
}

fn complex(domain: u32, bus: u8, numa: u32) -> Parent {
    Parent {
        directory: format!("sys/devices/pci{domain:04x}:{bus:02x}"),
        domain,
        bus,
        port: Role::RootPort,
        numa,
    }
}

/// Every bus, from `first` upwards and around.
fn upwards(first: u8) -> impl Iterator<Item = u8> {
    (first..=u8::MAX).chain(0..first)
}
