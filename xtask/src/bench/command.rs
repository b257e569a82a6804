//! A command that runs and ends: how long it takes, and how much of it is resident at most.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::process::{Process, Recipe};
use super::samples::Samples;

/// From before the process is made until it has ended, `runs` times.
pub(super) fn time(recipe: &Recipe, runs: usize) -> Result<Samples> {
    let samples: Result<Vec<Duration>> = (0..runs).map(|_| once(recipe, |_| {})).collect();
    Ok(Samples::new(samples?))
}

/// The most memory that was resident in any of `runs`, in KiB. The kernel keeps a process's high
/// mark and forgets it at its end, so it is read again and again until then; what
/// `getrusage(2)` tells counts the pages of the process that started it.
pub(super) fn peak(recipe: &Recipe, runs: usize) -> Result<u64> {
    let mut peak = None;
    for _ in 0..runs {
        once(recipe, |process| {
            while let Ok(kib) = process.peak_kib() {
                peak = peak.max(Some(kib));
            }
        })?;
    }
    peak.context("every run ended before its memory was read")
}

fn once(recipe: &Recipe, meanwhile: impl FnOnce(&Process)) -> Result<Duration> {
    let mut process = Process::start(recipe)?;
    meanwhile(&process);
    let status = process.wait()?;
    let taken = process.started.elapsed();
    ensure!(
        status.success(),
        "{:?} failed ({status}): see {}",
        recipe.command,
        recipe.log.display()
    );
    Ok(taken)
}
