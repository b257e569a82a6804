//! The topology manager, for devices: on which NUMA nodes a container's devices should lie.
//!
//! As in Kubernetes 1.36 with the container scope, the device manager being the only one with an
//! opinion (CPUs and memory are not pinned here).

use std::collections::BTreeMap;

use crate::devices::{DeviceManager, Known};

/// What the kubelet does about NUMA nodes (`topologyManagerPolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TopologyPolicy {
    /// Nothing; the kubelet's default.
    #[default]
    None,
    /// Prefers few nodes.
    BestEffort,
    /// Refuses pods that would need more nodes than an empty machine.
    Restricted,
    /// Refuses pods that do not fit on one node.
    SingleNumaNode,
}

/// A set of NUMA nodes, those below 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NumaMask(u64);

impl NumaMask {
    pub(crate) fn contains(self, node: i64) -> bool {
        u32::try_from(node).is_ok_and(|node| self.0 & bit(node) != 0)
    }

    fn size(self) -> u32 {
        self.0.count_ones()
    }
}

fn bit(node: u32) -> u64 {
    1_u64.checked_shl(node).unwrap_or(0)
}

/// A set of nodes that could serve a demand.
#[derive(Debug, Clone, Copy)]
struct Hint {
    mask: NumaMask,
    preferred: bool,
}

/// The kubelet's reason for refusing a pod under a strict policy.
pub(crate) const AFFINITY_ERROR: (&str, &str) = (
    "TopologyAffinityError",
    "Resources cannot be allocated with Topology locality",
);

impl TopologyPolicy {
    /// Where the devices of one container should lie: the narrowest set of nodes on which every
    /// demand can be met. `None` when there is nothing to say.
    ///
    /// # Errors
    /// [`AFFINITY_ERROR`] when the policy forbids what is possible.
    pub(crate) fn affinity(
        self,
        manager: &DeviceManager,
        demands: &[(String, usize)],
    ) -> Result<Option<NumaMask>, (&'static str, &'static str)> {
        if self == Self::None {
            return Ok(None);
        }
        let mut best: Option<Hint> = None;
        for (resource, count) in demands {
            let Some(hints) = hints(manager, resource, *count) else {
                continue;
            };
            let usable = hints
                .into_iter()
                .filter(|hint| self != Self::SingleNumaNode || hint.mask.size() == 1);
            // Preferred first, then the narrowest, then the lowest nodes.
            let choice = usable.min_by_key(|hint| (!hint.preferred, hint.mask.size(), hint.mask));
            best = match (best, choice) {
                (None, Some(choice)) => Some(choice),
                (Some(best), Some(choice)) => Some(merge(best, choice)),
                (_, None) if self == Self::BestEffort => best,
                (_, None) => return Err(AFFINITY_ERROR),
            };
        }
        match best {
            Some(hint) if !hint.preferred && self != Self::BestEffort => Err(AFFINITY_ERROR),
            hint => Ok(hint.map(|hint| hint.mask)),
        }
    }
}

fn merge(one: Hint, other: Hint) -> Hint {
    let common = NumaMask(one.mask.0 & other.mask.0);
    if common.0 == 0 {
        return Hint {
            preferred: false,
            ..one
        };
    }
    Hint {
        mask: common,
        preferred: one.preferred && other.preferred && one.mask == other.mask,
    }
}

/// The sets of nodes whose free devices suffice; nothing for a resource without topology.
fn hints(manager: &DeviceManager, resource: &str, count: usize) -> Option<Vec<Hint>> {
    let known = manager.known().get(resource)?;
    let nodes = nodes_of(known);
    if nodes.is_empty() {
        return None;
    }
    let free = manager.free(resource);
    let masks = (1_u64..1 << nodes.len()).map(|choice| {
        let chosen = nodes
            .iter()
            .enumerate()
            .filter(|(index, _)| choice & (1 << index) != 0);
        NumaMask(chosen.fold(0, |mask, (_, node)| mask | bit(*node)))
    });
    let within = |mask: NumaMask, known: &Known| known.numa_nodes.iter().any(|n| mask.contains(*n));
    // The least number of nodes that could do on an empty machine.
    let mut least = u32::MAX;
    let mut fitting = Vec::new();
    for mask in masks {
        if known.values().filter(|known| within(mask, known)).count() >= count {
            least = least.min(mask.size());
        }
        let free_here = free
            .iter()
            .filter_map(|id| known.get(id))
            .filter(|k| within(mask, k));
        if free_here.count() >= count {
            fitting.push(mask);
        }
    }
    let hint = |mask: NumaMask| Hint {
        mask,
        preferred: mask.size() == least,
    };
    Some(fitting.into_iter().map(hint).collect())
}

/// The nodes that devices lie on. Eight at most, as the kubelet allows.
fn nodes_of(known: &BTreeMap<String, Known>) -> Vec<u32> {
    let mut nodes: Vec<u32> = known
        .values()
        .flat_map(|known| &known.numa_nodes)
        .filter_map(|node| u32::try_from(*node).ok())
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.truncate(8);
    nodes
}
