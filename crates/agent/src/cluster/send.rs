//! One question to the API, and what is in a refusal besides its words.

use std::time::Duration;

use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use kube::core::response::StatusCause;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::follow::ANSWER_LIMIT;
use super::words;

/// What the cause of a conflict with another owner of a field is called.
const CONFLICT: &str = "FieldManagerConflict";

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    /// What the API, or the way to it, says is wrong.
    pub(crate) words: String,
    /// What the API says, where it says it in its own form.
    pub(crate) status: Option<Box<Status>>,
    /// The HTTP status, where there was an answer at all.
    pub(crate) code: Option<u16>,
    /// How long the API wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    /// One in words alone.
    pub(crate) fn of(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            status: None,
            code: None,
            retry_after: None,
        }
    }

    /// Whose fields a server-side apply would have set; none where it was refused for another
    /// reason.
    pub(crate) fn conflicts(&self) -> impl Iterator<Item = &StatusCause> {
        let details = self
            .status
            .as_ref()
            .and_then(|status| status.details.as_ref());
        let causes = details.map_or(&[][..], |details| &details.causes);
        causes.iter().filter(|cause| cause.reason == CONFLICT)
    }

    fn of_answer(parts: &http::response::Parts, body: &[u8]) -> Self {
        let code = parts.status.as_u16();
        let status: Option<Status> = serde_json::from_slice(body).ok();
        let said = match &status {
            Some(status) if !status.message.is_empty() => status.message.clone(),
            // A proxy, or an API server that is coming up, answers in a form of its own.
            _ => String::from_utf8_lossy(&body[..body.len().min(200)])
                .trim()
                .to_owned(),
        };
        let seconds = parts.headers.get(http::header::RETRY_AFTER);
        let seconds = seconds.and_then(|text| text.to_str().ok()?.trim().parse().ok());
        Self {
            words: format!("{said} ({code})"),
            status: status.map(Box::new),
            code: Some(code),
            retry_after: seconds.map(Duration::from_secs),
        }
    }
}

/// Sends a request, and reads the answer as a `T`.
///
/// # Errors
/// A refusal of the API, and whatever keeps it from answering.
pub(crate) async fn send<T: DeserializeOwned>(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> Result<T, Refusal> {
    let answering = async {
        let response = client.send(request.map(Body::from)).await;
        let (parts, body) = response
            .map_err(|error| Refusal::of(words(&error)))?
            .into_parts();
        let body = body.collect().await;
        let body = body.map_err(|error| Refusal::of(words(&error)))?.to_bytes();
        Ok::<_, Refusal>((parts, body))
    };
    let answer = timeout(ANSWER_LIMIT, answering).await;
    let (parts, body) = answer.unwrap_or_else(|_| Err(Refusal::of("no answer in time")))?;
    if !parts.status.is_success() {
        return Err(Refusal::of_answer(&parts, &body));
    }
    serde_json::from_slice(&body)
        .map_err(|error| Refusal::of(format!("the answer cannot be read: {error}")))
}
