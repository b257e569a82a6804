//! What the kubelet tells of its pods' devices, through `PodResources`.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use mizzen_core::device::device_of;
use mizzen_kubelet_api::podresources::{
    ANSWER_SIZE, AllocatableResourcesRequest, ListPodResourcesRequest, PodResourcesListerClient,
};
use mizzen_kubelet_api::{ConnectError, Connection, connect};
use tokio::time::timeout;
use tonic::Status;

use super::holders::Holdings;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The kubelet as the one who knows what is held.
#[derive(Debug)]
pub(super) struct Kubelet {
    socket: PathBuf,
    connection: Option<Connection>,
}

impl Kubelet {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            connection: None,
        }
    }

    /// Which pods hold which devices now.
    ///
    /// # Errors
    /// Why the kubelet cannot be asked, in words, with what to do about it.
    pub(super) async fn holdings(&mut self) -> Result<Holdings, String> {
        let mut client = self.client().await?;
        let answer = client.list(ListPodResourcesRequest {});
        let answer = self.answered(timeout(ANSWER_LIMIT, answer).await)?;
        Ok(Holdings::of(answer.pod_resources))
    }

    /// The devices that the kubelet can give out, used ones included, and each one's resource.
    ///
    /// # Errors
    /// As for [`holdings`](Self::holdings).
    pub(super) async fn allocatable(&mut self) -> Result<BTreeMap<String, String>, String> {
        let mut client = self.client().await?;
        let answer = client.get_allocatable_resources(AllocatableResourcesRequest {});
        let answer = self.answered(timeout(ANSWER_LIMIT, answer).await)?;
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

    async fn client(&mut self) -> Result<PodResourcesListerClient<Connection>, String> {
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

    fn answered<T>(
        &mut self,
        answer: Result<Result<tonic::Response<T>, Status>, tokio::time::error::Elapsed>,
    ) -> Result<T, String> {
        let why = match answer {
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
