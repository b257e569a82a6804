//! One HTTP/2 connection to a unix socket, as a service that the generated clients take.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

/// HTTP/2's own initial window, bytes. The messages are small: a larger window would only cost
/// frames at the start of each connection.
const WINDOW: u32 = 65_535;

/// Connects to `path`, once: whether and when to try again is the caller's decision.
///
/// Returns when the system has accepted the connection, which says nothing about the other
/// process: one that listens and stays silent is noticed by the deadline of the first call.
pub async fn connect(path: impl AsRef<Path>) -> Result<Connection, ConnectError> {
    let path = path.as_ref();
    let stream = UnixStream::connect(path)
        .await
        .map_err(|source| ConnectError {
            path: path.to_owned(),
            source,
        })?;
    let (requests, driver) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| ConnectError {
            path: path.to_owned(),
            source: io::Error::other(error),
        })?;
    // Ends by itself with the connection.
    TokioExecutor::new().execute(async move {
        // The error reaches whoever waits for an answer; there is nobody else to tell.
        let _ = driver.await;
    });
    Ok(Connection { requests })
}

/// Why a socket could not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {}: {source}", .path.display())]
pub struct ConnectError {
    path: PathBuf,
    source: io::Error,
}

impl ConnectError {
    /// What the system said: [`io::ErrorKind::NotFound`] without a file,
    /// [`io::ErrorKind::ConnectionRefused`] when nobody listens (a dead process's socket, or one
    /// that is bound and about to listen).
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl From<ConnectError> for Status {
    fn from(error: ConnectError) -> Self {
        Self::unavailable(error.to_string())
    }
}

/// An open connection. Clones and the streams of their answers share it; it is closed when the
/// last of them is dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    requests: http2::SendRequest<Body>,
}

impl Connection {
    /// Whether the other side has gone. A closed connection stays closed.
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // HTTP/2 takes any number of requests. A closed connection says so in `call`, because
        // the generated clients hide the status of what was not ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        *request.uri_mut() = absolute(request.uri());
        let answer = self.requests.send_request(request);
        Box::pin(async move { answer.await.map_err(|error| broken(&error)) })
    }
}

/// HTTP/2 wants a scheme and an authority; gRPC on a unix socket calls it localhost.
fn absolute(uri: &Uri) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(Authority::from_static("localhost"));
    parts.path_and_query = Some(
        uri.path_and_query()
            .cloned()
            .unwrap_or(PathAndQuery::from_static("/")),
    );
    // The parts are complete, so this cannot fail; the caller's own URI is then the best answer.
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

fn broken(error: &hyper::Error) -> Status {
    use std::error::Error as _;
    match error.source() {
        Some(source) => Status::unavailable(format!("{error}: {source}")),
        None => Status::unavailable(error.to_string()),
    }
}
