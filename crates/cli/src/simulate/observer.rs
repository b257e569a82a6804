//! Puts the picture together from what the kubelet, the simulated driver and the agent show.

use std::collections::BTreeMap;
use std::time::Duration;

use mizzen_kubelet_sim::pod::{ContainerKind, RestartPolicy};
use mizzen_kubelet_sim::{ContainerView, Event, Given, Happening, PodView, Snapshot};

use super::agent_process::Figures;
use super::health_story::HealthStory;
use super::narrator::{Told, tell};
use super::partition_story;
use super::picture::{
    Container, DeviceNode, Gpu, MigDevice, Mount, Phase, Picture, Pod, ResourceCount, unit_of,
};
use super::pods::Submitted;
use super::script::Action;
use super::timeline::{Entry, Source, Tone};

mod sightings;

use sightings::{Sighting, Sightings};

/// Devices by resource.
type Devices = BTreeMap<String, Vec<String>>;

/// Everything seen so far.
#[derive(Debug)]
pub(crate) struct Observer {
    picture: Picture,
    /// What each container got, by pod and container: kept when the kubelet has freed it.
    allocated: BTreeMap<(String, String), Devices>,
    /// Who has ever held each GPU and MIG device, by UUID.
    holders: BTreeMap<String, Vec<String>>,
    /// The most devices that the node ever had, by resource.
    most: BTreeMap<String, u64>,
    /// What has been told of the GPUs' health.
    story: HealthStory,
    /// What has been told of the health of each GPU or MIG device that a pod holds, by pod and
    /// UUID.
    health_told: BTreeMap<(String, String), Tone>,
}

impl Observer {
    /// Starts with a node, its GPUs as they are, and pods that nobody has created yet.
    pub(crate) fn new(picture: Picture) -> Self {
        Self {
            picture,
            allocated: BTreeMap::new(),
            holders: BTreeMap::new(),
            most: BTreeMap::new(),
            story: HealthStory::default(),
            health_told: BTreeMap::new(),
        }
    }

    /// The picture at this moment.
    pub(crate) fn picture(&mut self, now: Duration) -> &mut Picture {
        self.picture.elapsed = now;
        &mut self.picture
    }

    /// Adds an entry to the timeline.
    pub(crate) fn say(
        &mut self,
        at: Duration,
        source: Source,
        tone: Tone,
        message: impl Into<String>,
    ) {
        self.picture.timeline.push(Entry {
            at,
            source,
            tone,
            message: message.into(),
        });
    }

    /// The agent has been started, for the first time or again.
    pub(crate) fn agent_started(&mut self, at: Duration, pid: i32) {
        self.picture.agent.pid = pid;
        self.say(
            at,
            Source::Agent,
            Tone::Neutral,
            format!("started, process {pid}"),
        );
    }

    /// The agent's first device list has reached the kubelet.
    pub(crate) fn agent_ready(&mut self, at: Duration, took: Duration) {
        self.picture.agent.ready = Some(took);
        let message = format!(
            "first device list {} after its start",
            crate::duration::short(took)
        );
        self.say(at, Source::Agent, Tone::Good, message);
    }

    /// What the agent's process takes now.
    pub(crate) fn agent_figures(&mut self, figures: Figures) {
        self.picture.agent.figures = figures;
    }

    /// The script does something to GPUs: a change of their health follows from it.
    pub(crate) fn caused(&mut self, at: Duration, action: &Action) {
        self.story.caused(at, action, &self.picture.gpus);
    }

    /// Something happened in the kubelet, which is now in this state.
    pub(crate) fn event(&mut self, event: &Event, snapshot: &Snapshot) {
        match &event.what {
            Happening::DevicesReported { resource, .. } => {
                self.see_resources(snapshot);
                self.see_gpus(snapshot);
                let count = self
                    .picture
                    .node
                    .resources
                    .get(resource)
                    .copied()
                    .unwrap_or_default();
                for told in
                    self.story
                        .devices_reported(event.at, resource, count, &self.picture.gpus)
                {
                    self.tell(event.at, told);
                }
                return;
            }
            Happening::PluginGone { resource } => self.story.plugin_gone(resource),
            Happening::KubeletStopped => self.story.kubelet_stopped(),
            Happening::DevicesAllocated {
                pod,
                container,
                resource,
                devices,
            } => {
                let key = (pod.clone(), container.clone());
                let holding = self.allocated.entry(key).or_default();
                holding.insert(resource.clone(), devices.clone());
            }
            _ => {}
        }
        if let Some(told) = tell(&event.what, &self.picture.gpus)
            && self.is_news(&event.what, &told)
        {
            self.tell(event.at, told);
        }
    }

    /// Whether words say more than those before: a pod that holds several replicas of a GPU hears
    /// of each that it is sick.
    fn is_news(&mut self, what: &Happening, told: &Told) -> bool {
        let Happening::DeviceHealthChanged { pod, device, .. } = what else {
            return true;
        };
        let unit = unit_of(&self.picture.gpus, device);
        let uuid = unit.map(|(gpu, mig)| mig.map_or(&gpu.uuid, |mig| &mig.uuid));
        let key = (pod.clone(), uuid.unwrap_or(device).clone());
        let before = self.health_told.insert(key, told.tone);
        // One that was never sick is not healthy again, though a restarted kubelet says so.
        before != Some(told.tone) && (before.is_some() || told.tone != Tone::Good)
    }

    fn tell(&mut self, at: Duration, told: Told) {
        self.say(at, told.source, told.tone, told.message);
    }

    /// The kubelet's state has changed.
    pub(crate) fn snapshot(&mut self, snapshot: &Snapshot, submitted: &[Submitted]) {
        self.see_resources(snapshot);
        self.see_gpus(snapshot);
        self.picture.pods = submitted
            .iter()
            .map(|pod| self.see_pod(pod, snapshot))
            .collect();
    }

    /// The simulated GPUs as they are now. How they are partitioned anew is told; what the kubelet
    /// makes of them is seen at its next change.
    pub(crate) fn gpus(&mut self, at: Duration, mut gpus: Vec<Gpu>, snapshot: &Snapshot) {
        let mut told = Vec::new();
        for gpu in &mut gpus {
            let same = |before: &&Gpu| before.uuid == gpu.uuid;
            let Some(before) = self.picture.gpus.iter().find(same) else {
                continue;
            };
            told.extend(partition_story::change(before, gpu));
            told.extend(partition_story::loss_of_whole(before, gpu));
            let gone = self.gone(before, gpu);
            told.extend(gone.iter().flat_map(partition_story::loss));
            if let Some(mig) = &mut gpu.mig {
                mig.devices.extend(gone.into_iter().map(|device| MigDevice {
                    gone: true,
                    ..device
                }));
            }
        }
        self.picture.gpus = gpus;
        self.see_gpus(snapshot);
        told.extend(self.story.missing(at, &self.picture.gpus));
        for told in told {
            self.tell(at, told);
        }
    }

    /// The MIG devices that a GPU has no more and that somebody held: a pod may hold one still.
    fn gone(&self, before: &Gpu, now: &Gpu) -> Vec<MigDevice> {
        let is_there = |device: &MigDevice| {
            let mut devices = now.mig_devices().iter();
            devices.any(|known| known.uuid == device.uuid)
        };
        let was_held = |device: &MigDevice| {
            let holders = self.holders.get(&device.uuid);
            holders.is_some_and(|holders| !holders.is_empty())
        };
        let devices = before.mig_devices().iter();
        let gone = devices.filter(|device| !is_there(device) && was_held(device));
        gone.cloned().collect()
    }

    fn see_resources(&mut self, snapshot: &Snapshot) {
        self.picture.node.resources = snapshot
            .resources
            .iter()
            .map(|(name, view)| (name.clone(), count(view.capacity, view.allocatable)))
            .collect();
        for (name, count) in &self.picture.node.resources {
            let most = self.most.entry(name.clone()).or_default();
            *most = count.capacity.max(*most);
        }
    }

    fn see_gpus(&mut self, snapshot: &Snapshot) {
        let mut seen = Sightings::of(snapshot, &self.picture.gpus);
        for gpu in &mut self.picture.gpus {
            let own = seen.take(&gpu.uuid);
            let (mut parts, mut gone) = (Vec::new(), Vec::new());
            for device in gpu.mig.iter_mut().flat_map(|mig| &mut mig.devices) {
                let mut sighting = seen.take(&device.uuid);
                if device.gone && !sighting.is_held() {
                    sighting = Sighting::default();
                }
                device.health = sighting.health();
                device.held_by = sighting.holders();
                device.offered_as = sighting.offered_as();
                device.was_held_by = ended(&mut self.holders, &device.uuid, &device.held_by);
                if device.gone {
                    gone.extend(device.held_by.iter().cloned());
                } else {
                    parts.push(sighting);
                }
            }
            let family = own.with_parts(parts);
            gpu.health = family.health();
            gpu.held_by = family.holders();
            gone.retain(|holder| !gpu.held_by.contains(holder));
            gpu.held_by.extend(gone);
            gpu.offered_as = family.offered_as();
            gpu.was_held_by = ended(&mut self.holders, &gpu.uuid, &gpu.held_by);
        }
    }

    fn see_pod(&self, submitted: &Submitted, snapshot: &Snapshot) -> Pod {
        let view = snapshot.pod(&submitted.pod.key());
        let refusal = submitted.refusal.clone();
        let (phase, reason, message) = match (refusal, view) {
            (Some(refusal), _) => (Phase::Refused, String::new(), refusal),
            (None, Some(view)) => (phase(view), view.reason.clone(), view.message.clone()),
            (None, None) => (Phase::Pending, String::new(), String::new()),
        };
        let key = submitted.pod.key();
        // A pod that was refused has no containers, whatever another one of its name has.
        let view = view.filter(|_| phase != Phase::Refused);
        let containers = view.into_iter().flat_map(|view| &view.containers);
        Pod {
            namespace: submitted.pod.metadata.namespace.clone(),
            name: submitted.pod.metadata.name.clone(),
            file: submitted.file.clone(),
            phase,
            reason,
            message,
            long_running: submitted.pod.spec.restart_policy == RestartPolicy::Always,
            fits_node: submitted.fits(&self.most),
            containers: containers
                .map(|container| self.see_container(&key, container))
                .collect(),
        }
    }

    fn see_container(&self, pod: &str, view: &ContainerView) -> Container {
        let key = (pod.to_owned(), view.name.clone());
        let given = view.given.clone().unwrap_or_default();
        Container {
            devices: self.allocated.get(&key).cloned().unwrap_or_default(),
            init: view.kind != ContainerKind::App,
            ..container(view.name.clone(), given)
        }
    }
}

/// Those who have held a GPU or MIG device and do so no more.
fn ended(
    holders: &mut BTreeMap<String, Vec<String>>,
    uuid: &str,
    held_by: &[String],
) -> Vec<String> {
    let ever = holders.entry(uuid.to_owned()).or_default();
    let new = held_by.iter().filter(|holder| !ever.contains(holder));
    let new: Vec<_> = new.cloned().collect();
    ever.extend(new);
    let ended = ever.iter().filter(|holder| !held_by.contains(holder));
    ended.cloned().collect()
}

fn count(capacity: i64, allocatable: i64) -> ResourceCount {
    let whole = |number: i64| u64::try_from(number).unwrap_or(0);
    ResourceCount {
        capacity: whole(capacity),
        allocatable: whole(allocatable),
    }
}

fn phase(view: &PodView) -> Phase {
    match view.phase {
        mizzen_kubelet_sim::Phase::Pending => Phase::Pending,
        mizzen_kubelet_sim::Phase::Running => Phase::Running,
        mizzen_kubelet_sim::Phase::Succeeded => Phase::Succeeded,
        mizzen_kubelet_sim::Phase::Failed => Phase::Failed,
    }
}

fn container(name: String, given: Given) -> Container {
    let mounts = given.mounts.into_iter().map(|mount| Mount {
        host_path: mount.host_path,
        container_path: mount.container_path,
        read_only: mount.read_only,
    });
    let nodes = given.devices.into_iter().map(|node| DeviceNode {
        host_path: node.host_path,
        container_path: node.container_path,
        permissions: node.permissions,
    });
    Container {
        name,
        env: given.env,
        mounts: mounts.collect(),
        device_nodes: nodes.collect(),
        annotations: given.annotations,
        cdi_devices: given.cdi_devices,
        ..Container::default()
    }
}
