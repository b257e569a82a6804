//! A kubelet in a temporary directory and a small plugin to set against it.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mizzen_kubelet_api::deviceplugin::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateResponse,
    ContainerPreferredAllocationResponse, Device, DevicePlugin, DevicePluginOptions,
    DevicePluginServer, DeviceSpec, Empty, HEALTHY, ListAndWatchResponse, Mount, NumaNode,
    PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse, RegisterRequest, RegistrationClient, TopologyInfo, UNHEALTHY,
    VERSION,
};
use mizzen_kubelet_api::{Socket, connect, serve};
use mizzen_kubelet_sim::pod::parse_manifest;
use mizzen_kubelet_sim::{Config, CreateError, Kubelet, Phase, Snapshot};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

pub(crate) const GPU: &str = "nvidia.com/gpu";

/// Longer than anything here takes, shorter than a person's patience.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running kubelet and its directory.
pub(crate) struct Node {
    pub(crate) kubelet: Kubelet,
    _dir: TempDir,
}

pub(crate) async fn node() -> Node {
    node_with(|_| ()).await
}

pub(crate) async fn node_with(change: impl FnOnce(&mut Config)) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path());
    change(&mut config);
    Node {
        kubelet: Kubelet::start(config).await.unwrap(),
        _dir: dir,
    }
}

impl Node {
    /// Creates the pods of a manifest.
    pub(crate) fn apply(&self, manifest: &str) {
        for pod in parse_manifest(manifest).unwrap() {
            self.kubelet.create(pod).unwrap();
        }
    }

    /// Creates a pod of one container with this many GPUs.
    pub(crate) fn apply_gpu_pod(&self, name: &str, gpus: usize) {
        self.apply(&gpu_pod(name, gpus, ""));
    }

    /// The API server's answer to a pod that it does not take.
    pub(crate) fn refusal(&self, manifest: &str) -> CreateError {
        self.kubelet
            .create(parse_manifest(manifest).unwrap().remove(0))
            .unwrap_err()
    }

    /// Waits for the node to be as wanted, and fails with what it was instead.
    pub(crate) async fn wait_for(
        &self,
        what: &str,
        wanted: impl FnMut(&Snapshot) -> bool,
    ) -> Arc<Snapshot> {
        tokio::time::timeout(PATIENCE, self.kubelet.wait_for(wanted))
            .await
            .unwrap_or_else(|_| panic!("waited for {what}; it is {:#?}", self.kubelet.snapshot()))
    }

    /// Waits for capacity and allocatable of the GPUs.
    pub(crate) async fn wait_for_gpus(&self, capacity: i64, allocatable: i64) -> Arc<Snapshot> {
        let what = format!("{capacity}/{allocatable} GPUs");
        self.wait_for(&what, |snapshot| {
            snapshot.amounts(GPU) == (capacity, allocatable)
        })
        .await
    }

    /// Waits for a pod to be in a phase.
    pub(crate) async fn wait_for_phase(&self, pod: &str, phase: Phase) -> Arc<Snapshot> {
        self.wait_for(&format!("{pod} to be {phase:?}"), |snapshot| {
            snapshot.pod(pod).is_some_and(|pod| pod.phase == phase)
        })
        .await
    }

    /// Waits for a pod to be pending with a message.
    pub(crate) async fn wait_for_pending(&self, pod: &str) -> String {
        let snapshot = self
            .wait_for(&format!("{pod} to be unschedulable"), |snapshot| {
                snapshot
                    .pod(pod)
                    .is_some_and(|pod| pod.reason == "Unschedulable")
            })
            .await;
        snapshot.pod(pod).unwrap().message.clone()
    }

    /// Registers a plugin of the default shape: `count` GPUs, two NUMA nodes.
    pub(crate) async fn plugin(&self, count: usize) -> Plugin {
        let plugin = Plugin::serve(self, "nvidia-gpu.sock", gpus(count));
        plugin.register(self).await.unwrap();
        let count = i64::try_from(count).unwrap();
        self.wait_for_gpus(count, count).await;
        plugin
    }

    /// Sends a registration.
    pub(crate) async fn register(
        &self,
        version: &str,
        endpoint: &str,
        resource: &str,
    ) -> Result<(), Status> {
        let connection = connect(self.kubelet.registration_socket()).await?;
        let request = RegisterRequest {
            version: version.to_owned(),
            endpoint: endpoint.to_owned(),
            resource_name: resource.to_owned(),
            options: None,
        };
        RegistrationClient::new(connection)
            .register(request)
            .await
            .map(drop)
    }
}

/// A pod of one container with this many GPUs and more of its spec.
pub(crate) fn gpu_pod(name: &str, gpus: usize, spec: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  annotations: {{mizzen.dev/run-for: 1h}}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: cuda
    resources: {{limits: {{nvidia.com/gpu: {gpus}}}}}
  {spec}
"
    )
}

/// Healthy GPUs `gpu-0` and so on, the first half on NUMA node 0, the others on 1.
pub(crate) fn gpus(count: usize) -> Vec<Device> {
    let device = |index| Device {
        id: format!("gpu-{index}"),
        health: HEALTHY.to_owned(),
        topology: Some(TopologyInfo {
            nodes: vec![NumaNode {
                id: i64::from(index >= count / 2),
            }],
        }),
    };
    (0..count).map(device).collect()
}

/// What the plugin does and what it was asked.
#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    pub(crate) options: DevicePluginOptions,
    /// Answer of `GetPreferredAllocation`.
    pub(crate) prefers: Vec<String>,
    /// Error of `GetPreferredAllocation`.
    pub(crate) prefer_error: Option<Status>,
    /// `Allocate` never answers.
    pub(crate) allocate_hangs: bool,
    /// Error of `Allocate`.
    pub(crate) allocate_error: Option<Status>,
    /// Error of `PreStartContainer`.
    pub(crate) pre_start_error: Option<Status>,
    /// Arguments of the calls so far.
    pub(crate) allocated: Vec<Vec<String>>,
    pub(crate) preferred: Vec<(Vec<String>, Vec<String>, i32)>,
    pub(crate) pre_started: Vec<Vec<String>>,
    pub(crate) options_asked: usize,
}

#[derive(Clone)]
struct Service {
    behaviour: Arc<Mutex<Behaviour>>,
    devices: watch::Receiver<Vec<Device>>,
}

/// A plugin that serves.
pub(crate) struct Plugin {
    pub(crate) behaviour: Arc<Mutex<Behaviour>>,
    devices: watch::Sender<Vec<Device>>,
    endpoint: String,
    server: JoinHandle<std::io::Result<()>>,
}

impl Plugin {
    /// Serves on a socket in the kubelet's directory, without registering.
    pub(crate) fn serve(node: &Node, endpoint: &str, devices: Vec<Device>) -> Self {
        let path = node.kubelet.config().plugin_dir().join(endpoint);
        let (devices, receiver) = watch::channel(devices);
        let behaviour = Arc::new(Mutex::new(Behaviour::default()));
        let service = Service {
            behaviour: behaviour.clone(),
            devices: receiver,
        };
        let socket = Socket::bind(path).unwrap();
        let service = DevicePluginServer::new(service);
        #[allow(clippy::disallowed_methods, reason = "ended by the plugin's drop")]
        let server = tokio::spawn(serve(socket, service, std::future::pending()));
        Self {
            behaviour,
            devices,
            endpoint: endpoint.to_owned(),
            server,
        }
    }

    pub(crate) async fn register(&self, node: &Node) -> Result<(), Status> {
        node.register(VERSION, &self.endpoint, GPU).await
    }

    pub(crate) fn set<R>(&self, change: impl FnOnce(&mut Behaviour) -> R) -> R {
        change(&mut self.behaviour.lock().unwrap())
    }

    pub(crate) fn report(&self, devices: Vec<Device>) {
        self.devices.send_replace(devices);
    }

    pub(crate) fn set_health(&self, id: &str, healthy: bool) {
        self.devices.send_modify(|devices| {
            let device = devices.iter_mut().find(|device| device.id == id).unwrap();
            if healthy { HEALTHY } else { UNHEALTHY }.clone_into(&mut device.health);
        });
    }

    /// Ends at once, as if killed.
    pub(crate) fn die(self) {
        drop(self);
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        let mut behaviour = self.behaviour.lock().unwrap();
        behaviour.options_asked += 1;
        Ok(Response::new(behaviour.options))
    }

    type ListAndWatchStream =
        Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    async fn list_and_watch(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let lists = WatchStream::new(self.devices.clone());
        Ok(Response::new(Box::pin(
            lists.map(|devices| Ok(ListAndWatchResponse { devices })),
        )))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let mut behaviour = self.behaviour.lock().unwrap();
        for asked in request.into_inner().container_requests {
            let available = asked.available_device_ids.into_iter();
            let available = available
                .map(|id| String::from_utf8(id.into()).unwrap())
                .collect();
            let lists: (Vec<String>, _) = (available, asked.must_include_device_ids);
            behaviour
                .preferred
                .push((lists.0, lists.1, asked.allocation_size));
        }
        if let Some(error) = &behaviour.prefer_error {
            return Err(error.clone());
        }
        let device_ids = behaviour.prefers.clone();
        let container_responses = vec![ContainerPreferredAllocationResponse { device_ids }];
        Ok(Response::new(PreferredAllocationResponse {
            container_responses,
        }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let hangs = self.behaviour.lock().unwrap().allocate_hangs;
        if hangs {
            std::future::pending::<()>().await;
        }
        let mut behaviour = self.behaviour.lock().unwrap();
        if let Some(error) = &behaviour.allocate_error {
            return Err(error.clone());
        }
        let mut container_responses = Vec::new();
        for container in request.into_inner().container_requests {
            behaviour.allocated.push(container.devices_ids.clone());
            container_responses.push(answer(container.devices_ids));
        }
        Ok(Response::new(AllocateResponse {
            container_responses,
        }))
    }

    async fn pre_start_container(
        &self,
        request: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        let mut behaviour = self.behaviour.lock().unwrap();
        if let Some(error) = &behaviour.pre_start_error {
            return Err(error.clone());
        }
        behaviour.pre_started.push(request.into_inner().devices_ids);
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

/// Everything that an answer can hold.
fn answer(mut ids: Vec<String>) -> ContainerAllocateResponse {
    ids.sort();
    let node = |path: &str| DeviceSpec {
        container_path: path.to_owned(),
        host_path: path.to_owned(),
        permissions: "rw".to_owned(),
    };
    let mount = |id: &String| Mount {
        container_path: format!("/var/run/nvidia-container-devices/{id}"),
        host_path: "/dev/null".to_owned(),
        read_only: true,
    };
    ContainerAllocateResponse {
        envs: BTreeMap::from([("NVIDIA_VISIBLE_DEVICES".to_owned(), ids.join(","))]),
        mounts: ids.iter().map(mount).collect(),
        // The second is a repetition that the kubelet drops.
        devices: vec![
            node("/dev/nvidiactl"),
            node("/dev/nvidiactl"),
            node("/dev/nvidia0"),
        ],
        annotations: BTreeMap::from([("cdi.k8s.io/plugin".to_owned(), ids.join(","))]),
        cdi_devices: ids
            .iter()
            .map(|id| CdiDevice {
                name: format!("n.com/gpu={id}"),
            })
            .collect(),
    }
}
