//! The devices of one resource, and what can be asked of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::allocate::{
    Allocation, AllocationError, AllocationRequest, AllocationRules, AnnotationId, HostNodes,
};
use crate::config::Config;
use crate::device::DeviceId;
use crate::gpu::Gpu;
use crate::prefer::AlignedChooser;
use crate::resource::ResourceName;
use crate::topology::LinkMatrix;

/// The resources of a node and their devices.
///
/// `gpus` are all GPUs that are known, in order of their index, the lost and broken ones with
/// their last known description: they stay devices, reported unhealthy. `links` connects them by
/// position; what is not known of a lost GPU's links is [`Link::UNKNOWN`](crate::topology::Link).
pub fn pools(
    gpus: &[Gpu],
    links: &LinkMatrix,
    config: &Config,
) -> BTreeMap<ResourceName, DevicePool> {
    if gpus.is_empty() {
        return BTreeMap::new();
    }
    let pool = DevicePool::whole_gpus(ResourceName::gpu(), gpus, links, config);
    BTreeMap::from([(pool.resource.clone(), pool)])
}

/// One device offered to the kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// The position of its GPU among those that the pools were made of; the device is as healthy
    /// as this GPU.
    pub gpu: usize,
    /// The NUMA node to report, if any.
    pub numa_node: Option<u32>,
}

/// The devices of one resource.
#[derive(Debug, Clone)]
pub struct DevicePool {
    resource: ResourceName,
    /// In order of their GPUs' positions.
    devices: Vec<Device>,
    by_id: BTreeMap<DeviceId, usize>,
    gpus: Arc<[Gpu]>,
    chooser: AlignedChooser,
    rules: AllocationRules,
}

/// What the kubelet asks before it allocates: which of `available` go best together.
#[derive(Debug, Clone, Copy, Default)]
pub struct PreferRequest<'a> {
    /// Ids of the devices that could be had.
    pub available: &'a [String],
    /// Ids that must be among the answer.
    pub must_include: &'a [String],
    /// How many devices are wanted.
    pub size: usize,
}

impl DevicePool {
    fn whole_gpus(
        resource: ResourceName,
        gpus: &[Gpu],
        links: &LinkMatrix,
        config: &Config,
    ) -> Self {
        let devices: Vec<Device> = gpus
            .iter()
            .enumerate()
            .map(|(position, gpu)| Device {
                id: DeviceId::whole(&gpu.uuid),
                gpu: position,
                numa_node: gpu.numa_node,
            })
            .collect();
        let places = devices.iter().enumerate();
        Self {
            resource,
            by_id: places
                .map(|(place, device)| (device.id.clone(), place))
                .collect(),
            devices,
            gpus: gpus.into(),
            chooser: AlignedChooser::new(gpus, links),
            rules: AllocationRules::new(config),
        }
    }

    /// The resource whose devices these are.
    pub fn resource(&self) -> &ResourceName {
        &self.resource
    }

    /// The devices, in order of their GPUs.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The device with this id.
    pub fn device(&self, id: &str) -> Option<&Device> {
        self.by_id.get(id).map(|&place| &self.devices[place])
    }

    /// Whether the kubelet should ask [`prefer`](Self::prefer) before it allocates.
    pub fn has_preferences(&self) -> bool {
        self.devices.len() > 1
    }

    /// The devices that go best together, as [`AlignedChooser::choose`] says, in order of their
    /// GPUs.
    ///
    /// Never an error: an available id that the pool does not know is never chosen; a must-include
    /// that it does not know is answered all the same, before the others, and counts towards the
    /// size, since the container already holds it.
    pub fn prefer(&self, request: &PreferRequest<'_>) -> Vec<String> {
        let position = |id: &String| self.device(id).map(|device| device.gpu);
        let unknown: BTreeSet<&String> = request
            .must_include
            .iter()
            .filter(|id| position(id).is_none())
            .collect();
        let available: Vec<usize> = request.available.iter().filter_map(position).collect();
        let must_include: Vec<usize> = request.must_include.iter().filter_map(position).collect();
        let size = request.size.saturating_sub(unknown.len());
        let chosen = self.chooser.choose(&available, &must_include, size);
        let known = chosen
            .into_iter()
            .map(|gpu| self.devices[gpu].id.to_string());
        unknown.into_iter().cloned().chain(known).collect()
    }

    /// What a container gets with the devices it asks for, which are named in order of their
    /// GPUs whatever order the kubelet has them in.
    ///
    /// # Errors
    /// A device that the pool does not have, or a required IMEX channel that does not exist.
    pub fn allocate(
        &self,
        request: &AllocationRequest,
        nodes: &HostNodes,
        annotation: AnnotationId,
    ) -> Result<Allocation, AllocationError> {
        let mut positions = BTreeSet::new();
        for id in request.devices() {
            let device = self.device(id.as_str());
            let device = device.ok_or_else(|| AllocationError::UnknownDevice {
                resource: self.resource.clone(),
                id: id.clone(),
            })?;
            positions.insert(device.gpu);
        }
        let gpus: Vec<&Gpu> = positions.into_iter().map(|at| &self.gpus[at]).collect();
        self.rules.allocation(&gpus, nodes, annotation)
    }
}
