//! The devices of one resource, and what can be asked of them.

mod ids;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::allocate::{
    Allocation, AllocationError, AllocationRequest, AllocationRules, AnnotationId, HostNodes,
};
use crate::config::{AllocationPolicy, Config, ReplicaPlacement};
use crate::device::{DeviceId, ReplicaId};
use crate::gpu::{Gpu, GpuUuid};
use crate::health::DeviceHealth;
use crate::prefer::AlignedChooser;
use crate::prefer::shared::{Stock, Terms, distribute};
use crate::resource::ResourceName;
use crate::topology::LinkMatrix;
use ids::{Finder, Part};
pub use plan::{Offer, Remark, offer};

/// The resources of a node and their devices, see [`offer`].
pub fn pools(
    gpus: &[Gpu],
    links: &LinkMatrix,
    config: &Config,
) -> BTreeMap<ResourceName, DevicePool> {
    offer(gpus, links, config).pools
}

/// What one GPU is in a pool: one device, or as many as it has replicas.
///
/// Replicas are counted and not kept one by one: a node may have thousands of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The position of the GPU among those that the pools were made of; its devices are as
    /// healthy as it is.
    pub gpu: usize,
    /// How many replicas it has; `None` where it is offered whole.
    pub replicas: Option<u32>,
}

impl Share {
    /// How many devices this is.
    pub fn devices(&self) -> usize {
        self.replicas.map_or(1, |replicas| replicas as usize)
    }
}

/// What is decided for all devices of a pool alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolTerms {
    /// Which devices a container gets.
    pub policy: AllocationPolicy,
    /// Where the replicas of one container may lie.
    pub placement: ReplicaPlacement,
    /// Whether a container that asks for several replicas is refused.
    pub fail_requests_greater_than_one: bool,
}

/// The devices of one resource.
#[derive(Debug, Clone)]
pub struct DevicePool {
    resource: ResourceName,
    /// In order of their GPUs' positions.
    shares: Vec<Share>,
    finder: Finder,
    terms: PoolTerms,
    gpus: Arc<[Gpu]>,
    chooser: Arc<AlignedChooser>,
    rules: Arc<AllocationRules>,
}

/// What the kubelet asks before it allocates: which of `available` go best together.
#[derive(Debug, Clone, Copy, Default)]
pub struct PreferRequest<'a, Id = String> {
    /// Ids of the devices that could be had.
    pub available: &'a [Id],
    /// Ids that must be among the answer.
    pub must_include: &'a [String],
    /// How many devices are wanted.
    pub size: usize,
}

/// What the kubelet is told of the devices of one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The GPU.
    pub uuid: GpuUuid,
    /// How many replicas it has; `None` where it is offered whole.
    pub replicas: Option<u32>,
    /// The NUMA node to report, if any.
    pub numa_node: Option<u32>,
    /// The health of all of them.
    pub health: DeviceHealth,
}

impl Listed {
    /// How many devices there are.
    pub fn devices(&self) -> usize {
        self.replicas.map_or(1, |replicas| replicas as usize)
    }

    /// The ids of the devices, as text.
    pub fn ids(&self) -> impl Iterator<Item = String> {
        let whole = self.replicas.is_none().then(|| self.uuid.to_string());
        let replicas = (0..self.replicas.unwrap_or(0)).map(ReplicaId);
        let replicas = replicas.map(|replica| DeviceId::text_of_replica(&self.uuid, replica));
        whole.into_iter().chain(replicas)
    }
}

impl DevicePool {
    /// The resource whose devices these are.
    pub fn resource(&self) -> &ResourceName {
        &self.resource
    }

    /// The GPUs whose devices these are, in order of their positions.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// What holds for all of them.
    pub fn terms(&self) -> PoolTerms {
        self.terms
    }

    /// How many devices there are.
    pub fn device_count(&self) -> usize {
        self.shares.iter().map(Share::devices).sum()
    }

    /// The position of the GPU whose device has this id.
    pub fn gpu_of(&self, id: &str) -> Option<usize> {
        let (place, _) = self.finder.find(id)?;
        Some(self.shares[place].gpu)
    }

    /// What the kubelet is told of all devices; `health` tells that of a GPU by its position.
    pub fn list(&self, health: impl Fn(usize) -> DeviceHealth) -> Vec<Listed> {
        let listed = |share: &Share| {
            let gpu = &self.gpus[share.gpu];
            Listed {
                uuid: gpu.uuid.clone(),
                replicas: share.replicas,
                numa_node: gpu.numa_node,
                health: health(share.gpu),
            }
        };
        self.shares.iter().map(listed).collect()
    }

    /// The devices that go best together by the pool's policy, in order of their GPUs and
    /// replicas, after those that must be included.
    ///
    /// Never an error: an available id that the pool does not know is never chosen; a must-include
    /// that it does not know is answered all the same and counts towards the size, since the
    /// container already holds it.
    pub fn prefer<Id: AsRef<str>>(&self, request: &PreferRequest<'_, Id>) -> Vec<String> {
        let held: BTreeSet<&str> = request.must_include.iter().map(String::as_str).collect();
        let free = self.finder.free(request.available, &held);
        let mut stocks = self.stocks(&free);
        for (place, _) in held.iter().filter_map(|id| self.finder.find(id)) {
            stocks[place].held += 1;
        }
        let wanted = request.size.saturating_sub(held.len());
        let terms = Terms {
            policy: self.terms.policy,
            placement: self.terms.placement,
            chooser: &self.chooser,
        };
        let taken = distribute(&stocks, wanted, &terms);
        let mut ids: Vec<String> = Vec::new();
        let (known, unknown): (Vec<&str>, Vec<&str>) =
            held.iter().partition(|id| self.finder.find(id).is_some());
        ids.extend(unknown.into_iter().map(str::to_owned));
        for (place, share) in self.shares.iter().enumerate() {
            let uuid = &self.gpus[share.gpu].uuid;
            let own = known
                .iter()
                .filter(|id| self.finder.place(id) == Some(place));
            ids.extend(own.map(|id| (*id).to_owned()));
            let lowest = free.lowest(place, taken[place]);
            ids.extend(lowest.map(|part| match part {
                Part::Replica(number) => DeviceId::text_of_replica(uuid, number),
                Part::Whole => uuid.to_string(),
            }));
        }
        ids
    }

    fn stocks(&self, free: &ids::Free) -> Vec<Stock> {
        let stock = |(place, share): (usize, &Share)| {
            let free = free.count(place);
            Stock {
                gpu: share.gpu,
                numa_node: self.gpus[share.gpu].numa_node,
                free,
                given: share.devices() - free,
                held: 0,
            }
        };
        self.shares.iter().enumerate().map(stock).collect()
    }

    /// What a container gets with the devices it asks for, which are named in order of their
    /// GPUs whatever order the kubelet has them in.
    ///
    /// # Errors
    /// A device that the pool does not have, more replicas or others than the config lets one
    /// container have, or a required IMEX channel that does not exist.
    pub fn allocate(
        &self,
        request: &AllocationRequest,
        nodes: &HostNodes,
        annotation: AnnotationId,
    ) -> Result<Allocation, AllocationError> {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        let mut replicas = 0;
        for id in request.devices() {
            let found = self.finder.find(id.as_str());
            let (place, part) = found.ok_or_else(|| AllocationError::UnknownDevice {
                resource: self.resource.clone(),
                id: id.clone(),
            })?;
            *counts.entry(place).or_default() += 1;
            replicas += usize::from(part != Part::Whole);
        }
        self.permit(&counts, replicas)?;
        let gpus = counts
            .keys()
            .map(|place| &self.gpus[self.shares[*place].gpu]);
        let gpus: Vec<&Gpu> = gpus.collect();
        self.rules.allocation(&gpus, nodes, annotation)
    }

    /// Whether one container may have so many replicas of these shares.
    fn permit(
        &self,
        counts: &BTreeMap<usize, usize>,
        replicas: usize,
    ) -> Result<(), AllocationError> {
        let asked: usize = counts.values().sum();
        if self.terms.fail_requests_greater_than_one && replicas > 0 && asked > 1 {
            return Err(AllocationError::TooManyReplicas {
                resource: self.resource.clone(),
                asked,
            });
        }
        let broken = match self.terms.placement {
            ReplicaPlacement::Any => None,
            ReplicaPlacement::DistinctGpus => counts
                .values()
                .any(|count| *count > 1)
                .then_some("each on a GPU of its own"),
            ReplicaPlacement::OneGpu => (counts.len() > 1).then_some("all on one GPU"),
        };
        match broken {
            Some(wanted) => Err(AllocationError::Misplaced {
                resource: self.resource.clone(),
                asked,
                gpus: counts.len(),
                wanted,
            }),
            None => Ok(()),
        }
    }
}
