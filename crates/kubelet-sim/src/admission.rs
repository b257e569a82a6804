//! Admission: a pod that was given to the node gets its devices, or is refused for good.

use std::collections::BTreeMap;
use std::sync::Arc;

use mizzen_kubelet_api::deviceplugin::{
    AllocateRequest, ContainerAllocateRequest, ContainerPreferredAllocationRequest,
    PreferredAllocationRequest,
};

use crate::devices::{Begun, Demand, Endpoint, Ids, Question};
use crate::event::Happening;
use crate::names::is_extended_resource;
use crate::pod::{Container, ContainerKind, Pod};
use crate::rpc::error_text;
use crate::schedule::{PODS, shortages};
use crate::state::{Shared, State};
use crate::topology::NumaMask;

/// Why the kubelet does not take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Refusal {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    fn unexpected(cause: &str) -> Self {
        let message = format!("Allocate failed due to {cause}, which is unexpected");
        Self::new("UnexpectedAdmissionError", message)
    }
}

/// Gives each container of a pod its devices.
pub(crate) async fn admit(shared: &Arc<Shared>, uid: &str) -> Result<(), Refusal> {
    let Some(pod) = shared.read(|state| state.pod(uid).map(|record| record.pod.clone())) else {
        return Ok(());
    };
    shared.read(|state| check_room(shared, state, uid))?;
    let mut reusable = BTreeMap::new();
    for (kind, container) in pod.containers() {
        let affinity = affinity(shared, container)?;
        let allocation = Allocation {
            shared,
            uid,
            pod: &pod,
            container,
            affinity,
        };
        allocation
            .run(&reusable)
            .await
            .map_err(|cause| Refusal::unexpected(&cause))?;
        shared.read(|state| update_reusable(state, uid, kind, container, &mut reusable));
    }
    Ok(())
}

/// The kubelet's own look at the node's resources, for pods that did not come from the
/// scheduler. A resource that the node does not know is passed over.
fn check_room(shared: &Shared, state: &State, uid: &str) -> Result<(), Refusal> {
    let Some(record) = state.pod(uid) else {
        return Ok(());
    };
    let mut used = state.used();
    let mut requests = record.requests.clone();
    for (name, amount) in &mut used {
        *amount -= i64::from(name == PODS);
        *amount -= requests.get(name).copied().unwrap_or(0);
    }
    let allocatable = state.allocatable(&shared.config);
    requests.retain(|name, _| allocatable.contains_key(name) || !is_extended_resource(name));
    match shortages(&requests, &used, &allocatable).first() {
        None => Ok(()),
        Some(short) => {
            let message = format!(
                "Node didn't have enough resource: {}, requested: {}, used: {}, capacity: {}",
                short.resource, short.requested, short.used, short.capacity
            );
            Err(Refusal::new(&format!("OutOf{}", short.resource), message))
        }
    }
}

fn affinity(shared: &Shared, container: &Container) -> Result<Option<NumaMask>, Refusal> {
    let demands = demands(container);
    shared
        .read(|state| {
            shared
                .config
                .topology_policy
                .affinity(&state.devices, &demands)
        })
        .map_err(|(reason, message)| Refusal::new(reason, message))
}

/// Devices of finished init containers are used again by the containers after them.
fn update_reusable(
    state: &State,
    uid: &str,
    kind: ContainerKind,
    container: &Container,
    reusable: &mut BTreeMap<String, Ids>,
) {
    let holdings = state.devices.holders().container(uid, &container.name);
    for (resource, holding) in holdings.into_iter().flatten() {
        let reusable = reusable.entry(resource.clone()).or_default();
        for id in holding.ids() {
            if kind == ContainerKind::Init {
                reusable.insert(id);
            } else {
                reusable.remove(&id);
            }
        }
    }
}

/// Whole devices by extended resource.
fn demands(container: &Container) -> Vec<(String, usize)> {
    let limits = container.resources.limits.iter();
    let devices = limits.filter(|(name, _)| is_extended_resource(name));
    devices
        .map(|(name, limit)| (name.clone(), usize::try_from(limit.value()).unwrap_or(0)))
        .collect()
}

/// The allocation of one container's devices.
struct Allocation<'a> {
    shared: &'a Arc<Shared>,
    uid: &'a str,
    pod: &'a Pod,
    container: &'a Container,
    affinity: Option<NumaMask>,
}

impl Allocation<'_> {
    async fn run(&self, reusable: &BTreeMap<String, Ids>) -> Result<(), String> {
        let none = Ids::new();
        for (resource, count) in demands(self.container) {
            if !self
                .shared
                .read(|state| state.devices.is_plugin_resource(&resource))
            {
                continue;
            }
            let reusable = reusable.get(&resource).unwrap_or(&none);
            let demand = Demand {
                pod_uid: self.uid.to_owned(),
                container: self.container.name.clone(),
                resource,
                count,
                affinity: self.affinity,
            };
            let ids = self.choose(&demand, reusable).await?;
            if !ids.is_empty() {
                self.allocate(&demand, &ids).await?;
            }
        }
        Ok(())
    }

    /// Which devices, with the plugin's preference where it has one.
    async fn choose(&self, demand: &Demand, reusable: &Ids) -> Result<Ids, String> {
        let begun = self.shared.update(|state| {
            state.release_inactive();
            state
                .devices
                .begin_selection(demand, reusable, &mut state.arbitrary)
        })?;
        let selection = match begun {
            Begun::Settled(ids) => return Ok(ids),
            Begun::Open(selection) => selection,
        };
        let preferred = self.prefer(&demand.resource, &selection.question).await?;
        self.shared.update(|state| {
            state
                .devices
                .finish_selection(demand, selection, &preferred, &mut state.arbitrary)
        })
    }

    async fn prefer(&self, resource: &str, question: &Question) -> Result<Ids, String> {
        let endpoint = self.shared.read(|state| {
            let Endpoint {
                client, options, ..
            } = state.devices.endpoint(resource)?;
            Some((client.clone(), options.get_preferred_allocation_available))
        });
        let Some((client, is_offered)) = endpoint else {
            return Err(format!(
                "endpoint not found in cache for a registered resource: {resource}"
            ));
        };
        if !is_offered {
            return Ok(Ids::new());
        }
        let mut client = client.ok_or_else(|| stopped(resource))?;
        let request = self
            .shared
            .update(|state| ContainerPreferredAllocationRequest {
                available_device_ids: state
                    .arbitrary
                    .order(&question.available)
                    .into_iter()
                    .map(Into::into)
                    .collect(),
                must_include_device_ids: state.arbitrary.order(&question.must_include),
                allocation_size: i32::try_from(question.size).unwrap_or(i32::MAX),
            });
        let request = PreferredAllocationRequest {
            container_requests: vec![request],
        };
        let answer = client
            .get_preferred_allocation(request)
            .await
            .map_err(|status| {
                let error = error_text(&status);
                format!("device plugin GetPreferredAllocation rpc failed with err: {error}")
            })?;
        let first = answer.into_inner().container_responses.into_iter().next();
        Ok(first
            .map(|container| container.device_ids.into_iter().collect())
            .unwrap_or_default())
    }

    async fn allocate(&self, demand: &Demand, ids: &Ids) -> Result<(), String> {
        let result = self.call_allocate(&demand.resource, ids).await;
        self.shared.update(|state| {
            let answer = match result {
                Ok(answer) => answer,
                Err(cause) => {
                    state.devices.forget_failed_selections();
                    return Err(cause);
                }
            };
            state.devices.hold(demand, ids, answer);
            state.checkpoint_is_stale = true;
            state.say(Happening::DevicesAllocated {
                pod: self.pod.key(),
                container: demand.container.clone(),
                resource: demand.resource.clone(),
                devices: ids.iter().cloned().collect(),
            });
            Ok(())
        })
    }

    async fn call_allocate(
        &self,
        resource: &str,
        ids: &Ids,
    ) -> Result<mizzen_kubelet_api::deviceplugin::ContainerAllocateResponse, String> {
        let endpoint = self.shared.read(|state| {
            state
                .devices
                .endpoint(resource)
                .map(|endpoint| endpoint.client.clone())
        });
        let client = endpoint.ok_or_else(|| format!("unknown Device Plugin {resource}"))?;
        let mut client = client.ok_or_else(|| stopped(resource))?;
        let devices_ids = self.shared.update(|state| state.arbitrary.order(ids));
        let request = AllocateRequest {
            container_requests: vec![ContainerAllocateRequest { devices_ids }],
        };
        let answer = client
            .allocate(request)
            .await
            .map_err(|status| error_text(&status))?;
        let first = answer.into_inner().container_responses.into_iter().next();
        first
            .ok_or_else(|| "no containers return in allocation response &AllocateResponse{}".into())
    }
}

fn stopped(resource: &str) -> String {
    format!("endpoint {resource} has been stopped")
}
