//! One gRPC service on one unix socket.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::body::Body;
use tower_service::Service;

use crate::socket::Socket;

/// How long open connections may take to finish what they do once shutdown has begun.
/// Streams without an end, such as `ListAndWatch`, are to be ended by the service.
pub const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// How much a caller may send before it waits for us, bytes. A kubelet names every free device in
/// a question about preferences, some 400 KB for 8,000 replicas: with HTTP/2's own 64 KB it would
/// wait for us half a dozen times in each.
const WINDOW: u32 = 1 << 20;

/// How long no connection is accepted after the system ran out of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Serves `service`, one of the generated servers, on `socket` until `shutdown` completes; then
/// stops listening, removes the socket's file and lets open connections finish for
/// [`DRAIN_LIMIT`].
///
/// Dropping the future closes everything at once.
///
/// # Errors
/// Only when the socket itself is beyond use. A connection that breaks concerns nobody else, and
/// a shortage of descriptors or memory is waited out.
pub async fn serve<S>(
    socket: Socket,
    service: S,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let (drain, draining) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = socket.accept() => match accepted {
                Ok(stream) => {
                    connections.spawn(serve_connection(stream, service.clone(), draining.clone()));
                }
                Err(error) => after_failed_accept(error).await?,
            }
        }
    }
    drop(socket);
    drop(drain);
    // Connections that are left after the limit are closed by dropping the set.
    let _ = timeout(DRAIN_LIMIT, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    Ok(())
}

async fn serve_connection<S>(stream: UnixStream, service: S, mut draining: watch::Receiver<()>)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let service = service_fn(move |request| service.clone().call(request));
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .serve_connection(TokioIo::new(stream), service)
    );
    // How a connection ends is the peer's affair: calls that were cut short see it themselves.
    tokio::select! {
        _ = &mut connection => {}
        // Completes when the sender is dropped: no value is ever sent.
        _ = draining.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Decides whether the listener is worth another try, and when.
async fn after_failed_accept(error: io::Error) -> io::Result<()> {
    match error.kind() {
        // The peer gave up before it was its turn.
        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
        _ if is_shortage(&error) => tokio::time::sleep(EXHAUSTED_PAUSE).await,
        _ => return Err(error),
    }
    Ok(())
}

/// Whether somebody must free something first. std has a kind for `ENOMEM` only.
fn is_shortage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
        || matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS))
}

// Linux's numbers, the same on every architecture that GPUs are found in.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = 105;
