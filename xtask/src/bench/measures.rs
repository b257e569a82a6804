//! Each figure's measurement, against any device plugin.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep};

use super::kubelet::{Kubelet, Lists, Manners, Plugin, Question};
use super::process::{Held, Process, Recipe, Resident, Work};
use super::samples::Samples;

/// A plugin that has registered and sent its first list.
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) kubelet: Kubelet,
    pub(super) plugin: Plugin,
    pub(super) lists: Lists,
    pub(super) ids: Vec<String>,
    pub(super) first_list_after: Duration,
}

/// Starts a kubelet in `dir`, then the plugin, and waits for its first list of at least one device.
pub(super) async fn start(recipe: &Recipe, dir: &Path) -> Result<Running> {
    let mut kubelet = Kubelet::start(dir, Manners::default()).await?;
    let process = Process::start(recipe)?;
    let registered = kubelet.registered().await?;
    let mut plugin = kubelet.dial(&registered.request).await?;
    let mut lists = plugin.list_and_watch().await?;
    loop {
        let (at, list) = lists.next().await?;
        if !list.devices.is_empty() {
            let ids = list.devices.into_iter().map(|device| device.id).collect();
            let first_list_after = at - process.started;
            return Ok(Running {
                process,
                kubelet,
                plugin,
                lists,
                ids,
                first_list_after,
            });
        }
    }
}

/// Process start → first device list.
pub(super) async fn first_list(recipe: &Recipe, dir: &Path, runs: usize) -> Result<Samples> {
    let mut samples = Vec::with_capacity(runs);
    for _ in 0..runs {
        let running = start(recipe, dir).await?;
        samples.push(running.first_list_after);
        drop(running.process);
        running.kubelet.stop().await?;
    }
    Ok(Samples::new(samples))
}

/// Memory after a few seconds, then the work of an idle span.
pub(super) async fn idle(recipe: &Recipe, dir: &Path, span: Duration) -> Result<(Resident, Work)> {
    let running = start(recipe, dir).await?;
    sleep(Duration::from_secs(5)).await;
    let resident = running.process.resident()?;
    let before = running.process.work()?;
    sleep(span).await;
    let after = running.process.work()?;
    drop(running.process);
    running.kubelet.stop().await?;
    let work = Work {
        on_cpu: after.on_cpu.saturating_sub(before.on_cpu),
        wake_ups: after.wake_ups.saturating_sub(before.wake_ups),
    };
    Ok((resident, work))
}

/// Allocate calls for one device, one after the other.
pub(super) async fn allocate(recipe: &Recipe, dir: &Path, calls: usize) -> Result<Samples> {
    let mut running = start(recipe, dir).await?;
    let ids = running.ids.clone();
    let mut samples = Vec::with_capacity(calls);
    for number in 0..calls + calls / 10 {
        let one = std::slice::from_ref(&ids[number % ids.len()]);
        let took = running.plugin.allocate(one).await?;
        // The first tenth warms both sides up.
        if number >= calls / 10 {
            samples.push(took);
        }
    }
    drop(running.process);
    running.kubelet.stop().await?;
    Ok(Samples::new(samples))
}

/// GetPreferredAllocation calls for `size` of all devices.
pub(super) async fn prefer(
    recipe: &Recipe,
    dir: &Path,
    size: usize,
    calls: usize,
) -> Result<Samples> {
    let mut running = start(recipe, dir).await?;
    let question = Question::new(&running.ids);
    let mut samples = Vec::with_capacity(calls);
    for number in 0..calls + calls / 10 {
        let took = running.plugin.prefer(&question, size).await?;
        if number >= calls / 10 {
            samples.push(took);
        }
    }
    drop(running.process);
    running.kubelet.stop().await?;
    Ok(Samples::new(samples))
}

/// The kubelet restarts `times` times, 20 to 200 ms apart; its socket → Register.
pub(super) async fn reregister(recipe: &Recipe, dir: &Path, times: usize) -> Result<Samples> {
    let mut running = start(recipe, dir).await?;
    let mut samples = Vec::with_capacity(times);
    for number in 0..times {
        running.kubelet.stop().await?;
        sleep(Duration::from_millis(spread(number, 20, 200))).await;
        running.kubelet = Kubelet::start(dir, Manners::default()).await?;
        let registered = running.kubelet.registered().await?;
        samples.push(
            registered
                .at
                .saturating_duration_since(running.kubelet.listening),
        );
        // A kubelet dials back and stays; a plugin that registered without serving fails here.
        running.plugin = running.kubelet.dial(&registered.request).await?;
        running.lists = running.plugin.list_and_watch().await?;
        running.lists.next().await?;
    }
    drop(running.process);
    running.kubelet.stop().await?;
    Ok(Samples::new(samples))
}

/// The kubelet misbehaves; from the end of that to the Register that it accepts.
pub(super) async fn after_trouble(
    recipe: &Recipe,
    dir: &Path,
    trouble: Trouble,
) -> Result<Duration> {
    let mut running = start(recipe, dir).await?;
    running.kubelet.stop().await?;
    let (kubelet, calm) = match trouble {
        Trouble::Churn => {
            for number in 0..20 {
                sleep(Duration::from_millis(spread(number, 2, 200))).await;
                let kubelet = Kubelet::start(dir, Manners::default()).await?;
                sleep(Duration::from_millis(spread(number + 7, 2, 200))).await;
                kubelet.stop().await?;
            }
            let kubelet = Kubelet::start(dir, Manners::default()).await?;
            let calm = kubelet.listening;
            (kubelet, calm)
        }
        Trouble::Refusal => {
            let manners = Manners {
                refuse: 1,
                ..Manners::default()
            };
            let mut kubelet = Kubelet::start(dir, manners).await?;
            let refused = kubelet.registered().await?;
            (kubelet, refused.at)
        }
        Trouble::Silence => {
            let manners = Manners {
                silent: Duration::from_secs(7),
                ..Manners::default()
            };
            let kubelet = Kubelet::start(dir, manners).await?;
            let calm = kubelet.listening;
            (kubelet, calm)
        }
    };
    running.kubelet = kubelet;
    let registered = running.kubelet.registered().await?;
    let took = registered.at.saturating_duration_since(calm);
    drop(running.process);
    running.kubelet.stop().await?;
    Ok(took)
}

/// What a kubelet can do to its plugins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trouble {
    /// Twenty restarts, 2 to 200 ms apart.
    Churn,
    /// One refused Register.
    Refusal,
    /// Seven seconds in which connections are accepted and nothing is said.
    Silence,
}

/// Threads and descriptors before and after reloads and kubelet restarts.
pub(super) async fn growth(
    recipe: &Recipe,
    dir: &Path,
    reloads: usize,
    restarts: usize,
) -> Result<(Held, Held)> {
    let mut running = start(recipe, dir).await?;
    let before = settled(&running.process).await?;
    for _ in 0..reloads {
        running.process.reload()?;
        sleep(Duration::from_millis(100)).await;
    }
    for _ in 0..restarts {
        running.kubelet.stop().await?;
        running.kubelet = Kubelet::start(dir, Manners::default()).await?;
        let registered = running.kubelet.registered().await?;
        running.plugin = running.kubelet.dial(&registered.request).await?;
        running.lists = running.plugin.list_and_watch().await?;
        running.lists.next().await?;
    }
    let after = settled(&running.process).await?;
    drop(running.process);
    running.kubelet.stop().await?;
    Ok((before, after))
}

/// The counts once two looks a second apart agree, or the last look after ten.
async fn settled(process: &Process) -> Result<Held> {
    let mut last = process.held()?;
    for _ in 0..10 {
        sleep(Duration::from_secs(1)).await;
        let now = process.held()?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

/// Xid → the list that marks the GPU, for each GPU once; `inject` makes the fault.
pub(super) async fn xid(
    recipe: &Recipe,
    dir: &Path,
    inject: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<Duration>> {
    let mut running = start(recipe, dir).await?;
    // The plugin may still be arming its event watch after its first list.
    sleep(Duration::from_millis(500)).await;
    let gpus = gpus(&running.ids);
    let replicas = running.ids.len() / gpus;
    let mut samples = Vec::with_capacity(gpus);
    for gpu in 0..gpus {
        let start = Instant::now();
        inject(gpu)?;
        let (at, list) = running.lists.next().await?;
        let sick = list
            .devices
            .iter()
            .filter(|device| device.health != "Healthy")
            .count();
        anyhow::ensure!(
            sick == (gpu + 1) * replicas,
            "{sick} devices are marked after {} Xids",
            gpu + 1
        );
        samples.push(at - start);
        sleep(Duration::from_millis(50)).await;
    }
    drop(running.process);
    running.kubelet.stop().await.context("stop the kubelet")?;
    Ok(samples)
}

/// Another config is rolled out `times` times; from that to the list it makes. `change` rolls out
/// one with so many replicas of each GPU.
pub(super) async fn reconfigure(
    recipe: &Recipe,
    dir: &Path,
    times: usize,
    change: &mut dyn FnMut(u32) -> Result<()>,
) -> Result<Samples> {
    let mut running = start(recipe, dir).await?;
    let gpus = gpus(&running.ids);
    let before = u32::try_from(running.ids.len() / gpus)?;
    let mut samples = Vec::with_capacity(times);
    for number in 0..times {
        let replicas = if number % 2 == 0 { before - 1 } else { before };
        let start = Instant::now();
        change(replicas)?;
        let (at, list) = running.lists.next().await?;
        let count = list.devices.len();
        anyhow::ensure!(
            count == gpus * replicas as usize,
            "{count} devices of {gpus} GPUs with {replicas} replicas each"
        );
        samples.push(at - start);
        sleep(Duration::from_millis(50)).await;
    }
    drop(running.process);
    running.kubelet.stop().await?;
    Ok(Samples::new(samples))
}

/// How many GPUs these devices are, or are replicas of.
fn gpus(ids: &[String]) -> usize {
    let uuid = |id: &String| id.split("::").next().map(str::to_owned);
    ids.iter().filter_map(uuid).collect::<BTreeSet<_>>().len()
}

/// A number between `low` and `high` that looks random and is the same in each run.
fn spread(number: usize, low: u64, high: u64) -> u64 {
    let mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    low + mixed % (high - low + 1)
}
