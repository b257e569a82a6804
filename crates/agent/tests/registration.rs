//! How the agent keeps itself known to a kubelet that refuses, hangs, restarts and forgets.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use mizzen_agent::Order;
use mizzen_core::config::Config;
use mizzen_kubelet_api::deviceplugin::{RegisterRequest, RegistrationClient, VERSION};
use mizzen_kubelet_api::{Socket, connect};
use mizzen_kubelet_sim::Happening;
use support::{GPU, Node, SOCKET, is_registered, next, within};

/// Whatever the kubelet did, so long after its last misdeed the GPUs are back.
const PROMISE: Duration = Duration::from_millis(250);
/// What a test machine under load may add to it.
const SLACK: Duration = Duration::from_millis(250);

#[tokio::test]
async fn all_gpus_are_registered_and_allocatable() {
    let node = Node::running(8).await;
    let snapshot = node.kubelet.snapshot();
    assert_eq!(snapshot.amounts(GPU), (8, 8));
    let device = &snapshot.resources[GPU].devices[Node::uuid(5).as_str()];
    assert_eq!(device.numa_nodes, [1]);
}

#[tokio::test]
async fn a_refused_registration_is_tried_again_at_once() {
    let mut node = Node::new(8).await;
    node.kubelet.disturbances().refuse_registrations(3);
    let mut events = node.kubelet.events();
    node.start_agent();
    let is_refused = |what: &Happening| matches!(what, Happening::RegistrationRefused { .. });
    for _ in 0..3 {
        next(&mut events, is_refused).await;
    }
    let refused = Instant::now();
    next(&mut events, is_registered).await;
    assert!(
        refused.elapsed() < PROMISE + SLACK,
        "{:?}",
        refused.elapsed()
    );
    node.allocatable(8).await;
}

#[tokio::test]
async fn a_kubelet_that_was_silent_is_registered_with_as_soon_as_it_speaks() {
    let mut node = Node::new(8).await;
    let silence = Duration::from_millis(1500);
    node.kubelet.disturbances().stay_silent_for(silence);
    let speaks = Instant::now() + silence;
    node.start_agent();
    node.allocatable(8).await;
    let late = speaks.elapsed();
    assert!(late < PROMISE + SLACK, "{late:?}");
}

#[tokio::test]
async fn a_kubelet_that_comes_after_the_agent_is_registered_with() {
    let mut node = Node::new(8).await;
    node.kubelet.stop().await;
    fs::remove_dir_all(node.plugin_dir()).unwrap();
    node.start_agent();
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.kubelet.start_again().await.unwrap();
    let up = Instant::now();
    node.allocatable(8).await;
    // The plugin directory itself is new: its coming is noticed, too.
    assert!(up.elapsed() < Duration::from_secs(1), "{:?}", up.elapsed());
}

#[tokio::test]
async fn kubelet_restarts_in_quick_succession_cost_no_stall() {
    let node = Node::running(8).await;
    for number in 0_u64..40 {
        let pause = 2 + (number * 37) % 199;
        node.kubelet
            .restart(Duration::from_millis(pause % 20))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    let mut events = node.kubelet.events();
    node.kubelet.restart(Duration::ZERO).await.unwrap();
    let up = Instant::now();
    next(&mut events, is_registered).await;
    assert!(up.elapsed() < PROMISE + SLACK, "{:?}", up.elapsed());
    node.allocatable(8).await;
    assert_eq!(
        node.driver.opened(),
        1,
        "a kubelet restart does not touch the driver"
    );
}

#[tokio::test]
async fn a_socket_that_is_bound_before_it_listens_costs_milliseconds() {
    let node = Node::running(8).await;
    node.kubelet
        .disturbances()
        .set_listen_gap(Duration::from_millis(20));
    for _ in 0..5 {
        let mut events = node.kubelet.events();
        node.kubelet
            .restart(Duration::from_millis(5))
            .await
            .unwrap();
        let up = Instant::now();
        next(&mut events, is_registered).await;
        assert!(
            up.elapsed() < Duration::from_millis(150),
            "{:?}",
            up.elapsed()
        );
    }
    node.allocatable(8).await;
}

#[tokio::test]
async fn our_own_socket_is_made_again_when_it_vanishes() {
    let node = Node::running(8).await;
    let mut events = node.kubelet.events();
    fs::remove_file(node.socket()).unwrap();
    next(&mut events, is_registered).await;
    node.allocatable(8).await;
    node.plugin().await.lists().await.next().await.unwrap();
}

#[tokio::test]
async fn our_own_socket_is_taken_back_from_another_plugin() {
    let node = Node::running(8).await;
    let mut events = node.kubelet.events();
    let thief = Socket::bind(node.socket()).unwrap();
    next(&mut events, is_registered).await;
    node.allocatable(8).await;
    assert!(!thief.place().is_held());
}

#[tokio::test]
async fn when_the_kubelet_drops_the_stream_the_resource_is_registered_again() {
    let mut node = Node::running(8).await;
    let mut events = node.kubelet.events();
    // Another plugin takes the name, and dies: the kubelet then knows no plugin for it.
    let rival = node.config.device_plugin_dir().join("rival.sock");
    let rival = serve_rival(Socket::bind(&rival).unwrap());
    let client = connect(node.kubelet.registration_socket()).await.unwrap();
    let request = RegisterRequest {
        version: VERSION.to_owned(),
        endpoint: "rival.sock".to_owned(),
        resource_name: GPU.to_owned(),
        options: None,
    };
    let mut client = RegistrationClient::new(client);
    within(client.register(request)).await.unwrap();
    let by = |endpoint: &'static str| move |what: &Happening| matches!(what, Happening::PluginRegistered { endpoint: by, .. } if by == endpoint);
    next(&mut events, by("rival.sock")).await;
    drop(rival);
    next(&mut events, by(SOCKET)).await;
    node.allocatable(8).await;
    node.stop_agent().await;
}

/// A plugin with one device, served until this is dropped.
fn serve_rival(socket: Socket) -> tokio::task::JoinSet<std::io::Result<()>> {
    let mut tasks = tokio::task::JoinSet::new();
    let server = mizzen_kubelet_api::deviceplugin::DevicePluginServer::new(rival::Rival);
    tasks.spawn(mizzen_kubelet_api::serve(
        socket,
        server,
        std::future::pending(),
    ));
    tasks
}

mod rival {
    use std::pin::Pin;

    use futures_util::stream::{Stream, StreamExt as _};
    use mizzen_kubelet_api::deviceplugin::{
        AllocateRequest, AllocateResponse, Device, DevicePlugin, DevicePluginOptions, Empty,
        ListAndWatchResponse, PreStartContainerRequest, PreStartContainerResponse,
        PreferredAllocationRequest, PreferredAllocationResponse,
    };
    use tonic::{Request, Response, Status};

    /// Another device plugin for GPUs.
    #[derive(Debug, Clone)]
    pub(crate) struct Rival;

    #[tonic::async_trait]
    impl DevicePlugin for Rival {
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
            let id = super::Node::uuid(0).to_string();
            let device = Device {
                id,
                health: "Healthy".to_owned(),
                topology: None,
            };
            let list = ListAndWatchResponse {
                devices: vec![device],
            };
            let lists = futures_util::stream::iter([Ok(list)]);
            Ok(Response::new(Box::pin(
                lists.chain(futures_util::stream::pending()),
            )))
        }

        async fn get_preferred_allocation(
            &self,
            _: Request<PreferredAllocationRequest>,
        ) -> Result<Response<PreferredAllocationResponse>, Status> {
            Err(Status::unimplemented("not offered"))
        }

        async fn allocate(
            &self,
            _: Request<AllocateRequest>,
        ) -> Result<Response<AllocateResponse>, Status> {
            Err(Status::unimplemented("not offered"))
        }

        async fn pre_start_container(
            &self,
            _: Request<PreStartContainerRequest>,
        ) -> Result<Response<PreStartContainerResponse>, Status> {
            Ok(Response::new(PreStartContainerResponse {}))
        }
    }
}

#[tokio::test]
async fn without_a_kubelet_socket_the_plugin_is_served_and_not_registered() {
    let mut node = Node::running(2).await;
    let config = Config {
        kubelet_socket: None,
        ..node.config.clone()
    };
    // The default directory is a kubelet's; what is checked here is that ours is let go of.
    node.order(Order::Reload(Box::new(config))).await;
    node.allocatable(0).await;
    within(async {
        while node.socket().exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    node.stop_agent().await;
}

#[tokio::test]
async fn a_stop_removes_the_sockets_and_ends_in_time() {
    let mut node = Node::running(8).await;
    let before = Instant::now();
    node.stop_agent().await;
    assert!(
        before.elapsed() < Duration::from_secs(2),
        "{:?}",
        before.elapsed()
    );
    assert!(!node.socket().exists());
    // The kubelet keeps the capacity for a restart, and gives nothing out meanwhile.
    let snapshot = node.allocatable(0).await;
    assert_eq!(snapshot.amounts(GPU), (8, 0));
}

#[tokio::test]
async fn an_agent_that_was_killed_is_replaced_without_loss() {
    let mut node = Node::running(8).await;
    node.kill_agent().await;
    node.allocatable(0).await;
    node.start_agent();
    node.allocatable(8).await;
}

#[tokio::test]
async fn a_reload_that_changes_nothing_disturbs_no_stream() {
    let node = Node::running(8).await;
    let mut plugin = node.plugin().await;
    let mut lists = plugin.lists().await;
    assert_eq!(lists.next().await, Some((8, 0)));
    let mut events = node.kubelet.events();
    for _ in 0..20 {
        node.order(Order::Reload(Box::new(node.config.clone())))
            .await;
    }
    node.driver.xid(Some(&Node::uuid(3)), 79);
    assert_eq!(lists.next().await, Some((7, 1)), "the same stream goes on");
    node.allocatable(7).await;
    while let Ok(event) = events.try_recv() {
        assert!(!is_registered(&event.what), "{event}");
    }
    assert_eq!(node.driver.opened(), 1);
}
