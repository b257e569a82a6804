//! What the kubelet and the API server know, and how it changes: under one lock, seen by all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::arbitrary::Arbitrary;
use crate::config::Config;
use crate::devices::{DeviceManager, Offer};
use crate::disturbance::Disturbances;
use crate::event::{Event, Happening};
use crate::record::PodRecord;
use crate::schedule::{Amounts, PODS};
use crate::snapshot::{DeviceView, Holder, ResourceView, Snapshot};

/// Events that a slow reader may fall behind: one for each device of a node whose sixteen GPUs
/// are shared a thousand times each, if all of them change at once.
const EVENT_BACKLOG: usize = 1 << 14;

/// What all parts of the embedded kubelet share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) disturbances: Disturbances,
    /// Something has changed that the pods' life may depend on.
    pub(crate) changed: Notify,
    pub(crate) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(crate) events: broadcast::Sender<Event>,
    began: Instant,
    state: Mutex<State>,
}

/// What changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) running: bool,
    pub(crate) devices: DeviceManager,
    pub(crate) pods: Vec<PodRecord>,
    /// The clients of the registration server by resource: who is to be disconnected when a
    /// stream for the resource ends.
    pub(crate) clients: BTreeMap<String, CancellationToken>,
    pub(crate) arbitrary: Arbitrary,
    /// Whether the checkpoint has to be written.
    pub(crate) checkpoint_is_stale: bool,
    offered: Offer,
    said: Vec<Happening>,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Self {
        let state = State {
            running: false,
            devices: DeviceManager::default(),
            pods: Vec::new(),
            clients: BTreeMap::new(),
            arbitrary: Arbitrary::new(config.seed),
            checkpoint_is_stale: false,
            offered: Offer::default(),
            said: Vec::new(),
        };
        let snapshot = Snapshot {
            node: config.node_name.clone(),
            ..Snapshot::default()
        };
        Self {
            config,
            disturbances: Disturbances::default(),
            changed: Notify::new(),
            snapshots: watch::Sender::new(Arc::new(snapshot)),
            events: broadcast::Sender::new(EVENT_BACKLOG),
            began: Instant::now(),
            state: Mutex::new(state),
        }
    }

    /// When this was made, from which events count.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// Looks at the state.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the state, then lets the world know: checkpoint, events, snapshot, in this order.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state);
        state.refresh_offer();
        if std::mem::take(&mut state.checkpoint_is_stale) {
            let written = state.devices.checkpoint().write(&self.config.plugin_dir());
            if let Err(error) = written {
                let message = format!("failed to write checkpoint file: {error}");
                state.say(Happening::FileTrouble { message });
            }
        }
        let at = self.began.elapsed();
        for what in state.said.drain(..) {
            // Fails when nobody listens, which is fine.
            let _ = self.events.send(Event { at, what });
        }
        let snapshot = state.snapshot(&self.config);
        drop(state);
        self.snapshots.send_if_modified(|seen| {
            let differs = **seen != snapshot;
            if differs {
                *seen = Arc::new(snapshot);
            }
            differs
        });
        self.changed.notify_one();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Changes are small steps that keep the state whole; a panic in one of them is a defect
        // that the test which caused it reports.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Records an event.
    pub(crate) fn say(&mut self, what: Happening) {
        self.said.push(what);
    }

    pub(crate) fn pod(&self, uid: &str) -> Option<&PodRecord> {
        self.pods.iter().find(|pod| pod.uid == uid)
    }

    pub(crate) fn pod_mut(&mut self, uid: &str) -> Option<&mut PodRecord> {
        self.pods.iter_mut().find(|pod| pod.uid == uid)
    }

    /// Pods that the kubelet cares for: on the node and not at their end.
    pub(crate) fn active_pods(&self) -> impl Iterator<Item = &PodRecord> {
        self.pods
            .iter()
            .filter(|pod| pod.scheduled && !pod.phase.is_terminal())
    }

    /// Frees the devices of pods that are gone or done.
    pub(crate) fn release_inactive(&mut self) {
        let active: BTreeSet<&str> = self
            .pods
            .iter()
            .filter(|pod| pod.scheduled && !pod.phase.is_terminal())
            .map(|pod| pod.uid.as_str())
            .collect();
        self.devices.release_inactive(&active);
    }

    /// The node's allocatable amounts, as the scheduler sees them.
    pub(crate) fn allocatable(&self, config: &Config) -> Amounts {
        let mut amounts = self.offered.allocatable.clone();
        amounts.insert("cpu".to_owned(), config.milli_cpus);
        amounts.insert("memory".to_owned(), config.memory_bytes);
        amounts.insert("ephemeral-storage".to_owned(), config.storage_bytes);
        amounts.insert(PODS.to_owned(), config.max_pods);
        amounts
    }

    /// What pods on the node have asked for.
    pub(crate) fn used(&self) -> Amounts {
        let mut used = Amounts::new();
        for pod in self.active_pods() {
            *used.entry(PODS.to_owned()).or_default() += 1;
            for (name, amount) in &pod.requests {
                *used.entry(name.clone()).or_default() += amount;
            }
        }
        used
    }

    /// Brings the node's status up to date. While the kubelet is down it stays as it was.
    fn refresh_offer(&mut self) {
        if !self.running {
            return;
        }
        let now = self.devices.capacity(Instant::now());
        self.checkpoint_is_stale |= !now.removed.is_empty();
        // The API server remembers a resource that was given up, with nothing of it left.
        let zero = |amounts: &mut BTreeMap<String, i64>| amounts.values_mut().for_each(|n| *n = 0);
        zero(&mut self.offered.capacity);
        zero(&mut self.offered.allocatable);
        self.offered.capacity.extend(now.capacity);
        self.offered.allocatable.extend(now.allocatable);
    }

    fn snapshot(&self, config: &Config) -> Snapshot {
        Snapshot {
            node: config.node_name.clone(),
            kubelet_running: self.running,
            resources: self.resource_views(),
            pods: self
                .pods
                .iter()
                .map(|pod| pod.view(&self.devices))
                .collect(),
        }
    }

    fn resource_views(&self) -> BTreeMap<String, ResourceView> {
        let amount = |amounts: &BTreeMap<String, i64>, name: &str| amounts.get(name).copied();
        let views = self.offered.capacity.keys().map(|name| {
            let view = ResourceView {
                capacity: amount(&self.offered.capacity, name).unwrap_or(0),
                allocatable: amount(&self.offered.allocatable, name).unwrap_or(0),
                devices: self.device_views(name),
            };
            (name.clone(), view)
        });
        views.collect()
    }

    fn device_views(&self, resource: &str) -> BTreeMap<String, DeviceView> {
        // A device that was reported healthy is not once its plugin has gone.
        let healthy = self.devices.healthy().get(resource);
        let known = self.devices.known().get(resource).into_iter().flatten();
        let mut holders = self.device_holders(resource);
        let views = known.map(|(id, known)| {
            let view = DeviceView {
                healthy: healthy.is_some_and(|healthy| healthy.contains(id)),
                numa_nodes: known.numa_nodes.clone(),
                holder: holders.remove(id.as_str()),
            };
            (id.clone(), view)
        });
        views.collect()
    }

    /// The container that holds each device. Of several, which share it one after the other, it
    /// is the one that runs.
    fn device_holders(&self, resource: &str) -> BTreeMap<&str, Holder> {
        let runs = |pod: &PodRecord, name: &str| {
            let mut running = pod.containers.iter().filter(|one| one.is_running());
            running.any(|one| one.container.name == name)
        };
        let mut holders: BTreeMap<&str, Holder> = BTreeMap::new();
        for (uid, container, _, holding) in self.devices.holders().of(resource) {
            let Some(pod) = self.pod(uid) else { continue };
            let (key, is_running) = (pod.pod.key(), runs(pod, container));
            for id in holding.by_numa.values().flatten() {
                let known = holders.get(id.as_str());
                if known.is_none_or(|holder| is_running && holder.pod == key) {
                    let holder = Holder {
                        pod: key.clone(),
                        container: container.to_owned(),
                    };
                    holders.insert(id, holder);
                }
            }
        }
        holders
    }
}
