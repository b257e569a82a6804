//! Which container holds which devices, and what the plugin answered for them.

use std::collections::{BTreeMap, BTreeSet};

use mizzen_kubelet_api::deviceplugin::ContainerAllocateResponse;

use super::{Demand, Ids};

/// The devices of one resource that a container holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Holding {
    /// IDs by NUMA node; a device of several nodes is under each.
    pub(crate) by_numa: BTreeMap<i64, Vec<String>>,
    /// What the plugin wants the container to get.
    pub(crate) answer: ContainerAllocateResponse,
}

impl Holding {
    pub(crate) fn ids(&self) -> Ids {
        self.by_numa.values().flatten().cloned().collect()
    }
}

/// Holdings of one container by resource.
pub(crate) type ContainerHoldings = BTreeMap<String, Holding>;

/// Holdings by pod UID and container name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Holders {
    pods: BTreeMap<String, BTreeMap<String, ContainerHoldings>>,
}

impl Holders {
    pub(crate) fn insert(&mut self, demand: &Demand, holding: Holding) {
        self.put(
            &demand.pod_uid,
            &demand.container,
            &demand.resource,
            holding,
        );
    }

    pub(crate) fn put(&mut self, pod: &str, container: &str, resource: &str, holding: Holding) {
        self.pods
            .entry(pod.to_owned())
            .or_default()
            .entry(container.to_owned())
            .or_default()
            .insert(resource.to_owned(), holding);
    }

    /// What a container holds.
    pub(crate) fn container(&self, pod_uid: &str, container: &str) -> Option<&ContainerHoldings> {
        self.pods.get(pod_uid)?.get(container)
    }

    /// What a container holds of a resource.
    pub(crate) fn ids(&self, pod_uid: &str, container: &str, resource: &str) -> Option<Ids> {
        Some(self.container(pod_uid, container)?.get(resource)?.ids())
    }

    /// Drops all pods but these; tells whether there were others.
    pub(crate) fn retain(&mut self, active: &BTreeSet<&str>) -> bool {
        let before = self.pods.len();
        self.pods.retain(|uid, _| active.contains(uid.as_str()));
        self.pods.len() != before
    }

    /// All devices that are held, by resource.
    pub(crate) fn allocated(&self) -> BTreeMap<String, Ids> {
        let mut allocated: BTreeMap<String, Ids> = BTreeMap::new();
        for (_, _, resource, holding) in self.iter() {
            allocated
                .entry(resource.to_owned())
                .or_default()
                .extend(holding.ids());
        }
        allocated
    }

    /// The pod and container that hold each device of a resource; of several containers, the
    /// first.
    pub(crate) fn by_device(&self, resource: &str) -> BTreeMap<&str, (&str, &str)> {
        let mut holders = BTreeMap::new();
        for (pod, container, _, holding) in self.of(resource) {
            for id in holding.by_numa.values().flatten() {
                holders.entry(id.as_str()).or_insert((pod, container));
            }
        }
        holders
    }

    /// Everything that is held of a resource.
    pub(crate) fn of(&self, resource: &str) -> impl Iterator<Item = (&str, &str, &str, &Holding)> {
        self.iter().filter(move |(_, _, held, _)| *held == resource)
    }

    /// Pod UID, container, resource and holding, of all.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str, &str, &Holding)> {
        self.pods.iter().flat_map(|(pod, containers)| {
            containers.iter().flat_map(move |(container, holdings)| {
                holdings.iter().map(move |(resource, holding)| {
                    (pod.as_str(), container.as_str(), resource.as_str(), holding)
                })
            })
        })
    }
}
