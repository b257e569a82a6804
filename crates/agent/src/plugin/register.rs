//! Registering one resource with the kubelet that is there now.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mizzen_kubelet_api::connect;
use mizzen_kubelet_api::deviceplugin::{RegisterRequest, RegistrationClient};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Status};

use crate::backoff::Backoff;

/// After an attempt that failed: at first hardly at all, since a socket is bound a moment before
/// it listens.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// While the kubelet's socket does not exist: its coming is noticed, this is for what is not.
const ABSENT_PAUSE: Duration = Duration::from_secs(5);
/// After this long without an answer another attempt is made beside the first: a kubelet that
/// was stuck may have forgotten the connections of that time.
const PROBE: Duration = Duration::from_millis(200);
/// How long an attempt may take in all: a kubelet under load is slow, and it calls back before
/// it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    /// No such socket.
    #[error("{} does not exist", .0.display())]
    Absent(PathBuf),
    /// The socket cannot be connected to.
    #[error("nobody answers at {}: {reason}", .path.display())]
    Unreachable { path: PathBuf, reason: String },
    /// The kubelet said no.
    #[error("the kubelet refused: {}", .0.message())]
    Refused(Status),
    /// The kubelet said nothing.
    #[error("the kubelet accepted the connection and did not answer")]
    Silent,
}

impl AttemptError {
    /// What to do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Absent(_) | Self::Unreachable { .. } => {
                "is the kubelet running, is its directory mounted into the agent's container, and \
                 does --kubelet-socket name its socket?"
            }
            Self::Refused(_) => "see the kubelet's log",
            Self::Silent => "see the kubelet's log; it may be starting",
        }
    }

    /// Whether another attempt that ends like this needs no line of its own.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// Attempts to register, at most two at a time: one that is patient and one that probes.
#[derive(Debug)]
pub(super) struct Registration {
    kubelet: PathBuf,
    request: RegisterRequest,
    attempts: JoinSet<Result<(), AttemptError>>,
    probe: Option<AbortHandle>,
    pause: Backoff,
    next: Instant,
}

impl Registration {
    /// Prepares to send `request` to the kubelet behind the socket `kubelet`.
    pub(super) fn new(kubelet: &Path, request: RegisterRequest) -> Self {
        Self {
            kubelet: kubelet.to_owned(),
            request,
            attempts: JoinSet::new(),
            probe: None,
            pause: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            next: Instant::now(),
        }
    }

    /// Waits for the next thing worth knowing: `Ok` when the kubelet has taken the registration,
    /// an error for each attempt that failed; after an error, call again for the next attempt.
    /// Cancel safe.
    pub(super) async fn progress(&mut self) -> Result<(), AttemptError> {
        loop {
            if self.attempts.is_empty() && self.next <= Instant::now() {
                // Not through the timer, which counts whole milliseconds.
                self.attempt();
            }
            tokio::select! {
                biased;
                Some(ended) = self.attempts.join_next() => match ended {
                    Ok(Ok(())) => {
                        self.attempts.abort_all();
                        return Ok(());
                    }
                    Ok(Err(error)) => {
                        self.failed(&error);
                        return Err(error);
                    }
                    // Aborted in favour of a younger one.
                    Err(_) => {}
                },
                () = sleep_until(self.next) => {
                    let silent = !self.attempts.is_empty();
                    self.attempt();
                    if silent {
                        return Err(AttemptError::Silent);
                    }
                }
            }
        }
    }

    fn failed(&mut self, error: &AttemptError) {
        if self.attempts.is_empty() {
            let pause = match error {
                AttemptError::Absent(_) => ABSENT_PAUSE,
                _ => self.pause.failed(),
            };
            self.next = Instant::now() + pause;
        }
    }

    fn attempt(&mut self) {
        if self.attempts.len() > 1
            && let Some(probe) = self.probe.take()
        {
            probe.abort();
        }
        let attempt = attempt(self.kubelet.clone(), self.request.clone());
        self.probe = Some(self.attempts.spawn(attempt));
        self.next = Instant::now() + PROBE;
    }
}

async fn attempt(kubelet: PathBuf, request: RegisterRequest) -> Result<(), AttemptError> {
    let calling = async {
        let connection = connect(&kubelet)
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => AttemptError::Absent(kubelet.clone()),
                _ => AttemptError::Unreachable {
                    path: kubelet.clone(),
                    reason: error.to_string(),
                },
            })?;
        let answer = RegistrationClient::new(connection).register(request).await;
        answer.map_err(|status| match status.code() {
            // Also what a kubelet's end in the middle of the call looks like.
            Code::Unavailable if status.message().is_empty() => AttemptError::Silent,
            _ => AttemptError::Refused(status),
        })?;
        Ok(())
    };
    timeout(PATIENCE, calling)
        .await
        .unwrap_or(Err(AttemptError::Silent))
}
