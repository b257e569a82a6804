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
    /// The GPUs and MIG devices behind it.
    pub(super) units: BTreeMap<Unit, Backing>,
    /// How its devices are shared; `None` where each is a GPU or MIG device of its own.
    pub(super) shared: Option<Shared>,
}

/// A GPU, or one of its MIG devices, by their positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unit {
    pub(super) gpu: usize,
    pub(super) mig: Option<usize>,
}

/// What one GPU or MIG device gives to a resource.
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

    /// What a unit is offered as: how many devices of which resource; a GPU with those of its MIG
    /// devices.
    pub(super) fn of_unit(&self, unit: Unit) -> BTreeMap<String, usize> {
        let resources = self.resources.iter();
        let counts = resources.map(|resource| {
            let name = resource.name().to_string();
            (name, resource.ids_of(unit).count())
        });
        counts.filter(|(_, count)| *count > 0).collect()
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
        let units = pool.shares().iter().map(|share| Unit {
            gpu: share.gpu,
            mig: share.mig,
        });
        let backings = listed.iter().map(|listed| Backing {
            ids: listed.ids().collect(),
            is_shared: listed.replicas.is_some(),
        });
        let units: BTreeMap<Unit, Backing> = units.zip(backings).collect();
        let is_shared = units.values().any(|backing| backing.is_shared);
        let terms = pool.terms();
        Self {
            shared: is_shared.then_some(Shared {
                placement: terms.placement,
                one_per_container: terms.fail_requests_greater_than_one,
            }),
            units,
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

    /// Which of its devices go first, as the config says it.
    pub(super) fn policy(&self) -> AllocationPolicy {
        self.pool.terms().policy
    }

    /// Whether there are MIG devices behind it.
    pub(super) fn has_mig_devices(&self) -> bool {
        self.units.keys().any(|unit| unit.mig.is_some())
    }

    /// The positions of the GPUs behind it, each once.
    pub(super) fn gpus(&self) -> BTreeSet<usize> {
        self.units.keys().map(|unit| unit.gpu).collect()
    }

    /// The ids of the devices that a unit gives to it; of a GPU, with those of its MIG devices.
    pub(super) fn ids_of(&self, unit: Unit) -> impl Iterator<Item = &String> {
        let part = move |other: &Unit| match unit.mig {
            Some(_) => *other == unit,
            None => other.gpu == unit.gpu,
        };
        let units = self.units.iter().filter(move |(other, _)| part(other));
        units.flat_map(|(_, backing)| &backing.ids)
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
