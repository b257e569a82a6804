//! The thread that waits for the driver's events.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use mizzen_core::driver::{DriverError, GpuDriver, Questions};
use mizzen_core::gpu::GpuUuid;
use mizzen_core::state::Event;
use tokio::sync::mpsc;

use super::{News, STACK};
use crate::backoff::Backoff;

/// How long one wait lasts without an event: each end of one wakes an idle node's processor.
const WAIT: Duration = Duration::from_secs(10);
/// The same right after failures, when it is good to know soon that it works again.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// After a wait that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// While there is nothing to wait for but orders.
const A_DAY: Duration = Duration::from_hours(24);
/// How much longer than its timeout a wait may take before its thread is left behind.
const GRACE: Duration = Duration::from_secs(2);

/// A thread that waits for events of one session.
#[derive(Debug)]
pub(super) struct EventWatch {
    orders: Arc<Orders>,
    ended: Receiver<()>,
}

/// What the thread looks at between two waits.
#[derive(Debug)]
struct Orders {
    state: Mutex<Order>,
    changed: Condvar,
}

#[derive(Debug)]
struct Order {
    stop: bool,
    /// The GPUs to be watched from now on.
    watch: Option<Vec<GpuUuid>>,
    all: Vec<GpuUuid>,
}

impl EventWatch {
    /// Watches `gpus`; without a thread for it, they are polled like GPUs without events.
    pub(super) fn start(
        driver: Arc<dyn GpuDriver>,
        gpus: Vec<GpuUuid>,
        news: mpsc::Sender<News>,
    ) -> Self {
        let order = Order {
            stop: false,
            watch: Some(gpus.clone()),
            all: gpus,
        };
        let orders = Arc::new(Orders {
            state: Mutex::new(order),
            changed: Condvar::new(),
        });
        let (end, ended) = channel();
        let waiter = Waiter {
            driver,
            news,
            orders: orders.clone(),
            _end: end,
        };
        let thread = thread::Builder::new()
            .name("events".to_owned())
            .stack_size(STACK);
        if let Err(error) = thread.spawn(move || waiter.run()) {
            tracing::error!(%error, "no thread to wait for the driver's events: GPUs are polled");
        }
        Self { orders, ended }
    }

    /// Watches all GPUs once more.
    pub(super) fn renew(&self) {
        let mut order = self.orders.lock();
        order.watch = Some(order.all.clone());
        self.orders.changed.notify_all();
    }

    /// Watches these GPUs from now on.
    pub(super) fn renew_with(&self, gpus: Vec<GpuUuid>) {
        self.orders.lock().all = gpus;
        self.renew();
    }

    /// Ends the thread and waits for it, so that nobody uses the session any more.
    pub(super) fn stop(self) {
        self.order_stop();
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(WAIT + GRACE) {
            tracing::warn!("a wait for the driver's events did not end in time; leaving it behind");
        }
    }

    /// Ends the thread without waiting for it.
    pub(super) fn abandon(self) {
        self.order_stop();
    }

    fn order_stop(&self) {
        self.orders.lock().stop = true;
        self.orders.changed.notify_all();
    }
}

impl Orders {
    fn lock(&self) -> MutexGuard<'_, Order> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until there is an order, or `limit` has passed.
    fn sleep(&self, limit: Duration) {
        let idle = |order: &mut Order| !order.stop && order.watch.is_none();
        // A poisoned lock has nothing that could be half done.
        drop(self.changed.wait_timeout_while(self.lock(), limit, idle));
    }
}

struct Waiter {
    driver: Arc<dyn GpuDriver>,
    news: mpsc::Sender<News>,
    orders: Arc<Orders>,
    /// Dropped when the thread ends, last.
    _end: Sender<()>,
}

impl Waiter {
    fn run(self) {
        let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut failures = 0_u32;
        let mut failing = false;
        let mut nothing_to_watch = false;
        loop {
            let (stop, order) = {
                let mut order = self.orders.lock();
                (order.stop, order.watch.take())
            };
            if stop || self.news.is_closed() {
                return;
            }
            let armed = match order {
                Some(gpus) => self.watch(gpus, Vec::new()),
                // A set that holds a lost GPU fails for all of them: leave out who is lost.
                None if failures > 0 => self.watch_the_answering(),
                None => Ok(!nothing_to_watch),
            };
            let waited = armed.and_then(|any| {
                nothing_to_watch = !any;
                if nothing_to_watch {
                    self.orders.sleep(A_DAY);
                    return Ok(None);
                }
                self.driver
                    .next_event(if failures > 0 { FIRST_WAIT } else { WAIT })
            });
            match waited {
                Ok(event) => {
                    if failing {
                        failing = false;
                        self.tell(Event::WaitWorks);
                    }
                    failures = 0;
                    pause.reset();
                    if let Some(event) = event {
                        self.tell(Event::Driver(event));
                    }
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == 1 && error == DriverError::GpuLost {
                        // Expected of a set with such a GPU in it; without it there is hope.
                        continue;
                    }
                    if !failing {
                        failing = true;
                        self.tell(Event::WaitFailed(error));
                    }
                    self.orders.sleep(pause.failed());
                }
            }
        }
    }

    /// Has these GPUs watched and tells how that went, also of those that were `refused` before;
    /// whether any is watched.
    fn watch(
        &self,
        gpus: Vec<GpuUuid>,
        mut refused: Vec<(GpuUuid, DriverError)>,
    ) -> Result<bool, DriverError> {
        refused.extend(self.driver.watch_events(&gpus)?);
        let mut watched = gpus;
        watched.retain(|gpu| refused.iter().all(|(other, _)| other != gpu));
        let any = !watched.is_empty();
        self.tell(Event::Watching { watched, refused });
        Ok(any)
    }

    fn watch_the_answering(&self) -> Result<bool, DriverError> {
        let all = self.orders.lock().all.clone();
        let answers = self.driver.check_all(&all, Questions::default());
        let (mut answering, mut silent) = (Vec::new(), Vec::new());
        for (gpu, answer) in all.into_iter().zip(answers) {
            match answer {
                Ok(_) => answering.push(gpu),
                Err(error) => {
                    self.tell(Event::Checked(gpu.clone(), Err(error.clone())));
                    silent.push((gpu, error));
                }
            }
        }
        self.watch(answering, silent)
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more when the process ends; the next look at `news` notices.
        let _ = self.news.blocking_send(News::Events(vec![event]));
    }
}
