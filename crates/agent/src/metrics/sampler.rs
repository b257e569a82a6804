//! Sampling the GPUs, at intervals, whoever asks for pages or not.
//!
//! A task keeps the time, and a thread of its own asks the driver: one round at a time. A driver
//! that hangs keeps that thread, and with it new samples; pages are made of the old ones, whose
//! age they tell.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use mizzen_core::config::Config;
use mizzen_core::driver::{DriverError, GpuDriver};
use mizzen_core::gpu::GpuUuid;
use mizzen_core::sample::{GpuSample, Texts, Wanted};
use mizzen_core::state::NodeState;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::latest::Latest;
use super::owners::{Owner, Owners};
use super::setup::Setup;
use crate::clock::Clock;
use crate::driver::STACK;

/// How often GPUs are sampled while nobody reads the pages: for how long they have been idle is
/// still to be known when somebody does.
const QUIET_INTERVAL: Duration = Duration::from_secs(10);

/// A session, where one is open.
pub(super) type Session = Option<Arc<dyn GpuDriver>>;

/// What to ask.
struct Question {
    driver: Arc<dyn GpuDriver>,
    gpus: Vec<GpuUuid>,
    wanted: Wanted,
    /// Those that have not told yet what stays the same.
    silent: Vec<GpuUuid>,
    answer: oneshot::Sender<Answer>,
}

/// What was answered to all of it.
pub(super) struct Answer {
    samples: Vec<Result<GpuSample, DriverError>>,
    texts: Vec<(GpuUuid, Texts)>,
    owners: BTreeMap<u32, Owner>,
}

/// The thread that asks. It ends when this is dropped and its last question is answered.
#[derive(Debug)]
pub(super) struct Asker(Sender<Question>);

impl Asker {
    /// Starts it.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub(super) fn start(config: &Config) -> io::Result<Self> {
        let (ask, questions) = channel::<Question>();
        let mut owners = Owners::new(config);
        thread::Builder::new()
            .name("sampler".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                while let Ok(question) = questions.recv() {
                    answer(question, &mut owners);
                }
            })?;
        Ok(Self(ask))
    }

    /// Asks, and tells what `latest` shall know. Where the driver hangs, this does.
    pub(super) async fn round(
        &self,
        driver: Arc<dyn GpuDriver>,
        gpus: Vec<GpuUuid>,
        wanted: Wanted,
        latest: &Latest,
        clock: Clock,
    ) {
        let (tell, answer) = oneshot::channel();
        let silent = {
            let known = &latest.samples().texts;
            let silent = gpus.iter().filter(|gpu| !known.contains_key(*gpu));
            silent.cloned().collect()
        };
        let question = Question {
            driver,
            gpus: gpus.clone(),
            wanted,
            silent,
            answer: tell,
        };
        // Without the thread there is no answer either.
        let _ = self.0.send(question);
        if let Ok(answer) = answer.await {
            take(latest, gpus, answer, clock);
        }
    }
}

fn answer(question: Question, owners: &mut Owners) {
    let Question {
        driver,
        gpus,
        wanted,
        silent,
        answer,
    } = question;
    let texts = texts(&*driver, silent);
    let samples = driver.sample(&gpus, wanted);
    // Whoever keeps a session keeps the driver as it was when it was opened.
    drop(driver);
    let answered = samples.iter().flatten();
    let mut pids: Vec<u32> = answered
        .flat_map(|sample| sample.processes.iter().map(|process| process.pid))
        .collect();
    pids.sort_unstable();
    pids.dedup();
    let owners = if wanted.processes {
        owners.of(&pids)
    } else {
        BTreeMap::new()
    };
    // Nobody may wait for it any more.
    let _ = answer.send(Answer {
        samples,
        texts,
        owners,
    });
}

/// The words of these GPUs, of those that answer.
fn texts(driver: &dyn GpuDriver, gpus: Vec<GpuUuid>) -> Vec<(GpuUuid, Texts)> {
    if gpus.is_empty() {
        return Vec::new();
    }
    let answers = driver.texts(&gpus);
    let both = gpus.into_iter().zip(answers);
    both.filter_map(|(gpu, texts)| Some((gpu, texts.ok()?)))
        .collect()
}

fn take(latest: &Latest, gpus: Vec<GpuUuid>, answer: Answer, clock: Clock) {
    let now = clock.now();
    let mut latest = latest.samples();
    latest.texts.extend(answer.texts);
    latest.owners = answer.owners;
    for (gpu, sample) in gpus.into_iter().zip(answer.samples) {
        latest.history.take(&gpu, sample, now);
    }
}

/// Keeps the time.
pub(super) struct Sampler {
    pub(super) asker: Asker,
    pub(super) session: watch::Receiver<Session>,
    pub(super) state: watch::Receiver<Arc<NodeState>>,
    pub(super) setup: watch::Receiver<Arc<Setup>>,
    pub(super) latest: Arc<Latest>,
    pub(super) clock: Clock,
}

impl Sampler {
    /// Runs until the driver's thread has ended. Without a session, and without GPUs, it sleeps.
    pub(super) async fn run(mut self) {
        self.begin_history();
        loop {
            let begun = Instant::now();
            let driver = self.session.borrow_and_update().clone();
            let gpus = self.gpus();
            let changed = match driver {
                Some(driver) if !gpus.is_empty() => {
                    self.forget_all_but(&gpus);
                    let wanted = self.setup.borrow().wanted;
                    let round = self
                        .asker
                        .round(driver, gpus, wanted, &self.latest, self.clock);
                    round.await;
                    self.wait(begun).await
                }
                _ => self.something().await,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    fn gpus(&mut self) -> Vec<GpuUuid> {
        let state = self.state.borrow_and_update();
        let each = state.gpus().iter().map(|known| known.gpu.uuid.clone());
        each.collect()
    }

    fn begin_history(&mut self) {
        let history = self.setup.borrow_and_update().options.history();
        self.latest.samples().history = history;
    }

    fn forget_all_but(&self, gpus: &[GpuUuid]) {
        let mut latest = self.latest.samples();
        latest.history.keep_only(|gpu| gpus.contains(gpu));
        latest.texts.retain(|gpu, _| gpus.contains(gpu));
    }

    /// Waits for the next round after one that began then.
    async fn wait(&mut self, begun: Instant) -> Result<(), watch::error::RecvError> {
        let interval = self.setup.borrow().interval;
        let next = begun + self.latest.interest.pause(interval, QUIET_INTERVAL);
        tokio::select! {
            () = sleep_until(next) => Ok(()),
            () = self.latest.interest.woken() => Ok(()),
            changed = self.session.changed() => {
                // Another session may know other words, of another driver.
                self.latest.samples().texts.clear();
                changed
            }
            changed = self.setup.changed() => {
                let window = self.setup.borrow_and_update().options.history().window();
                let kept = self.latest.samples().history.window();
                if kept != window {
                    self.begin_history();
                }
                changed
            }
        }
    }

    /// Waits for something to sample.
    async fn something(&mut self) -> Result<(), watch::error::RecvError> {
        tokio::select! {
            changed = self.session.changed() => changed,
            changed = self.state.changed() => changed,
        }
    }
}
