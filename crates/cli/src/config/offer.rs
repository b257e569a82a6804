//! What a node offers to the kubelet with a config: the pools, put in the words of the config.
//!
//! The one place of this command that looks into the pools.

use std::collections::{BTreeMap, BTreeSet};

use mizzen_core::allocate::{AllocationRequest, AnnotationId, HostNodes};
use mizzen_core::config::{AllocationPolicy, Choice, Config, ReplicaPlacement, SharedResource};
use mizzen_core::gpu::Gpu;
use mizzen_core::inventory::Inventory;
use mizzen_core::pool::{DevicePool, PreferRequest, pools};
use mizzen_core::resource::ResourceName;

/// All resources of a node.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) resources: Vec<Resource>,
    /// GPUs that are in no resource, by position, with the reason.
    pub(super) left_out: BTreeMap<usize, String>,
}

/// One resource.
#[derive(Debug)]
pub(super) struct Resource {
    pool: DevicePool,
    /// The GPUs behind it, by position.
    pub(super) gpus: BTreeMap<usize, Backing>,
    /// How its devices are shared; `None` where each is a whole GPU.
    pub(super) shared: Option<Shared>,
    /// Which of its devices go first.
    pub(super) policy: AllocationPolicy,
}

/// What one GPU gives to a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backing {
    /// The ids of its devices, in their order.
    pub(super) ids: Vec<String>,
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
        let pools = pools(&inventory.gpus, &inventory.links, config);
        let resources: Vec<_> = pools
            .into_values()
            .map(|pool| Resource::new(pool, config))
            .collect();
        let offered: BTreeSet<usize> = resources
            .iter()
            .flat_map(|resource| resource.gpus.keys().copied())
            .collect();
        let gpus = inventory.gpus.iter().enumerate();
        let left_out = gpus
            .filter(|(position, _)| !offered.contains(position))
            .map(|(position, gpu)| (position, why_left_out(gpu, config)));
        Self {
            left_out: left_out.collect(),
            resources,
        }
    }

    /// The resource of this name.
    pub(super) fn resource(&self, name: &ResourceName) -> Option<&Resource> {
        self.resources
            .iter()
            .find(|resource| resource.name() == name)
    }
}

impl Resource {
    fn new(pool: DevicePool, config: &Config) -> Self {
        let mut gpus: BTreeMap<usize, Backing> = BTreeMap::new();
        let mut is_shared = false;
        for device in pool.devices() {
            is_shared |= device.id.replica().is_some();
            let backing = gpus
                .entry(device.gpu)
                .or_insert(Backing { ids: Vec::new() });
            backing.ids.push(device.id.to_string());
        }
        let entry = is_shared
            .then(|| entry_of(pool.resource(), config))
            .flatten();
        Self {
            gpus,
            shared: entry.map(|entry| Shared {
                placement: entry.placement,
                one_per_container: entry.fail_requests_greater_than_one,
            }),
            policy: match entry {
                Some(entry) => entry
                    .policy
                    .unwrap_or(config.shared_devices_allocation_policy),
                None => config.gpu_allocation_policy,
            },
            pool,
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> &ResourceName {
        self.pool.resource()
    }

    /// How many devices it has.
    pub(super) fn count(&self) -> usize {
        self.pool.devices().len()
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
        let request = AllocationRequest::parse(ids.iter().map(String::as_str));
        let allocation = request.and_then(|request| {
            self.pool
                .allocate(&request, &nodes, AnnotationId::from_random([0; 16]))
        });
        allocation.err().map(|error| error.to_string())
    }
}

/// The first entry of the config by which devices are offered under this name.
fn entry_of<'a>(name: &ResourceName, config: &'a Config) -> Option<&'a SharedResource> {
    let mut entries = config.sharing.time_slicing.iter();
    entries.find(|entry| entry.shared_name == *name)
}

fn why_left_out(gpu: &Gpu, config: &Config) -> String {
    let filter = &config.gpus;
    if let Some(selector) = filter.exclude.iter().find(|selector| selector.picks(gpu)) {
        format!("gpus.exclude names it: {selector}")
    } else if filter.admits(gpu) {
        "no resource takes it".to_owned()
    } else {
        "gpus.include does not name it".to_owned()
    }
}

/// The word that means a value.
pub(super) fn word<T: Choice + PartialEq>(value: T) -> &'static str {
    let found = T::WORDS.iter().find(|(_, known)| *known == value);
    found.map_or("", |(word, _)| word)
}
