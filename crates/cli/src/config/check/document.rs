//! What a node offers, for programs. `docs/config.md` describes it; names there are a promise.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::node::Node;
use crate::config::offer::{Offer, Resource, word};

/// A node and what it offers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeOffer {
    node: NodeFacts,
    /// By name.
    resources: BTreeMap<String, ResourceOffer>,
    gpus: Vec<GpuOffer>,
    /// What of the config does not suit the node.
    remarks: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeFacts {
    name: String,
    driver_version: String,
    cuda_version: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceOffer {
    count: usize,
    /// The indices of the GPUs behind it.
    gpus: Vec<u32>,
    policy: &'static str,
    /// Null where each device is a whole GPU.
    sharing: Option<Sharing>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sharing {
    by: &'static str,
    replica_placement: &'static str,
    one_per_container: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GpuOffer {
    index: u32,
    uuid: String,
    name: String,
    pci_bus_id: String,
    numa_node: Option<u32>,
    /// How many devices it gives to each resource.
    offered_as: BTreeMap<String, usize>,
    /// Why it is offered as nothing.
    left_out: Option<String>,
}

impl NodeOffer {
    pub(super) fn new(node: &Node, offer: &Offer) -> Self {
        let driver = &node.inventory.driver;
        let gpus = node.gpus().iter().enumerate();
        let resources = offer.resources.iter();
        Self {
            node: NodeFacts {
                name: node.name.clone(),
                driver_version: driver.driver.clone(),
                cuda_version: format!("{}.{}", driver.cuda.0, driver.cuda.1),
            },
            resources: resources
                .map(|resource| (resource.name().to_string(), of_resource(resource, node)))
                .collect(),
            gpus: gpus
                .map(|(position, gpu)| GpuOffer {
                    index: gpu.index,
                    uuid: gpu.uuid.to_string(),
                    name: gpu.name.clone(),
                    pci_bus_id: gpu.pci.to_string(),
                    numa_node: gpu.numa_node,
                    offered_as: offered_as(position, offer),
                    left_out: offer.left_out.get(&position).cloned(),
                })
                .collect(),
            remarks: offer.remarks.clone(),
        }
    }
}

fn of_resource(resource: &Resource, node: &Node) -> ResourceOffer {
    let positions = resource.gpus.keys();
    ResourceOffer {
        count: resource.count(),
        gpus: positions
            .map(|&position| node.gpus()[position].index)
            .collect(),
        policy: word(resource.policy()),
        sharing: resource.shared.map(|shared| Sharing {
            by: "time-slicing",
            replica_placement: word(shared.placement),
            one_per_container: shared.one_per_container,
        }),
    }
}

fn offered_as(position: usize, offer: &Offer) -> BTreeMap<String, usize> {
    let resources = offer.resources.iter();
    resources
        .filter_map(|resource| {
            let backing = resource.gpus.get(&position)?;
            Some((resource.name().to_string(), backing.ids.len()))
        })
        .collect()
}
