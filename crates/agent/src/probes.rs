//! `/healthz` and `/readyz` for those who watch over the process.

use std::net::SocketAddr;

use http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;
use crate::supervisor::TaskError;
use crate::web::{Answer, listen, serve as serve_http, text};

/// Serves on `address` until the stop.
pub(crate) async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    stop: CancellationToken,
) -> Result<(), TaskError> {
    let listener = listen(address)
        .await
        .map_err(|error| format!("cannot serve /healthz and /readyz on {address}: {error}"))?;
    tracing::info!(event = "probes", address = %listener.local_addr()?, "serving /healthz and /readyz");
    let answer = move |asked: &http::request::Parts| respond(asked.uri.path(), &readiness);
    serve_http(listener, None, answer, stop).await
}

/// That anything is answered shows that the process lives: one thread does all of its work.
fn respond(path: &str, readiness: &Readiness) -> Answer {
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match readiness.missing() {
            missing if missing.is_empty() => text(StatusCode::OK, "ok\n"),
            missing => text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not ready, waiting for: {}\n", missing.join(", ")),
            ),
        },
        _ => text(StatusCode::NOT_FOUND, "there are /healthz and /readyz\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_answered_once_nothing_is_missing_and_alive_at_once() {
        let readiness = Readiness::default();
        let latch = readiness.latch("driver");
        assert_eq!(respond("/healthz", &readiness).status(), StatusCode::OK);
        assert_eq!(
            respond("/readyz", &readiness).status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        latch.set(true);
        assert_eq!(respond("/readyz", &readiness).status(), StatusCode::OK);
        assert_eq!(respond("/", &readiness).status(), StatusCode::NOT_FOUND);
    }
}
