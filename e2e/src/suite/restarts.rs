//! The kubelet and the agent come and go; capacity comes back, and running pods keep what they
//! have.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{Instant, sleep};

use super::Context;
use super::gpu_pods::{wait_for_node, workload};
use crate::cluster::Process;
use crate::devices::{self, Holders};
use crate::{agent, images, report};

/// How long capacity may take to be whole again.
const WHOLE_LIMIT: Duration = Duration::from_secs(5);
/// When a gap is no longer waited for.
const GAP_LIMIT: Duration = Duration::from_secs(30);
/// How often something is looked at while it changes.
const POLL: Duration = Duration::from_millis(50);
/// How often the kubelet is restarted in the long test.
const RESTARTS: u32 = 50;
/// How long a container may take to be started anew.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A node with running pods, and what must not change while things restart.
struct Before {
    gpus: usize,
    holders: Holders,
    containers: Vec<String>,
}

const PODS: [&str; 2] = ["keeper-0", "keeper-1"];

impl Before {
    /// Runs a pod with one GPU and one with two.
    async fn new(context: &Context<'_>) -> Result<Self> {
        context.agent().await?;
        let gpus = context.hardware.gpus().await?.len();
        for (name, count) in PODS.into_iter().zip([1, 2]) {
            context
                .pods
                .run(&workload(context, name, Some(count)))
                .await?;
        }
        let holders = devices::holders().await?;
        ensure!(holders.len() == PODS.len(), "PodResources has {holders:?}");
        Ok(Self {
            gpus,
            holders,
            containers: containers(context).await?,
        })
    }

    /// The same containers run, and hold the same GPUs. A kubelet that has just started first
    /// learns of its pods from the API server, and shows no holders until then.
    async fn still_holds(&self, context: &Context<'_>) -> Result<()> {
        let deadline = Instant::now() + WHOLE_LIMIT;
        loop {
            let holders = devices::holders().await;
            if holders
                .as_ref()
                .is_ok_and(|holders| *holders == self.holders)
            {
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "PodResources has {holders:?}, had {:?}",
                self.holders
            );
            sleep(POLL).await;
        }
        let containers = containers(context).await?;
        ensure!(
            containers == self.containers,
            "containers were {:?} and are {containers:?}",
            self.containers
        );
        Ok(())
    }
}

/// The ids of the pods' containers, with how often each was restarted.
async fn containers(context: &Context<'_>) -> Result<Vec<String>> {
    let mut containers = Vec::new();
    for name in PODS {
        let status = context
            .pods
            .get(name)
            .await?
            .status
            .context("it has a status")?;
        for container in status.container_statuses.unwrap_or_default() {
            let id = container.container_id.unwrap_or_default();
            containers.push(format!("{id} {}", container.restart_count));
        }
    }
    Ok(containers)
}

/// What an administrator does: stop, start.
pub(super) async fn a_kubelet_restart(context: &Context<'_>) -> Result<()> {
    let before = Before::new(context).await?;
    context.cluster.stop_kubelet().await?;
    context.cluster.start_kubelet().await?;
    devices::wait_for_allocatable(before.gpus, WHOLE_LIMIT).await?;
    wait_for_node(context, before.gpus, before.gpus).await?;
    before.still_holds(context).await
}

/// SIGKILL to the agent: no goodbye to the kubelet, and its sockets stay.
pub(super) async fn an_agent_that_is_killed(context: &Context<'_>) -> Result<()> {
    let before = Before::new(context).await?;
    let old = agent::process()?.context("no agent runs")?;
    let gap = longest_gap(before.gpus, async {
        old.end(rustix::process::Signal::KILL).await?;
        new_agent_process(old).await
    });
    let gap = gap.await?;
    within_limit(gap)?;
    wait_for_node(context, before.gpus, before.gpus).await?;
    before.still_holds(context).await
}

/// A rolling update of the DaemonSet.
pub(super) async fn an_agent_upgrade(context: &Context<'_>) -> Result<()> {
    let before = Before::new(context).await?;
    let agent = context.agent().await?;
    let next = images::next_agent_image();
    let gap = longest_gap(before.gpus, agent.upgrade_to(&next)).await?;
    within_limit(gap)?;
    wait_for_node(context, before.gpus, before.gpus).await?;
    before.still_holds(context).await?;
    agent.upgrade_to(&xtask::image::default_reference()).await
}

/// Restarts at random: gracefully or not, at once or after a while, one after another or
/// another one on top.
pub(super) async fn fifty_kubelet_restarts(context: &Context<'_>) -> Result<()> {
    let before = Before::new(context).await?;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut slowest = Duration::ZERO;
    for restart in 1..=RESTARTS {
        let whole = restart_at_random(context, &before, &mut random).await;
        let whole = whole.with_context(|| format!("restart {restart}, seed {seed}"))?;
        slowest = slowest.max(whole);
        if restart % 10 == 0 {
            report::line(&format!(
                "  {restart} of {RESTARTS} restarts, capacity whole within {}",
                report::seconds(slowest)
            ));
        }
    }
    Ok(())
}

async fn restart_at_random(
    context: &Context<'_>,
    before: &Before,
    random: &mut fastrand::Rng,
) -> Result<Duration> {
    let mut up_to = |milliseconds| Duration::from_millis(random.u64(0..=milliseconds));
    sleep(up_to(1000)).await;
    let (down, meanwhile) = (up_to(500), up_to(1500));
    if random.bool() {
        context.cluster.stop_kubelet().await?;
        sleep(down).await;
    }
    context.cluster.crash_kubelet().await?;
    if random.u8(0..4) == 0 {
        // It may be anywhere in its start: before its sockets, between them, after them.
        sleep(meanwhile).await;
        context.cluster.crash_kubelet().await?;
    }
    context.cluster.wait_for_kubelet().await?;
    let whole = devices::wait_for_allocatable(before.gpus, WHOLE_LIMIT).await?;
    wait_for_node(context, before.gpus, before.gpus).await?;
    before.still_holds(context).await?;
    Ok(whole)
}

fn within_limit(gap: Duration) -> Result<()> {
    ensure!(gap <= WHOLE_LIMIT, "capacity was not whole for {gap:?}");
    report::line(&format!(
        "  capacity was not whole for {}",
        report::seconds(gap)
    ));
    Ok(())
}

/// How long the kubelet had less than every GPU to give, at the longest, while `work` went on
/// and until capacity was whole after it.
async fn longest_gap(gpus: usize, work: impl Future<Output = Result<()>>) -> Result<Duration> {
    let mut gaps = Gaps::default();
    let mut work = std::pin::pin!(work);
    let mut done = false;
    while !done || gaps.is_open() {
        let whole = devices::allocatable()
            .await
            .is_ok_and(|now| now.len() == gpus);
        gaps.observe(whole, Instant::now());
        ensure!(
            gaps.longest <= GAP_LIMIT,
            "capacity is not whole after {GAP_LIMIT:?}"
        );
        tokio::select! {
            finished = &mut work, if !done => {
                finished?;
                done = true;
            }
            () = sleep(Duration::from_millis(25)) => {}
        }
    }
    Ok(gaps.longest)
}

/// Times of less than full capacity.
#[derive(Debug, Default)]
struct Gaps {
    open_since: Option<Instant>,
    longest: Duration,
}

impl Gaps {
    fn observe(&mut self, whole: bool, now: Instant) {
        if !whole {
            self.open_since.get_or_insert(now);
        }
        if let Some(since) = self.open_since {
            self.longest = self.longest.max(now - since);
        }
        if whole {
            self.open_since = None;
        }
    }

    fn is_open(&self) -> bool {
        self.open_since.is_some()
    }
}

/// Waits until another agent than `old` runs.
pub(super) async fn new_agent_process(old: Process) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    while agent::process()?.is_none_or(|now| now == old) {
        ensure!(
            Instant::now() < deadline,
            "no new agent after {START_LIMIT:?}"
        );
        sleep(POLL).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_lasts_from_the_first_lack_to_the_first_sight_of_everything() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut gaps = Gaps::default();
        for (ms, whole) in [(0, true), (10, false), (20, false), (35, true), (40, false)] {
            gaps.observe(whole, at(ms));
        }
        assert_eq!(gaps.longest, Duration::from_millis(25));
        assert!(gaps.is_open());
        gaps.observe(true, at(100));
        assert_eq!(gaps.longest, Duration::from_millis(60));
        assert!(!gaps.is_open());
    }
}
