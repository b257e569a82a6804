//! An agent that is killed while it partitions.
//!
//! The simulated driver takes microseconds for a step, and nothing tells an observer when the
//! agent is between two of them. So it is stopped (SIGSTOP) when its journal says that it begins,
//! and let run for moments, until the driver has made so many changes or, where two follow at
//! once, one more; then it is killed. That is done for every number of them, on the way from one
//! layout to the other and back. Every step without exception, before it and after it, is walked
//! with a driver that can be held, in `crates/agent/tests/mig_manager.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, timeout};

use super::super::Context;
use super::super::restarts::new_agent_process;
use super::{
    Bench, Calm, LARGE, LIMIT, PAIR, SMALL, WHOLE_PART, journal_path, on_bench, unchanged,
};
use crate::cluster::Process;
use crate::devices;
use crate::hardware::Partitions;
use crate::pods::GPU;
use crate::{agent, report};

/// For how long the agent runs at a time: no longer than the driver takes for one change.
const SLICE: Duration = Duration::from_micros(30);
/// How long the simulator may take to answer: a process that is stopped may hold its lock.
const ANSWER: Duration = Duration::from_millis(100);
/// From the label until the whole change is over, by far.
const LONGEST_CHANGE: Duration = Duration::from_secs(5);
/// On how many numbers of steps, neither none nor all, it is killed at the least.
const AMID: usize = 4;

/// A fact of the partitions: a mode, a GPU instance, a compute instance.
type Facts = BTreeSet<String>;

fn facts(partitions: &Partitions) -> Facts {
    let mut facts = Facts::new();
    for gpu in &partitions.gpus {
        if gpu.mig.enabled {
            facts.insert(format!("{} on", gpu.index));
        }
        for instance in &gpu.mig.gpu_instances {
            let name = format!("{} {} {}", gpu.index, instance.id, instance.profile);
            let inside = instance.devices.iter();
            facts.extend(inside.map(|device| format!("{name} {}", device.compute_instance)));
            facts.insert(name);
        }
    }
    facts
}

/// Back and forth between two layouts, and each time killed later.
pub(in super::super) async fn killed_on_the_way(context: &Context<'_>) -> Result<()> {
    on_bench(context, unchanged, async |bench: &Bench<'_>| {
        let quarters = ("quarters", &[(GPU, 7), (LARGE, 1), (SMALL, 4)][..]);
        let pairs = (
            "pairs",
            &[(GPU, 6), (LARGE, 1), (PAIR, 2), (WHOLE_PART, 1)][..],
        );
        bench.partition(pairs.0, pairs.1).await?;
        let one = facts(&bench.hardware.partitions().await?);
        bench.partition(quarters.0, quarters.1).await?;
        let two = facts(&bench.hardware.partitions().await?);
        let steps = one.symmetric_difference(&two).count();
        context.pods.run(&bench.pod("kept", LARGE)).await?;
        let calm = Calm::of(context, "kept").await?;
        let (mut met, mut kills) = (BTreeSet::new(), 0);
        let (mut target, mut other) = (pairs, quarters);
        for after in 0..=steps {
            if met.contains(&after) {
                continue;
            }
            let killed = kill_after(bench, target.0, after).await;
            let killed = killed.with_context(|| format!("{} after {after} steps", target.0))?;
            met.insert(killed);
            let resumed = async {
                devices::offers(target.1).await?;
                bench.is("success").await?;
                calm.lasts(context, "kept").await?;
                let journal = fs::read_to_string(journal_path())?;
                ensure!(!journal.contains("GPU-"), "its journal has {journal}");
                anyhow::Ok(())
            };
            let resumed = resumed.await;
            resumed.with_context(|| format!("killed after {killed} of {steps} steps"))?;
            kills += 1;
            std::mem::swap(&mut target, &mut other);
        }
        report::line(&format!(
            "  killed {kills} times, after {met:?} of {steps} steps"
        ));
        // How late a machine stops a process depends on what else it does.
        let amid = met.iter().filter(|made| (1..steps).contains(*made));
        ensure!(
            amid.count() >= AMID,
            "it was killed after {met:?} of {steps} steps, which is hardly ever on its way"
        );
        bench.has_its_instance("kept").await
    })
    .await
}

/// Labels the Node, kills the agent when it has made so many steps or a few more, and says how
/// many there were. Returns when another process runs.
async fn kill_after(bench: &Bench<'_>, layout: &str, steps: usize) -> Result<usize> {
    let process = agent::process()?.context("no agent runs")?;
    let pid = Pid::from_raw(process.pid).context("process ids are positive")?;
    let before = facts(&bench.hardware.partitions().await?);
    let labelled = bench.relabel(layout).await?;
    // What is over before anybody saw it begin is seen by what it made.
    while !fs::read_to_string(journal_path()).is_ok_and(|text| text.contains("GPU-"))
        && labelled.elapsed() < LONGEST_CHANGE
    {
        for_a_moment();
    }
    let mut made = 0;
    loop {
        kill_process(pid, Signal::STOP)?;
        // What cannot be seen now is seen after the next slice.
        if let Ok(seen) = timeout(ANSWER, bench.hardware.partitions()).await {
            made = facts(&seen?).symmetric_difference(&before).count();
        }
        if made >= steps || labelled.elapsed() > LIMIT {
            break;
        }
        kill_process(pid, Signal::CONT)?;
        for_a_moment();
    }
    process.end(Signal::KILL).await?;
    ensure!(made >= steps, "it is at step {made} after {LIMIT:?}");
    another(process).await?;
    Ok(made)
}

async fn another(old: Process) -> Result<()> {
    let begun = Instant::now();
    new_agent_process(old)
        .await
        .with_context(|| format!("after {:?}", begun.elapsed()))
}

/// While the agent runs, for less than any clock of tokio's or the kernel's wakes somebody after.
fn for_a_moment() {
    let begun = std::time::Instant::now();
    while begun.elapsed() < SLICE {
        std::hint::spin_loop();
    }
}
