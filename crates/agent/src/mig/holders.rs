//! Which pods hold what of a GPU.

use std::collections::{BTreeMap, BTreeSet};

use mizzen_core::device::device_of;
use mizzen_kubelet_api::podresources::PodResources;

use super::decide::Look;
use crate::cluster::PodName;

/// The pods that hold each device of the node, by the device's UUID.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Holdings(BTreeMap<String, BTreeSet<PodName>>);

impl Holdings {
    /// What the kubelet lists, whatever the resource is called.
    pub(super) fn of(pods: Vec<PodResources>) -> Self {
        let mut holdings: BTreeMap<String, BTreeSet<PodName>> = BTreeMap::new();
        for pod in pods {
            let name = PodName {
                namespace: pod.namespace,
                name: pod.name,
            };
            let devices = pod.containers.iter().flat_map(|one| &one.devices);
            for id in devices.flat_map(|device| &device.device_ids) {
                let holders = holdings.entry(device_of(id).to_owned()).or_default();
                holders.insert(name.clone());
            }
        }
        Self(holdings)
    }

    /// The pods that hold any of these devices.
    pub(super) fn of_any<'a>(
        &self,
        devices: impl IntoIterator<Item = &'a String>,
    ) -> BTreeSet<PodName> {
        let holders = devices.into_iter().filter_map(|device| self.0.get(device));
        holders.flatten().cloned().collect()
    }

    /// What of it is about these devices.
    pub(super) fn only(&self, devices: &BTreeSet<String>) -> Self {
        let each = self
            .0
            .iter()
            .filter(|(device, _)| devices.contains(*device));
        Self(each.map(|(id, pods)| (id.clone(), pods.clone())).collect())
    }

    /// Whether all of it is the same `now`, whatever else is held.
    pub(super) fn are_in(&self, now: &Self) -> bool {
        let still = |(device, pods): (&String, &BTreeSet<PodName>)| {
            let holders = now.0.get(device);
            holders.is_some_and(|now| pods.is_subset(now))
        };
        self.0.iter().all(still)
    }

    /// What of it concerns one GPU.
    pub(super) fn on(&self, gpu: &Look) -> Holders {
        let of = |uuid: &str| self.0.get(uuid).cloned().unwrap_or_default();
        let each = gpu.devices.iter().map(|device| {
            let place = (device.gpu_instance, device.compute_instance);
            (place, of(device.uuid.as_str()))
        });
        Holders {
            whole: of(gpu.uuid.as_str()),
            devices: each.filter(|(_, pods)| !pods.is_empty()).collect(),
            unnamed: gpu.unnamed().collect(),
            all: false,
        }
    }
}

/// The pods that hold a GPU or parts of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Holders {
    /// Those that hold all of it.
    whole: BTreeSet<PodName>,
    /// Those that hold a compute instance, by the ids of its GPU instance and its own.
    devices: BTreeMap<(u32, u32), BTreeSet<PodName>>,
    /// Compute instances that somebody may hold: the driver does not tell under which UUID.
    unnamed: BTreeSet<(u32, u32)>,
    /// Somebody may hold anything.
    all: bool,
}

impl Holders {
    /// Nobody knows who holds what.
    pub(super) fn unknown() -> Self {
        Self {
            all: true,
            ..Self::default()
        }
    }

    /// Whether it is known who holds which part.
    pub(super) fn tell_apart(&self) -> bool {
        !self.all
    }

    /// Whether the GPU is nobody's.
    pub(super) fn is_empty(&self) -> bool {
        !self.all && self.whole.is_empty() && self.devices.is_empty() && self.unnamed.is_empty()
    }

    /// The compute instances that must stay.
    pub(super) fn held(&self, gpu: &Look) -> BTreeSet<(u32, u32)> {
        if self.all || !self.whole.is_empty() {
            gpu.compute_instances().collect()
        } else {
            self.devices.keys().chain(&self.unnamed).copied().collect()
        }
    }

    /// Those of these compute instances that somebody unknown may hold.
    pub(super) fn unnamed_among(&self, instances: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let each = instances.iter().copied();
        each.filter(|one| self.unnamed.contains(one)).collect()
    }

    /// Whether any of these compute instances is somebody's.
    pub(super) fn hold_any(&self, instances: &[(u32, u32)]) -> bool {
        let each = || instances.iter();
        let whole = self.all || !self.whole.is_empty();
        each().any(|one| whole || self.devices.contains_key(one))
    }

    /// Every pod on the GPU.
    pub(super) fn pods(&self) -> BTreeSet<PodName> {
        let parts = self.devices.values().flatten();
        parts.chain(&self.whole).cloned().collect()
    }

    /// The pods that hold any of these compute instances.
    pub(super) fn pods_of(&self, instances: &[(u32, u32)]) -> BTreeSet<PodName> {
        let parts = instances.iter().filter_map(|one| self.devices.get(one));
        parts.flatten().chain(&self.whole).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use mizzen_kubelet_api::podresources::{ContainerDevices, ContainerResources};

    use super::*;

    fn pod(name: &str, ids: &[&str]) -> PodResources {
        let device = |id: &&str| ContainerDevices {
            resource_name: "nvidia.com/anything".to_owned(),
            device_ids: vec![(*id).to_owned()],
            topology: None,
        };
        PodResources {
            name: name.to_owned(),
            namespace: "ns".to_owned(),
            containers: vec![ContainerResources {
                name: "main".to_owned(),
                devices: ids.iter().map(device).collect(),
                ..Default::default()
            }],
        }
    }

    fn names(pods: &BTreeSet<PodName>) -> Vec<String> {
        pods.iter().map(PodName::to_string).collect()
    }

    #[test]
    fn replicas_are_held_as_their_device_is() {
        let holdings = Holdings::of(vec![
            pod("a", &["GPU-1::3", "MIG-2"]),
            pod("b", &["GPU-1::0"]),
        ]);
        let of = |device: &str| names(&holdings.of_any([&device.to_owned()]));
        assert_eq!(of("GPU-1"), ["ns/a", "ns/b"]);
        assert_eq!(of("MIG-2"), ["ns/a"]);
        assert_eq!(of("GPU-2"), [""; 0]);
    }
}
