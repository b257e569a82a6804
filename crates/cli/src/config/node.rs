//! The node that a config is tried on: this machine's GPUs, or simulated ones.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow};
use mizzen_core::config::Config;
use mizzen_core::driver::{DriverError, GpuDriver as _};
use mizzen_core::gpu::{Gpu, PciBusId};
use mizzen_core::inventory::{DriverVersions, Inventory};
use mizzen_core::mig::{Capabilities, Engines, GpuMig, MigDevice, MigMode, Placement};
use mizzen_core::topology::{Link, LinkMatrix, PcieRelation};
use mizzen_nvml::{HostRoot, NvmlLoader};
use mizzen_nvml_sim::control::{GpuInstanceStatus, MigDeviceStatus, MigStatus};
use mizzen_nvml_sim::node::{self, Ancestor, LinkPeer};
use mizzen_nvml_sim::scenario::Scenario;

use super::args::NodeArgs;
use super::offer::Unit;
use crate::words::mixed_ranges;

/// A node's GPUs as the agent would know them.
#[derive(Debug)]
pub(super) struct Node {
    /// Which node it is, for people.
    pub(super) name: String,
    pub(super) inventory: Inventory,
}

impl Node {
    /// The node that was asked for, or this machine if it has a driver, or the default simulated
    /// node.
    pub(super) fn find(args: &NodeArgs, config: &Config) -> Result<Self> {
        match (&args.gpus, &args.scenario) {
            (Some(gpus), _) => Self::simulated("a simulated node".to_owned(), gpus),
            (None, Some(file)) => {
                let name = format!("the simulated node of {}", file.display());
                Self::simulated(name, &Scenario::load(file)?)
            }
            (None, None) => match this_machine(config) {
                Ok(inventory) => Ok(Self {
                    name: "this machine".to_owned(),
                    inventory,
                }),
                Err(DriverError::LibraryNotFound { .. }) => {
                    let name = "the default simulated node (this machine has no NVIDIA driver)";
                    Self::simulated(name.to_owned(), &Scenario::default())
                }
                Err(error) => {
                    let name = format!(
                        "the default simulated node (this machine's driver cannot be asked: {error})"
                    );
                    Self::simulated(name, &Scenario::default())
                }
            },
        }
    }

    fn simulated(name: String, scenario: &Scenario) -> Result<Self> {
        let node = scenario.plan().map_err(|problems| {
            let problems: Vec<String> = problems
                .iter()
                .map(|problem| problem.message.clone())
                .collect();
            anyhow!("the scenario is impossible: {}", problems.join("; "))
        })?;
        Ok(Self {
            name,
            inventory: inventory(&node).context("the simulated node")?,
        })
    }

    /// The GPUs that could be described.
    pub(super) fn gpus(&self) -> &[Gpu] {
        &self.inventory.gpus
    }

    /// The GPU of a unit, and the MIG device that it is if it is one.
    pub(super) fn of(&self, unit: Unit) -> (&Gpu, Option<&MigDevice>) {
        let gpu = &self.gpus()[unit.gpu];
        let devices = gpu.mig.as_ref().map_or(&[][..], |mig| &mig.devices);
        (gpu, unit.mig.and_then(|at| devices.get(at)))
    }

    /// The index of a unit as `nvidia-smi` has it: `2`, or `2:0` for a MIG device.
    pub(super) fn index(&self, unit: Unit) -> String {
        match self.of(unit) {
            (gpu, Some(device)) => format!("{}:{}", gpu.index, device.index),
            (gpu, None) => gpu.index.to_string(),
        }
    }

    /// The indices of units in short: `0-3,6` for GPUs, `0:0-6 1:2` for MIG devices.
    pub(super) fn indices(&self, units: impl IntoIterator<Item = Unit>) -> String {
        let mut whole = Vec::new();
        let mut inside: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for unit in units {
            match self.of(unit) {
                (gpu, Some(device)) => inside.entry(gpu.index).or_default().push(device.index),
                (gpu, None) => whole.push(gpu.index),
            }
        }
        mixed_ranges(whole, inside)
    }
}

/// Asks this machine's driver, found where the config says.
fn this_machine(config: &Config) -> Result<Inventory, DriverError> {
    let host = HostRoot::new(&config.host_root);
    let root = host.join(&config.driver_root);
    let loader = NvmlLoader::builder()
        .driver_root(root)
        .host_root(host)
        .deadline(config.health.nvml_call_timeout)
        .build();
    loader.session()?.snapshot()
}

/// What NVML tells of a simulated node, in the order of its indices.
fn inventory(node: &node::Node) -> Result<Inventory> {
    let mut boards: Vec<(usize, &node::Gpu)> = node.gpus.iter().enumerate().collect();
    boards.sort_by_key(|(_, board)| board.pci);
    let gpus = (0..)
        .zip(&boards)
        .map(|(index, (_, board))| gpu(index, board, node));
    Ok(Inventory {
        driver: DriverVersions {
            driver: node.driver_version.clone(),
            nvml: String::new(),
            cuda: node.cuda_version,
        },
        gpus: gpus.collect::<Result<_>>()?,
        broken: Vec::new(),
        links: LinkMatrix::from_fn(boards.len(), |a, b| link(boards[a], boards[b])),
    })
}

fn gpu(index: u32, board: &node::Gpu, node: &node::Node) -> Result<Gpu> {
    let has_cpus = |numa: u32| {
        let cpus = node.numa_nodes.get(numa as usize);
        cpus.is_some_and(|cpus| cpus.cpus().next().is_some())
    };
    Ok(Gpu {
        index,
        minor: board.minor,
        uuid: board.uuid.to_string().parse()?,
        pci: PciBusId {
            domain: board.pci.domain,
            bus: board.pci.bus,
            device: board.pci.device,
            function: 0,
        },
        name: board.name.clone(),
        memory_mib: board.memory_mib,
        compute_capability: board.compute_capability,
        numa_node: Some(board.numa).filter(|numa| has_cpus(*numa)),
        device_id: 0,
        mig: mig(board, &node.driver_version)?,
    })
}

/// How NVML tells that a board is partitioned when it comes; none for one that cannot be.
fn mig(board: &node::Gpu, driver_version: &str) -> Result<Option<GpuMig>> {
    let Some(status) = MigStatus::initial(board, driver_version) else {
        return Ok(None);
    };
    let mut devices = Vec::new();
    for parent in &status.gpu_instances {
        for device in &parent.devices {
            devices.push(mig_device(board, parent, device)?);
        }
    }
    Ok(Some(GpuMig {
        mode: MigMode {
            current: status.enabled,
            pending: status.pending,
        },
        devices,
    }))
}

fn mig_device(
    board: &node::Gpu,
    parent: &GpuInstanceStatus,
    device: &MigDeviceStatus,
) -> Result<MigDevice> {
    let minor = |inside| mizzen_nvml_sim::mig::capability(board.minor, parent.id, inside);
    Ok(MigDevice {
        index: device.index,
        uuid: device.uuid.to_string().parse()?,
        gpu_instance: parent.id,
        compute_instance: device.compute_instance,
        profile: device.profile.parse()?,
        memory_mib: parent.memory_mib,
        multiprocessors: device.multiprocessors,
        // Nothing that is offered depends on them.
        engines: Engines::default(),
        placement: Some(Placement {
            start: parent.placement.start,
            size: parent.placement.size,
        }),
        capabilities: Capabilities {
            gpu_instance: minor(None),
            compute_instance: minor(Some(device.compute_instance)),
        },
    })
}

/// Links to an `NVSwitch` reach all GPUs that have some; the lower count of two ends holds, as for
/// real GPUs.
fn link((a_slot, a): (usize, &node::Gpu), (b_slot, b): (usize, &node::Gpu)) -> Link {
    let count = |board: &node::Gpu, wanted: &dyn Fn(&LinkPeer) -> bool| {
        board.links.iter().filter(|peer| wanted(peer)).count()
    };
    let direct = |from: &node::Gpu, to: usize| {
        count(
            from,
            &|peer| matches!(peer, LinkPeer::Gpu(slot) if usize::from(*slot) == to),
        )
    };
    let switched = |board| count(board, &|peer| matches!(peer, LinkPeer::Switch));
    let nvlinks = direct(a, b_slot).min(direct(b, a_slot)) + switched(a).min(switched(b));
    Link {
        pcie: match a.common_ancestor(b) {
            Ancestor::Switch => PcieRelation::SingleSwitch,
            Ancestor::Switches => PcieRelation::MultiSwitch,
            Ancestor::HostBridge => PcieRelation::HostBridge,
            Ancestor::NumaNode => PcieRelation::SameCpu,
            Ancestor::System => PcieRelation::CrossCpu,
        },
        nvlinks: u8::try_from(nvlinks).unwrap_or(u8::MAX),
    }
}
