//! Runtimes that are slow, that start anew, and that change.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::channel as thread_channel;
use std::thread;

use mizzen_core::config::DeviceListStrategies;
use mizzen_core::config::DeviceListStrategy::{CdiCri, Envvar};
use mizzen_kubelet_api::cri::{
    RuntimeService, RuntimeServiceServer, StatusRequest, StatusResponse, VersionRequest,
    VersionResponse,
};
use mizzen_kubelet_api::{Socket, serve};
use mizzen_testkit::HostTree;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status};

use super::*;

/// How a containerd behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Silent,
    /// As containerd is before its CRI plugin is.
    NotReady,
    /// It says what it is, and not yet how it is set up.
    HalfReady,
    /// It answers, with CDI on or off.
    Answers(bool),
}

fn not_ready() -> Status {
    Status::unknown("server is not initialized yet")
}

struct Fake(watch::Receiver<Manner>);

impl Fake {
    /// Its manner, as soon as it is not silent.
    async fn manner(&self) -> Manner {
        let mut manner = self.0.clone();
        let spoken = manner.wait_for(|manner| *manner != Manner::Silent).await;
        spoken.map_or(Manner::Silent, |manner| *manner)
    }
}

#[tonic::async_trait]
impl RuntimeService for Fake {
    async fn version(
        &self,
        _: Request<VersionRequest>,
    ) -> Result<Response<VersionResponse>, Status> {
        if self.manner().await == Manner::NotReady {
            return Err(not_ready());
        }
        Ok(Response::new(VersionResponse {
            runtime_name: "containerd".to_owned(),
            runtime_version: "v1.7.24".to_owned(),
            ..VersionResponse::default()
        }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let Manner::Answers(is_on) = self.manner().await else {
            return Err(not_ready());
        };
        let config = format!(
            "{{\"enableCDI\": {is_on}, \"cdiSpecDirs\": [\"/etc/cdi\", \"/var/run/cdi\"]}}"
        );
        let info = [("config".to_owned(), config)];
        Ok(Response::new(StatusResponse { info: info.into() }))
    }
}

/// A node whose containerd's file has CDI off.
struct Scene {
    tree: HostTree,
    manner: watch::Sender<Manner>,
    servers: JoinSet<()>,
}

impl Scene {
    fn new(manner: Manner) -> Self {
        let tree = HostTree::new();
        tree.file("etc/containerd/config.toml", "version = 2\n");
        tree.file("run/containerd/x", "");
        let mut scene = Self {
            tree,
            manner: watch::channel(manner).0,
            servers: JoinSet::new(),
        };
        scene.serve();
        scene
    }

    fn socket(&self) -> PathBuf {
        self.tree.path().join("run/containerd/containerd.sock")
    }

    fn serve(&mut self) {
        let socket = Socket::bind(self.socket()).unwrap();
        let service = RuntimeServiceServer::new(Fake(self.manner.subscribe()));
        self.servers.spawn(async move {
            let _ = serve(socket, service, std::future::pending()).await;
        });
    }

    fn config(&self) -> Arc<Config> {
        Arc::new(Config {
            host_root: self.tree.path().to_owned(),
            driver_root_ctr_path: self.tree.path().join("no-driver-root"),
            device_list_strategies: DeviceListStrategies::chosen(Envvar, false),
            ..Config::default()
        })
    }
}

/// Whether CDI was chosen.
fn is_cdi(event: Option<Event>) -> bool {
    let Some(Event::Chosen(choice)) = event else {
        panic!("{event:?}");
    };
    assert!(choice.cdi.is_none_or(|strategy| strategy == CdiCri));
    choice.cdi.is_some()
}

/// What follows is told, in order.
fn follow(chooser: Chooser, config: Arc<Config>, tasks: &mut JoinSet<()>) -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(1);
    let (configs, followed) = watch::channel(config);
    tasks.spawn(async move {
        let tell = move |event| {
            let sender = sender.clone();
            async move { drop(sender.send(event).await) }
        };
        let stop = CancellationToken::new();
        let _ = chooser.follow(followed, tell, stop).await;
        drop(configs);
    });
    receiver
}

#[tokio::test]
async fn a_runtime_that_is_silent_at_first_is_heard_as_soon_as_it_answers() {
    let scene = Scene::new(Manner::Silent);
    let mut chooser = Chooser::default();
    assert!(
        !is_cdi(chooser.first(&scene.config()).await),
        "as its file says"
    );
    let mut tasks = JoinSet::new();
    let mut told = follow(chooser, scene.config(), &mut tasks);
    scene.manner.send_replace(Manner::Answers(true));
    while !is_cdi(told.recv().await) {}
}

#[tokio::test]
async fn a_runtime_that_starts_anew_can_do_what_it_could_until_it_says_otherwise() {
    let mut scene = Scene::new(Manner::Answers(true));
    let mut chooser = Chooser::default();
    assert!(is_cdi(chooser.first(&scene.config()).await));
    let mut tasks = JoinSet::new();
    let mut told = follow(chooser, scene.config(), &mut tasks);
    assert!(is_cdi(told.recv().await));
    for manner in [Manner::NotReady, Manner::HalfReady] {
        scene.manner.send_replace(manner);
        scene.servers.shutdown().await;
        scene.serve();
        assert!(is_cdi(told.recv().await), "{manner:?}");
        assert!(is_cdi(told.recv().await), "{manner:?}, asked again");
    }
    scene.manner.send_replace(Manner::Answers(false));
    while is_cdi(told.recv().await) {}
}

#[tokio::test]
async fn one_that_was_heard_and_is_away_stays_what_it_was() {
    let mut scene = Scene::new(Manner::Answers(true));
    let mut chooser = Chooser::default();
    assert!(is_cdi(chooser.first(&scene.config()).await));
    scene.servers.shutdown().await;
    let _ = fs::remove_file(scene.socket());
    let found = look_aside(&scene.config()).await.unwrap();
    assert!(found.is_some());
    let decision = chooser.decide(&scene.config(), found).await;
    assert!(decision.awaits_answer && is_cdi(decision.choice.map(event)));
    let none = chooser.decide(&scene.config(), None).await;
    assert!(none.awaits_answer && none.choice.is_none());
}

#[tokio::test]
async fn a_slow_disk_does_not_hold_the_agents_thread() {
    let scene = Scene::new(Manner::Answers(true));
    let file = scene.tree.path().join("etc/containerd/config.toml");
    fs::remove_file(&file).unwrap();
    mknodat(CWD, &file, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let (signal, signalled) = thread_channel();
    let writer = thread::spawn(move || {
        let others_run = signalled.recv_timeout(Duration::from_secs(10)).is_ok();
        fs::write(file, "version = 2\n").unwrap();
        others_run
    });
    let (config, mut chooser) = (scene.config(), Chooser::default());
    let (first, ()) = tokio::join!(chooser.first(&config), async {
        signal.send(()).unwrap();
    });
    assert!(is_cdi(first));
    assert!(writer.join().unwrap());
}
