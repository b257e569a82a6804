//! Looking at the node again and again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::config::Config;
use mizzen_core::driver::{DriverError, DriverLoader};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;

use super::{Look, look};

/// What comes when nobody looks any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The end: SIGTERM, SIGINT or SIGQUIT.
    End,
    /// Reading the settings anew: SIGHUP.
    Reload,
}

/// Why nobody looks any more.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The driver cannot be asked.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The labels cannot be told, or the system gives no signals or thread.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Looks at the node as often as the config says and has each look told, until a signal comes,
/// which it answers. A driver that hangs delays no signal, and neither does what takes the labels.
///
/// # Errors
/// Those of [`look`] and of `tell`.
pub fn follow(
    loader: &Arc<dyn DriverLoader>,
    config: &Config,
    timestamp: Option<u64>,
    mut tell: impl AsyncFnMut(Look) -> io::Result<()>,
) -> Result<Next, FollowError> {
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::new()?;
        loop {
            let (loader, config_) = (loader.clone(), config.clone());
            let looking = spawn_blocking(move || look(loader.as_ref(), &config_, timestamp));
            let seen = tokio::select! {
                next = signals.next() => return Ok(next),
                seen = looking => seen.map_err(io::Error::other)?,
            };
            tokio::select! {
                next = signals.next() => return Ok(next),
                told = tell(seen?) => told?,
            }
            tokio::select! {
                next = signals.next() => return Ok(next),
                () = rest(config.labels.sleep_interval) => {}
            }
        }
    });
    runtime.shutdown_background();
    ended
}

/// One for a program that does one thing at a time.
pub(super) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
}

async fn rest(interval: Option<Duration>) {
    match interval {
        Some(interval) => tokio::time::sleep(interval).await,
        None => std::future::pending().await,
    }
}

struct Signals {
    ends: [Signal; 3],
    reload: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            ends: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::quit())?,
            ],
            reload: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Next {
        let [terminate, interrupt, quit] = &mut self.ends;
        tokio::select! {
            _ = terminate.recv() => Next::End,
            _ = interrupt.recv() => Next::End,
            _ = quit.recv() => Next::End,
            _ = self.reload.recv() => Next::Reload,
        }
    }
}
