//! The kubelet's devices, put together by GPU.

use std::collections::BTreeMap;

use mizzen_kubelet_sim::{DeviceView, Snapshot};

use crate::simulate::picture::{Devices, Gpu, Health, gpu_of, in_words};

/// What the kubelet knows of the devices of one GPU.
#[derive(Debug, Default)]
pub(super) struct Sighting {
    /// By resource.
    resources: BTreeMap<String, InResource>,
}

/// The devices of one GPU in one resource.
#[derive(Debug, Default)]
struct InResource {
    devices: Devices,
    healthy: bool,
}

/// What there is to see, by the GPUs' indices.
pub(super) fn of(snapshot: &Snapshot, gpus: &[Gpu]) -> BTreeMap<u32, Sighting> {
    let mut seen: BTreeMap<u32, Sighting> = BTreeMap::new();
    for (resource, view) in &snapshot.resources {
        for (id, device) in &view.devices {
            if let Some(gpu) = gpu_of(gpus, id) {
                seen.entry(gpu.index).or_default().add(resource, device);
            }
        }
    }
    seen
}

impl Sighting {
    fn add(&mut self, resource: &str, device: &DeviceView) {
        if !self.resources.contains_key(resource) {
            let empty = InResource::default();
            self.resources.insert(resource.to_owned(), empty);
        }
        let Some(here) = self.resources.get_mut(resource) else {
            return;
        };
        here.devices.devices += 1;
        here.healthy |= device.healthy;
        if let Some(by) = &device.holder {
            let holder = format!("{}/{}", in_words(&by.pod), by.container);
            *here.devices.held_by.entry(holder).or_default() += 1;
        }
    }

    /// Healthy if any of its devices is: all devices of a GPU that are offered are equally well,
    /// but the kubelet remembers those of a resource that is offered no more, as sick ones.
    pub(super) fn health(&self) -> Health {
        if self.resources.is_empty() {
            Health::Unknown
        } else if self.resources.values().any(|here| here.healthy) {
            Health::Healthy
        } else {
            Health::Unhealthy
        }
    }

    /// The containers that hold it, each once.
    pub(super) fn holders(&self) -> Vec<String> {
        let mut holders: Vec<String> = Vec::new();
        for holder in self
            .resources
            .values()
            .flat_map(|here| here.devices.held_by.keys())
        {
            if !holders.contains(holder) {
                holders.push(holder.clone());
            }
        }
        holders
    }

    /// Its devices by resource, without those of a resource that is offered no more and that
    /// nobody holds.
    pub(super) fn offered_as(self) -> BTreeMap<String, Devices> {
        let sick = self.health() == Health::Unhealthy;
        let resources = self.resources.into_iter();
        resources
            .filter(|(_, here)| sick || here.healthy || !here.devices.held_by.is_empty())
            .map(|(name, here)| (name, here.devices))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use mizzen_kubelet_sim::{Holder, ResourceView};

    use super::*;
    use crate::simulate::picture::sample;

    fn view(gpu: &Gpu, replicas: usize, healthy: bool, held: &[&str]) -> ResourceView {
        let devices = (0..replicas).map(|replica| {
            let holder = held.get(replica).map(|pod| Holder {
                pod: format!("default/{pod}"),
                container: "main".into(),
            });
            let device = DeviceView {
                healthy,
                holder,
                ..DeviceView::default()
            };
            (format!("{}::{replica}", gpu.uuid), device)
        });
        ResourceView {
            devices: devices.collect(),
            ..ResourceView::default()
        }
    }

    fn snapshot(resources: &[(&str, ResourceView)]) -> Snapshot {
        let resources = resources.iter().cloned();
        Snapshot {
            resources: resources
                .map(|(name, view)| (name.to_owned(), view))
                .collect(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn replicas_are_counted_by_container() {
        let gpus = sample().gpus;
        let shared = view(&gpus[1], 1000, true, &["a", "b", "a", "a"]);
        let seen = of(&snapshot(&[("nvidia.com/gpu.shared", shared)]), &gpus)
            .remove(&1)
            .unwrap();
        assert_eq!(seen.health(), Health::Healthy);
        assert_eq!(seen.holders(), ["a/main", "b/main"]);
        let offered = seen.offered_as();
        let here = &offered["nvidia.com/gpu.shared"];
        assert_eq!((here.devices, here.held_by["a/main"]), (1000, 3));
    }

    #[test]
    fn a_resource_that_is_offered_no_more_makes_no_gpu_sick() {
        let gpus = sample().gpus;
        let seen = of(
            &snapshot(&[
                ("nvidia.com/gpu", view(&gpus[0], 1, false, &[])),
                ("nvidia.com/gpu.shared", view(&gpus[0], 4, true, &[])),
            ]),
            &gpus,
        )
        .remove(&0)
        .unwrap();
        assert_eq!(seen.health(), Health::Healthy);
        let names: Vec<String> = seen.offered_as().into_keys().collect();
        assert_eq!(names, ["nvidia.com/gpu.shared"]);
    }
}
