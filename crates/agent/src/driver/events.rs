//! The thread that waits for the driver's events.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mizzen_core::driver::{DriverError, DriverEvent, GpuDriver};
use mizzen_core::gpu::GpuUuid;
use mizzen_core::state::Event;
use tokio::sync::mpsc;

use super::{News, STACK};
use crate::backoff::Backoff;

/// After a wait that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// While there is nothing to wait for but orders.
const A_DAY: Duration = Duration::from_hours(24);
/// How many events that nobody has taken are told at the end of a session: a driver that reports
/// them without end must not hold it up.
const LAST_EVENTS: usize = 256;

/// How long waits for events last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// One wait without an event while all is well: each end of one wakes an idle node's
    /// processor.
    pub(super) idle: Duration,
    /// The same when orders may soon come: while a GPU is sick, and after failures.
    pub(super) brisk: Duration,
    /// How much longer than asked a wait may take before it counts as hanging.
    pub(super) grace: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(10),
            brisk: Duration::from_secs(1),
            grace: Duration::from_secs(2),
        }
    }
}

/// A thread that waits for events of one session.
#[derive(Debug)]
pub(super) struct EventWatch {
    orders: Arc<Orders>,
    ended: Receiver<()>,
    patience: Patience,
}

/// What the thread looks at between two waits, and where others see how it is.
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
    /// Whether waits are to be short.
    brisk: bool,
    /// The wait in progress.
    wait: Option<Wait>,
}

/// A call that waits for an event.
#[derive(Debug, Clone, Copy)]
struct Wait {
    /// How long it was asked to last.
    timeout: Duration,
    /// When it should have returned, the grace included.
    due: Instant,
    /// Whether somebody has told that it has not.
    overdue: bool,
}

impl EventWatch {
    /// Watches `gpus`; without a thread for it, they are polled like GPUs without events.
    pub(super) fn start(
        driver: Arc<dyn GpuDriver>,
        gpus: Vec<GpuUuid>,
        news: mpsc::Sender<News>,
        patience: Patience,
    ) -> Self {
        let order = Order {
            stop: false,
            watch: Some(gpus.clone()),
            all: gpus,
            brisk: false,
            wait: None,
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
            patience,
            failures: 0,
            failing: None,
            _end: end,
        };
        let thread = thread::Builder::new()
            .name("events".to_owned())
            .stack_size(STACK);
        if let Err(error) = thread.spawn(move || waiter.run()) {
            tracing::error!(%error, "no thread to wait for the driver's events: GPUs are polled");
        }
        Self {
            orders,
            ended,
            patience,
        }
    }

    /// Makes waits short from the next one on, or long again: in a short one, orders that come
    /// are soon carried out.
    pub(super) fn be_brisk(&self, brisk: bool) {
        self.orders.lock().brisk = brisk;
    }

    /// Tells, once, of a wait that has not returned in its time: the driver hangs in it, and
    /// nothing is told of any GPU. When it returns, the thread tells that too.
    pub(super) fn tell_if_overdue(&self, news: &mpsc::Sender<News>) {
        let mut order = self.orders.lock();
        let Some(wait) = &mut order.wait else { return };
        if wait.overdue || Instant::now() < wait.due {
            return;
        }
        wait.overdue = true;
        let after = wait.timeout + self.patience.grace;
        // Sent before the lock is given back, so that this news comes before that of its end.
        let failed = Event::WaitFailed(DriverError::Hung { after });
        let _ = news.blocking_send(News::Events(vec![failed]));
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
        let longest = match self.orders.lock().wait {
            Some(wait) => wait.due.saturating_duration_since(Instant::now()),
            None => self.patience.idle + self.patience.grace,
        };
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(longest) {
            tracing::warn!("a wait for the driver's events did not end in time; leaving it behind");
        }
    }

    /// Whether the thread has ended, and with it the last use of the session.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.ended.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// Makes the thread end after the wait in progress; what it has seen until then it tells.
    pub(super) fn order_stop(&self) {
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
    patience: Patience,
    /// Waits that failed one after the other.
    failures: u32,
    /// Whether it was told that waiting does not work; unknown at first, for the watch before
    /// this one may have told so.
    failing: Option<bool>,
    /// Dropped when the thread ends, last.
    _end: Sender<()>,
}

impl Waiter {
    fn run(mut self) {
        let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut nothing_to_watch = false;
        loop {
            let (stop, order) = {
                let mut order = self.orders.lock();
                (order.stop, order.watch.take())
            };
            if self.news.is_closed() {
                return;
            }
            if stop {
                return self.tell_the_last();
            }
            let armed = match order {
                Some(gpus) => self.watch(gpus, Vec::new()),
                // A set that holds a lost GPU fails for all of them: leave out who is lost.
                None if self.failures > 0 => self.watch_the_answering(),
                None => Ok(!nothing_to_watch),
            };
            let waited = armed.and_then(|any| {
                nothing_to_watch = !any;
                if nothing_to_watch {
                    self.orders.sleep(A_DAY);
                    return Ok(None);
                }
                self.wait()
            });
            match waited {
                Ok(event) => {
                    self.worked(event);
                    pause.reset();
                }
                Err(error) => {
                    if self.failed(error) {
                        self.orders.sleep(pause.failed());
                    }
                }
            }
        }
    }

    fn worked(&mut self, event: Option<DriverEvent>) {
        self.failures = 0;
        if self.failing != Some(false) {
            self.failing = Some(false);
            self.tell_of_waiting(Event::WaitWorks);
        }
        if let Some(event) = event {
            self.tell(Event::Driver(event));
        }
    }

    /// Whether there is reason for a pause.
    fn failed(&mut self, error: DriverError) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 && error == DriverError::GpuLost {
            // Expected of a set with such a GPU in it; without it there is hope.
            return false;
        }
        if self.failing != Some(true) {
            self.failing = Some(true);
            self.tell_of_waiting(Event::WaitFailed(error));
        }
        true
    }

    /// Tells how waiting goes, as long as it is this thread that waits for the agent.
    fn tell_of_waiting(&self, event: Event) {
        if !self.orders.lock().stop {
            self.tell(event);
        }
    }

    /// Waits for an event, where others can see for how long.
    fn wait(&mut self) -> Result<Option<DriverEvent>, DriverError> {
        let timeout = {
            let mut order = self.orders.lock();
            if order.stop || order.watch.is_some() {
                return Ok(None);
            }
            let timeout = if order.brisk || self.failures > 0 {
                self.patience.brisk
            } else {
                self.patience.idle
            };
            order.wait = Some(Wait {
                timeout,
                due: Instant::now() + timeout + self.patience.grace,
                overdue: false,
            });
            timeout
        };
        let event = self.driver.next_event(timeout);
        let wait = self.orders.lock().wait.take();
        if wait.is_some_and(|wait| wait.overdue) {
            self.failing = Some(true);
        }
        event
    }

    /// Tells what the driver has reported and nobody has taken yet: with the session it is gone.
    fn tell_the_last(&self) {
        for _ in 0..LAST_EVENTS {
            match self.driver.next_event(Duration::ZERO) {
                Ok(Some(event)) => self.tell(Event::Driver(event)),
                Ok(None) | Err(_) => return,
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
        let answers = self.driver.check_all(&all);
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
