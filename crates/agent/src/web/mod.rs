//! A small HTTP server: for probes, and for metrics, which may be protected.
//!
//! One question a connection, and no connection for long: nothing is kept for those who may come
//! again. When there are as many connections as there may be, the oldest makes way, so that
//! clients that are slow, or do nothing, keep nobody out.

mod credentials;
mod protection;
mod tls;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::supervisor::TaskError;
pub(crate) use protection::Protection;
use protection::Rules;

/// A client that does not ask within this time is cut off.
const PATIENCE: Duration = Duration::from_secs(5);
/// One that has not taken its answer by then, too.
const WHOLE: Duration = Duration::from_secs(15);
/// Connections at a time; those who ask are few.
const MOST: usize = 16;
/// After the system had no descriptor for a connection.
const PAUSE: Duration = Duration::from_millis(100);
/// What a question may be long, in bytes.
const QUESTION: usize = 16 * 1024;

/// What a client gets.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Listens on an address; on a machine without IPv6, `[::]` is every address of IPv4.
pub(crate) async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let every = address.is_ipv6() && address.ip().is_unspecified();
    match TcpListener::bind(address).await {
        Err(error) if every && error.kind() != io::ErrorKind::AddrInUse => {
            let address = (Ipv4Addr::UNSPECIFIED, address.port());
            TcpListener::bind(address).await.map_err(|_| error)
        }
        bound => bound,
    }
}

/// Answers GET and HEAD with what `answer` says, until the stop.
pub(crate) async fn serve<F>(
    listener: TcpListener,
    protection: Option<Arc<Protection>>,
    answer: F,
    stop: CancellationToken,
) -> Result<(), TaskError>
where
    F: Fn(&Parts) -> Answer + Clone + Send + Sync + 'static,
{
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(_) = connections.join_next() => oldest_first.retain(|one| !one.is_finished()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    while oldest_first.len() >= MOST
                        && let Some(oldest) = oldest_first.pop_front()
                    {
                        oldest.abort();
                    }
                    let one = connection(stream, protection.clone(), answer.clone());
                    oldest_first.push_back(connections.spawn(async {
                        // How a client's connection ends is the client's affair.
                        let _ = timeout(WHOLE, one).await;
                    }));
                }
                Err(_) => sleep(PAUSE).await,
            },
        }
    }
}

async fn connection<F>(stream: TcpStream, protection: Option<Arc<Protection>>, answer: F)
where
    F: Fn(&Parts) -> Answer + Clone + Send + Sync + 'static,
{
    // An answer goes out when it is whole.
    let _ = stream.set_nodelay(true);
    let Some(protection) = protection else {
        return converse(stream, None, answer).await;
    };
    let Some(rules) = protection.rules().await else {
        return;
    };
    match rules.tls.clone() {
        None => converse(stream, Some((protection, rules)), answer).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(PATIENCE, tls.accept(stream)).await {
                converse(stream, Some((protection, rules)), answer).await;
            }
        }
    }
}

async fn converse<S, F>(stream: S, guard: Option<(Arc<Protection>, Arc<Rules>)>, answer: F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(&Parts) -> Answer + Clone + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (guard, answer) = (guard.clone(), answer.clone());
        async move {
            let (parts, _) = request.into_parts();
            let Some((protection, rules)) = guard else {
                return Ok::<_, Infallible>(respond(&parts, answer));
            };
            let mut response = match protection.objection(&rules, &parts.headers).await {
                Some(objection) => objection,
                None => respond(&parts, answer),
            };
            response.headers_mut().extend(rules.headers.clone());
            Ok(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(QUESTION)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

fn respond(parts: &Parts, answer: impl Fn(&Parts) -> Answer) -> Answer {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return answer(parts);
    }
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "there are GET and HEAD\n");
    let allowed = HeaderValue::from_static("GET, HEAD");
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// An answer for people.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain; charset=utf-8", text)
}

/// An answer of this type of content.
pub(crate) fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests;
