//! A kubelet that only measures: it notes when a plugin registers and when its lists arrive.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use mizzen_kubelet_api::deviceplugin::{
    AllocateRequest, ContainerAllocateRequest, ContainerPreferredAllocationRequest,
    DevicePluginClient, Empty, ListAndWatchResponse, PreferredAllocationRequest, RegisterRequest,
    Registration, RegistrationServer,
};
use mizzen_kubelet_api::{Connection, Socket, connect, serve};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status, Streaming};

/// How long any single answer of the plugin may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(40);

/// A Register call, at the moment it arrived.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) at: Instant,
    pub(super) request: RegisterRequest,
}

/// The registration side of a kubelet, from [`Kubelet::start`] until it is dropped or stopped.
#[derive(Debug)]
pub(super) struct Kubelet {
    dir: PathBuf,
    /// When the registration socket could be connected to.
    pub(super) listening: Instant,
    registrations: mpsc::UnboundedReceiver<Registered>,
    server: JoinHandle<io::Result<()>>,
}

/// How the kubelet treats the plugin.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Manners {
    /// Register calls that are refused before the first is accepted.
    pub(super) refuse: usize,
    /// How long connections are accepted without a word; those stay silent for good.
    pub(super) silent: Duration,
}

impl Kubelet {
    /// Listens in `dir` and behaves as `manners` say.
    pub(super) async fn start(dir: &Path, manners: Manners) -> Result<Self> {
        let socket = Socket::bind(dir.join("kubelet.sock")).context("bind the kubelet's socket")?;
        let mut listening = Instant::now();
        let silenced = stay_silent(&socket, manners.silent).await;
        if manners.silent > Duration::ZERO {
            listening = Instant::now();
        }
        let (seen, registrations) = mpsc::unbounded_channel();
        let desk = Desk {
            seen,
            refuse: std::sync::atomic::AtomicUsize::new(manners.refuse),
        };
        #[allow(
            clippy::disallowed_methods,
            reason = "owned by the Kubelet, aborted with it"
        )]
        let server = tokio::spawn(async move {
            let _silenced = silenced;
            serve(
                socket,
                RegistrationServer::new(desk),
                std::future::pending(),
            )
            .await
        });
        Ok(Self {
            dir: dir.to_owned(),
            listening,
            registrations,
            server,
        })
    }

    /// The next Register call.
    pub(super) async fn registered(&mut self) -> Result<Registered> {
        timeout(PATIENCE, self.registrations.recv())
            .await
            .context("the plugin did not register")?
            .context("the kubelet has stopped")
    }

    /// Connects to the plugin that registered as `request`.
    pub(super) async fn dial(&self, request: &RegisterRequest) -> Result<Plugin> {
        let connection = connect(self.dir.join(&request.endpoint)).await?;
        Ok(Plugin {
            client: DevicePluginClient::new(connection),
        })
    }

    /// Ends as a kubelet's process does, in the middle of whatever it was doing. Afterwards its own
    /// socket and the plugins' are gone, as when it starts again.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.server.abort();
        let _ = (&mut self.server).await;
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "sock")
            {
                // The plugin may have been quicker.
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(())
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Accepts connections for `silent` and says nothing on them.
async fn stay_silent(socket: &Socket, silent: Duration) -> Vec<tokio::net::UnixStream> {
    let mut held = Vec::new();
    // Without this, one connection that is quick enough would be accepted and never answered.
    if silent.is_zero() {
        return held;
    }
    let end = Instant::now() + silent;
    while let Ok(Ok(stream)) = tokio::time::timeout_at(end, socket.accept()).await {
        held.push(stream);
    }
    held
}

struct Desk {
    seen: mpsc::UnboundedSender<Registered>,
    refuse: std::sync::atomic::AtomicUsize,
}

#[tonic::async_trait]
impl Registration for Desk {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        use std::sync::atomic::Ordering::Relaxed;
        let refused = self
            .refuse
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        let _ = self.seen.send(Registered {
            at: Instant::now(),
            request: request.into_inner(),
        });
        if refused.is_ok() {
            return Err(Status::unavailable("the kubelet is still starting"));
        }
        Ok(Response::new(Empty {}))
    }
}

/// Ids to choose from. Made once: making thousands of them for each call, and freeing them while
/// it is timed, would be most of what is measured.
pub(super) struct Question {
    ids: Vec<bytes::Bytes>,
}

impl Question {
    pub(super) fn new(ids: &[String]) -> Self {
        Self {
            ids: ids.iter().cloned().map(Into::into).collect(),
        }
    }
}

/// A registered plugin, seen from the kubelet.
#[derive(Debug)]
pub(super) struct Plugin {
    client: DevicePluginClient<Connection>,
}

impl Plugin {
    /// Opens a device list stream.
    pub(super) async fn list_and_watch(&mut self) -> Result<Lists> {
        Ok(Lists {
            stream: self.client.list_and_watch(Empty {}).await?.into_inner(),
        })
    }

    /// Allocates `ids` to one container and says how long the answer took.
    pub(super) async fn allocate(&mut self, ids: &[String]) -> Result<Duration> {
        let container = ContainerAllocateRequest {
            devices_ids: ids.to_vec(),
        };
        let request = AllocateRequest {
            container_requests: vec![container],
        };
        let start = Instant::now();
        let answer = self.client.allocate(request).await?;
        let took = start.elapsed();
        if answer.into_inner().container_responses.len() != 1 {
            bail!("one container was asked for");
        }
        Ok(took)
    }

    /// Asks which `size` of `available` the plugin prefers and says how long the answer took.
    pub(super) async fn prefer(&mut self, available: &Question, size: usize) -> Result<Duration> {
        let container = ContainerPreferredAllocationRequest {
            available_device_ids: available.ids.clone(),
            must_include_device_ids: Vec::new(),
            allocation_size: i32::try_from(size)?,
        };
        let request = PreferredAllocationRequest {
            container_requests: vec![container],
        };
        let start = Instant::now();
        let answer = self.client.get_preferred_allocation(request).await?;
        let took = start.elapsed();
        let chosen = answer.into_inner().container_responses;
        if chosen
            .iter()
            .map(|container| container.device_ids.len())
            .sum::<usize>()
            != size
        {
            bail!("{size} devices were asked for");
        }
        Ok(took)
    }
}

/// An open device list stream.
#[derive(Debug)]
pub(super) struct Lists {
    stream: Streaming<ListAndWatchResponse>,
}

impl Lists {
    /// The next list, and when it arrived.
    pub(super) async fn next(&mut self) -> Result<(Instant, ListAndWatchResponse)> {
        let list = timeout(PATIENCE, self.stream.message())
            .await
            .context("no device list")??;
        Ok((
            Instant::now(),
            list.context("the plugin ended its device list stream")?,
        ))
    }
}
