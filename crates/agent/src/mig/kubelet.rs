//! What the kubelet tells of its pods' devices, through `PodResources`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mizzen_core::device::device_of;
use mizzen_kubelet_api::podresources::{
    ANSWER_SIZE, AllocatableResourcesRequest, ListPodResourcesRequest, PodResourcesListerClient,
};
use mizzen_kubelet_api::{ConnectError, Connection, connect};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use super::given::Given;
use super::holders::Holdings;
use crate::cluster::PodName;

type Client = PodResourcesListerClient<Connection>;

/// Until a question that was sent away is asked again: the kubelet has one more answer every 10 ms.
const SENT_AWAY: Duration = Duration::from_millis(15);
/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long a kubelet that was started anew may take until it knows its pods and its plugins
/// again: before, its answers are empty, and look as if nobody held anything.
pub(super) const SETTLING: Duration = Duration::from_secs(10);

/// The kubelet as the one who knows what is held.
#[derive(Debug)]
pub(super) struct Kubelet {
    socket: PathBuf,
    connection: Option<Connection>,
    /// The pod of this process, where it is known: a kubelet that lists it has heard of the pods
    /// from the API.
    own_pod: Option<PodName>,
    settling: Duration,
    given: Given,
    /// The socket of the kubelet that was seen last.
    seen: Option<SocketMark>,
    /// When another one was seen.
    restarted: Option<Instant>,
}

/// What tells a socket from the one that is made anew in its place.
type SocketMark = (u64, i64, i64);

fn mark(socket: &Path) -> Option<SocketMark> {
    let found = fs::metadata(socket).ok()?;
    Some((found.ino(), found.ctime(), found.ctime_nsec()))
}

impl Kubelet {
    pub(super) fn new(
        socket: PathBuf,
        own_pod: Option<PodName>,
        settling: Duration,
        given: Given,
    ) -> Self {
        Self {
            seen: mark(&socket),
            socket,
            connection: None,
            own_pod,
            settling,
            given,
            restarted: None,
        }
    }

    /// Which pods hold which devices now.
    ///
    /// # Errors
    /// Why the kubelet cannot be asked, in words, with what to do about it.
    pub(super) async fn holdings(&mut self) -> Result<Holdings, String> {
        let ask = async |client: &mut Client| client.list(ListPodResourcesRequest {}).await;
        let answer = self.ask(ask).await?;
        self.settled()?;
        if let Some(own) = &self.own_pod {
            let mut pods = answer.pod_resources.iter();
            if !pods.any(|pod| pod.name == own.name && pod.namespace == own.namespace) {
                return Err(format!(
                    "the kubelet does not list this agent's own pod {own} yet, so it may not know \
                     of others either: it may have been restarted, and waits for the API; or \
                     --pod-name and --pod-namespace are wrong"
                ));
            }
        }
        let containers = answer.pod_resources.iter().flat_map(|pod| &pod.containers);
        let devices = containers.flat_map(|one| &one.devices);
        self.given
            .listed(devices.flat_map(|device| &device.device_ids));
        Ok(Holdings::of(answer.pod_resources))
    }

    /// Whether it may just be giving one of these devices to a pod that it does not list yet.
    pub(super) fn may_be_giving(&self, devices: &BTreeSet<String>) -> bool {
        self.given.has_any_of(devices)
    }

    /// The devices that the kubelet can give out, used ones included, and each one's resource.
    ///
    /// # Errors
    /// As for [`holdings`](Self::holdings).
    pub(super) async fn allocatable(&mut self) -> Result<BTreeMap<String, String>, String> {
        let ask = async |client: &mut Client| {
            let request = AllocatableResourcesRequest {};
            client.get_allocatable_resources(request).await
        };
        let answer = self.ask(ask).await?;
        self.settled()?;
        let mut devices = BTreeMap::new();
        for entry in answer.devices {
            for id in entry.device_ids {
                devices.insert(device_of(&id).to_owned(), entry.resource_name.clone());
            }
        }
        Ok(devices)
    }

    /// Closes the connection, which nobody needs for a while.
    pub(super) fn hang_up(&mut self) {
        self.connection = None;
    }

    /// Whether answers can be believed by now, as far as the time tells.
    fn settled(&mut self) -> Result<(), String> {
        let now = Instant::now();
        let mark = mark(&self.socket);
        if mark.is_some() && mark != self.seen {
            // The first one that comes up is new, too.
            self.restarted = Some(now);
            self.seen = mark;
        }
        match self.restarted {
            Some(when) if now - when < self.settling => Err(format!(
                "the kubelet was restarted less than {} s ago, and may not know yet which pods \
                 hold what",
                self.settling.as_secs()
            )),
            _ => Ok(()),
        }
    }

    /// Asks until there is an answer, or no more time. A kubelet answers so many questions in a
    /// second, whoever asks, and sends the rest away.
    async fn ask<T>(
        &mut self,
        ask: impl AsyncFn(&mut Client) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, String> {
        let mut client = self.client().await?;
        let asking = async {
            loop {
                match ask(&mut client).await {
                    Err(status) if status.code() == Code::ResourceExhausted => {
                        sleep(SENT_AWAY).await;
                    }
                    answer => return answer,
                }
            }
        };
        let why = match timeout(ANSWER_LIMIT, asking).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => format!("no answer within {} s", ANSWER_LIMIT.as_secs()),
        };
        self.connection = None;
        Err(format!(
            "the kubelet does not tell which pods hold what ({}): {why}",
            self.socket.display()
        ))
    }

    async fn client(&mut self) -> Result<Client, String> {
        let open = self.connection.take().filter(|open| !open.is_closed());
        let connection = match open {
            Some(open) => open,
            None => connect(&self.socket)
                .await
                .map_err(|error| self.unreachable(&error))?,
        };
        self.connection = Some(connection.clone());
        Ok(PodResourcesListerClient::new(connection).max_decoding_message_size(ANSWER_SIZE))
    }

    fn unreachable(&self, error: &ConnectError) -> String {
        let path = self.socket.display();
        if error.kind() == io::ErrorKind::NotFound {
            let dir = self.socket.parent().unwrap_or(&self.socket).display();
            return format!(
                "which pods hold what cannot be known, so nothing is taken away: {path} does not \
                 exist; mount the host's directory {dir} into the agent's container, as \
                 deploy/mizzen-mig.yaml does, or give --pod-resources-socket"
            );
        }
        format!("which pods hold what cannot be known, so nothing is taken away: {error}")
    }
}
