//! The `PodResources` service.

use std::sync::{Arc, Mutex, PoisonError};

use mizzen_kubelet_api::podresources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices,
    ContainerResources, GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest,
    ListPodResourcesResponse, NumaNode, PodResources, PodResourcesLister, TopologyInfo,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::devices::NO_NUMA;
use crate::pod::ContainerKind;
use crate::record::PodRecord;
use crate::state::{Shared, State};

/// Questions that a kubelet answers in a second, whoever asks, and at once
/// (`DefaultPodResourcesQPS` and `DefaultPodResourcesBurstTokens` in its `podresources` package).
const QUESTIONS_A_SECOND: f64 = 100.0;
const BURST: f64 = 10.0;

/// Tells which containers hold which devices.
#[derive(Debug, Clone)]
pub(crate) struct PodResourcesService {
    shared: Arc<Shared>,
    allowance: Arc<Mutex<Allowance>>,
}

/// How many questions may come now: a bucket of tokens.
#[derive(Debug)]
struct Allowance {
    left: f64,
    counted: Instant,
}

impl Allowance {
    fn take(&mut self) -> bool {
        let now = Instant::now();
        let passed = now - self.counted;
        self.counted = now;
        self.left = (self.left + passed.as_secs_f64() * QUESTIONS_A_SECOND).min(BURST);
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }
}

impl PodResourcesService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let allowance = Allowance {
            left: BURST,
            counted: Instant::now(),
        };
        Self {
            shared,
            allowance: Arc::new(Mutex::new(allowance)),
        }
    }

    /// # Errors
    /// A kubelet's, when too many questions come.
    fn admit(&self) -> Result<(), Status> {
        let mut allowance = self
            .allowance
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if allowance.take() {
            return Ok(());
        }
        Err(Status::resource_exhausted("rejected by rate limit"))
    }
}

#[tonic::async_trait]
impl PodResourcesLister for PodResourcesService {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        self.admit()?;
        let pod_resources = self.shared.read(|state| {
            state
                .active_pods()
                .map(|record| pod_resources(state, record))
                .collect()
        });
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        self.admit()?;
        let devices = self.shared.read(allocatable);
        Ok(Response::new(AllocatableResourcesResponse {
            devices,
            ..Default::default()
        }))
    }

    async fn get(
        &self,
        request: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        self.admit()?;
        let GetPodResourcesRequest {
            pod_name,
            pod_namespace,
        } = request.into_inner();
        let pod_resources = self.shared.read(|state| {
            let record = state
                .pods
                .iter()
                .filter(|record| record.scheduled)
                .find(|record| {
                    let metadata = &record.pod.metadata;
                    metadata.name == pod_name && metadata.namespace == pod_namespace
                });
            record.map(|record| pod_resources(state, record))
        });
        if pod_resources.is_none() {
            let message = format!("pod {pod_name} in namespace {pod_namespace} not found");
            return Err(Status::unknown(message));
        }
        Ok(Response::new(GetPodResourcesResponse { pod_resources }))
    }
}

/// Init containers that are done are left out, sidecars are in.
fn pod_resources(state: &State, record: &PodRecord) -> PodResources {
    let running = record
        .containers
        .iter()
        .filter(|c| c.kind != ContainerKind::Init);
    let containers = running.map(|container| ContainerResources {
        name: container.container.name.clone(),
        devices: held(state, &record.uid, &container.container.name),
        ..Default::default()
    });
    PodResources {
        name: record.pod.metadata.name.clone(),
        namespace: record.pod.metadata.namespace.clone(),
        containers: containers.collect(),
    }
}

/// One entry for each device and NUMA node, as the kubelet lists them.
fn held(state: &State, uid: &str, container: &str) -> Vec<ContainerDevices> {
    let holdings = state.devices.holders().container(uid, container);
    let mut devices = Vec::new();
    for (resource, holding) in holdings.into_iter().flatten() {
        for (node, ids) in &holding.by_numa {
            devices.extend(ids.iter().map(|id| entry(resource, id, *node)));
        }
    }
    devices
}

fn allocatable(state: &State) -> Vec<ContainerDevices> {
    let mut devices = Vec::new();
    for (resource, healthy) in state.devices.healthy() {
        let Some(known) = state.devices.known().get(resource) else {
            continue;
        };
        for (id, known) in known.iter().filter(|(id, _)| healthy.contains(*id)) {
            if known.has_node() {
                devices.extend(
                    known
                        .numa_nodes
                        .iter()
                        .map(|node| entry(resource, id, *node)),
                );
            } else {
                devices.push(entry(resource, id, NO_NUMA));
            }
        }
    }
    devices
}

fn entry(resource: &str, id: &str, node: i64) -> ContainerDevices {
    let topology = (node != NO_NUMA).then(|| TopologyInfo {
        nodes: vec![NumaNode { id: node }],
    });
    ContainerDevices {
        resource_name: resource.to_owned(),
        device_ids: vec![id.to_owned()],
        topology,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_questions_are_answered_at_once_and_a_hundred_in_a_second() {
        let mut allowance = Allowance {
            left: BURST,
            counted: Instant::now(),
        };
        let mut answered = |times: usize| (0..times).filter(|_| allowance.take()).count();
        assert_eq!(answered(20), 10);
        tokio::time::advance(Duration::from_millis(31)).await;
        assert_eq!(answered(20), 3);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(answered(20), 10);
    }
}
