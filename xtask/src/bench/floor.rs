//! The floor: a bare tonic device plugin that answers the same calls with nothing behind them.

use std::path::Path;

use anyhow::{Context as _, Result};
use mizzen_kubelet_api::deviceplugin::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, ContainerPreferredAllocationResponse, Device,
    DevicePlugin, DevicePluginOptions, DevicePluginServer, Empty, HEALTHY, ListAndWatchResponse,
    PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse, RegisterRequest, RegistrationClient, VERSION,
};
use mizzen_kubelet_api::{Socket, connect, serve};
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status};

const ENDPOINT: &str = "floor.sock";

/// Serves `gpus` devices that do not exist, registered once, until killed.
pub(crate) fn run(kubelet_socket: &Path, gpus: usize) -> Result<()> {
    let dir = kubelet_socket
        .parent()
        .context("the kubelet's socket has a directory")?
        .to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let socket = Socket::bind(dir.join(ENDPOINT))?;
        let register = async {
            let request = RegisterRequest {
                version: VERSION.to_owned(),
                endpoint: ENDPOINT.to_owned(),
                resource_name: "nvidia.com/gpu".to_owned(),
                options: Some(options()),
            };
            RegistrationClient::new(connect(kubelet_socket).await?)
                .register(request)
                .await?;
            anyhow::Ok(())
        };
        let serve = serve(
            socket,
            DevicePluginServer::new(Floor { gpus }),
            std::future::pending(),
        );
        let (registered, served) = tokio::join!(register, serve);
        registered.and(served.map_err(Into::into))
    })
}

fn options() -> DevicePluginOptions {
    DevicePluginOptions {
        pre_start_required: false,
        get_preferred_allocation_available: true,
    }
}

#[derive(Debug)]
struct Floor {
    gpus: usize,
}

#[tonic::async_trait]
impl DevicePlugin for Floor {
    type ListAndWatchStream = std::pin::Pin<
        Box<dyn tokio_stream::Stream<Item = Result<ListAndWatchResponse, Status>> + Send>,
    >;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(options()))
    }

    async fn list_and_watch(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let device = |number| Device {
            id: format!("GPU-00000000-0000-0000-0000-{number:012}"),
            health: HEALTHY.to_owned(),
            topology: None,
        };
        let list = ListAndWatchResponse {
            devices: (0..self.gpus).map(device).collect(),
        };
        let lists = tokio_stream::once(Ok(list)).chain(tokio_stream::pending());
        Ok(Response::new(Box::pin(lists)))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let first = |container: ContainerPreferredAllocationRequest| {
            let size = usize::try_from(container.allocation_size).unwrap_or_default();
            let ids = container.available_device_ids.into_iter().take(size);
            ContainerPreferredAllocationResponse {
                device_ids: ids
                    .filter_map(|id| String::from_utf8(id.into()).ok())
                    .collect(),
            }
        };
        let containers = request.into_inner().container_requests.into_iter();
        Ok(Response::new(PreferredAllocationResponse {
            container_responses: containers.map(first).collect(),
        }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let visible = |ids: &[String]| ContainerAllocateResponse {
            envs: [("NVIDIA_VISIBLE_DEVICES".to_owned(), ids.join(","))].into(),
            ..ContainerAllocateResponse::default()
        };
        let containers = request.into_inner().container_requests;
        Ok(Response::new(AllocateResponse {
            container_responses: containers
                .iter()
                .map(|it| visible(&it.devices_ids))
                .collect(),
        }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Ok(Response::new(PreStartContainerResponse {}))
    }
}
