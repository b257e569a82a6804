//! Keeping one resource before the kubelet's eyes: its server, its socket, its registration.
//!
//! What a kubelet does, and what follows from it:
//! - It calls back before it answers a registration: serve first.
//! - A restarted one removes the plugins' sockets and makes its own anew: bind and register again.
//! - When the stream of a resource ends, it closes the *newest* connection of that resource,
//!   whoever's stream it was. So before registering again with the same kubelet, old streams are
//!   ended and given a moment.
//! - It may drop the newest connection by that same rule, or never open its stream: then register
//!   again.
//! - When another plugin registers the same name, the kubelet turns to that one and tells us
//!   nothing. So when a stranger's socket comes or goes, register once more, beside the streams
//!   that are open, which costs the kubelet nothing.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::resource::ResourceName;
use mizzen_core::state::NodeState;
use mizzen_kubelet_api::deviceplugin::{DevicePluginServer, RegisterRequest, VERSION};
use mizzen_kubelet_api::{Socket, SocketPlace, serve};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Told;
use super::desk::Desk;
use super::register::{AttemptError, Registration};
use super::service::{OPTIONS, Service};
use super::streams::{KubeletStream, Streams};
use crate::backoff::Backoff;
use crate::readiness::Latch;

/// How long the kubelet may take to close the connection of a stream that we have ended.
const HANG_UP: Duration = Duration::from_millis(100);
/// How long after a registration the kubelet may take to open its stream.
const STREAM_DUE: Duration = Duration::from_secs(2);
/// Before registering again because the stream ended: a restarting kubelet ends it, too.
const SETTLE: Duration = Duration::from_millis(20);
/// When streams keep ending: somebody else wants the name as well.
const LONGEST_SETTLE: Duration = Duration::from_secs(10);
/// After a stranger's socket came or went: how long until the name is claimed again. The second
/// time is for strangers that are slow to register.
const CLAIMS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(5)];
/// Streams that may be open before a claim ends them all.
const MOST_STREAMS: usize = 16;
/// A registration that held this long was no part of a quarrel.
const SETTLED: Duration = Duration::from_secs(30);
/// Between attempts to bind our socket where it cannot be bound.
const FIRST_BIND_AGAIN: Duration = Duration::from_millis(100);
const LAST_BIND_AGAIN: Duration = Duration::from_secs(10);

/// One resource's presence.
#[derive(Debug)]
pub(super) struct Presence {
    resource: ResourceName,
    desk: Desk,
    service: Service,
    stop: CancellationToken,
    servers: JoinSet<io::Result<()>>,
    ready: Latch,
    complained: Option<AttemptError>,
    settle: Backoff,
    /// How often strangers' sockets had come or gone when we last looked.
    strangers: u64,
    /// When to claim the name again.
    claims: VecDeque<Instant>,
}

/// Our socket, and the server behind it.
#[derive(Debug)]
struct Stand {
    place: SocketPlace,
    close: CancellationToken,
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.close.cancel();
    }
}

/// Why a wait came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The kubelet has taken the registration.
    Registered,
    /// Something changed in the directory.
    Changed,
    /// The kubelet's stream ended, or was never opened.
    Dropped,
    /// A stranger may have taken the name.
    Contested,
}

/// What has to be done before the resource is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Streams of another kubelet are ended.
    End,
    /// Streams are ended, and this kubelet is given a moment to let go of them.
    Part,
    /// Streams go on.
    Nothing,
}

impl Presence {
    pub(super) fn new(
        resource: ResourceName,
        desk: Desk,
        state: watch::Receiver<Arc<NodeState>>,
        told: Told,
        ready: Latch,
        stop: CancellationToken,
    ) -> Self {
        let service = Service {
            resource: resource.clone(),
            state,
            told,
            streams: Streams::new(),
            stop: stop.clone(),
        };
        Self {
            resource,
            desk,
            service,
            stop,
            servers: JoinSet::new(),
            ready,
            complained: None,
            settle: Backoff::new(SETTLE, LONGEST_SETTLE),
            strangers: 0,
            claims: VecDeque::new(),
        }
    }

    /// Runs until the stop, or until the state does not have the resource any more; by then the
    /// kubelet has been told so by an empty list. The socket is gone afterwards.
    pub(super) async fn run(mut self) {
        let mut state = self.service.state.clone();
        let stop = self.stop.clone();
        let resource = self.resource.clone();
        let retired = async {
            let gone = |state: &Arc<NodeState>| !state.pools().contains_key(&resource);
            let _ = state.wait_for(gone).await;
        };
        tokio::select! {
            () = self.keep() => {}
            () = stop.cancelled() => {}
            () = retired => {
                let mut book = self.service.streams.book();
                // Streams end by themselves after their last list.
                let _ = timeout(HANG_UP, book.wait_for(|book| book.open == 0)).await;
            }
        }
        // The stand went with `keep`, so its server is draining.
        while self.servers.join_next().await.is_some() {}
    }

    async fn keep(&mut self) {
        let mut stand = self.bind().await;
        // The kubelet we are registered with, by its number in the directory's history.
        let mut registered: Option<u64> = None;
        let mut before = Before::End;
        let mut since = Instant::now();
        loop {
            if !stand.place.is_held() {
                stand = self.stand_again(stand, since).await;
                (registered, before) = (None, Before::Part);
            }
            let news = *self.desk.news.borrow_and_update();
            self.notice_strangers(news.strangers);
            if registered.is_some_and(|kubelet| kubelet != news.kubelets) {
                (registered, before) = (None, Before::End);
            }
            let turn = if self.desk.kubelet.is_none() || registered.is_some() {
                self.ready.set(true);
                self.watch(since).await
            } else {
                self.ready.set(before == Before::Nothing);
                self.prepare(before).await;
                self.register(&stand, news.kubelets, before).await
            };
            match turn {
                Turn::Registered => {
                    registered = Some(news.kubelets);
                    since = Instant::now();
                }
                Turn::Changed => {}
                Turn::Contested => (registered, before) = (None, Before::Nothing),
                Turn::Dropped => {
                    self.dropped(news.kubelets, since).await;
                    (registered, before) = (None, Before::Part);
                }
            }
        }
    }

    /// Our socket is gone. If another one lies in its place, somebody else serves the same
    /// resource: both of us taking it from the other in turns would help nobody.
    async fn stand_again(&mut self, stand: Stand, since: Instant) -> Stand {
        if stand.place.path().exists() {
            let pause = self.settle_pause(since);
            tracing::warn!(
                event = "socket-taken",
                resource = %self.resource,
                path = %stand.place.path().display(),
                todo = "run one device plugin for GPUs on each node",
                "another plugin has replaced our socket for {}; taking it back", self.resource
            );
            sleep(pause).await;
        }
        self.service.streams.renew();
        drop(stand);
        self.bind().await
    }

    /// Plans to claim the name again if strangers have come or gone.
    fn notice_strangers(&mut self, strangers: u64) {
        if strangers != self.strangers {
            self.strangers = strangers;
            self.claims = CLAIMS.map(|after| Instant::now() + after).into();
        }
    }

    /// How long to wait before claiming something back: longer and longer in a quarrel.
    fn settle_pause(&mut self, since: Instant) -> Duration {
        if since.elapsed() > SETTLED {
            self.settle.reset();
        }
        self.settle.failed()
    }

    /// Binds our socket, serves on it, and goes on trying where that cannot be done.
    async fn bind(&mut self) -> Stand {
        let path = self.desk.dir.join(self.resource.socket_name());
        let mut complained = false;
        let mut again = Backoff::new(FIRST_BIND_AGAIN, LAST_BIND_AGAIN);
        loop {
            // What was served before ends by itself; finished servers are only to be forgotten.
            while self.servers.try_join_next().is_some() {}
            match Socket::bind(&path) {
                Ok(socket) => return self.serve(socket),
                Err(error) if !complained && error.kind() != io::ErrorKind::NotFound => {
                    complained = true;
                    tracing::error!(
                        event = "socket-not-bound",
                        resource = %self.resource,
                        path = %path.display(),
                        %error,
                        todo = "the kubelet's plugin directory must be mounted writable",
                        "cannot serve the device plugin"
                    );
                }
                Err(error) if !complained => {
                    complained = true;
                    tracing::warn!(
                        event = "no-plugin-directory",
                        resource = %self.resource,
                        path = %path.display(),
                        %error,
                        todo = "is the kubelet installed, and its device-plugins directory \
                                mounted into the agent's container?",
                        "waiting for the kubelet's plugin directory"
                    );
                }
                Err(_) => {}
            }
            // A directory that comes is news; what else is wrong with it is not.
            let _ = timeout(again.failed(), self.desk.news.changed()).await;
        }
    }

    fn serve(&mut self, socket: Socket) -> Stand {
        let close = CancellationToken::new();
        let stand = Stand {
            place: socket.place().clone(),
            close: close.clone(),
        };
        let server = DevicePluginServer::new(self.service.clone());
        self.servers
            .spawn(serve(socket, server, close.cancelled_owned()));
        stand
    }

    async fn prepare(&self, before: Before) {
        let streams = &self.service.streams;
        let mut book = streams.book();
        let crowded = book.borrow().open >= MOST_STREAMS;
        match before {
            Before::Nothing if !crowded => streams.add(),
            Before::End => streams.renew(),
            Before::Part | Before::Nothing => {
                streams.renew();
                let _ = timeout(HANG_UP, book.wait_for(|book| book.open == 0)).await;
            }
        }
    }

    async fn register(&mut self, stand: &Stand, kubelet: u64, before: Before) -> Turn {
        let Some(socket) = &self.desk.kubelet else {
            return Turn::Changed;
        };
        let request = RegisterRequest {
            version: VERSION.to_owned(),
            endpoint: self.resource.socket_name(),
            resource_name: self.resource.to_string(),
            options: Some(OPTIONS),
        };
        let mut registration = Registration::new(socket, request);
        loop {
            tokio::select! {
                progress = registration.progress() => match progress {
                    Ok(()) => {
                        if before != Before::Nothing {
                            tracing::info!(
                                event = "registered",
                                resource = %self.resource,
                                "registered {} with the kubelet", self.resource
                            );
                        }
                        self.complained = None;
                        self.service.told.tally.registered(&self.resource);
                        return Turn::Registered;
                    }
                    Err(error) => self.complain(error),
                },
                _ = self.desk.news.changed() => {
                    let news = *self.desk.news.borrow_and_update();
                    if news.kubelets != kubelet || !stand.place.is_held() {
                        return Turn::Changed;
                    }
                }
            }
        }
    }

    /// One line for each way of not being registered, until registered again.
    fn complain(&mut self, error: AttemptError) {
        // A socket that is bound and about to listen is not worth a word.
        let fleeting = matches!(error, AttemptError::Unreachable { .. });
        let known = self
            .complained
            .as_ref()
            .is_some_and(|last| last.is_like(&error));
        if !known && !fleeting {
            tracing::warn!(
                event = "not-registered",
                resource = %self.resource,
                %error,
                todo = error.advice(),
                "{} is not registered with the kubelet yet; trying on", self.resource
            );
            self.complained = Some(error);
        }
    }

    /// Waits while all is well.
    async fn watch(&mut self, since: Instant) -> Turn {
        let mut book = self.service.streams.book();
        loop {
            let stream = book.borrow_and_update().kubelet;
            let overdue = async {
                match stream {
                    KubeletStream::Awaited if self.desk.kubelet.is_some() => {
                        sleep_until(since + STREAM_DUE).await;
                    }
                    _ => std::future::pending().await,
                }
            };
            if stream == KubeletStream::Ended && self.desk.kubelet.is_some() {
                return Turn::Dropped;
            }
            let contested = async {
                match self.claims.front() {
                    Some(&due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = overdue => return Turn::Dropped,
                () = contested => {
                    self.claims.pop_front();
                    return Turn::Contested;
                }
                _ = book.changed() => {}
                _ = self.desk.news.changed() => return Turn::Changed,
            }
        }
    }

    /// The kubelet has let go of us. If it is restarting, the directory will tell; if not, somebody
    /// else has probably registered our name.
    async fn dropped(&mut self, kubelet: u64, since: Instant) {
        let pause = self.settle_pause(since);
        let mut news = self.desk.news.clone();
        let restarted = async {
            let other = |news: &super::desk::DirNews| news.kubelets != kubelet;
            let _ = news.wait_for(other).await;
        };
        tokio::select! {
            () = restarted => return,
            () = sleep(pause) => {}
        }
        if pause > SETTLE {
            tracing::warn!(
                event = "dropped-by-kubelet",
                resource = %self.resource,
                todo = "see that no other device plugin offers the same resource on this node",
                "the kubelet ended its stream for {} again without restarting; registering again",
                self.resource
            );
        } else {
            tracing::info!(
                event = "dropped-by-kubelet",
                resource = %self.resource,
                "the kubelet ended its stream for {}; registering again", self.resource
            );
        }
    }
}
