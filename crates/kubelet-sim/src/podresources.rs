//! The `PodResources` service.

use std::sync::Arc;

use mizzen_kubelet_api::podresources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices,
    ContainerResources, GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest,
    ListPodResourcesResponse, NumaNode, PodResources, PodResourcesLister, TopologyInfo,
};
use tonic::{Request, Response, Status};

use crate::devices::NO_NUMA;
use crate::pod::ContainerKind;
use crate::record::PodRecord;
use crate::state::{Shared, State};

/// Tells which containers hold which devices.
#[derive(Debug, Clone)]
pub(crate) struct PodResourcesService {
    pub(crate) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl PodResourcesLister for PodResourcesService {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
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
