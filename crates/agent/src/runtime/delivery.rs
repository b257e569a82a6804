//! Choosing how containers get their GPUs where the settings leave that to the agent, and again
//! when the runtime is another.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::config::Config;
use mizzen_core::runtime::{AutoChoice, AutoInputs, choose};
use mizzen_core::state::Event;
use mizzen_nvml::HostRoot;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{FoundRuntime, Wish, ask, find};
use crate::dirwatch::{DirEvent, DirWatch};
use crate::supervisor::TaskError;

/// How long the start of the agent waits for the runtime's word.
const FIRST_PATIENCE: Duration = Duration::from_millis(500);
/// When a runtime that has a socket and does not answer is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// When a node without a runtime, or one whose socket cannot be watched, is looked at again.
const SLOW_LOOK: Duration = Duration::from_mins(1);

/// What was found out, and what follows.
struct Decision {
    choice: AutoChoice,
    /// The socket of the runtime, as this process sees it.
    socket: Option<PathBuf>,
    /// Whether the runtime itself was heard.
    is_told: bool,
}

/// What the agent begins with, if the settings leave the choice to it. A runtime that is slow to
/// answer is heard later.
pub(crate) async fn first_choice(config: &Config) -> Option<Event> {
    if !config.device_list_strategies.is_auto() {
        return None;
    }
    let found = look(config);
    let heard = timeout(FIRST_PATIENCE, decide(config, found.clone())).await;
    let decided = heard.unwrap_or_else(|_| decision(config, found.as_ref()));
    Some(event(decided.choice))
}

/// Chooses again when the runtime's socket is made anew and when settings are taken over.
///
/// # Errors
/// None; the task ends with the settings' sender or `stop`.
pub(crate) async fn follow<Told: Future<Output = ()>>(
    mut configs: watch::Receiver<Arc<Config>>,
    tell: impl Fn(Event) -> Told,
    stop: CancellationToken,
) -> Result<(), TaskError> {
    loop {
        let config = configs.borrow_and_update().clone();
        let mut pause = None;
        let mut watch = None;
        if config.device_list_strategies.is_auto() {
            let found = look(&config);
            let socket = found.as_ref().and_then(|found| found.socket.clone());
            // Before the question, so that nothing happens unseen.
            watch = socket.as_deref().and_then(watched);
            let decision = decide(&config, found).await;
            let may_answer = decision.socket.is_some() && !decision.is_told;
            pause = if may_answer {
                Some(RETRY)
            } else {
                watch.is_none().then_some(SLOW_LOOK)
            };
            tell(event(decision.choice)).await;
        }
        tokio::select! {
            changed = configs.changed() => if changed.is_err() { return Ok(()) },
            () = made_anew(watch.as_mut()) => {}
            () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

fn event(choice: AutoChoice) -> Event {
    Event::Chosen(Box::new(choice))
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

/// Asks the runtime, where it has a socket, and chooses.
async fn decide(config: &Config, mut found: Option<FoundRuntime>) -> Decision {
    if let Some(found) = &mut found
        && let Some(socket) = found.socket.clone()
        && let Ok(answer) = ask(&socket).await
    {
        found.take(answer);
    }
    decision(config, found.as_ref())
}

fn decision(config: &Config, found: Option<&FoundRuntime>) -> Decision {
    let report = found.map(FoundRuntime::report);
    Decision {
        choice: choose(AutoInputs {
            report: report.as_ref(),
            pass_device_specs: config.pass_device_specs,
        }),
        socket: found.and_then(|found| found.socket.clone()),
        is_told: found.is_some_and(|found| found.answer.is_some()),
    }
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
