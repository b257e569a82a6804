//! The manager alone: with a kubelet, an API and a driver that do not do what they should.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Response;
use kube::Client;
use kube::client::Body;
use mizzen_core::config::Config;
use mizzen_core::driver::{DriverLoader, GpuDriver};
use mizzen_core::health::Moment;
use mizzen_core::state::Discovery;
use mizzen_kubelet_api::podresources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices,
    ContainerResources, GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest,
    ListPodResourcesResponse, PodResources, PodResourcesLister, PodResourcesListerServer,
};
use mizzen_kubelet_api::{Socket, serve};
use mizzen_testkit::{ChangeTrouble, FakeDriver, gpus, h100_table};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::{Request, Status};

use super::manager::released;
use super::words::MigState;
use super::*;
use crate::cluster;

/// What the kubelet says: devices that it can give out, and pods with what they hold.
#[derive(Debug, Clone, Default)]
struct Told {
    allocatable: Arc<Mutex<BTreeSet<String>>>,
    held: Arc<Mutex<BTreeMap<String, String>>>,
}

fn device(id: &str) -> ContainerDevices {
    ContainerDevices {
        resource_name: "nvidia.com/gpu".to_owned(),
        device_ids: vec![id.to_owned()],
        topology: None,
    }
}

impl Told {
    /// Answers at this socket.
    fn serve(&self, socket: &Path, tasks: &mut JoinSet<()>) {
        let service = PodResourcesListerServer::new(self.clone());
        let socket = Socket::bind(socket).unwrap();
        let served = serve(socket, service, std::future::pending());
        tasks.spawn(async move {
            let _ = served.await;
        });
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Told {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<tonic::Response<ListPodResourcesResponse>, Status> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let pod = |(name, id): (&String, &String)| PodResources {
            name: name.clone(),
            namespace: "ns".to_owned(),
            containers: vec![ContainerResources {
                name: "main".to_owned(),
                devices: vec![device(id)],
                ..Default::default()
            }],
        };
        Ok(tonic::Response::new(ListPodResourcesResponse {
            pod_resources: held.iter().map(pod).collect(),
        }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<tonic::Response<AllocatableResourcesResponse>, Status> {
        let ids = self
            .allocatable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(tonic::Response::new(AllocatableResourcesResponse {
            devices: ids.iter().map(|id| device(id)).collect(),
            ..Default::default()
        }))
    }

    async fn get(
        &self,
        _: Request<GetPodResourcesRequest>,
    ) -> Result<tonic::Response<GetPodResourcesResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}

/// An API that refuses every eviction for the sake of a disruption budget.
fn strict_api() -> Cluster {
    let service = tower::service_fn(|_: http::Request<Body>| async {
        let status = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429,
            "reason": "TooManyRequests", "message": "it would violate the budget",
        });
        let body = Body::from(status.to_string().into_bytes());
        Ok::<_, Infallible>(Response::builder().status(429).body(body).unwrap())
    });
    Cluster::new(Arc::new(move || Ok(Client::new(service, "default"))))
}

/// The Node with this layout in its label.
fn label(config: Option<&str>) -> Known<NodeLabels> {
    Known::Is(NodeLabels {
        config: config.map(str::to_owned),
        state: None,
    })
}

/// What is known of a driver's GPUs.
fn known(driver: &dyn GpuDriver) -> NodeState {
    let now = Moment {
        monotonic: Duration::ZERO,
        wall: 0,
    };
    let discovery = Discovery {
        inventory: driver.snapshot().unwrap(),
        ..Discovery::default()
    };
    let mut state = NodeState::new(Arc::new(Config::default()), Vec::new(), now);
    state.apply(Event::Discovered(Box::new(discovery)), now);
    state
}

/// A patience that suits tests in which it comes to an end.
fn hasty() -> Patience {
    let ms = Duration::from_millis;
    Patience {
        withdrawal: ms(50),
        eviction: ms(50),
        first_word: ms(300),
        step: ms(50),
        slow_poll: ms(20),
        ..Patience::default()
    }
}

/// A manager of one GPU, and everything around it.
struct Stage {
    driver: FakeDriver,
    told: Told,
    labels: watch::Sender<Known<NodeLabels>>,
    states: mpsc::UnboundedReceiver<Option<MigState>>,
    reports: mpsc::Receiver<cluster::Report>,
    /// What is known of the GPU, with what the manager tells.
    state: watch::Receiver<Arc<NodeState>>,
    given: Given,
    /// The GPUs at which the driver's thread is to look.
    shown: mpsc::UnboundedReceiver<GpuUuid>,
    /// Where the kubelet tells of its pods.
    socket: PathBuf,
    /// Keep what they are for alive.
    _session: watch::Sender<Option<Arc<dyn GpuDriver>>>,
    tasks: JoinSet<()>,
    _dir: TempDir,
}

impl Stage {
    /// The manager looks at the label `config`.
    fn new(config: &str, evicts: bool) -> Self {
        Self::with(label(Some(config)), "", evicts)
    }

    /// The same with what the API has told, and a journal that a former process left.
    fn with(labels: Known<NodeLabels>, journal: &str, evicts: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if !journal.is_empty() {
            std::fs::write(dir.path().join("mig.json"), journal).unwrap();
        }
        let driver = FakeDriver::new(gpus(1));
        driver.make_partitionable(&uuid(), h100_table());
        let session = driver.open().unwrap();
        let state = known(&*session);
        let mut tasks = JoinSet::new();
        let told = Told::default();
        let socket = dir.path().join("kubelet.sock");
        told.serve(&socket, &mut tasks);
        let (labels, labels_receiver) = watch::channel(labels);
        let (session, session_receiver) = watch::channel(Some(session));
        let (published, state_receiver) = watch::channel(Arc::new(state.clone()));
        let (news_sender, news) = mpsc::channel(64);
        tasks.spawn(keep(state, news, published));
        let (show, shown) = mpsc::unbounded_channel();
        let given = Given::new(Duration::from_mins(1));
        let (reporter, reports) = Reporter::new();
        let (states_sender, states) = mpsc::unbounded_channel();
        let manager = Manager {
            inputs: Inputs {
                labels: labels_receiver,
                file: None,
                session: session_receiver,
                state: state_receiver.clone(),
                heard: false,
            },
            evicts,
            cluster: strict_api(),
            kubelet: Kubelet::new(
                socket.clone(),
                None,
                Duration::from_millis(300),
                given.clone(),
            ),
            hands: Hands::default(),
            journal: Journal::load(dir.path()),
            withheld: BTreeMap::new(),
            news: news_sender,
            show: Box::new(move |gpu| {
                let _ = show.send(gpu.clone());
            }),
            reporter,
            states: states_sender,
            patience: hasty(),
            course: Course::new(),
        };
        tasks.spawn(manager.run());
        Self {
            driver,
            told,
            labels,
            states,
            reports,
            state: state_receiver,
            given,
            shown,
            socket,
            _session: session,
            tasks,
            _dir: dir,
        }
    }

    /// The next report that is about a mistake.
    async fn failure(&mut self) -> String {
        loop {
            let report = within(self.reports.recv()).await.unwrap();
            if let cluster::Report::MigConfigFailed(message) = report {
                return message;
            }
        }
    }

    async fn state(&mut self, wanted: Option<MigState>) {
        while within(self.states.recv()).await.unwrap() != wanted {}
    }

    /// Waits until it is this that is withheld.
    async fn withheld(&mut self, wanted: impl Into<BTreeMap<GpuUuid, Withheld>>) {
        let wanted = wanted.into();
        let is = |state: &Arc<NodeState>| *state.withheld() == wanted;
        within(self.state.wait_for(is)).await.unwrap();
    }
}

/// Does what the state task does.
async fn keep(
    mut state: NodeState,
    mut news: mpsc::Receiver<News>,
    published: watch::Sender<Arc<NodeState>>,
) {
    let now = Moment {
        monotonic: Duration::ZERO,
        wall: 0,
    };
    while let Some(News::Events(events)) = news.recv().await {
        for event in events {
            state.apply(event, now);
        }
        published.send_replace(Arc::new(state.clone()));
    }
}

fn uuid() -> GpuUuid {
    gpus(1).remove(0).uuid
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(20), future).await.unwrap()
}

#[tokio::test]
async fn a_driver_that_hangs_is_named_and_its_gpu_stays_withheld_until_it_comes_back() {
    let mut stage = Stage::new("all-1g.10gb", false);
    stage.driver.trouble_change(2, ChangeTrouble::HangsBefore);
    let message = stage.failure().await;
    assert!(message.contains("did not create 1g.10gb"), "{message}");
    assert!(message.contains("no answer"), "{message}");
    stage.withheld([(uuid(), Withheld::Whole)]).await;
    stage.driver.release_changes();
    stage.state(Some(MigState::Success)).await;
    stage.withheld([]).await;
    assert_eq!(stage.driver.mig_layout(&uuid()).instances.len(), 7);
}

#[tokio::test]
async fn a_kubelet_that_does_not_take_the_withdrawal_is_named_and_nothing_is_done() {
    let stage = &mut Stage::new("all-1g.10gb", false);
    let id = uuid().to_string();
    stage.told.allocatable.lock().unwrap().insert(id.clone());
    let message = stage.failure().await;
    assert!(
        message.contains("the kubelet can still give out"),
        "{message}"
    );
    assert!(
        message.contains(&format!("{id} as nvidia.com/gpu")),
        "{message}"
    );
    assert_eq!(stage.driver.changes_asked(), 0);
    stage.withheld([]).await;
    stage.told.allocatable.lock().unwrap().clear();
    stage.state(Some(MigState::Success)).await;
}

#[tokio::test]
async fn pods_that_may_not_be_evicted_in_time_are_named_with_the_reason() {
    let stage = &mut Stage::new("nothing yet", true);
    let held = ("train".to_owned(), uuid().to_string());
    stage.told.held.lock().unwrap().extend([held]);
    stage.labels.send_replace(label(Some("all-1g.10gb")));
    let message = loop {
        let message = stage.failure().await;
        if !message.starts_with("nothing yet") {
            break message;
        }
    };
    assert!(message.contains("pod ns/train"), "{message}");
    assert!(
        message.contains("it would violate the budget (429)"),
        "{message}"
    );
    assert_eq!(stage.driver.changes_asked(), 0);
    stage.withheld([]).await;
    stage.told.held.lock().unwrap().clear();
    stage.state(Some(MigState::Success)).await;
}

#[tokio::test]
async fn a_wish_that_is_taken_back_while_the_kubelet_is_waited_for_is_not_carried_out() {
    let stage = &mut Stage::new("nothing yet", false);
    stage.failure().await;
    stage
        .told
        .allocatable
        .lock()
        .unwrap()
        .insert(uuid().to_string());
    stage.labels.send_replace(label(Some("all-1g.10gb")));
    // The GPU is withheld, and the kubelet does not take it.
    stage.withheld([(uuid(), Withheld::Whole)]).await;
    stage.labels.send_replace(label(None));
    stage.state(None).await;
    stage.withheld([]).await;
    assert_eq!(stage.driver.changes_asked(), 0);
}

#[tokio::test]
async fn a_kubelet_that_was_restarted_is_not_believed_at_once() {
    let stage = &mut Stage::new("nothing yet", false);
    stage.failure().await;
    // It does not know its pods yet, nor what its plugins offer.
    std::fs::remove_file(&stage.socket).unwrap();
    stage.told.serve(&stage.socket, &mut stage.tasks);
    stage.labels.send_replace(label(Some("all-1g.10gb")));
    let message = stage.failure().await;
    assert!(message.contains("the kubelet was restarted"), "{message}");
    assert_eq!(stage.driver.changes_asked(), 0);
    stage.state(Some(MigState::Success)).await;
}

#[tokio::test]
async fn any_pod_that_leaves_a_blocked_gpu_is_noticed_also_one_that_is_not_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let told = Told::default();
    let socket = dir.path().join("kubelet.sock");
    told.serve(&socket, &mut tasks);
    let pods = [("in-the-way", "MIG-1"), ("beside-it", "MIG-2")];
    let pods = pods.map(|(name, id)| (name.to_owned(), id.to_owned()));
    told.held.lock().unwrap().extend(pods);
    let mut kubelet = Kubelet::new(socket, None, Duration::ZERO, Given::default());
    let ids = ["MIG-1", "MIG-2", "MIG-3"].map(str::to_owned);
    let here = kubelet.holdings().await.unwrap().only(&ids.into());
    let blocked = [(uuid(), here)].into();
    let mut left = std::pin::pin!(released(&mut kubelet, &blocked, Duration::from_millis(5)));
    assert!(timeout(Duration::from_millis(50), &mut left).await.is_err());
    told.held.lock().unwrap().remove("beside-it");
    within(left).await;
}

#[tokio::test]
async fn what_was_given_out_just_before_the_withdrawal_is_waited_for() {
    let stage = &mut Stage::new("nothing yet", false);
    stage.failure().await;
    let id = uuid().to_string();
    stage.given.note([&id]);
    stage.labels.send_replace(label(Some("all-1g.10gb")));
    stage.withheld([(uuid(), Withheld::Whole)]).await;
    // The kubelet takes its time to note down who has it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(stage.driver.changes_asked(), 0);
    let held = ("train".to_owned(), id);
    stage.told.held.lock().unwrap().extend([held]);
    stage.withheld([]).await;
    assert_eq!(stage.driver.changes_asked(), 0);
    stage.told.held.lock().unwrap().clear();
    stage.state(Some(MigState::Success)).await;
}

/// The journal of a process that was to cut the GPU into sevenths.
fn begun() -> String {
    let target = serde_json::json!({"enabled": true, "devices": {"1g.10gb": 7}});
    serde_json::json!({"version": 1, "gpus": {uuid().as_str(): target}}).to_string()
}

#[tokio::test]
async fn what_was_begun_waits_for_the_apis_first_word() {
    let stage = &mut Stage::with(Known::NotYet, &begun(), false);
    tokio::time::sleep(Duration::from_millis(100)).await;
    // It is wanted no more.
    stage.labels.send_replace(label(Some("all-disabled")));
    stage.state(Some(MigState::Success)).await;
    assert_eq!(stage.driver.changes_asked(), 0);
}

#[tokio::test]
async fn what_was_begun_goes_on_where_the_api_says_nothing() {
    let stage = &mut Stage::with(Known::NotYet, &begun(), false);
    within(async {
        while stage.driver.mig_layout(&uuid()).instances.len() < 7 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_drivers_thread_is_shown_what_was_changed() {
    let stage = &mut Stage::new("all-1g.10gb", false);
    stage.state(Some(MigState::Success)).await;
    assert_eq!(stage.shown.try_recv(), Ok(uuid()));
}

#[tokio::test]
async fn what_is_wanted_is_read_anew_only_when_label_or_file_may_have_changed() {
    let session = FakeDriver::new(gpus(1)).open().unwrap();
    let (states, state) = watch::channel(Arc::new(known(&*session)));
    let (labels, seen) = watch::channel(label(None));
    let (_session, session) = watch::channel(Some(session));
    let mut inputs = Inputs {
        labels: seen,
        file: None,
        session,
        state,
        heard: false,
    };
    inputs.wish();
    states.send_modify(|_| {});
    within(inputs.changed()).await;
    assert!(!inputs.may_wish_more());
    labels.send_replace(label(Some("all-1g.10gb")));
    within(inputs.changed()).await;
    assert!(inputs.may_wish_more());
    inputs.wish();
    assert!(!inputs.may_wish_more());
}
