//! Asking a runtime over its socket.

use std::path::Path;
use std::time::Duration;

use mizzen_core::runtime::CriAnswer;
use mizzen_kubelet_api::cri::{
    KUBELET_VERSION, RuntimeServiceClient, StatusRequest, VersionRequest,
};
use mizzen_kubelet_api::{ConnectError, connect};
use tokio::time::timeout;
use tonic::{Code, Status};

/// How long a runtime may take to answer each question.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most that an answer may have, in bytes: a config with every default is far smaller.
const ANSWER_SIZE: usize = 1 << 20;

/// Why a runtime did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens at the socket, or this process may not connect to it.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It answered with an error.
    #[error("the runtime answers: {}", .0.message())]
    Refused(Box<Status>),
    /// It is silent.
    #[error("the runtime does not answer")]
    Silent,
}

impl From<Status> for AskError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// Asks the runtime at `socket` what it is and how it is set up. The calls change nothing and need
/// no right but that to write to the socket, which a read-only mount does not take away.
///
/// # Errors
/// If nobody answers in time. A runtime that only refuses to tell of its settings has answered.
pub async fn ask(socket: &Path) -> Result<CriAnswer, AskError> {
    hear(socket).await.map(|heard| heard.answer)
}

/// An answer, and whether there is nothing to add to it.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) answer: CriAnswer,
    /// `false` if the runtime did not tell its settings this time, as one that starts does not.
    pub(super) is_whole: bool,
}

/// The same, with the word on whether it is all.
pub(super) async fn hear(socket: &Path) -> Result<Heard, AskError> {
    let connection = connect(socket).await?;
    let mut client = RuntimeServiceClient::new(connection).max_decoding_message_size(ANSWER_SIZE);
    let request = VersionRequest {
        version: KUBELET_VERSION.to_owned(),
    };
    let version = timeout(PATIENCE, client.version(request)).await;
    let version = version.map_err(|_| AskError::Silent)??.into_inner();
    let status = timeout(PATIENCE, client.status(StatusRequest { verbose: true })).await;
    let (config, is_whole) = match status {
        Ok(Ok(status)) => (status.into_inner().info.remove("config"), true),
        Ok(Err(refusal)) => (None, refusal.code() == Code::Unimplemented),
        Err(_) => (None, false),
    };
    let answer = CriAnswer {
        name: version.runtime_name,
        version: version.runtime_version,
        config,
    };
    Ok(Heard { answer, is_whole })
}
