//! `cargo xtask soak`: an agent for half an hour on a node where something goes wrong each second,
//! and what it holds of memory and of the kernel's tables meanwhile.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use mizzen_kubelet_sim::Snapshot;
use mizzen_nvml_sim::control::Gpus;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

mod growth;
mod trouble;

use self::growth::{Look, Looks};
use self::trouble::{Arbitrary, Pods, RESOURCES, Troubles};
use super::samples::{Samples, ms};
use super::subject::{self, Node};
use super::web::Page;
use super::whole::{Manner, SCRAPES, Whole};

/// How many GPUs the node has.
pub(super) const GPUS: u32 = 8;
/// A scrape takes less, whatever is wrong with GPUs: what hangs is waited for a second.
const SLOW: Duration = Duration::from_millis(500);
/// Before the first look: the agent gives up what only its start needed.
const SETTLING: Duration = Duration::from_secs(10);
/// Seconds of each minute asked for, spent at the beginning, that count for nothing: code that no
/// fault has needed yet becomes resident, and threads that wait for what hangs get heaps of their
/// own, which the C library keeps.
const WARMING_UP: u64 = 60 / 5;

/// How long to go on, and with what.
#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// Minutes of faults, of which the first fifth counts for nothing: in fewer than ten, what
    /// only settles looks like growth
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..))]
    minutes: u64,
    /// What the order of faults follows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The agent's program; built if left out
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Builds the agent, makes trouble, and tells what grew.
pub(crate) fn run(root: &Path, args: &SoakArgs) -> Result<()> {
    if cfg!(debug_assertions) {
        return super::run_optimised(root);
    }
    let binary = match args.binary.clone() {
        Some(binary) => binary,
        None => subject::build(root)?,
    };
    let work = tempfile::Builder::new().prefix("mizzen-soak").tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(soak(work.path(), &binary, args));
    if outcome.is_err() {
        println!(
            "the node's files and the agent's log: {}",
            work.keep().display()
        );
    }
    outcome
}

async fn soak(work: &Path, binary: &Path, args: &SoakArgs) -> Result<()> {
    let node = Node::new(work, "8xh100-80gb", None)?;
    trouble::partition(node.simulator())?;
    let manner = Manner {
        hasty: true,
        ..Manner::default()
    };
    let whole = Whole::start(binary, &node, manner).await?;
    is_well(&whole).await?;
    sleep(SETTLING).await;
    println!("| | resident (anonymous) | descriptors | threads | faults | slowest scrape |");
    println!("|---|---|---|---|---|---|");
    let before = Look::at(&whole.process)?;
    println!("{}", before.row("start", 0, Duration::ZERO));
    let mut run = Run::new(args);
    run.go_on(&whole, &node, args.minutes).await?;
    node.simulator().heal(&Gpus::All)?;
    trouble::partition(node.simulator())?;
    is_well(&whole).await.context("everything was healed")?;
    sleep(SETTLING).await;
    let after = Look::at(&whole.process)?;
    println!("{}", after.row("end", run.troubles.made(), Duration::ZERO));
    let scrapes = Samples::new(run.scrapes);
    println!(
        "\n{} scrapes: {} / {} (p50 / worst); pods: {}; faults: {}",
        scrapes.count(),
        ms(scrapes.median()),
        ms(scrapes.worst()),
        run.pods.counted(),
        run.troubles.counted(),
    );
    let mut grown = run.looks.grown();
    grown.extend(before.left_behind(&after));
    if !grown.is_empty() {
        bail!("it grows: {}", grown.join("; "));
    }
    println!("nothing grew, every scrape was answered, all GPUs are well");
    Ok(())
}

/// What happens, and what was seen of it.
struct Run {
    looks: Looks,
    scrapes: Vec<Duration>,
    troubles: Troubles,
    pods: Pods,
}

impl Run {
    fn new(args: &SoakArgs) -> Self {
        Self {
            looks: Looks::default(),
            scrapes: Vec::new(),
            troubles: Troubles::new(Arbitrary::new(args.seed)),
            pods: Pods::new(Arbitrary::new(args.seed.wrapping_add(1))),
        }
    }

    async fn go_on(&mut self, whole: &Whole, node: &Node, minutes: u64) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(60 * minutes);
        let mut scrapes = interval(SCRAPES);
        let mut seconds = interval(Duration::from_secs(1));
        scrapes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut second, mut slowest) = (0, Duration::ZERO);
        while Instant::now() < end {
            tokio::select! {
                _ = scrapes.tick() => {
                    let taken = scrape(whole).await?;
                    slowest = slowest.max(taken);
                    self.scrapes.push(taken);
                }
                _ = seconds.tick() => {
                    self.troubles.make(node.simulator())?;
                    self.pods.change(whole)?;
                    let look = Look::at(&whole.process)?;
                    second += 1;
                    if second > WARMING_UP * minutes {
                        self.looks.push(look);
                    }
                    if second % 60 == 0 {
                        let minute = (second / 60).to_string();
                        println!("{}", look.row(&minute, self.troubles.made(), slowest));
                        slowest = Duration::ZERO;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A scrape in time, that tells of every GPU.
async fn scrape(whole: &Whole) -> Result<Duration> {
    let (taken, page) = whole.client.scrape().await?;
    page.has("mizzen_gpu_sampled", "", GPUS as usize)?;
    ensure!(taken < SLOW, "a scrape took {}", ms(taken));
    Ok(taken)
}

/// Waits until every GPU is well, on the page and for the kubelet.
async fn is_well(whole: &Whole) -> Result<()> {
    let all_are = |page: &Page| {
        for metric in ["mizzen_gpu_healthy", "mizzen_gpu_sampled"] {
            page.has(metric, "", GPUS as usize)?;
            let mut sick = page.series(metric).filter(|(_, value)| *value < 1.0);
            if let Some((labels, _)) = sick.next() {
                bail!("{metric}{{{labels}}} is 0");
            }
        }
        Ok(())
    };
    whole.shows(all_are).await?;
    let healthy = |node: &Snapshot| {
        let mut devices = node
            .resources
            .values()
            .flat_map(|resource| resource.devices.values());
        node.resources.len() == RESOURCES && devices.all(|device| device.healthy)
    };
    whole.until(healthy, "devices that are all healthy").await
}
