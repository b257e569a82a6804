//! A pod with everything the cluster knows of it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::devices::DeviceManager;
use crate::pod::{Container, ContainerKind, Pod, RestartPolicy};
use crate::schedule::Amounts;
use crate::snapshot::{ContainerState, ContainerView, DeviceHealth, Given, Phase, PodView};

/// First pause before a container is started again; doubles each time.
const FIRST_BACK_OFF: Duration = Duration::from_secs(10);
/// Longest pause.
const LONGEST_BACK_OFF: Duration = Duration::from_mins(5);

/// A pod and its status.
#[derive(Debug)]
pub(crate) struct PodRecord {
    pub(crate) pod: Pod,
    pub(crate) uid: String,
    pub(crate) requests: Amounts,
    pub(crate) scheduled: bool,
    pub(crate) admitted: bool,
    pub(crate) phase: Phase,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) containers: Vec<ContainerRecord>,
}

/// A container and its status.
#[derive(Debug)]
pub(crate) struct ContainerRecord {
    pub(crate) container: Container,
    pub(crate) kind: ContainerKind,
    pub(crate) state: ContainerState,
    pub(crate) restart_count: u32,
    pub(crate) given: Option<Given>,
    /// When it will exit, or be tried again.
    pub(crate) due: Option<Instant>,
}

impl PodRecord {
    pub(crate) fn new(pod: Pod, uid: String) -> Self {
        let waiting = |(kind, container): (ContainerKind, &Container)| ContainerRecord {
            container: container.clone(),
            kind,
            state: ContainerState::Waiting {
                reason: String::new(),
                message: String::new(),
            },
            restart_count: 0,
            given: None,
            due: None,
        };
        let containers = pod.containers().map(waiting).collect();
        Self {
            requests: pod.requests(),
            // A pod that names its node does not wait for the scheduler.
            scheduled: pod.spec.node_name.is_some(),
            pod,
            uid,
            admitted: false,
            phase: Phase::Pending,
            reason: String::new(),
            message: String::new(),
            containers,
        }
    }

    /// The container that is to be started now: init containers one after the other, then all
    /// others.
    pub(crate) fn next_to_start(&self, now: Instant) -> Option<usize> {
        if !self.admitted || self.phase.is_terminal() {
            return None;
        }
        for (index, container) in self.containers.iter().enumerate() {
            let is_app = container.kind == ContainerKind::App;
            match container.state {
                ContainerState::Waiting { .. } if container.is_due(now) => return Some(index),
                // Those behind it have to wait as well.
                ContainerState::Waiting { .. } if !is_app => return None,
                ContainerState::Running if container.kind == ContainerKind::Init => return None,
                _ => {}
            }
        }
        None
    }

    /// The container that exits now.
    pub(crate) fn next_to_finish(&self, now: Instant) -> Option<usize> {
        self.containers.iter().position(|container| {
            container.is_running() && container.due.is_some_and(|at| at <= now)
        })
    }

    /// When something will happen to a container by itself.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        if self.phase.is_terminal() {
            return None;
        }
        self.containers
            .iter()
            .filter_map(|container| container.due)
            .min()
    }

    /// A container has been started with what it was given.
    pub(crate) fn started(&mut self, index: usize, given: Given, now: Instant) {
        // Checked when the pod was created.
        let run_for = self.pod.run_for().unwrap_or_default();
        let container = &mut self.containers[index];
        container.given = Some(given);
        container.state = ContainerState::Running;
        container.due = match container.kind {
            // Init containers have nothing to do here but to hold their devices once.
            ContainerKind::Init => Some(now),
            ContainerKind::App => run_for.map(|time| now + time),
            ContainerKind::Sidecar => None,
        };
        self.refresh_phase();
    }

    /// A container could not be started; it is tried again after a pause.
    pub(crate) fn not_started(&mut self, index: usize, message: String, now: Instant) {
        let container = &mut self.containers[index];
        let reason = "CreateContainerConfigError".to_owned();
        container.state = ContainerState::Waiting { reason, message };
        container.due = Some(now + FIRST_BACK_OFF);
    }

    /// A container has exited with 0.
    pub(crate) fn finished(&mut self, index: usize, now: Instant) {
        let again = self.pod.spec.restart_policy == RestartPolicy::Always;
        let container = &mut self.containers[index];
        container.due = None;
        if again && container.kind == ContainerKind::App {
            let pause =
                (FIRST_BACK_OFF * 2_u32.pow(container.restart_count.min(5))).min(LONGEST_BACK_OFF);
            container.restart_count += 1;
            container.due = Some(now + pause);
            let name = &container.container.name;
            container.state = ContainerState::Waiting {
                reason: "CrashLoopBackOff".to_owned(),
                message: format!(
                    "back-off {}s restarting exited container={name}",
                    pause.as_secs()
                ),
            };
        } else {
            container.state = ContainerState::Terminated { exit_code: 0 };
        }
        self.refresh_phase();
    }

    /// The kubelet does not take the pod.
    pub(crate) fn rejected(&mut self, reason: &str, message: &str) {
        self.phase = Phase::Failed;
        reason.clone_into(&mut self.reason);
        self.message = format!("Pod was rejected: {message}");
    }

    fn refresh_phase(&mut self) {
        let apps = || {
            self.containers
                .iter()
                .filter(|c| c.kind == ContainerKind::App)
        };
        let has_ended = |c: &ContainerRecord| matches!(c.state, ContainerState::Terminated { .. });
        let is_new = |c: &ContainerRecord| c.given.is_none();
        self.phase = if apps().all(has_ended) {
            Phase::Succeeded
        } else if apps().all(is_new) {
            Phase::Pending
        } else {
            Phase::Running
        };
        if self.phase == Phase::Succeeded {
            // Sidecars are stopped when the others are done.
            for sidecar in &mut self.containers {
                sidecar.due = None;
                sidecar.state = ContainerState::Terminated { exit_code: 0 };
            }
        }
    }

    pub(crate) fn view(&self, devices: &DeviceManager) -> PodView {
        let containers = self.containers.iter().map(|record| ContainerView {
            name: record.container.name.clone(),
            kind: record.kind,
            limits: record.container.resources.limits.clone(),
            state: record.state.clone(),
            restart_count: record.restart_count,
            given: record.given.clone(),
            allocated_resources: self.allocated_resources(record, devices),
        });
        PodView {
            name: self.pod.metadata.name.clone(),
            namespace: self.pod.metadata.namespace.clone(),
            uid: self.uid.clone(),
            scheduled: self.scheduled,
            phase: self.phase,
            reason: self.reason.clone(),
            message: self.message.clone(),
            containers: containers.collect(),
        }
    }

    fn allocated_resources(
        &self,
        record: &ContainerRecord,
        devices: &DeviceManager,
    ) -> BTreeMap<String, BTreeMap<String, DeviceHealth>> {
        let holdings = devices
            .holders()
            .container(&self.uid, &record.container.name);
        let resources = holdings.into_iter().flatten().map(|(resource, holding)| {
            let health = |id: String| {
                let healthy = devices.is_healthy(resource, &id);
                (
                    id,
                    if healthy {
                        DeviceHealth::Healthy
                    } else {
                        DeviceHealth::Unhealthy
                    },
                )
            };
            (
                resource.clone(),
                holding.ids().into_iter().map(health).collect(),
            )
        });
        resources.collect()
    }
}

impl ContainerRecord {
    pub(crate) fn is_running(&self) -> bool {
        self.state == ContainerState::Running
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }
}
