//! Nothing is left of layouts that have passed.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{Instant, sleep};

use super::super::Context;
use super::{
    Bench, LARGE, PAIR, POLL, SMALL, WHOLE_PART, journal_path, on_bench, plugins, sockets,
    unchanged,
};
use crate::cluster::Process;
use crate::pods::GPU;
use crate::{agent, devices, report};

/// How often the node is relabelled.
const TIMES: usize = 50;
/// After how many times the process has what it needs. The layout is then the one that it is in
/// the end: what a process has is also what its resources need.
const WARM: usize = 8;
/// How much more memory it may have then, KiB. An allocator keeps some of what it was given back:
/// three quarters of this after 200 layouts, and no more after 300.
const MORE_MEMORY: u64 = 1 << 10;
/// How long a socket may outlive its resource.
const SOCKETS_LIMIT: Duration = Duration::from_secs(2);
/// How long threads may take to end that have nothing to do.
const IDLE_LIMIT: Duration = Duration::from_secs(15);

/// What a process has.
#[derive(Debug, Clone, Copy)]
struct Held {
    threads: usize,
    descriptors: usize,
    /// Memory that is backed by no file, KiB.
    memory: u64,
}

impl Held {
    fn of(process: Process) -> Result<Self> {
        let count = |what: &str| Ok::<_, anyhow::Error>(fs::read_dir(process.path(what))?.count());
        let status = process.file("status")?;
        let memory = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let memory = memory.context("the kernel tells RssAnon")?;
        Ok(Self {
            threads: count("task")?,
            descriptors: count("fd")?,
            memory: memory.trim().trim_end_matches(" kB").parse()?,
        })
    }

    fn is_within(&self, before: &Self) -> bool {
        self.threads <= before.threads
            && self.descriptors <= before.descriptors
            && self.memory <= before.memory + MORE_MEMORY
    }

    /// What a process has once that is no more than it was before.
    async fn again(process: Process, before: &Self) -> Result<Self> {
        let deadline = Instant::now() + IDLE_LIMIT;
        loop {
            let now = Self::of(process)?;
            if now.is_within(before) {
                return Ok(now);
            }
            ensure!(
                Instant::now() < deadline,
                "the agent had {before:?} and has {now:?}"
            );
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Two layouts and none, in turn.
pub(in super::super) async fn fifty_layouts(context: &Context<'_>) -> Result<()> {
    on_bench(context, unchanged, async |bench: &Bench<'_>| {
        let layouts: [(&str, &[(&str, usize)]); 3] = [
            ("quarters", &[(GPU, 7), (LARGE, 1), (SMALL, 4)]),
            ("pairs", &[(GPU, 6), (LARGE, 1), (PAIR, 2), (WHOLE_PART, 1)]),
            ("all-disabled", &[(GPU, 8)]),
        ];
        let process = agent::process()?.context("no agent runs")?;
        let mut before = None;
        let begun = Instant::now();
        for time in 0..TIMES {
            let (layout, offers) = layouts[time % layouts.len()];
            let partitioned = bench.partition(layout, offers).await;
            partitioned.with_context(|| format!("relabelling {time}, to {layout}"))?;
            if time + 1 == WARM {
                sleep(Duration::from_secs(2)).await;
                before = Some(Held::of(process)?);
            }
            sockets_are_of(offers).await?;
        }
        let took = begun.elapsed();
        let before = before.context("it was relabelled more often than that")?;
        let after = Held::again(process, &before).await?;
        report::line(&format!(
            "  {TIMES} relabellings in {}; threads {} and {}, descriptors {} and {}, memory {} and \
             {} KiB",
            report::seconds(took),
            before.threads,
            after.threads,
            before.descriptors,
            after.descriptors,
            before.memory,
            after.memory
        ));
        nothing_is_withheld(bench).await
    })
    .await
}

/// The plugin directory has the kubelet's socket, and one for each resource, or has them soon: a
/// resource that has gone is first withdrawn, then its socket is removed.
async fn sockets_are_of(offers: &[(&str, usize)]) -> Result<()> {
    let socket = |(resource, _): &(&str, usize)| {
        let short = resource.trim_start_matches("nvidia.com/");
        plugins().join(format!("nvidia-{short}.sock"))
    };
    let mut expected: BTreeSet<PathBuf> = offers.iter().map(socket).collect();
    expected.insert(plugins().join("kubelet.sock"));
    let deadline = Instant::now() + SOCKETS_LIMIT;
    loop {
        let sockets: BTreeSet<PathBuf> = sockets()?.into_iter().collect();
        if sockets == expected {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "after {SOCKETS_LIMIT:?} there are {sockets:?}, not {expected:?}"
        );
        sleep(POLL).await;
    }
}

/// What the simulator has is what the kubelet can give out, and nothing is on its way.
async fn nothing_is_withheld(bench: &Bench<'_>) -> Result<()> {
    let mut all = BTreeSet::new();
    for gpu in bench.hardware.partitions().await?.gpus {
        let devices = gpu
            .mig
            .gpu_instances
            .into_iter()
            .flat_map(|one| one.devices);
        all.extend(devices.map(|device| device.uuid));
        if !gpu.mig.enabled {
            all.insert(gpu.uuid);
        }
    }
    let offered: BTreeSet<String> = devices::offered().await?.into_values().flatten().collect();
    ensure!(offered == all, "{offered:?} are offered of {all:?}");
    let journal = fs::read_to_string(journal_path())?;
    ensure!(!journal.contains("GPU-"), "its journal has {journal}");
    Ok(())
}
