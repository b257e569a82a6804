//! The driver's thread: the one place that opens sessions and asks GPUs how they are.
//!
//! The driver may take seconds, and the rest of the process must not wait for it. So its calls
//! are made here, on commands, and the answers go to the state task as news.

mod events;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use mizzen_core::driver::{DriverError, DriverLoader, GpuDriver, Questions};
use mizzen_core::gpu::{GpuUuid, PciBusId};
use mizzen_core::inventory::Inventory;
use mizzen_core::state::{Discovery, Event};
use tokio::sync::{mpsc, watch};

use crate::backoff::Backoff;
use crate::machine::{Fingerprint, Machine};
use events::{EventWatch, Patience};

/// Between attempts to open a driver that is not there.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How often the machine is looked at even if nothing says that it has changed: `/proc` does not
/// tell of its changes.
const SLOW_LOOK: Duration = Duration::from_mins(1);
/// The driver's threads call into a C library, and do little themselves.
pub(crate) const STACK: usize = 512 * 1024;
/// Former sessions whose wait for events may run out while a new one is open.
const MOST_RETIRED: usize = 2;
/// `NVML_ERROR_UNINITIALIZED`: the session is gone.
const UNINITIALIZED: u32 = 1;

/// What the driver's thread is asked to do.
pub(crate) enum Command {
    /// Ask these GPUs how they are; answered with [`News::Round`].
    Check {
        /// Whom to ask.
        gpus: Vec<GpuUuid>,
        /// Whether some GPU of the node is sick, so that its watch may soon have to be renewed.
        some_sick: bool,
    },
    /// Look how these GPUs are partitioned; what is different is news.
    LookAtPartitions(Vec<GpuUuid>),
    /// Watch all GPUs for events, once more.
    Watch,
    /// The machine may have changed: look, and open a new session if it has.
    Look,
    /// Use other settings; with a loader, open a new session with it.
    Configure(Machine, Option<Arc<dyn DriverLoader>>),
    /// End.
    Stop,
}

/// What the driver's threads tell.
#[derive(Debug)]
pub(crate) enum News {
    /// These things happened.
    Events(Vec<Event>),
    /// The answers to a [`Command::Check`].
    Round(Vec<Event>),
}

/// Commands for the driver's thread.
#[derive(Clone)]
pub(crate) struct Driver {
    commands: Sender<Command>,
    session: watch::Receiver<Option<Arc<dyn GpuDriver>>>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl Driver {
    /// Starts the thread, which begins to open the driver at once.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub(crate) fn start(
        loader: Arc<dyn DriverLoader>,
        machine: Machine,
        known: BTreeSet<PciBusId>,
        news: mpsc::Sender<News>,
    ) -> std::io::Result<Self> {
        Self::start_with(loader, machine, known, news, Patience::default())
    }

    fn start_with(
        loader: Arc<dyn DriverLoader>,
        machine: Machine,
        known: BTreeSet<PciBusId>,
        news: mpsc::Sender<News>,
        patience: Patience,
    ) -> std::io::Result<Self> {
        let (commands, receiver) = channel();
        let (open_session, session) = watch::channel(None);
        let mut worker = Worker {
            loader,
            machine,
            known,
            news,
            patience,
            session: None,
            open_session,
            retired: Vec::new(),
            fingerprint: Fingerprint::default(),
            last_look: Instant::now(),
            retry: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
            next_try: Instant::now(),
        };
        thread::Builder::new()
            .name("driver".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                worker.open();
                worker.obey(&receiver);
            })?;
        Ok(Self { commands, session })
    }

    /// The open session, and news of it; `None` while there is none. Whoever keeps one keeps NVML
    /// as it was when it was opened.
    pub(crate) fn session(&self) -> watch::Receiver<Option<Arc<dyn GpuDriver>>> {
        self.session.clone()
    }

    /// Hands a command over; it is lost if the thread has ended, as everything else has then.
    pub(crate) fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

struct Worker {
    loader: Arc<dyn DriverLoader>,
    machine: Machine,
    /// Where GPUs are, or once were.
    known: BTreeSet<PciBusId>,
    news: mpsc::Sender<News>,
    patience: Patience,
    session: Option<Session>,
    /// For those who change what only a session can.
    open_session: watch::Sender<Option<Arc<dyn GpuDriver>>>,
    /// The watches of former sessions that may still wait for an event.
    retired: Vec<EventWatch>,
    fingerprint: Fingerprint,
    last_look: Instant,
    retry: Backoff,
    /// When to try to open a session again while there is none. Commands, which may come at any
    /// pace meanwhile, do not put it off.
    next_try: Instant,
}

/// An open session, and what it showed first.
struct Session {
    driver: Arc<dyn GpuDriver>,
    inventory: Inventory,
    watch: EventWatch,
}

impl Worker {
    fn obey(&mut self, commands: &Receiver<Command>) {
        loop {
            let command = if self.session.is_some() {
                commands.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                let wait = self.next_try.saturating_duration_since(Instant::now());
                commands.recv_timeout(wait)
            };
            match command {
                Ok(Command::Check { gpus, some_sick }) => {
                    if let Some(session) = &self.session {
                        session.watch.be_brisk(some_sick);
                        session.watch.tell_if_overdue(&self.news);
                    }
                    self.check(&gpus);
                }
                Ok(Command::LookAtPartitions(gpus)) => self.look_at_partitions(&gpus),
                Ok(Command::Watch) => {
                    if let Some(session) = &self.session {
                        session.watch.renew();
                    }
                }
                Ok(Command::Look) => self.look(),
                Ok(Command::Configure(machine, loader)) => self.configure(machine, loader),
                Err(RecvTimeoutError::Timeout) => self.open(),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.news.is_closed() {
                break;
            }
        }
    }

    /// Opens a session and tells what it shows; without one, says why.
    fn open(&mut self) {
        let opened = self.loader.open().and_then(|driver| {
            let inventory = driver.snapshot()?;
            Ok((driver, inventory))
        });
        // Opening may itself make nodes (nvidia-modprobe), so the look comes after it; and before
        // anybody is told, so that what is done in answer to the news is seen as a change.
        self.fingerprint = self.machine.fingerprint();
        self.last_look = Instant::now();
        match opened {
            Ok((driver, inventory)) => self.begin(driver, inventory),
            Err(error) => self.tell(vec![Event::DriverAbsent(error)]),
        }
        if self.session.is_none() {
            self.next_try = Instant::now() + self.retry.failed();
        }
    }

    fn begin(&mut self, driver: Arc<dyn GpuDriver>, inventory: Inventory) {
        let gpus: Vec<GpuUuid> = inventory.gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
        let mut events = vec![self.discovered(inventory.clone())];
        // Asked before the first list goes out: one that waits for its reset is not offered.
        events.extend(checked(&*driver, &gpus, self.machine.questions()));
        self.tell(events);
        // Without GPUs there is nothing to watch, but something to wait for.
        if !inventory.gpus.is_empty() || !inventory.broken.is_empty() {
            self.retry.reset();
            self.open_session.send_replace(Some(driver.clone()));
            let watch = EventWatch::start(driver.clone(), gpus, self.news.clone(), self.patience);
            self.session = Some(Session {
                driver,
                inventory,
                watch,
            });
        }
    }

    /// Opens a session in place of the one there is, whose wait for events is left to run out.
    fn reopen(&mut self) {
        self.open_session.send_replace(None);
        if let Some(session) = self.session.take() {
            session.watch.order_stop();
            self.retired.push(session.watch);
        }
        self.retired.retain(|watch| !watch.has_ended());
        // Not more sessions than can be needed, however often the machine changes.
        while self.retired.len() > MOST_RETIRED {
            self.retired.remove(0).stop();
        }
        self.open();
    }

    fn configure(&mut self, machine: Machine, loader: Option<Arc<dyn DriverLoader>>) {
        self.machine = machine;
        match loader {
            Some(loader) => {
                self.loader = loader;
                // Another loader does not know of the sessions of this one.
                for watch in self.retired.drain(..) {
                    watch.stop();
                }
                self.open_session.send_replace(None);
                if let Some(session) = self.session.take() {
                    session.watch.stop();
                }
                self.open();
            }
            None => self.look(),
        }
    }

    /// Opens a new session if GPUs or driver are not what they were, or if there is none.
    fn look(&mut self) {
        self.last_look = Instant::now();
        if self.session.is_none() || self.machine.fingerprint() != self.fingerprint {
            self.reopen();
        } else {
            self.tell(vec![Event::HostNodes(self.machine.host_nodes())]);
        }
    }

    fn check(&mut self, gpus: &[GpuUuid]) {
        let Some(session) = &mut self.session else {
            return self.send(News::Round(Vec::new()));
        };
        let mut events = checked(&*session.driver, gpus, self.machine.questions());
        let errors = || {
            events.iter().filter_map(|event| match event {
                Event::Checked(_, Err(error)) => Some(error),
                _ => None,
            })
        };
        let session_gone = errors().any(ends_the_session);
        let gpu_gone = errors()
            .any(|error| matches!(error, DriverError::GpuLost | DriverError::UnknownGpu(_)));
        let mended = session.look_at_the_broken();
        if let Some(inventory) = mended {
            events.push(self.discovered(inventory));
        }
        if session_gone {
            // What the GPUs answered says nothing of them.
            self.send(News::Round(Vec::new()));
            return self.reopen();
        }
        self.send(News::Round(events));
        if (gpu_gone || self.last_look.elapsed() >= SLOW_LOOK)
            && self.machine.fingerprint() != self.fingerprint
        {
            self.reopen();
        } else if self.last_look.elapsed() >= SLOW_LOOK {
            self.last_look = Instant::now();
        }
    }

    fn look_at_partitions(&mut self, gpus: &[GpuUuid]) {
        let Some(session) = &mut self.session else {
            return;
        };
        let events = session.look_at_partitions(gpus);
        if !events.is_empty() {
            self.tell(events);
        }
    }

    fn discovered(&mut self, inventory: Inventory) -> Event {
        self.known.extend(inventory.gpus.iter().map(|gpu| gpu.pci));
        Event::Discovered(Box::new(Discovery {
            inventory,
            on_bus: self.machine.on_bus(&self.known),
            host_nodes: self.machine.host_nodes(),
        }))
    }

    fn tell(&self, events: Vec<Event>) {
        self.send(News::Events(events));
    }

    fn send(&self, news: News) {
        // Nobody listens any more when the process ends.
        let _ = self.news.blocking_send(news);
    }
}

impl Session {
    /// What is different about how these GPUs are partitioned. One that does not answer is as it
    /// was: what else is the matter with it is found out when it is asked how it is.
    fn look_at_partitions(&mut self, gpus: &[GpuUuid]) -> Vec<Event> {
        let mut events = Vec::new();
        for (uuid, answer) in gpus.iter().zip(self.driver.partitions(gpus)) {
            let known = self.inventory.gpus.iter_mut();
            let known = known.into_iter().find(|gpu| gpu.uuid == *uuid);
            if let (Ok(mig), Some(known)) = (answer, known)
                && known.mig != mig
            {
                known.mig.clone_from(&mig);
                events.push(Event::Partitioned(uuid.clone(), mig));
            }
        }
        events
    }

    /// Describes the GPUs anew while some could not be described; tells what is different.
    fn look_at_the_broken(&mut self) -> Option<Inventory> {
        if self.inventory.broken.is_empty() {
            return None;
        }
        let inventory = self.driver.snapshot().ok()?;
        if inventory == self.inventory {
            return None;
        }
        self.inventory = inventory.clone();
        self.watch
            .renew_with(inventory.gpus.iter().map(|gpu| gpu.uuid.clone()).collect());
        Some(inventory)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.watch.order_stop();
        }
    }
}

/// Asks these GPUs how they are.
fn checked(driver: &dyn GpuDriver, gpus: &[GpuUuid], questions: Questions) -> Vec<Event> {
    let both = gpus.iter().zip(driver.check_all(gpus, questions));
    both.map(|(gpu, answer)| Event::Checked(gpu.clone(), answer))
        .collect()
}

/// Whether an answer means that no GPU can be asked through this session any more.
fn ends_the_session(error: &DriverError) -> bool {
    matches!(
        error,
        DriverError::NotRunning(_)
            | DriverError::LibraryUnusable { .. }
            | DriverError::Nvml {
                code: UNINITIALIZED,
                ..
            }
    )
}

#[cfg(test)]
mod tests;
