//! A node in a temporary directory: an embedded kubelet, a scripted driver and a real agent.
#![allow(dead_code, reason = "each test file uses what it needs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

pub(crate) mod api;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mizzen_agent::{Agent, ConfigText, Interpreter, Order};
use mizzen_core::config::{Config, HealthTuning, RawConfig, file};
use mizzen_core::driver::DriverLoader;
use mizzen_core::gpu::GpuUuid;
use mizzen_kubelet_api::deviceplugin::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse, DevicePluginClient,
    Empty, ListAndWatchResponse,
};
use mizzen_kubelet_api::{Connection, connect};
use mizzen_kubelet_sim::{Event, Happening, Kubelet, Snapshot};
use mizzen_testkit::{FakeDriver, HostTree, gpus};
use tempfile::TempDir;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tonic::Streaming;

pub(crate) const GPU: &str = "nvidia.com/gpu";
pub(crate) const SOCKET: &str = "nvidia-gpu.sock";

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that must come.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it took too long")
}

pub(crate) struct Node {
    pub(crate) kubelet: Kubelet,
    pub(crate) driver: FakeDriver,
    pub(crate) host: HostTree,
    pub(crate) config: Config,
    /// The Kubernetes API, for tests whose settings ask for it.
    pub(crate) api: Option<api::FakeApi>,
    agent: Option<RunningAgent>,
    /// The texts that agents of this node have read as configs.
    texts: watch::Sender<Vec<String>>,
    dir: TempDir,
}

struct RunningAgent {
    orders: mpsc::Sender<Order>,
    tasks: JoinSet<()>,
}

impl Node {
    /// A node with this many GPUs and a kubelet, and no agent yet.
    pub(crate) async fn new(count: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("kubelet");
        let kubelet = Kubelet::start(mizzen_kubelet_sim::Config::new(root))
            .await
            .unwrap();
        let host = HostTree::new();
        host.file("dev/nvidiactl", "");
        for index in 0..count {
            host.file(&format!("dev/nvidia{index}"), "");
        }
        let config = Config {
            kubelet_socket: Some(kubelet.registration_socket()),
            state_dir: dir.path().join("state"),
            host_root: host.path().to_owned(),
            driver_root_ctr_path: host.path().join("no-driver-root"),
            health: HealthTuning {
                hold_down: Duration::from_millis(200),
                check_interval: Duration::from_millis(50),
                nvml_call_timeout: Duration::from_secs(5),
            },
            ..Config::default()
        };
        Self {
            kubelet,
            driver: FakeDriver::new(gpus(count)),
            host,
            config,
            api: None,
            agent: None,
            texts: watch::channel(Vec::new()).0,
            dir,
        }
    }

    /// The same, with an agent whose GPUs the kubelet knows.
    pub(crate) async fn running(count: u32) -> Self {
        let mut node = Self::new(count).await;
        node.start_agent();
        node.allocatable(count.into()).await;
        node
    }

    pub(crate) fn start_agent(&mut self) {
        let (orders, receiver) = mpsc::channel(1);
        let driver = self.driver.clone();
        let loader = move |_: &Config| -> Arc<dyn DriverLoader> { Arc::new(driver.clone()) };
        let mut agent = Agent::new(self.config.clone())
            .with_loader(Box::new(loader))
            .with_interpreter(interpreter(self.config.clone(), self.texts.clone()));
        if let Some(api) = &self.api {
            agent = agent.with_client(api.factory());
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { agent.run(receiver).await.unwrap() });
        self.agent = Some(RunningAgent { orders, tasks });
    }

    /// Waits until an agent has read `text` as a config. Before anything else runs, it has also
    /// decided what to do about it.
    pub(crate) async fn has_read(&self, text: &str) {
        let mut texts = self.texts.subscribe();
        let read = |texts: &Vec<String>| texts.iter().any(|read| read == text);
        within(texts.wait_for(read)).await.unwrap();
    }

    pub(crate) async fn order(&self, order: Order) {
        self.agent
            .as_ref()
            .unwrap()
            .orders
            .send(order)
            .await
            .unwrap();
    }

    /// Ends the agent as SIGTERM does.
    pub(crate) async fn stop_agent(&mut self) {
        self.order(Order::Stop).await;
        let mut agent = self.agent.take().unwrap();
        within(agent.tasks.join_next()).await.unwrap().unwrap();
    }

    /// Ends the agent as SIGKILL does: nothing is tidied up.
    pub(crate) async fn kill_agent(&mut self) {
        self.agent.take().unwrap().tasks.shutdown().await;
    }

    /// A path in the node's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn plugin_dir(&self) -> PathBuf {
        self.kubelet
            .registration_socket()
            .parent()
            .unwrap()
            .to_owned()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.plugin_dir().join(SOCKET)
    }

    pub(crate) fn uuid(index: u32) -> GpuUuid {
        gpus(index + 1).pop().unwrap().uuid
    }

    /// Waits until the kubelet can give out exactly this many GPUs.
    pub(crate) async fn allocatable(&self, count: i64) -> Arc<Snapshot> {
        self.kubelet_sees(|snapshot| snapshot.amounts(GPU).1 == count)
            .await
    }

    pub(crate) async fn kubelet_sees(
        &self,
        wanted: impl FnMut(&Snapshot) -> bool,
    ) -> Arc<Snapshot> {
        within(self.kubelet.wait_for(wanted)).await
    }

    /// Whether the kubelet thinks that this GPU is healthy; `None` if it does not know it.
    pub(crate) fn healthy(snapshot: &Snapshot, gpu: &GpuUuid) -> Option<bool> {
        let devices = &snapshot.resources.get(GPU)?.devices;
        devices.get(gpu.as_str()).map(|device| device.healthy)
    }

    /// Calls the plugin as a kubelet does.
    pub(crate) async fn plugin(&self) -> Plugin {
        self.plugin_at(SOCKET).await
    }

    /// Calls the plugin behind the socket of this name.
    pub(crate) async fn plugin_at(&self, socket: &str) -> Plugin {
        let socket = self.plugin_dir().join(socket);
        Plugin {
            client: DevicePluginClient::new(connect(socket).await.unwrap()),
        }
    }
}

/// Reads a config's text as the program does, and joins it with the settings of the test.
fn interpreter(base: Config, texts: watch::Sender<Vec<String>>) -> Interpreter {
    Arc::new(move |config: Option<ConfigText<'_>>| {
        if let Some(config) = config {
            texts.send_modify(|texts| texts.push(config.text.to_owned()));
        }
        let failed = |errors: Vec<mizzen_core::config::ConfigError>| {
            let lines: Vec<String> = errors.iter().map(|error| format!("\n  {error}")).collect();
            format!("it cannot be used:{}", lines.concat())
        };
        let raw = config.map_or_else(RawConfig::default, |config| file::parse(config.text));
        let read = raw.validate().map_err(failed)?;
        let base = base.clone();
        Ok(Config {
            kubelet_socket: base.kubelet_socket,
            state_dir: base.state_dir,
            host_root: base.host_root,
            driver_root_ctr_path: base.driver_root_ctr_path,
            health: base.health,
            health_address: base.health_address,
            source: base.source,
            mig_manager: base.mig_manager,
            ..read
        })
    })
}

/// Waits for a happening.
pub(crate) async fn next(
    events: &mut broadcast::Receiver<Event>,
    wanted: impl Fn(&Happening) -> bool,
) -> Event {
    within(async {
        loop {
            let event = events.recv().await.unwrap();
            if wanted(&event.what) {
                return event;
            }
        }
    })
    .await
}

pub(crate) fn is_registered(what: &Happening) -> bool {
    matches!(what, Happening::PluginRegistered { resource, .. } if resource == GPU)
}

pub(crate) struct Plugin {
    pub(crate) client: DevicePluginClient<Connection>,
}

impl Plugin {
    pub(crate) async fn lists(&mut self) -> Lists {
        Lists {
            stream: self
                .client
                .list_and_watch(Empty {})
                .await
                .unwrap()
                .into_inner(),
        }
    }

    pub(crate) async fn allocate(
        &mut self,
        ids: &[&str],
    ) -> Result<ContainerAllocateResponse, tonic::Status> {
        let devices_ids = ids.iter().map(ToString::to_string).collect();
        let container_requests = vec![ContainerAllocateRequest { devices_ids }];
        let answer = self
            .client
            .allocate(AllocateRequest { container_requests })
            .await?;
        Ok(answer.into_inner().container_responses.remove(0))
    }
}

pub(crate) struct Lists {
    stream: Streaming<ListAndWatchResponse>,
}

impl Lists {
    /// The next list as (healthy, unhealthy); `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<(usize, usize)> {
        let list = within(self.stream.message()).await.ok().flatten()?;
        let healthy = list
            .devices
            .iter()
            .filter(|device| device.health == "Healthy")
            .count();
        Some((healthy, list.devices.len() - healthy))
    }
}
