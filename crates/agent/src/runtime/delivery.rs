//! Choosing how containers get their GPUs where the settings leave that to the agent, and again
//! when the runtime is another.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::config::Config;
use mizzen_core::runtime::{AutoChoice, AutoInputs, CriAnswer, KnownPlace, choose};
use mizzen_core::state::Event;
use mizzen_nvml::HostRoot;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::ask::hear;
use super::{FoundRuntime, Wish, find};
use crate::backoff::Backoff;
use crate::dirwatch::{DirEvent, DirWatch};
use crate::supervisor::TaskError;

#[cfg(test)]
mod tests;

/// How long the start of the agent waits for the runtime's word.
const FIRST_PATIENCE: Duration = Duration::from_millis(500);
/// When a runtime that does not answer is asked again: soon at first, for one that starts answers
/// within seconds, and then at this interval at the most.
const RETRIES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// When a node without a runtime, or one whose socket cannot be watched, is looked at again.
const SLOW_LOOK: Duration = Duration::from_mins(1);

/// Chooses by the node's runtime, and remembers what that has said: a runtime that starts anew can
/// do what it could, and is silent for a while only.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chooser {
    /// The last whole answer, and whose it is.
    heard: Option<(KnownPlace, CriAnswer)>,
}

/// What was found out, and what follows.
struct Decision {
    /// `None` if what was chosen before stays.
    choice: Option<AutoChoice>,
    /// Whether it may be another as soon as the runtime answers.
    awaits_answer: bool,
}

impl Chooser {
    /// What the agent begins with, if the settings leave the choice to it. A runtime that is slow
    /// to answer is heard later.
    pub(crate) async fn first(&mut self, config: &Arc<Config>) -> Option<Event> {
        if !config.device_list_strategies.is_auto() {
            return None;
        }
        // A look that panicked is taken again, and told, by the task that follows.
        let found = look_aside(config).await.ok().flatten();
        let heard = timeout(FIRST_PATIENCE, self.decide(config, found.clone())).await;
        let choice = match heard {
            Ok(decision) => decision.choice,
            Err(_) => Some(choice(config, found.as_ref())),
        };
        choice.map(event)
    }

    /// Asks the runtime, where it has a socket, and chooses. Where it does not answer, or not all,
    /// what it said before counts.
    async fn decide(&mut self, config: &Config, mut found: Option<FoundRuntime>) -> Decision {
        let Some(runtime) = &mut found else {
            // One that was heard is away, and its socket with it.
            let is_away = self.heard.is_some();
            return Decision {
                choice: (!is_away).then(|| choice(config, None)),
                awaits_answer: is_away,
            };
        };
        let heard = match runtime.socket.as_deref() {
            Some(socket) => hear(socket).await.ok(),
            None => None,
        };
        let is_whole = heard.as_ref().is_some_and(|heard| heard.is_whole);
        if is_whole || self.remembered(&runtime.place).is_none() {
            if let Some(heard) = heard {
                if is_whole {
                    self.heard = Some((runtime.place, heard.answer.clone()));
                }
                runtime.take(heard.answer);
            }
        } else if let Some(answer) = self.remembered(&runtime.place) {
            runtime.take(answer.clone());
        }
        let may_answer = runtime.socket.is_some() || self.remembered(&runtime.place).is_some();
        Decision {
            choice: Some(choice(config, found.as_ref())),
            awaits_answer: may_answer && !is_whole,
        }
    }

    fn remembered(&self, place: &KnownPlace) -> Option<&CriAnswer> {
        let heard = self.heard.as_ref();
        heard.and_then(|(whose, answer)| (whose == place).then_some(answer))
    }

    /// Chooses again when the runtime's socket is made anew and when settings are taken over, and
    /// asks until it answers.
    ///
    /// # Errors
    /// A look that panicked.
    pub(crate) async fn follow<Told: Future<Output = ()>>(
        mut self,
        mut configs: watch::Receiver<Arc<Config>>,
        tell: impl Fn(Event) -> Told,
        stop: CancellationToken,
    ) -> Result<(), TaskError> {
        let mut retries = Backoff::new(RETRIES.0, RETRIES.1);
        loop {
            let config = configs.borrow_and_update().clone();
            let mut pause = None;
            let mut watch = None;
            if config.device_list_strategies.is_auto() {
                let found = look_aside(&config).await?;
                let socket = found.as_ref().and_then(|found| found.socket.clone());
                // Before the question, so that nothing happens unseen.
                watch = socket.as_deref().and_then(watched);
                let decision = tokio::select! {
                    decision = self.decide(&config, found) => decision,
                    () = stop.cancelled() => return Ok(()),
                };
                pause = if decision.awaits_answer {
                    Some(retries.failed())
                } else {
                    retries.reset();
                    watch.is_none().then_some(SLOW_LOOK)
                };
                if let Some(choice) = decision.choice {
                    tell(event(choice)).await;
                }
            }
            tokio::select! {
                changed = configs.changed() => if changed.is_err() { return Ok(()) },
                () = made_anew(watch.as_mut()) => retries.reset(),
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }
}

fn event(choice: AutoChoice) -> Event {
    Event::Chosen(Box::new(choice))
}

/// Looks on a thread of its own, for the disk may be slow and the agent has one thread.
async fn look_aside(config: &Arc<Config>) -> Result<Option<FoundRuntime>, TaskError> {
    let config = config.clone();
    Ok(spawn_blocking(move || look(&config)).await?)
}

/// The runtime below the roots at which this process may see the host.
fn look(config: &Config) -> Option<FoundRuntime> {
    let mut roots = vec![config.host_root.clone()];
    if config.driver_root == Path::new("/") && config.driver_root_ctr_path.is_dir() {
        // A container's own root has no runtime: the host's is where the driver's root is mounted.
        roots.insert(0, config.driver_root_ctr_path.clone());
    }
    let mut each = roots.into_iter().map(HostRoot::new);
    each.find_map(|root| find(&root, &Wish::default()))
}

fn choice(config: &Config, found: Option<&FoundRuntime>) -> AutoChoice {
    let report = found.map(FoundRuntime::report);
    choose(AutoInputs {
        report: report.as_ref(),
        pass_device_specs: config.pass_device_specs,
    })
}

/// A watch on the directory of a socket, with the socket's name.
fn watched(socket: &Path) -> Option<(DirWatch, std::ffi::OsString)> {
    let name = socket.file_name()?.to_owned();
    let watch = DirWatch::new([socket.parent()?]).ok()?;
    Some((watch, name))
}

/// Ends when the socket appears once more, or cannot be watched any longer.
async fn made_anew(watch: Option<&mut (DirWatch, std::ffi::OsString)>) {
    let Some((watch, socket)) = watch else {
        return std::future::pending().await;
    };
    loop {
        match watch.next().await {
            Ok(DirEvent::Appeared(name) | DirEvent::Written(name)) if name == *socket => return,
            Ok(DirEvent::Overflow | DirEvent::Ended) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
