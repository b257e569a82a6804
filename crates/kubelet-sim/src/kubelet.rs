//! The embedded kubelet as its users hold it.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mizzen_kubelet_api::deviceplugin::{KUBELET_SOCKET_NAME, RegistrationServer};
use mizzen_kubelet_api::podresources::PodResourcesListerServer;
use mizzen_kubelet_api::{BoundSocket, Socket, serve};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::devices::{CHECKPOINT_NAME, Checkpoint, DeviceManager};
use crate::disturbance::Disturbances;
use crate::event::{Event, Happening};
use crate::life;
use crate::pod::{Invalid, Pod, validate};
use crate::podresources::PodResourcesService;
use crate::record::PodRecord;
use crate::registration::RegistrationService;
use crate::snapshot::Snapshot;
use crate::state::{Shared, State};

/// A kubelet, with as much of an API server and a scheduler around it as pods need.
///
/// It runs on the caller's tokio runtime and by tokio's clock. Dropping it stops it.
#[derive(Debug)]
pub struct Kubelet {
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

/// The tasks of a kubelet process: what ends when it is stopped.
#[derive(Debug)]
struct Running {
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Why a pod was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// It breaks the API server's rules.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is one of that name.
    #[error("pods {0:?} already exists")]
    AlreadyExists(String),
}

impl Kubelet {
    /// Starts a kubelet on a node.
    ///
    /// # Errors
    /// When its directories or sockets cannot be made.
    pub async fn start(config: Config) -> io::Result<Self> {
        let kubelet = Self {
            shared: Arc::new(Shared::new(config)),
            running: Mutex::new(None),
        };
        kubelet.start_again().await?;
        Ok(kubelet)
    }

    /// The node.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// When the embedded kubelet was made, from which [`Event::at`](crate::Event::at) counts.
    pub fn began(&self) -> Instant {
        self.shared.began()
    }

    /// Where plugins register.
    pub fn registration_socket(&self) -> PathBuf {
        self.shared.config.plugin_dir().join(KUBELET_SOCKET_NAME)
    }

    /// Where `PodResources` is served.
    pub fn pod_resources_socket(&self) -> PathBuf {
        self.shared
            .config
            .pod_resources_dir()
            .join(KUBELET_SOCKET_NAME)
    }

    /// Creates a pod, as `kubectl apply` would.
    ///
    /// # Errors
    /// The API server's.
    pub fn create(&self, mut pod: Pod) -> Result<(), CreateError> {
        pod.set_defaults();
        validate(&pod)?;
        self.shared.update(|state| {
            let key = pod.key();
            if state.pods.iter().any(|record| record.pod.key() == key) {
                return Err(CreateError::AlreadyExists(pod.metadata.name.clone()));
            }
            let uid = new_uid(state);
            state.pods.push(PodRecord::new(pod, uid));
            state.say(Happening::PodCreated { pod: key });
            Ok(())
        })
    }

    /// Deletes a pod, named as in [`Snapshot::pod`]; tells whether there was one. Its devices are
    /// free at once.
    pub fn delete(&self, name: &str) -> bool {
        let key = if name.contains('/') {
            name.to_owned()
        } else {
            format!("default/{name}")
        };
        self.shared.update(|state| {
            let Some(index) = state.pods.iter().position(|record| record.pod.key() == key) else {
                return false;
            };
            state.pods.remove(index);
            state.release_inactive();
            state.checkpoint_is_stale |= state.running;
            state.say(Happening::PodDeleted { pod: key });
            true
        })
    }

    /// The node and its pods now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshots.borrow().clone()
    }

    /// The node and its pods, again after every change.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.shared.snapshots.subscribe()
    }

    /// Waits until the node and its pods are as wanted. Without a time limit: the caller's affair.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut snapshots = self.snapshots();
        match snapshots.wait_for(|snapshot| wanted(snapshot)).await {
            Ok(snapshot) => snapshot.clone(),
            // The sender lives as long as `self`.
            Err(_) => self.snapshot(),
        }
    }

    /// What happens from now on. A reader that falls far behind misses events.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Ways to make plugins' lives hard.
    pub fn disturbances(&self) -> &Disturbances {
        &self.shared.disturbances
    }

    /// Stops the kubelet as if it were killed: connections break, `kubelet.sock` stays behind as
    /// a dead file, pods run on, the node's status stays as it was.
    pub async fn stop(&self) {
        let running = self.take_running();
        let Some(Running { stop, tasks }) = running else {
            return;
        };
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        self.shared.update(|state| {
            state.running = false;
            state.clients.clear();
            state.say(Happening::KubeletStopped);
        });
    }

    /// Starts the kubelet after [`Self::stop`]: it removes all sockets of the plugin directory,
    /// those of plugins too, reads its checkpoint, and listens.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_again(&self) -> io::Result<()> {
        let config = &self.shared.config;
        fs::create_dir_all(config.plugin_dir())?;
        fs::create_dir_all(config.pod_resources_dir())?;
        let checkpoint = Checkpoint::read(&config.plugin_dir());
        remove_sockets(&config.plugin_dir())?;
        let bound = BoundSocket::bind(self.registration_socket())?;
        let gap = self.shared.disturbances.listen_gap();
        if !gap.is_zero() {
            sleep(gap).await;
        }
        let registration = bound.listen()?.keeping_file();
        let pod_resources = Socket::bind(self.pod_resources_socket())?.keeping_file();
        self.shared.update(|state| begin(state, checkpoint));
        let running = self.run(registration, pod_resources);
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(running);
        Ok(())
    }

    /// Stops and starts, with `downtime` in between.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&self, downtime: Duration) -> io::Result<()> {
        self.stop().await;
        if !downtime.is_zero() {
            sleep(downtime).await;
        }
        self.start_again().await
    }

    fn run(&self, registration: Socket, pod_resources: Socket) -> Running {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let shared = &self.shared;
        let service = RegistrationService {
            shared: shared.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        // A killed kubelet drains nothing, hence no shutdown signal: the tasks are dropped.
        let serve_registration = serve(
            registration,
            RegistrationServer::new(service),
            std::future::pending(),
        );
        let service = PodResourcesService::new(shared.clone());
        let serve_pod_resources = serve(
            pod_resources,
            PodResourcesListerServer::new(service),
            std::future::pending(),
        );
        let until_stopped = || stop.clone();
        tasks.spawn(until_stopped().run_until_cancelled_owned(serve_registration));
        tasks.spawn(until_stopped().run_until_cancelled_owned(serve_pod_resources));
        tasks.spawn(until_stopped().run_until_cancelled_owned(life::run(shared.clone())));
        Running { stop, tasks }
    }

    fn take_running(&self) -> Option<Running> {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if let Some(running) = self.take_running() {
            running.stop.cancel();
        }
    }
}

/// The device manager of a new kubelet process.
fn begin(state: &mut State, checkpoint: io::Result<Checkpoint>) {
    let checkpoint = checkpoint.unwrap_or_else(|error| {
        let message = format!("failed to read checkpoint file, going on without: {error}");
        state.say(Happening::FileTrouble { message });
        Checkpoint::default()
    });
    state.devices = DeviceManager::restored(checkpoint, Instant::now());
    state.running = true;
    state.say(Happening::KubeletStarted);
}

/// What the kubelet clears away at its start: sockets, whoever's they are. Its checkpoint, other
/// files and directories stay.
fn remove_sockets(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        if is_socket && entry.file_name() != CHECKPOINT_NAME {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Looks like a UUID; unique on this node.
fn new_uid(state: &mut State) -> String {
    let (high, low) = (state.arbitrary.next(), state.arbitrary.next());
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}
