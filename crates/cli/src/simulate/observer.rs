//! Puts the picture together from what the kubelet, the simulated driver and the agent show.

use std::collections::BTreeMap;
use std::time::Duration;

use mizzen_kubelet_sim::pod::{ContainerKind, RestartPolicy};
use mizzen_kubelet_sim::{ContainerView, Event, Given, Happening, PodView, Snapshot};

use super::agent_process::Figures;
use super::narrator::{Told, tell};
use super::picture::{
    Container, DeviceNode, Gpu, Health, Mount, Phase, Picture, Pod, ResourceCount, gpu_of, in_words,
};
use super::pods::Submitted;
use super::timeline::{Entry, Source, Tone};

/// Devices by resource.
type Devices = BTreeMap<String, Vec<String>>;

/// Everything seen so far.
#[derive(Debug)]
pub(crate) struct Observer {
    picture: Picture,
    /// What each container got, by pod and container: kept when the kubelet has freed it.
    allocated: BTreeMap<(String, String), Devices>,
    /// The most devices that the node ever had, by resource.
    most: BTreeMap<String, u64>,
    /// The last numbers of healthy and sick devices, by resource.
    reported: BTreeMap<String, (usize, usize)>,
    /// When the script last did something to the GPUs, until its effect is seen.
    cause: Option<Duration>,
}

impl Observer {
    /// Starts with a node, its GPUs as they are, and pods that nobody has created yet.
    pub(crate) fn new(picture: Picture) -> Self {
        Self {
            picture,
            allocated: BTreeMap::new(),
            most: BTreeMap::new(),
            reported: BTreeMap::new(),
            cause: None,
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
        let entry = Entry {
            at,
            source,
            tone,
            message: message.into(),
        };
        let position = self
            .picture
            .timeline
            .partition_point(|earlier| earlier.at <= at);
        self.picture.timeline.insert(position, entry);
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

    /// The script does something to the GPUs: what the kubelet hears next follows from it.
    pub(crate) fn caused(&mut self, at: Duration) {
        self.cause = Some(at);
    }

    /// Something happened in the kubelet.
    pub(crate) fn event(&mut self, event: &Event) {
        let mut told = tell(&event.what, &self.picture.gpus);
        match &event.what {
            Happening::DevicesReported {
                resource,
                healthy,
                unhealthy,
            } => {
                let numbers = (*healthy, *unhealthy);
                if self.reported.insert(resource.clone(), numbers) == Some(numbers) {
                    return;
                }
                if let (Some(told), Some(cause)) = (&mut told, self.cause.take()) {
                    let after = event.at.saturating_sub(cause);
                    let after = crate::duration::short(after);
                    told.message = format!("{}, {after} later", told.message);
                }
            }
            Happening::DevicesAllocated {
                pod,
                container,
                resource,
                devices,
            } => {
                let holding = self
                    .allocated
                    .entry((pod.clone(), container.clone()))
                    .or_default();
                holding.insert(resource.clone(), devices.clone());
            }
            _ => {}
        }
        if let Some(Told {
            source,
            tone,
            message,
        }) = told
        {
            self.say(event.at, source, tone, message);
        }
    }

    /// The kubelet's state has changed.
    pub(crate) fn snapshot(&mut self, snapshot: &Snapshot, submitted: &[Submitted]) {
        self.picture.node.resources = snapshot
            .resources
            .iter()
            .map(|(name, view)| (name.clone(), count(view.capacity, view.allocatable)))
            .collect();
        for (name, count) in &self.picture.node.resources {
            let most = self.most.entry(name.clone()).or_default();
            *most = count.capacity.max(*most);
        }
        self.see_gpus(snapshot);
        self.picture.pods = submitted
            .iter()
            .map(|pod| self.see_pod(pod, snapshot))
            .collect();
    }

    /// The simulated GPUs have changed; what the kubelet makes of them is seen at its next change.
    pub(crate) fn gpus(&mut self, gpus: Vec<Gpu>, snapshot: &Snapshot) {
        self.picture.gpus = gpus;
        self.see_gpus(snapshot);
    }

    fn see_gpus(&mut self, snapshot: &Snapshot) {
        let mut seen: BTreeMap<u32, (Health, Vec<String>)> = BTreeMap::new();
        for (id, device) in snapshot.resources.values().flat_map(|view| &view.devices) {
            let Some(gpu) = gpu_of(&self.picture.gpus, id) else {
                continue;
            };
            let (health, held_by) = seen
                .entry(gpu.index)
                .or_insert((Health::Healthy, Vec::new()));
            if !device.healthy {
                *health = Health::Unhealthy;
            }
            let holder = device.holder.as_ref();
            held_by.extend(holder.map(|by| format!("{}/{}", in_words(&by.pod), by.container)));
        }
        for gpu in &mut self.picture.gpus {
            (gpu.health, gpu.held_by) = seen
                .remove(&gpu.index)
                .unwrap_or((Health::Unknown, Vec::new()));
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
