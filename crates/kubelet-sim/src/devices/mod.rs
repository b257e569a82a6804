//! The device manager: which devices there are, who holds which, what can be given out.
//!
//! Plain state and decisions; talking to plugins and to the disk is done elsewhere. The rules are
//! those of Kubernetes 1.36, `pkg/kubelet/cm/devicemanager`, its oddities included: plugins have
//! to live with them.

mod checkpoint;
mod holders;
mod select;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mizzen_kubelet_api::Connection;
use mizzen_kubelet_api::deviceplugin::{
    ContainerAllocateResponse, Device, DevicePluginClient, DevicePluginOptions, HEALTHY,
};
use tokio::time::Instant;

pub(crate) use checkpoint::{CHECKPOINT_NAME, Checkpoint};
pub(crate) use holders::{Holders, Holding};
pub(crate) use select::{Begun, Demand, Question};

/// How long a resource whose plugin has gone keeps its capacity.
pub(crate) const STOP_GRACE: Duration = Duration::from_mins(5);

/// NUMA node under which devices without one are filed.
pub(crate) const NO_NUMA: i64 = -1;

/// IDs of devices.
pub(crate) type Ids = BTreeSet<String>;

/// A client of a plugin.
pub(crate) type PluginClient = DevicePluginClient<Connection>;

/// The plugin that speaks for a resource.
#[derive(Debug, Default)]
pub(crate) struct Endpoint {
    /// `None` after a restart, until a plugin registers.
    pub(crate) client: Option<PluginClient>,
    /// What the plugin wants to be asked.
    pub(crate) options: DevicePluginOptions,
    /// Since when nobody answers.
    pub(crate) stopped: Option<Instant>,
}

/// A device that a plugin reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) healthy: bool,
    pub(crate) numa_nodes: Vec<i64>,
}

impl From<&Device> for Known {
    fn from(device: &Device) -> Self {
        let nodes = device.topology.iter().flat_map(|topology| &topology.nodes);
        Self {
            healthy: device.health == HEALTHY,
            numa_nodes: nodes.map(|node| node.id).collect(),
        }
    }
}

/// A device whose health has changed while a pod holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthChange {
    pub(crate) device: String,
    pub(crate) healthy: bool,
    pub(crate) pod_uid: String,
    pub(crate) container: String,
}

/// What the node offers, by resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) capacity: BTreeMap<String, i64>,
    pub(crate) allocatable: BTreeMap<String, i64>,
    /// Resources that were given up just now.
    pub(crate) removed: Vec<String>,
}

/// The state of all devices of the node.
#[derive(Debug, Default)]
pub(crate) struct DeviceManager {
    endpoints: BTreeMap<String, Endpoint>,
    known: BTreeMap<String, BTreeMap<String, Known>>,
    healthy: BTreeMap<String, Ids>,
    unhealthy: BTreeMap<String, Ids>,
    allocated: BTreeMap<String, Ids>,
    holders: Holders,
}

impl DeviceManager {
    /// The state after a start: devices stay with the pods that held them, and the resources are
    /// known, empty, until their plugins register again.
    pub(crate) fn restored(checkpoint: Checkpoint, now: Instant) -> Self {
        let mut manager = Self {
            holders: checkpoint.holders,
            ..Self::default()
        };
        manager.allocated = manager.holders.allocated();
        for resource in checkpoint.registered.into_keys() {
            manager.healthy.insert(resource.clone(), Ids::new());
            manager.unhealthy.insert(resource.clone(), Ids::new());
            let endpoint = Endpoint {
                stopped: Some(now),
                ..Endpoint::default()
            };
            manager.endpoints.insert(resource, endpoint);
        }
        manager
    }

    /// What has to survive a restart.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            holders: self.holders.clone(),
            registered: self.healthy.clone(),
        }
    }

    /// A plugin has registered and answered: from now on it speaks for the resource.
    pub(crate) fn connected(&mut self, resource: &str, endpoint: Endpoint) {
        self.endpoints.insert(resource.to_owned(), endpoint);
    }

    /// The resource's plugin has gone: nothing of it can be given out.
    pub(crate) fn disconnected(&mut self, resource: &str, now: Instant) {
        let Some(endpoint) = self.endpoints.get_mut(resource) else {
            return;
        };
        endpoint.stopped = Some(now);
        endpoint.client = None;
        let healthy = self
            .healthy
            .insert(resource.to_owned(), Ids::new())
            .unwrap_or_default();
        self.unhealthy
            .entry(resource.to_owned())
            .or_default()
            .extend(healthy);
    }

    /// A list of devices has come: it replaces the one before, whichever plugin sent it.
    pub(crate) fn reported(&mut self, resource: &str, devices: &[Device]) -> Vec<HealthChange> {
        let before = self.known.remove(resource).unwrap_or_default();
        let now: BTreeMap<String, Known> = devices
            .iter()
            .map(|device| (device.id.clone(), Known::from(device)))
            .collect();
        let ids = |healthy: bool| -> Ids {
            let fitting = now.iter().filter(|(_, known)| known.healthy == healthy);
            fitting.map(|(id, _)| id.clone()).collect()
        };
        self.healthy.insert(resource.to_owned(), ids(true));
        self.unhealthy.insert(resource.to_owned(), ids(false));
        // A device that is new here may have been away for a while, and still be held.
        let news = now.iter().filter(|(id, known)| {
            before
                .get(*id)
                .is_none_or(|old| old.healthy != known.healthy)
        });
        let holders = self.holders.by_device(resource);
        let changes = news.filter_map(|(id, known)| {
            let (pod_uid, container) = holders.get(id.as_str())?;
            Some(HealthChange {
                device: id.clone(),
                healthy: known.healthy,
                pod_uid: (*pod_uid).to_owned(),
                container: (*container).to_owned(),
            })
        });
        let changes = changes.collect();
        self.known.insert(resource.to_owned(), now);
        changes
    }

    /// What the node offers now; forgets resources whose plugin is gone for longer than
    /// [`STOP_GRACE`].
    pub(crate) fn capacity(&mut self, now: Instant) -> Offer {
        let removed: Vec<String> = self
            .healthy
            .keys()
            .filter(|resource| {
                self.endpoints
                    .get(*resource)
                    .is_none_or(|e| e.is_given_up(now))
            })
            .cloned()
            .collect();
        for resource in &removed {
            self.endpoints.remove(resource);
            self.healthy.remove(resource);
            self.unhealthy.remove(resource);
        }
        let mut answer = Offer {
            removed,
            ..Offer::default()
        };
        for (resource, healthy) in &self.healthy {
            let unhealthy = self.unhealthy.get(resource).map_or(0, BTreeSet::len);
            answer
                .allocatable
                .insert(resource.clone(), count(healthy.len()));
            answer
                .capacity
                .insert(resource.clone(), count(healthy.len() + unhealthy));
        }
        answer
    }

    /// When [`Self::capacity`] will change without anything else happening.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        let stops = self
            .endpoints
            .values()
            .filter_map(|endpoint| endpoint.stopped);
        // One instant later, because the grace must have passed entirely.
        stops
            .min()
            .map(|stopped| stopped + STOP_GRACE + Duration::from_millis(1))
    }

    /// Whether a resource is a plugin's affair, now or for devices given out before.
    pub(crate) fn is_plugin_resource(&self, resource: &str) -> bool {
        self.healthy.contains_key(resource) || self.allocated.contains_key(resource)
    }

    /// The plugin that speaks for a resource.
    pub(crate) fn endpoint(&self, resource: &str) -> Option<&Endpoint> {
        self.endpoints.get(resource)
    }

    /// Frees what is held by pods that are not active any more.
    pub(crate) fn release_inactive(&mut self, active_pods: &BTreeSet<&str>) {
        if self.holders.retain(active_pods) {
            self.forget_failed_selections();
        }
    }

    /// After a failed allocation: devices that were chosen and never given are free again.
    pub(crate) fn forget_failed_selections(&mut self) {
        self.allocated = self.holders.allocated();
    }

    /// The healthy devices of a resource that nobody holds.
    pub(crate) fn free(&self, resource: &str) -> Ids {
        let healthy = self.healthy.get(resource).cloned().unwrap_or_default();
        match self.allocated.get(resource) {
            Some(allocated) => healthy.difference(allocated).cloned().collect(),
            None => healthy,
        }
    }

    /// Files devices under the container that has got them.
    pub(crate) fn hold(&mut self, demand: &Demand, ids: &Ids, answer: ContainerAllocateResponse) {
        let mut by_numa: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        let known = self.known.get(&demand.resource);
        for id in ids {
            let nodes = known
                .and_then(|known| known.get(id))
                .map(|known| &known.numa_nodes);
            match nodes {
                Some(nodes) if !nodes.is_empty() => {
                    for node in nodes {
                        by_numa.entry(*node).or_default().push(id.clone());
                    }
                }
                _ => by_numa.entry(NO_NUMA).or_default().push(id.clone()),
            }
        }
        self.holders.insert(demand, Holding { by_numa, answer });
    }

    /// Who holds what.
    pub(crate) fn holders(&self) -> &Holders {
        &self.holders
    }

    /// Every device of every resource that was ever reported.
    pub(crate) fn known(&self) -> &BTreeMap<String, BTreeMap<String, Known>> {
        &self.known
    }

    /// Whether a device can be used, as its pod's status says. One that is not reported any more
    /// counts as healthy.
    pub(crate) fn is_healthy(&self, resource: &str, id: &str) -> bool {
        self.known
            .get(resource)
            .and_then(|known| known.get(id))
            .is_none_or(|known| known.healthy)
    }

    /// The healthy devices of each resource: what `GetAllocatableResources` tells.
    pub(crate) fn healthy(&self) -> &BTreeMap<String, Ids> {
        &self.healthy
    }
}

impl Endpoint {
    fn is_given_up(&self, now: Instant) -> bool {
        self.stopped
            .is_some_and(|stopped| now.saturating_duration_since(stopped) > STOP_GRACE)
    }
}

fn count(devices: usize) -> i64 {
    i64::try_from(devices).unwrap_or(i64::MAX)
}
