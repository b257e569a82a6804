//! Which devices a container gets.

use super::{DeviceManager, Ids, Known, NO_NUMA};
use crate::arbitrary::Arbitrary;
use crate::topology::NumaMask;

/// A container's demand for devices of one resource.
#[derive(Debug, Clone)]
pub(crate) struct Demand {
    pub(crate) pod_uid: String,
    pub(crate) container: String,
    pub(crate) resource: String,
    pub(crate) count: usize,
    /// NUMA nodes that the topology manager settled on; `None` when it has no say.
    pub(crate) affinity: Option<NumaMask>,
}

/// A choice that is not finished: the plugin may have a preference.
#[derive(Debug)]
pub(crate) struct Selection {
    /// What the plugin is to be asked, if it offers to be.
    pub(crate) question: Question,
    chosen: Ids,
    needed: usize,
    /// Where to take devices from, in this order, the plugin's choice first in each.
    candidates: Vec<Ids>,
    preferable: Ids,
}

/// The content of a `GetPreferredAllocation` call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) available: Ids,
    pub(crate) must_include: Ids,
    pub(crate) size: usize,
}

/// The outcome of the part of a choice that needs no plugin.
#[derive(Debug)]
pub(crate) enum Begun {
    /// Settled; empty when the container has its devices already.
    Settled(Ids),
    /// To be finished with the plugin's preference.
    Open(Selection),
}

impl DeviceManager {
    /// Begins to choose devices; `reusable` are those of the pod's finished init containers,
    /// which are taken first. Chosen devices count as taken at once.
    ///
    /// # Errors
    /// In the kubelet's words.
    pub(crate) fn begin_selection(
        &mut self,
        demand: &Demand,
        reusable: &Ids,
        arbitrary: &mut Arbitrary,
    ) -> Result<Begun, String> {
        if !self.needs_devices(demand)? {
            return Ok(Begun::Settled(Ids::new()));
        }
        let mut chosen = Ids::new();
        let mut needed = demand.count;
        let resource = &demand.resource;
        if self.take(resource, reusable, &mut chosen, &mut needed, arbitrary) {
            return Ok(Begun::Settled(chosen));
        }
        let available = self.free(resource);
        if available.len() < needed {
            return Err(format!(
                "requested number of devices unavailable for {resource}. \
                 Requested: {needed}, Available: {}",
                available.len()
            ));
        }
        let [aligned, unaligned, without_node] = self.by_affinity(demand, &available);
        if needed < aligned.len() {
            let question = Question::new(&aligned, &chosen, demand.count);
            let (preferable, candidates) = (aligned.clone(), vec![aligned]);
            return Ok(Begun::Open(Selection {
                question,
                chosen,
                needed,
                candidates,
                preferable,
            }));
        }
        if self.take(resource, &aligned, &mut chosen, &mut needed, arbitrary) {
            return Ok(Begun::Settled(chosen));
        }
        let question = Question::new(&available, &chosen, demand.count);
        let (preferable, candidates) = (available, vec![unaligned, without_node]);
        Ok(Begun::Open(Selection {
            question,
            chosen,
            needed,
            candidates,
            preferable,
        }))
    }

    /// Finishes a choice with the devices that the plugin prefers (none if it was not asked).
    ///
    /// # Errors
    /// When devices have vanished in the meantime.
    pub(crate) fn finish_selection(
        &mut self,
        demand: &Demand,
        selection: Selection,
        preferred: &Ids,
        arbitrary: &mut Arbitrary,
    ) -> Result<Ids, String> {
        let Selection {
            mut chosen,
            mut needed,
            candidates,
            preferable,
            ..
        } = selection;
        let preferred: Ids = preferred.intersection(&preferable).cloned().collect();
        for from in std::iter::once(preferred).chain(candidates) {
            if self.take(&demand.resource, &from, &mut chosen, &mut needed, arbitrary) {
                return Ok(chosen);
            }
        }
        Err(format!(
            "unexpectedly allocated less resources than required. Requested: {}, Got: {}",
            demand.count,
            demand.count - needed
        ))
    }

    /// Whether there is anything to do: not when the container holds its devices already.
    fn needs_devices(&self, demand: &Demand) -> Result<bool, String> {
        let Demand {
            pod_uid,
            container,
            resource,
            count,
            ..
        } = demand;
        let held = self.holders.ids(pod_uid, container, resource);
        if let Some(held) = held.as_ref().filter(|held| held.len() != *count) {
            return Err(format!(
                "pod {pod_uid:?} container {container:?} changed request for resource \
                 {resource:?} from {} to {count}",
                held.len()
            ));
        }
        let Some(healthy) = self.healthy.get(resource) else {
            return Err(format!("cannot allocate unregistered device {resource}"));
        };
        if healthy.is_empty() {
            return Err(format!(
                "no healthy devices present; cannot allocate unhealthy devices {resource}"
            ));
        }
        if held.as_ref().is_some_and(|held| !healthy.is_superset(held)) {
            return Err(format!(
                "previously allocated devices are no longer healthy; \
                 cannot allocate unhealthy devices {resource}"
            ));
        }
        Ok(held.is_none() && *count > 0)
    }

    /// Takes devices in arbitrary order until enough are chosen; tells whether they are.
    fn take(
        &mut self,
        resource: &str,
        from: &Ids,
        chosen: &mut Ids,
        needed: &mut usize,
        arbitrary: &mut Arbitrary,
    ) -> bool {
        let allocated = self.allocated.entry(resource.to_owned()).or_default();
        for id in arbitrary.order(from) {
            if *needed == 0 {
                break;
            }
            if chosen.insert(id.clone()) {
                allocated.insert(id);
                *needed -= 1;
            }
        }
        *needed == 0
    }

    /// Available devices on the NUMA nodes that were settled on, on other nodes, and on none.
    fn by_affinity(&self, demand: &Demand, available: &Ids) -> [Ids; 3] {
        let known = self.known.get(&demand.resource);
        let nodes = |id: &str| {
            known
                .and_then(|known| known.get(id))
                .map_or(&[][..], |known| &known.numa_nodes)
        };
        let has_topology = known.is_some_and(|known| known.values().any(Known::has_node));
        let mut sorted = [Ids::new(), Ids::new(), Ids::new()];
        let Some(affinity) = demand.affinity.filter(|_| has_topology) else {
            sorted[2].clone_from(available);
            return sorted;
        };
        for id in available {
            let place = match nodes(id) {
                [] | [NO_NUMA] => 2,
                nodes if nodes.iter().any(|node| affinity.contains(*node)) => 0,
                _ => 1,
            };
            sorted[place].insert(id.clone());
        }
        sorted
    }
}

impl Known {
    pub(crate) fn has_node(&self) -> bool {
        !self.numa_nodes.is_empty()
    }
}

impl Question {
    /// Devices that are chosen already are among the available ones, and must be included.
    fn new(available: &Ids, chosen: &Ids, size: usize) -> Self {
        Self {
            available: available.union(chosen).cloned().collect(),
            must_include: chosen.clone(),
            size,
        }
    }
}
