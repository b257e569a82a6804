//! `/healthz` and `/readyz` for those who watch over the process.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;
use crate::supervisor::TaskError;

/// A prober that does not ask within this time is cut off.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections at a time; probes are few.
const MOST: usize = 16;
/// After the system had no descriptor for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves on `address` until the stop.
pub(crate) async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    stop: CancellationToken,
) -> Result<(), TaskError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot serve /healthz and /readyz on {address}: {error}"))?;
    tracing::info!(event = "probes", address = %listener.local_addr()?, "serving /healthz and /readyz");
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MOST => match accepted {
                Ok((stream, _)) => { connections.spawn(answer(stream, readiness.clone())); }
                Err(_) => sleep(PAUSE).await,
            },
        }
    }
}

async fn answer(stream: TcpStream, readiness: Readiness) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(request.uri().path(), &readiness);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // How a prober's connection ends is the prober's affair.
    let _ = connection.await;
}

/// That anything is answered shows that the process lives: one thread does all of its work.
fn respond(path: &str, readiness: &Readiness) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match readiness.missing() {
            missing if missing.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
            missing => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not ready, waiting for: {}\n", missing.join(", ")),
            ),
        },
        _ => (
            StatusCode::NOT_FOUND,
            "there are /healthz and /readyz\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
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
