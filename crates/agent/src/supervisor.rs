//! Every task of the process has a name and an owner: this.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why a task ended before it was asked to.
pub(crate) type TaskError = Box<dyn std::error::Error + Send + Sync>;

/// Starts tasks, restarts those that fail, and ends them all together.
#[derive(Debug)]
pub(crate) struct Supervisor {
    tasks: JoinSet<&'static str>,
    stop: CancellationToken,
}

impl Supervisor {
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self {
            tasks: JoinSet::new(),
            stop,
        }
    }

    /// Runs what `make` makes until the stop; an error is logged and it is made anew, after a
    /// back-off.
    pub(crate) fn keep<F>(
        &mut self,
        name: &'static str,
        mut make: impl FnMut() -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
            while let Err(error) = make().await {
                let pause = backoff.failed();
                tracing::error!(task = name, %error, retry_ms = pause.as_millis(), "a task failed");
                if timeout(pause, stop.cancelled()).await.is_ok() {
                    break;
                }
            }
            name
        });
    }

    /// Runs a task whose end is the end of the process.
    pub(crate) fn essential<F>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            task.await;
            if !stop.is_cancelled() {
                tracing::error!(task = name, "a task that must not end has ended; stopping");
                stop.cancel();
            }
            name
        });
    }

    /// Waits up to `limit` for all tasks to end; those that have not are dropped.
    pub(crate) async fn drain(mut self, limit: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(limit, all).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "some tasks did not end in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_is_made_anew_until_it_ends_well() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let mut supervisor = Supervisor::new(CancellationToken::new());
        supervisor.keep("flaky", move || {
            let number = count.fetch_add(1, Ordering::Relaxed);
            async move {
                if number < 3 {
                    Err("no luck".into())
                } else {
                    Ok(())
                }
            }
        });
        supervisor.drain(Duration::from_mins(1)).await;
        assert_eq!(made.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_essential_task_stops_the_process() {
        let stop = CancellationToken::new();
        let mut supervisor = Supervisor::new(stop.clone());
        supervisor.essential("short-lived", async {});
        stop.cancelled().await;
        supervisor.drain(Duration::from_secs(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_holds_nobody_up_for_long() {
        let mut supervisor = Supervisor::new(CancellationToken::new());
        supervisor.keep("stuck", std::future::pending);
        supervisor.drain(Duration::from_secs(1)).await;
    }
}
