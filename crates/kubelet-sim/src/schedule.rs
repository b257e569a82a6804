//! The scheduler of a cluster with this one node: does a pod fit, and if not, what does
//! `kubectl describe pod` say.
//!
//! The texts are those of Kubernetes 1.36 (`NodeResourcesFit`, `DynamicResources` and
//! `DefaultPreemption`, in the order in which the scheduler asks them).

use std::collections::BTreeMap;

use crate::pod::{ContainerKind, Pod};
use crate::quantity::Quantity;

/// Amounts by resource: milli-CPUs for `cpu`, whole units for everything else.
pub(crate) type Amounts = BTreeMap<String, i64>;

/// A resource of which the node has too little left for a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Insufficient {
    pub(crate) resource: String,
    pub(crate) requested: i64,
    pub(crate) used: i64,
    pub(crate) capacity: i64,
}

impl Insufficient {
    fn reason(&self) -> String {
        if self.resource == PODS {
            "Too many pods".to_owned()
        } else {
            format!("Insufficient {}", self.resource)
        }
    }

    /// Whether not even an empty node has enough.
    fn is_hopeless(&self) -> bool {
        self.resource != PODS && self.requested > self.capacity
    }
}

/// The resource that every pod takes one of.
pub(crate) const PODS: &str = "pods";

impl Pod {
    /// What the pod takes of a node: all its containers at once, or more if an init container
    /// needs more while the others do not run yet. Sidecars count from their start on.
    /// Milli-CPUs for `cpu`, whole units for everything else.
    pub fn requests(&self) -> BTreeMap<String, i64> {
        let mut running = Amounts::new();
        let mut most = Amounts::new();
        for (kind, container) in self.containers() {
            let resources = &container.resources;
            // Where only a limit was given, it is the request too.
            let own = resources
                .limits
                .iter()
                .filter(|(name, _)| !resources.requests.contains_key(*name));
            for (name, quantity) in own.chain(&resources.requests) {
                let beside = running.entry(name.clone()).or_default();
                let together = *beside + amount(name, quantity);
                if kind != ContainerKind::Init {
                    *beside = together;
                }
                let most = most.entry(name.clone()).or_default();
                *most = together.max(*most);
            }
        }
        most
    }
}

fn amount(name: &str, quantity: &Quantity) -> i64 {
    if name == "cpu" {
        quantity.milli_value()
    } else {
        quantity.value()
    }
}

/// What is missing for a pod of these requests; nothing if it fits.
pub(crate) fn shortages(
    requests: &Amounts,
    used: &Amounts,
    allocatable: &Amounts,
) -> Vec<Insufficient> {
    let of = |amounts: &Amounts, name: &str| amounts.get(name).copied().unwrap_or(0);
    let one_pod = (PODS.to_owned(), 1);
    std::iter::once((&one_pod.0, &one_pod.1))
        .chain(requests)
        .filter(|(_, requested)| **requested > 0)
        .map(|(name, requested)| Insufficient {
            resource: name.clone(),
            requested: *requested,
            used: of(used, name),
            capacity: of(allocatable, name),
        })
        .filter(|shortage| shortage.requested > shortage.capacity - shortage.used)
        .collect()
}

/// The scheduler's message about a pod that does not fit.
pub(crate) fn unschedulable_message(shortages: &[Insufficient]) -> String {
    let mut reasons: Vec<String> = shortages
        .iter()
        .map(|shortage| format!("1 {}", shortage.reason()))
        .collect();
    reasons.sort();
    // Pods here have equal priority: there is never a victim to preempt.
    let preemption = if shortages.iter().any(Insufficient::is_hopeless) {
        "Preemption is not helpful for scheduling"
    } else {
        "No preemption victims found for incoming pod"
    };
    format!(
        "0/1 nodes are available: {}. no new claims to deallocate, \
         preemption: 0/1 nodes are available: 1 {preemption}.",
        reasons.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::parse_manifest;

    fn amounts(list: &[(&str, i64)]) -> Amounts {
        list.iter()
            .map(|(name, amount)| ((*name).to_owned(), *amount))
            .collect()
    }

    fn message(requested: i64, used: i64, capacity: i64) -> String {
        let gpu = |count| amounts(&[("nvidia.com/gpu", count), (PODS, 110)]);
        let used = amounts(&[("nvidia.com/gpu", used)]);
        let requests = amounts(&[("nvidia.com/gpu", requested)]);
        unschedulable_message(&shortages(&requests, &used, &gpu(capacity)))
    }

    #[test]
    fn more_gpus_than_the_node_has_are_pending_and_preemption_would_not_help() {
        assert_eq!(
            message(9, 0, 8),
            "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate, \
             preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        );
    }

    #[test]
    fn gpus_in_use_are_pending_and_there_are_no_victims() {
        assert_eq!(
            message(2, 7, 8),
            "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate, \
             preemption: 0/1 nodes are available: \
             1 No preemption victims found for incoming pod."
        );
    }

    #[test]
    fn every_shortage_is_named_in_order() {
        let allocatable = amounts(&[("cpu", 1000), (PODS, 1)]);
        let used = amounts(&[(PODS, 1)]);
        let requests = amounts(&[("cpu", 1500), ("nvidia.com/gpu", 1)]);
        let message = unschedulable_message(&shortages(&requests, &used, &allocatable));
        assert!(
            message.starts_with(
                "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient nvidia.com/gpu, \
                 1 Too many pods. "
            ),
            "{message}"
        );
    }

    #[test]
    fn an_init_container_counts_only_where_it_needs_more_than_the_others_together() {
        let container = |name: &str, gpus: u8, more: &str| {
            format!(
                "{{name: {name}, image: i, resources: {{limits: {{nvidia.com/gpu: {gpus}}}}}{more}}}"
            )
        };
        let total = |init: &str, apps: &str| {
            let text = format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, \
                 spec: {{initContainers: [{init}], containers: [{apps}]}}}}"
            );
            parse_manifest(&text).unwrap()[0].requests()["nvidia.com/gpu"]
        };
        let apps = format!("{}, {}", container("a", 1, ""), container("b", 2, ""));
        assert_eq!(total(&container("i", 2, ""), &apps), 3);
        assert_eq!(total(&container("i", 4, ""), &apps), 4);
        let sidecar = container("s", 1, ", restartPolicy: Always");
        assert_eq!(
            total(&format!("{sidecar}, {}", container("i", 4, "")), &apps),
            5
        );
    }
}
