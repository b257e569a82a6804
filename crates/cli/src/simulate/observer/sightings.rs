//! The kubelet's devices, put together by GPU and MIG device.

use std::collections::{BTreeMap, BTreeSet};

use mizzen_kubelet_sim::{ContainerState, ContainerView, DeviceView, PodView, Snapshot};

use crate::simulate::picture::{Devices, Gpu, Health, in_words, unit_of};

/// What the kubelet knows of the devices of one GPU or MIG device.
#[derive(Debug, Default)]
pub(super) struct Sighting {
    /// By resource.
    resources: BTreeMap<String, InResource>,
    /// The containers that hold it though it is in no device list any more.
    unlisted: BTreeSet<String>,
}

/// The devices of one GPU or MIG device in one resource.
#[derive(Debug, Default)]
struct InResource {
    devices: Devices,
    healthy: bool,
}

/// What there is to see, by the UUIDs of GPUs and MIG devices.
#[derive(Debug)]
pub(super) struct Sightings(BTreeMap<String, Sighting>);

impl Sightings {
    pub(super) fn of(snapshot: &Snapshot, gpus: &[Gpu]) -> Self {
        let mut seen: BTreeMap<String, Sighting> = BTreeMap::new();
        for (resource, view) in &snapshot.resources {
            for (id, device) in &view.devices {
                if let Some(uuid) = uuid_of(gpus, id) {
                    match seen.get_mut(uuid) {
                        Some(unit) => unit.add(resource, device),
                        None => seen.entry(uuid.clone()).or_default().add(resource, device),
                    }
                }
            }
        }
        for (holder, id) in unlisted(snapshot) {
            if let Some(uuid) = uuid_of(gpus, id) {
                let unit = seen.entry(uuid.clone()).or_default();
                unit.unlisted.insert(holder);
            }
        }
        Self(seen)
    }

    /// What is seen of a GPU itself, or of a MIG device.
    pub(super) fn take(&mut self, uuid: &str) -> Sighting {
        self.0.remove(uuid).unwrap_or_default()
    }
}

fn uuid_of<'a>(gpus: &'a [Gpu], id: &str) -> Option<&'a String> {
    let (gpu, mig) = unit_of(gpus, id)?;
    Some(mig.map_or(&gpu.uuid, |mig| &mig.uuid))
}

/// The devices that containers hold and that are in the list of no plugin any more, with those who
/// hold them.
fn unlisted(snapshot: &Snapshot) -> impl Iterator<Item = (String, &String)> {
    let is_listed = |resource: &String, id: &String| {
        let view = snapshot.resources.get(resource);
        view.is_some_and(|view| view.devices.contains_key(id))
    };
    let pods = snapshot.pods.iter().filter(|pod| !pod.phase.is_terminal());
    let containers = pods.flat_map(|pod| pod.containers.iter().map(move |one| (pod, one)));
    let holding = containers.filter(|(_, container)| has_not_ended(container));
    holding.flat_map(move |(pod, container)| {
        let held = container.allocated_resources.iter();
        let ids = held.flat_map(|(resource, ids)| ids.keys().map(move |id| (resource, id)));
        ids.filter(move |(resource, id)| !is_listed(resource, id))
            .map(move |(_, id)| (name(pod, container), id))
    })
}

/// One that has ended may have left its devices to another one of its pod.
fn has_not_ended(container: &ContainerView) -> bool {
    !matches!(container.state, ContainerState::Terminated { .. })
}

/// `pod/container`.
fn name(pod: &PodView, container: &ContainerView) -> String {
    let pod = format!("{}/{}", pod.namespace, pod.name);
    format!("{}/{}", in_words(&pod), container.name)
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

    /// What is seen of a GPU together with what is seen of its MIG devices. What the kubelet
    /// remembers of the whole GPU, sick and held by nobody, counts only where there is nothing
    /// else.
    pub(super) fn with_parts(self, parts: Vec<Self>) -> Family {
        let counts = self.health() == Health::Healthy || self.is_held();
        let has_parts = parts.iter().any(|part| !part.resources.is_empty());
        let own = (counts || !has_parts).then_some(self);
        Family(own.into_iter().chain(parts).collect())
    }

    pub(super) fn is_held(&self) -> bool {
        let mut resources = self.resources.values();
        !self.unlisted.is_empty() || resources.any(|here| !here.devices.held_by.is_empty())
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
            .chain(&self.unlisted)
        {
            if !holders.contains(holder) {
                holders.push(holder.clone());
            }
        }
        holders
    }

    /// Its devices by resource, without those of a resource that is offered no more and that
    /// nobody holds.
    pub(super) fn offered_as(&self) -> BTreeMap<String, Devices> {
        let sick = self.health() == Health::Unhealthy;
        let resources = self.resources.iter();
        resources
            .filter(|(_, here)| sick || here.healthy || !here.devices.held_by.is_empty())
            .map(|(name, here)| (name.clone(), here.devices.clone()))
            .collect()
    }
}

/// A GPU and its MIG devices.
#[derive(Debug)]
pub(super) struct Family(Vec<Sighting>);

impl Family {
    /// Healthy if any of them is.
    pub(super) fn health(&self) -> Health {
        let seen: Vec<Health> = self.0.iter().map(Sighting::health).collect();
        let known = [Health::Healthy, Health::Unhealthy];
        let found = known.into_iter().find(|health| seen.contains(health));
        found.unwrap_or(Health::Unknown)
    }

    /// The containers that hold any of them, each once.
    pub(super) fn holders(&self) -> Vec<String> {
        let mut holders: Vec<String> = Vec::new();
        for holder in self.0.iter().flat_map(Sighting::holders) {
            if !holders.contains(&holder) {
                holders.push(holder);
            }
        }
        holders
    }

    /// The devices of all of them by resource.
    pub(super) fn offered_as(&self) -> BTreeMap<String, Devices> {
        let mut all: BTreeMap<String, Devices> = BTreeMap::new();
        for (resource, devices) in self.0.iter().flat_map(Sighting::offered_as) {
            let here = all.entry(resource).or_default();
            here.devices += devices.devices;
            for (holder, count) in devices.held_by {
                *here.held_by.entry(holder).or_default() += count;
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use mizzen_kubelet_sim::pod::ContainerKind;
    use mizzen_kubelet_sim::{DeviceHealth, Holder, ResourceView};

    use super::*;
    use crate::simulate::picture::sample;
    use crate::simulate::picture::sample::cut;

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
        let seen = Sightings::of(&snapshot(&[("nvidia.com/gpu.shared", shared)]), &gpus)
            .take(&gpus[1].uuid);
        assert_eq!(seen.health(), Health::Healthy);
        assert_eq!(seen.holders(), ["a/main", "b/main"]);
        let offered = seen.offered_as();
        let here = &offered["nvidia.com/gpu.shared"];
        assert_eq!((here.devices, here.held_by["a/main"]), (1000, 3));
    }

    #[test]
    fn who_holds_a_device_that_is_in_no_list_any_more_holds_it_until_its_container_ends() {
        let gpus = sample().gpus;
        let pod = |state: ContainerState| PodView {
            namespace: "default".into(),
            name: "a".into(),
            containers: vec![ContainerView {
                name: "main".into(),
                kind: ContainerKind::App,
                limits: BTreeMap::new(),
                state,
                restart_count: 0,
                given: None,
                allocated_resources: BTreeMap::from([(
                    "nvidia.com/gpu".to_owned(),
                    BTreeMap::from([(gpus[0].uuid.clone(), DeviceHealth::Healthy)]),
                )]),
            }],
            ..PodView::default()
        };
        let seen = |state: ContainerState| {
            let mut snapshot = snapshot(&[("nvidia.com/gpu", view(&gpus[1], 1, true, &[]))]);
            snapshot.pods = vec![pod(state)];
            Sightings::of(&snapshot, &gpus).take(&gpus[0].uuid)
        };
        let held = seen(ContainerState::Running);
        assert_eq!(
            (held.holders(), held.is_held()),
            (vec!["a/main".into()], true)
        );
        assert_eq!(held.health(), Health::Unknown);
        assert!(held.offered_as().is_empty());
        let family = held.with_parts(vec![Sighting::default()]);
        assert_eq!(family.holders(), ["a/main"]);
        let ended = ContainerState::Terminated { exit_code: 0 };
        assert!(!seen(ended).is_held());
    }

    #[test]
    fn a_resource_that_is_offered_no_more_makes_no_gpu_sick() {
        let gpus = sample().gpus;
        let seen = Sightings::of(
            &snapshot(&[
                ("nvidia.com/gpu", view(&gpus[0], 1, false, &[])),
                ("nvidia.com/gpu.shared", view(&gpus[0], 4, true, &[])),
            ]),
            &gpus,
        )
        .take(&gpus[0].uuid);
        assert_eq!(seen.health(), Health::Healthy);
        let names: Vec<String> = seen.offered_as().into_keys().collect();
        assert_eq!(names, ["nvidia.com/gpu.shared"]);
    }

    #[test]
    fn a_gpu_is_what_its_mig_devices_are_and_what_it_was_as_a_whole_is_forgotten() {
        let mut gpus = sample().gpus;
        cut(&mut gpus[0], &["3g.40gb", "1g.10gb", "1g.10gb"]);
        let uuids: Vec<String> = gpus[0]
            .mig_devices()
            .iter()
            .map(|device| device.uuid.clone())
            .collect();
        let of = |devices: &[(&str, bool, Option<&str>)]| ResourceView {
            devices: devices
                .iter()
                .map(|(uuid, healthy, pod)| {
                    let holder = pod.map(|pod| Holder {
                        pod: format!("default/{pod}"),
                        container: "main".into(),
                    });
                    let device = DeviceView {
                        healthy: *healthy,
                        holder,
                        ..DeviceView::default()
                    };
                    ((*uuid).to_owned(), device)
                })
                .collect(),
            ..ResourceView::default()
        };
        let snapshot = snapshot(&[
            ("nvidia.com/gpu", of(&[(&gpus[0].uuid, false, None)])),
            ("nvidia.com/mig-3g.40gb", of(&[(&uuids[0], false, None)])),
            (
                "nvidia.com/mig-1g.10gb",
                of(&[(&uuids[1], true, Some("a")), (&uuids[2], true, Some("b"))]),
            ),
        ]);
        let mut seen = Sightings::of(&snapshot, &gpus);
        let own = seen.take(&gpus[0].uuid);
        let parts: Vec<Sighting> = uuids.iter().map(|uuid| seen.take(uuid)).collect();
        assert_eq!(parts[0].health(), Health::Unhealthy);
        let family = own.with_parts(parts);
        assert_eq!(family.health(), Health::Healthy);
        assert_eq!(family.holders(), ["a/main", "b/main"]);
        let offered = family.offered_as();
        let counts = offered
            .iter()
            .map(|(name, here)| (name.as_str(), here.devices));
        let counts: Vec<(&str, u64)> = counts.collect();
        assert_eq!(
            counts,
            [("nvidia.com/mig-1g.10gb", 2), ("nvidia.com/mig-3g.40gb", 1)]
        );
    }
}
