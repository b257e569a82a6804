//! Asking the kubelet which pods hold which devices, through `PodResources`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use mizzen_kubelet_api::podresources::{
    ANSWER_SIZE, ListPodResourcesRequest, PodResources, PodResourcesListerClient,
};
use mizzen_kubelet_api::{Connection, connect};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use crate::mark::FileMark;

/// The interface as it is called.
pub(crate) type Client = PodResourcesListerClient<Connection>;

/// Until a question that was sent away is asked again: the kubelet has one more answer every 10 ms.
const SENT_AWAY: Duration = Duration::from_millis(15);
/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How long a kubelet that was started anew may take until it knows its pods and its plugins
/// again: before, its answers are empty, and look as if nobody held anything.
pub(crate) const SETTLING: Duration = Duration::from_secs(10);

/// Why the kubelet did not tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// There is no such socket.
    #[error("{} does not exist", .0.display())]
    Absent(PathBuf),
    /// The socket cannot be connected to.
    #[error("{0}")]
    Unreachable(String),
    /// It cannot be asked, or says no.
    #[error("the kubelet does not tell which pods hold what ({}): {why}", .socket.display())]
    Refused {
        /// Where it was asked.
        socket: PathBuf,
        /// What it said.
        why: String,
    },
}

/// The kubelet behind one socket.
#[derive(Debug)]
pub(crate) struct PodResourcesSocket {
    path: PathBuf,
    connection: Option<Connection>,
    /// The socket that was seen last.
    seen: Option<FileMark>,
    /// When another one was seen.
    restarted: Option<Instant>,
}

impl PodResourcesSocket {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            seen: FileMark::of(&path),
            path,
            connection: None,
            restarted: None,
        }
    }

    /// Whether an answer that has just come can be believed, as far as the time tells, of a
    /// kubelet that needs so long to settle.
    pub(crate) fn is_settled(&mut self, settling: Duration) -> bool {
        let now = Instant::now();
        let mark = FileMark::of(&self.path);
        if mark.is_some() && mark != self.seen {
            // The first one that comes up is new, too.
            self.restarted = Some(now);
            self.seen = mark;
        }
        self.restarted.is_none_or(|when| now - when >= settling)
    }

    /// Closes the connection, which nobody needs for a while.
    pub(crate) fn hang_up(&mut self) {
        self.connection = None;
    }

    /// What every pod of the node holds.
    pub(crate) async fn list(&mut self) -> Result<Vec<PodResources>, Unanswered> {
        let ask = async |client: &mut Client| client.list(ListPodResourcesRequest {}).await;
        Ok(self.ask(ask).await?.pod_resources)
    }

    /// Asks until there is an answer, or no more time. A kubelet answers so many questions in a
    /// second, whoever asks, and sends the rest away.
    pub(crate) async fn ask<T>(
        &mut self,
        ask: impl AsyncFn(&mut Client) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Unanswered> {
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
        Err(Unanswered::Refused {
            socket: self.path.clone(),
            why,
        })
    }

    async fn client(&mut self) -> Result<Client, Unanswered> {
        let open = self.connection.take().filter(|open| !open.is_closed());
        let connection = match open {
            Some(open) => open,
            None => connect(&self.path)
                .await
                .map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => Unanswered::Absent(self.path.clone()),
                    _ => Unanswered::Unreachable(error.to_string()),
                })?,
        };
        self.connection = Some(connection.clone());
        Ok(PodResourcesListerClient::new(connection).max_decoding_message_size(ANSWER_SIZE))
    }
}
