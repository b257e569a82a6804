//! One resource's device plugin, as the kubelet calls it. It answers from the published state:
//! no driver, no I/O, no lock that is held across an await.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{Stream, unfold};
use mizzen_core::allocate::AllocationRequest;
use mizzen_core::pool::{Listed, PreferRequest};
use mizzen_core::resource::ResourceName;
use mizzen_core::state::NodeState;
use mizzen_kubelet_api::deviceplugin::{
    AllocateRequest, AllocateResponse, ContainerPreferredAllocationRequest,
    ContainerPreferredAllocationResponse, DevicePlugin, DevicePluginOptions, Empty,
    ListAndWatchResponse, PreStartContainerRequest, PreStartContainerResponse,
    PreferredAllocationRequest, PreferredAllocationResponse,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::Told;
use super::answer::{annotation_id, container, device_list};
use super::streams::{OpenStream, Streams};

/// What every plugin of ours says of itself.
pub(super) const OPTIONS: DevicePluginOptions = DevicePluginOptions {
    pre_start_required: false,
    get_preferred_allocation_available: true,
};

/// The plugin of one resource.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) resource: ResourceName,
    pub(super) state: watch::Receiver<Arc<NodeState>>,
    pub(super) told: Told,
    pub(super) streams: Streams,
    /// The process ends: streams end as they are, without a last word.
    pub(super) stop: CancellationToken,
}

impl Service {
    fn state(&self) -> Arc<NodeState> {
        self.state.borrow().clone()
    }

    fn gone(&self) -> Status {
        Status::unavailable(format!(
            "{} is not offered by this node any more",
            self.resource
        ))
    }

    fn withheld(&self, id: &str) -> Status {
        Status::unavailable(format!(
            "device {id} of {} cannot be had at this moment: its GPU is being partitioned anew; a \
             pod that is created again gets another one, or waits",
            self.resource
        ))
    }
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(OPTIONS))
    }

    type ListAndWatchStream =
        Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    async fn list_and_watch(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let lists = Lists {
            resource: self.resource.clone(),
            state: self.state.clone(),
            stream: self.streams.open(),
            stop: self.stop.clone(),
            sent: None,
            retired: false,
        };
        let stream = unfold(lists, |mut lists| async move {
            let list = lists.next().await?;
            Some((Ok(list), lists))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let state = self.state();
        let pool = state.pools().get(&self.resource);
        let prefer = |wish: ContainerPreferredAllocationRequest| {
            let available = wish.available_device_ids.iter();
            // One that is no text is no device of ours.
            let available: Vec<&str> = available
                .filter_map(|id| std::str::from_utf8(id).ok())
                .collect();
            let request = PreferRequest {
                available: &available,
                must_include: &wish.must_include_device_ids,
                size: usize::try_from(wish.allocation_size).unwrap_or_default(),
            };
            // Without an answer of ours the kubelet chooses for itself.
            let device_ids = pool.map(|pool| pool.prefer(&request)).unwrap_or_default();
            ContainerPreferredAllocationResponse { device_ids }
        };
        let wishes = request.into_inner().container_requests;
        Ok(Response::new(PreferredAllocationResponse {
            container_responses: wishes.into_iter().map(prefer).collect(),
        }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let begun = Instant::now();
        let answer = self.given(&request.into_inner());
        self.told.tally.allocated(begun.elapsed(), answer.is_err());
        answer.map(Response::new)
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

impl Service {
    /// What the containers are given.
    fn given(&self, request: &AllocateRequest) -> Result<AllocateResponse, Status> {
        let state = self.state();
        let pool = state
            .pools()
            .get(&self.resource)
            .ok_or_else(|| self.gone())?;
        let wishes = &request.container_requests;
        let mut container_responses = Vec::with_capacity(wishes.len());
        for wish in wishes {
            let ids = wish.devices_ids.iter().map(String::as_str);
            if let Some(id) = state.withheld_among(pool, ids.clone()) {
                return Err(self.withheld(id));
            }
            let allocation = AllocationRequest::parse(ids)
                .and_then(|ids| pool.allocate(&ids, state.host_nodes(), annotation_id()))
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            container_responses.push(container(allocation));
        }
        if let Some(given) = &self.told.given {
            given.note(wishes.iter().flat_map(|wish| &wish.devices_ids));
        }
        Ok(AllocateResponse {
            container_responses,
        })
    }
}

/// The lists of one stream, each the whole truth, none twice in a row.
struct Lists {
    resource: ResourceName,
    state: watch::Receiver<Arc<NodeState>>,
    stream: OpenStream,
    stop: CancellationToken,
    /// What the last list said: thousands of replicas in a few lines.
    sent: Option<Vec<Listed>>,
    retired: bool,
}

impl Lists {
    /// The next list that differs from the last; `None` at the stream's end. A resource that is
    /// gone is told as an empty list, the last one.
    async fn next(&mut self) -> Option<ListAndWatchResponse> {
        while !self.retired {
            let list = {
                let state = self.state.borrow_and_update();
                let pool = state.pools().get(&self.resource);
                self.retired = pool.is_none();
                pool.map(|pool| pool.list(|share| state.health(share)))
                    .unwrap_or_default()
            };
            if self.sent.as_ref() != Some(&list) {
                let message = device_list(&list);
                self.sent = Some(list);
                return Some(message);
            }
            tokio::select! {
                changed = self.state.changed() => changed.ok()?,
                () = self.stream.over() => return None,
                () = self.stop.cancelled() => return None,
            }
        }
        None
    }
}
