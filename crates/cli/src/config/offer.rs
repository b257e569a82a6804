//! What a node offers to the kubelet with a config: the pools, put in the words of the config.
//!
//! The one place of this command that looks into the pools.

use std::collections::{BTreeMap, BTreeSet};

use mizzen_core::allocate::{AllocationRequest, AnnotationId, HostNodes};
use mizzen_core::config::{AllocationPolicy, Choice, Config, ReplicaPlacement};
use mizzen_core::gpu::Gpu;
use mizzen_core::health::DeviceHealth;
use mizzen_core::inventory::Inventory;
use mizzen_core::pool::{self, DevicePool, PreferRequest};
use mizzen_core::resource::ResourceName;

/// All resources of a node.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) resources: Vec<Resource>,
    /// GPUs that are in no resource, by position, with the reason.
    pub(super) left_out: BTreeMap<usize, String>,
    /// What of the config does not suit the node.
    pub(super) remarks: Vec<String>,
}

/// One resource.
#[derive(Debug)]
pub(super) struct Resource {
    pool: DevicePool,
    /// The GPUs behind it, by position.
    pub(super) gpus: BTreeMap<usize, Backing>,
    /// How its devices are shared; `None` where each is a whole GPU.
    pub(super) shared: Option<Shared>,
}

/// What one GPU gives to a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backing {
    /// The ids of its devices, in their order.
    pub(super) ids: Vec<String>,
    /// Whether they are replicas.
    pub(super) is_shared: bool,
}

/// How the devices of a resource are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) placement: ReplicaPlacement,
    pub(super) one_per_container: bool,
}

impl Offer {
    /// What the agent would offer.
    pub(super) fn new(inventory: &Inventory, config: &Config) -> Self {
        let offer = pool::offer(&inventory.gpus, &inventory.links, config);
        let left_out = offer.left_out.into_iter();
        Self {
            resources: offer.pools.into_values().map(Resource::new).collect(),
            left_out: left_out
                .map(|position| {
                    let gpu = &inventory.gpus[position];
                    (position, why_left_out(gpu, config))
                })
                .collect(),
            remarks: offer.remarks.iter().map(ToString::to_string).collect(),
        }
    }

    /// The resource of this name.
    pub(super) fn resource(&self, name: &ResourceName) -> Option<&Resource> {
        let mut resources = self.resources.iter();
        resources.find(|resource| resource.name() == name)
    }
}

impl Resource {
    fn new(pool: DevicePool) -> Self {
        let listed = pool.list(|_| DeviceHealth::Healthy);
        let positions = pool.shares().iter().map(|share| share.gpu);
        let backings = listed.iter().map(|listed| Backing {
            ids: listed.ids().collect(),
            is_shared: listed.replicas.is_some(),
        });
        let gpus: BTreeMap<usize, Backing> = positions.zip(backings).collect();
        let is_shared = gpus.values().any(|backing| backing.is_shared);
        let terms = pool.terms();
        Self {
            shared: is_shared.then_some(Shared {
                placement: terms.placement,
                one_per_container: terms.fail_requests_greater_than_one,
            }),
            gpus,
            pool,
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> &ResourceName {
        self.pool.resource()
    }

    /// How many devices it has.
    pub(super) fn count(&self) -> usize {
        self.pool.device_count()
    }

    /// Which of its devices go first.
    pub(super) fn policy(&self) -> AllocationPolicy {
        self.pool.terms().policy
    }

    /// The devices that a container gets that asks for `size`, as the kubelet is told when these
    /// are free.
    pub(super) fn prefer(&self, free: &[String], size: usize) -> Vec<String> {
        self.pool.prefer(&PreferRequest {
            available: free,
            must_include: &[],
            size,
        })
    }

    /// Why a container is refused that is to get these devices, on a node that has every device
    /// node that the config asks for.
    pub(super) fn refusal(&self, ids: &[String], config: &Config) -> Option<String> {
        let nodes = HostNodes {
            control: BTreeSet::new(),
            imex_channels: config.imex.channel_ids.iter().copied().collect(),
            unresolved: BTreeSet::new(),
        };
        let annotation = AnnotationId::from_random([0; 16]);
        let request = AllocationRequest::parse(ids.iter().map(String::as_str));
        let allocation =
            request.and_then(|request| self.pool.allocate(&request, &nodes, annotation));
        allocation.err().map(|error| error.to_string())
    }
}

fn why_left_out(gpu: &Gpu, config: &Config) -> String {
    let mut excluded = config.gpus.exclude.iter();
    match excluded.find(|selector| selector.picks(gpu)) {
        Some(selector) => format!("gpus.exclude names it ({selector})"),
        None => "gpus.include does not name it".to_owned(),
    }
}

/// The word that means a value.
pub(super) fn word<T: Choice + PartialEq>(value: T) -> &'static str {
    let found = T::WORDS.iter().find(|(_, known)| *known == value);
    found.map_or("", |(word, _)| word)
}
