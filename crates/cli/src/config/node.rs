//! The node that a config is tried on: this machine's GPUs, or simulated ones.

use anyhow::{Context as _, Result, anyhow};
use mizzen_core::config::Config;
use mizzen_core::driver::{DriverError, GpuDriver as _};
use mizzen_core::gpu::{Gpu, PciBusId};
use mizzen_core::inventory::{DriverVersions, Inventory};
use mizzen_core::topology::{Link, LinkMatrix, PcieRelation};
use mizzen_nvml::{HostRoot, NvmlLoader};
use mizzen_nvml_sim::node::{self, Ancestor, LinkPeer};
use mizzen_nvml_sim::scenario::Scenario;

use super::args::NodeArgs;

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
        mig: None,
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
