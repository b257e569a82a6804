//! The transport between a kubelet and a plugin, over real unix sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::io::ErrorKind;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use mizzen_kubelet_api::deviceplugin::{
    AllocateRequest, AllocateResponse, ContainerAllocateRequest, ContainerAllocateResponse, Device,
    DevicePlugin, DevicePluginClient, DevicePluginOptions, DevicePluginServer, Empty, HEALTHY,
    ListAndWatchResponse, PreStartContainerRequest, PreStartContainerResponse,
    PreferredAllocationRequest, PreferredAllocationResponse,
};
use mizzen_kubelet_api::{DRAIN_LIMIT, Socket, connect, serve};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, LocalSet};
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status};

/// Answers with the IDs it is asked for; its device list is what the test sends.
#[derive(Clone)]
struct Echo {
    list: watch::Receiver<Vec<String>>,
}

#[tonic::async_trait]
impl DevicePlugin for Echo {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(DevicePluginOptions::default()))
    }

    type ListAndWatchStream =
        Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    async fn list_and_watch(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let lists = WatchStream::new(self.list.clone()).map(|ids| {
            let device = |id| Device {
                id,
                health: HEALTHY.into(),
                topology: None,
            };
            Ok(ListAndWatchResponse {
                devices: ids.into_iter().map(device).collect(),
            })
        });
        Ok(Response::new(Box::pin(lists)))
    }

    async fn get_preferred_allocation(
        &self,
        _: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        Err(Status::unimplemented("not offered"))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let answer = |container: ContainerAllocateRequest| ContainerAllocateResponse {
            envs: [("IDS".to_owned(), container.devices_ids.join(","))].into(),
            ..Default::default()
        };
        let container_responses = request
            .into_inner()
            .container_requests
            .into_iter()
            .map(answer)
            .collect();
        Ok(Response::new(AllocateResponse {
            container_responses,
        }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        std::future::pending().await
    }
}

struct Running {
    _dir: TempDir,
    path: PathBuf,
    list: watch::Sender<Vec<String>>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

fn start() -> Running {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("echo.sock");
    let (list, receiver) = watch::channel(vec!["a".to_owned()]);
    let (stop, stopped) = oneshot::channel();
    let socket = Socket::bind(&path).unwrap();
    let service = DevicePluginServer::new(Echo { list: receiver });
    let server = tokio::task::spawn_local(serve(socket, service, async { drop(stopped.await) }));
    Running {
        _dir: dir,
        path,
        list,
        stop,
        server,
    }
}

async fn client(running: &Running) -> DevicePluginClient<mizzen_kubelet_api::Connection> {
    DevicePluginClient::new(connect(&running.path).await.unwrap())
}

fn allocate(ids: &[&str]) -> AllocateRequest {
    let devices_ids = ids.iter().map(ToString::to_string).collect();
    AllocateRequest {
        container_requests: vec![ContainerAllocateRequest { devices_ids }],
    }
}

fn local<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn a_call_reaches_the_service_and_its_answer_the_caller() {
    local(async {
        let running = start();
        let mut client = client(&running).await;
        let answer = client
            .allocate(allocate(&["x", "y"]))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.container_responses[0].envs["IDS"], "x,y");
    });
}

#[test]
fn an_error_of_the_service_keeps_its_code_and_message() {
    local(async {
        let running = start();
        let mut client = client(&running).await;
        let request = PreferredAllocationRequest::default();
        let error = client.get_preferred_allocation(request).await.unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (Code::Unimplemented, "not offered")
        );
    });
}

#[test]
fn a_list_larger_than_the_window_arrives_whole() {
    local(async {
        let running = start();
        let ids: Vec<String> = (0..4000).map(|n| format!("GPU-{n:0>36}")).collect();
        running.list.send_replace(ids.clone());
        let mut client = client(&running).await;
        let mut lists = client.list_and_watch(Empty {}).await.unwrap().into_inner();
        let list = lists.message().await.unwrap().unwrap();
        assert_eq!(
            list.devices
                .into_iter()
                .map(|device| device.id)
                .collect::<Vec<_>>(),
            ids
        );
    });
}

#[test]
fn a_stream_outlives_its_client_and_then_closes_the_connection() {
    local(async {
        let running = start();
        let mut client = client(&running).await;
        let mut lists = client.list_and_watch(Empty {}).await.unwrap().into_inner();
        drop(client);
        lists.message().await.unwrap().unwrap();
        running.list.send_replace(vec!["b".into()]);
        assert_eq!(lists.message().await.unwrap().unwrap().devices[0].id, "b");
        assert_eq!(
            running.list.receiver_count(),
            2,
            "the service and the stream"
        );

        drop(lists);
        running.stop.send(()).unwrap();
        running.server.await.unwrap().unwrap();
        assert_eq!(
            running.list.receiver_count(),
            0,
            "nothing is left of the stream"
        );
    });
}

#[test]
fn every_stream_sees_every_change() {
    local(async {
        let running = start();
        let mut client = client(&running).await;
        let mut first = client.list_and_watch(Empty {}).await.unwrap().into_inner();
        let mut second = client.list_and_watch(Empty {}).await.unwrap().into_inner();
        for stream in [&mut first, &mut second] {
            assert_eq!(stream.message().await.unwrap().unwrap().devices[0].id, "a");
        }
        running.list.send_replace(vec!["b".into()]);
        for stream in [&mut first, &mut second] {
            assert_eq!(stream.message().await.unwrap().unwrap().devices[0].id, "b");
        }
    });
}

#[test]
fn connecting_to_nothing_fails_at_once_and_says_what_was_missing() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubelet.sock");
        let error = connect(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("kubelet.sock"), "{error}");

        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert_eq!(
            connect(&path).await.unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
    });
}

#[test]
fn a_peer_that_hangs_up_is_unavailable_and_stays_closed() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dying.sock");
        let socket = Socket::bind(&path).unwrap();
        let connection = connect(&path).await.unwrap();
        drop(socket.accept().await.unwrap());
        let mut client = DevicePluginClient::new(connection.clone());

        for _ in 0..2 {
            let error = client.allocate(allocate(&["x"])).await.unwrap_err();
            assert_eq!(error.code(), Code::Unavailable, "{error:?}");
        }
        assert!(connection.is_closed());
    });
}

#[test]
fn shutdown_removes_the_socket_and_ends_when_the_streams_do() {
    local(async {
        let running = start();
        let mut client = client(&running).await;
        let mut lists = client.list_and_watch(Empty {}).await.unwrap().into_inner();
        lists.message().await.unwrap().unwrap();

        running.stop.send(()).unwrap();
        drop(running.list);

        running.server.await.unwrap().unwrap();
        assert!(!running.path.exists());
        assert!(
            lists.message().await.unwrap().is_none(),
            "the stream ends without an error"
        );
    });
}

#[test]
fn shutdown_does_not_wait_for_a_call_that_never_answers() {
    local(async {
        let running = start();
        let mut client = client(&running).await;
        let stuck = tokio::task::spawn_local(async move {
            client
                .pre_start_container(PreStartContainerRequest::default())
                .await
        });
        tokio::task::yield_now().await;

        running.stop.send(()).unwrap();
        tokio::time::timeout(DRAIN_LIMIT + Duration::from_secs(5), running.server)
            .await
            .expect("the limit holds")
            .unwrap()
            .unwrap();
        assert!(stuck.await.unwrap().is_err());
    });
}
