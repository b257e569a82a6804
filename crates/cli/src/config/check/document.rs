//! What a node offers, for programs. `docs/config.md` describes it; names there are a promise.

use std::collections::BTreeMap;

use mizzen_core::gpu::Gpu;
use mizzen_core::mig::GpuMig;
use serde::Serialize;

use crate::config::node::Node;
use crate::config::offer::{Offer, Resource, Unit, word};

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
    /// The MIG devices behind it, as `<index of the GPU>:<index on it>`.
    mig_devices: Vec<String>,
    policy: &'static str,
    /// Null where each device is a GPU or MIG device of its own.
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
    /// How many devices it gives to each resource, with its MIG devices.
    offered_as: BTreeMap<String, usize>,
    /// Why it is offered as nothing.
    left_out: Option<String>,
    /// How it is partitioned; null where it cannot be.
    mig: Option<Mig>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Mig {
    enabled: bool,
    devices: Vec<MigDevice>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MigDevice {
    /// `<index of the GPU>:<index on it>`.
    index: String,
    uuid: String,
    profile: String,
    #[serde(rename = "memoryMiB")]
    memory_mib: u64,
    gpu_instance: u32,
    compute_instance: u32,
    /// How many devices it gives to each resource.
    offered_as: BTreeMap<String, usize>,
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
                .map(|(position, gpu)| of_gpu(position, gpu, offer))
                .collect(),
            remarks: offer.remarks.clone(),
        }
    }
}

fn of_resource(resource: &Resource, node: &Node) -> ResourceOffer {
    let devices = resource.units.keys().filter(|unit| unit.mig.is_some());
    ResourceOffer {
        count: resource.count(),
        gpus: resource
            .gpus()
            .into_iter()
            .map(|position| node.gpus()[position].index)
            .collect(),
        mig_devices: devices.map(|unit| node.index(*unit)).collect(),
        policy: word(resource.policy()),
        sharing: resource.shared.map(|shared| Sharing {
            by: "time-slicing",
            replica_placement: word(shared.placement),
            one_per_container: shared.one_per_container,
        }),
    }
}

fn of_gpu(position: usize, gpu: &Gpu, offer: &Offer) -> GpuOffer {
    let unit = |mig| Unit { gpu: position, mig };
    let devices = |mig: &GpuMig| {
        let devices = mig.devices.iter().enumerate();
        let of_device = |(at, device): (usize, &mizzen_core::mig::MigDevice)| MigDevice {
            index: format!("{}:{}", gpu.index, device.index),
            uuid: device.uuid.to_string(),
            profile: device.profile.to_string(),
            memory_mib: device.memory_mib,
            gpu_instance: device.gpu_instance,
            compute_instance: device.compute_instance,
            offered_as: offer.of_unit(unit(Some(at))),
        };
        devices.map(of_device).collect()
    };
    GpuOffer {
        index: gpu.index,
        uuid: gpu.uuid.to_string(),
        name: gpu.name.clone(),
        pci_bus_id: gpu.pci.to_string(),
        numa_node: gpu.numa_node,
        offered_as: offer.of_unit(unit(None)),
        left_out: offer.left_out.get(&position).cloned(),
        mig: gpu.mig.as_ref().map(|mig| Mig {
            enabled: mig.mode.current,
            devices: devices(mig),
        }),
    }
}
