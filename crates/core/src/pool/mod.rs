//! The devices of one resource, and what can be asked of them.

mod ids;
mod plan;
#[cfg(test)]
mod tests;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::allocate::{
    Allocation, AllocationError, AllocationRequest, AllocationRules, AnnotationId, HostNodes,
};
use crate::config::{AllocationPolicy, Config, ReplicaPlacement};
use crate::device::{DeviceId, DeviceUuid, ReplicaId};
use crate::gpu::Gpu;
use crate::health::DeviceHealth;
use crate::mig::MigDevice;
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

/// What one GPU, or one of its MIG devices, is in a pool: one device, or as many as it has
/// replicas.
///
/// Replicas are counted and not kept one by one: a node may have thousands of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The position of the GPU among those that the pools were made of; its devices are as
    /// healthy as it is.
    pub gpu: usize,
    /// The position among the GPU's MIG devices; `None` for the GPU itself.
    pub mig: Option<usize>,
    /// How many replicas it has; `None` where it is offered whole.
    pub replicas: Option<u32>,
}

impl Share {
    /// What is shared, with these GPUs.
    pub(crate) fn unit<'a>(&self, gpus: &'a [Gpu]) -> Unit<'a> {
        let gpu = &gpus[self.gpu];
        let devices = gpu.mig.as_ref().map_or(&[][..], |mig| &mig.devices);
        Unit {
            gpu,
            mig: self.mig.and_then(|at| devices.get(at)),
        }
    }

    fn uuid(&self, gpus: &[Gpu]) -> DeviceUuid {
        self.unit(gpus).uuid()
    }

    /// How many devices this is.
    pub fn devices(&self) -> usize {
        self.replicas.map_or(1, |replicas| replicas as usize)
    }
}

/// What is offered: a whole GPU, or one of its MIG devices.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit<'a> {
    pub(crate) gpu: &'a Gpu,
    pub(crate) mig: Option<&'a MigDevice>,
}

impl Unit<'_> {
    pub(crate) fn uuid(&self) -> DeviceUuid {
        match self.mig {
            Some(device) => DeviceUuid::from(&device.uuid),
            None => DeviceUuid::from(&self.gpu.uuid),
        }
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
    /// In order of their positions.
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

/// What the kubelet is told of the devices of one GPU or MIG device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The GPU or MIG device.
    pub uuid: DeviceUuid,
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

    /// The GPUs and MIG devices whose devices these are, in order of their positions.
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

    /// The GPU or MIG device whose device has this id.
    pub fn share_of(&self, id: &str) -> Option<&Share> {
        let place = self.finder.place(id)?;
        Some(&self.shares[place])
    }

    /// The position of the GPU whose device, or MIG device, has this id.
    pub fn gpu_of(&self, id: &str) -> Option<usize> {
        self.share_of(id).map(|share| share.gpu)
    }

    /// What the kubelet is told of all devices; `health` tells that of what is shared.
    pub fn list(&self, health: impl Fn(&Share) -> DeviceHealth) -> Vec<Listed> {
        let listed = |share: &Share| Listed {
            uuid: share.uuid(&self.gpus),
            replicas: share.replicas,
            numa_node: self.gpus[share.gpu].numa_node,
            health: health(share),
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
        let taken = self.taken(&stocks, wanted);
        let mut ids: Vec<String> = Vec::new();
        let (known, unknown): (Vec<&str>, Vec<&str>) =
            held.iter().partition(|id| self.finder.find(id).is_some());
        ids.extend(unknown.into_iter().map(str::to_owned));
        for (place, share) in self.shares.iter().enumerate() {
            let own = known
                .iter()
                .filter(|id| self.finder.place(id) == Some(place));
            ids.extend(own.map(|id| (*id).to_owned()));
            if taken[place] == 0 {
                continue;
            }
            let uuid = share.uuid(&self.gpus);
            let lowest = free.lowest(place, taken[place]);
            ids.extend(lowest.map(|part| match part {
                Part::Replica(number) => DeviceId::text_of_replica(&uuid, number),
                Part::Whole => uuid.to_string(),
            }));
        }
        ids
    }

    /// How many devices to take of each share.
    fn taken(&self, stocks: &[Stock], wanted: usize) -> Vec<usize> {
        let terms = Terms {
            policy: self.terms.policy,
            placement: self.terms.placement,
            chooser: Some(&self.chooser),
        };
        if self.shares.iter().all(|share| share.mig.is_none()) {
            return distribute(stocks, wanted, &terms);
        }
        // MIG devices are joined by nothing, so those policies only keep them together.
        let terms = Terms {
            policy: match terms.policy {
                AllocationPolicy::Aligned => AllocationPolicy::Packed,
                AllocationPolicy::Numa => AllocationPolicy::NumaPacked,
                policy => policy,
            },
            chooser: None,
            ..terms
        };
        if self.shares.iter().any(|share| share.replicas.is_some()) {
            return distribute(stocks, wanted, &terms);
        }
        let of_gpus = by_gpu(stocks);
        let mut left: BTreeMap<usize, usize> = of_gpus
            .iter()
            .map(|stock| stock.gpu)
            .zip(distribute(&of_gpus, wanted, &terms))
            .collect();
        let take = |stock: &Stock| {
            let left = left.entry(stock.gpu).or_default();
            let taken = stock.free.min(*left);
            *left -= taken;
            taken
        };
        stocks.iter().map(take).collect()
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
    /// positions whatever order the kubelet has them in.
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
        let units = counts
            .keys()
            .map(|place| self.shares[*place].unit(&self.gpus));
        let units: Vec<Unit<'_>> = units.collect();
        self.rules.allocation(&units, nodes, annotation)
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

/// The stocks of each GPU together, by position.
fn by_gpu(stocks: &[Stock]) -> Vec<Stock> {
    let mut of_gpus: BTreeMap<usize, Stock> = BTreeMap::new();
    for stock in stocks {
        let all = of_gpus.entry(stock.gpu).or_insert(Stock {
            gpu: stock.gpu,
            numa_node: stock.numa_node,
            ..Stock::default()
        });
        all.free += stock.free;
        all.given += stock.given;
        all.held += stock.held;
    }
    of_gpus.into_values().collect()
}
