//! What the labels of a running agent are: they follow the one picture of the node, and what
//! nobody announces is looked at from time to time.

use std::sync::Arc;
use std::time::Duration;

use mizzen_core::config::Config;
use mizzen_core::driver::GpuDriver;
use mizzen_core::gpu::{Gpu, GpuUuid};
use mizzen_core::labels::{HostFacts, Labels, NodeFacts, Vgpu, feature_labels};
use mizzen_core::state::{DriverStatus, KnownGpu, NodeState};
use mizzen_core::topology::FabricClique;
use mizzen_nvml::HostRoot;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use super::{cliques, host_facts};

/// How long nothing may happen before labels are told: GPUs that are partitioned change step by
/// step.
const QUIET: Duration = Duration::from_secs(1);
/// How long that is waited for.
const LONGEST_UNREST: Duration = Duration::from_secs(5);

/// The driver's session, while there is one.
pub(super) type Session = Option<Arc<dyn GpuDriver>>;

/// What labels of a running agent are made of.
pub(super) struct Sources {
    /// The picture of the node.
    pub(super) state: watch::Receiver<Arc<NodeState>>,
    /// The driver's session.
    pub(super) session: watch::Receiver<Session>,
    /// When the agent was started, in seconds since 1970.
    pub(super) started: u64,
    /// Whether there are vGPUs, as a process with more rights has read it: the bus shows it to
    /// those alone.
    pub(super) vgpu: Vgpu,
}

/// What is not in the picture of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Surroundings {
    host: HostFacts,
    fabric: Vec<FabricClique>,
}

/// The surroundings as they were last seen.
struct Seen {
    surroundings: Surroundings,
    /// The GPUs that were asked for their fabric.
    gpus: Vec<GpuUuid>,
    /// When to look again; `None` is never.
    next: Option<Instant>,
}

/// Tells the labels whenever they were looked at, for as long as there is a picture of the node.
/// Nothing is told before the driver was looked for, nor, where the settings take a driver that is
/// away for an error, while it is away.
pub(super) async fn follow(mut sources: Sources, tell: watch::Sender<Option<Labels>>) {
    let mut seen: Option<Seen> = None;
    loop {
        let state = sources.state.borrow_and_update().clone();
        if let Some(gpus) = told(&state) {
            let uuids: Vec<GpuUuid> = gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
            let is_new = sources.session.has_changed().unwrap_or(false);
            let session = sources.session.borrow_and_update().clone();
            let holds = |seen: &Seen| {
                !is_new && seen.gpus == uuids && seen.next.is_none_or(|next| Instant::now() < next)
            };
            let mut current = match seen.filter(holds) {
                Some(seen) => seen,
                None => look_around(state.config(), session, uuids).await,
            };
            if current.surroundings.host.vgpu == Vgpu::Unknown {
                current.surroundings.host.vgpu = sources.vgpu.clone();
            }
            let around = &current.surroundings;
            let timestamp = state.config().labels.timestamp.then_some(sources.started);
            tell.send_replace(Some(labels(&state, &gpus, around, timestamp)));
            seen = Some(current);
        } else {
            seen = None;
        }
        let next = seen.as_ref().and_then(|seen| seen.next);
        tokio::select! {
            changed = sources.state.changed() => if changed.is_err() { return },
            Ok(()) = sources.session.changed() => sources.session.mark_changed(),
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => continue,
        }
        settle(&mut sources.state).await;
    }
}

/// Waits until nothing changes for a while.
async fn settle(state: &mut watch::Receiver<Arc<NodeState>>) {
    let limit = Instant::now() + LONGEST_UNREST;
    while Instant::now() < limit {
        tokio::select! {
            () = sleep(QUIET) => return,
            Ok(()) = state.changed() => {}
        }
    }
}

/// The GPUs that labels tell: those that the driver can describe, as `mizzen labels` would find
/// them. `None` while there is nothing to tell.
fn told(state: &NodeState) -> Option<Vec<Gpu>> {
    let is_there = |known: &&KnownGpu| {
        let mut signs = known.health.signs().iter();
        !signs.any(|sign| sign.reason.hides_the_gpu())
    };
    match state.driver() {
        DriverStatus::Unknown => None,
        DriverStatus::Absent(_) => (!state.config().fail_on_init_error).then(Vec::new),
        DriverStatus::Running(_) => {
            let known = state.gpus().iter().filter(is_there);
            Some(known.map(|known| known.gpu.clone()).collect())
        }
    }
}

fn labels(
    state: &NodeState,
    gpus: &[Gpu],
    around: &Surroundings,
    timestamp: Option<u64>,
) -> Labels {
    let node = NodeFacts {
        driver: match state.driver() {
            DriverStatus::Running(versions) => Some(versions),
            DriverStatus::Unknown | DriverStatus::Absent(_) => None,
        },
        gpus,
        fabric: &around.fabric,
        host: &around.host,
        timestamp,
    };
    feature_labels(&node, state.config())
}

/// Looks at the machine, and asks the driver by the session that there is; both may take a while.
async fn look_around(config: &Arc<Config>, session: Session, gpus: Vec<GpuUuid>) -> Seen {
    let next = config
        .labels
        .sleep_interval
        .map(|time| Instant::now() + time);
    let (config, asked) = (config.clone(), gpus.clone());
    let looking = spawn_blocking(move || {
        let machine_file = config.labels.machine_type_file.as_deref();
        Surroundings {
            host: host_facts(&HostRoot::new(&config.host_root), machine_file),
            fabric: session.map_or_else(Vec::new, |driver| cliques(driver.as_ref(), &asked)),
        }
    });
    Seen {
        // A look that fails has panicked, which ends the process.
        surroundings: looking.await.unwrap_or_default(),
        gpus,
        next,
    }
}

#[cfg(test)]
mod tests;
