//! What it costs to ask GPUs what they measure.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mizzen_core::driver::GpuDriver as _;
use mizzen_core::gpu::GpuUuid;
use mizzen_core::metrics::{DEFAULT_FIELDS, Fields};
use mizzen_core::sample::Wanted;
use mizzen_nvml::NvmlLoader;
use rustix::time::{ClockId, clock_gettime};

use super::process::{Process, Recipe};
use super::samples::Samples;

/// Between two samples: GPM answers for no shorter time.
const BETWEEN: Duration = Duration::from_millis(120);

/// Processor time of each sample that the process of `recipe` takes.
pub(super) fn time(recipe: &Recipe) -> Result<Samples> {
    let mut process = Process::start(recipe)?;
    let status = process.wait()?;
    let said = fs::read_to_string(&recipe.log)?;
    ensure!(status.success(), "{:?} failed: {said}", recipe.command);
    let times = said.lines().map(|line| {
        let nanoseconds = line
            .parse()
            .with_context(|| format!("not a time: {line}"))?;
        Ok(Duration::from_nanos(nanoseconds))
    });
    Ok(Samples::new(times.collect::<Result<_>>()?))
}

/// Asks every GPU again and again for the default fields and its processes, and prints the
/// processor time of each time in nanoseconds. Runs in a process of its own, whose environment
/// says which node the library simulates.
pub(crate) fn run(library: &Path, rounds: usize) -> Result<()> {
    let driver = NvmlLoader::builder().library(library).build().session()?;
    let gpus = driver.snapshot()?.gpus;
    let gpus: Vec<GpuUuid> = gpus.into_iter().map(|gpu| gpu.uuid).collect();
    let fields: Fields = DEFAULT_FIELDS.into_iter().collect();
    let wanted = Wanted {
        fields,
        processes: true,
    };
    for round in 0..=rounds {
        // The agent asks how GPUs are partitioned besides, once a second as well.
        driver.partitions(&gpus);
        let before = processor_time();
        let samples = driver.sample(&gpus, wanted);
        let taken = processor_time().saturating_sub(before);
        for sample in samples {
            sample?;
        }
        // The first sample learns what GPUs have.
        if round > 0 {
            println!("{}", taken.as_nanos());
        }
        #[allow(clippy::disallowed_methods, reason = "it is the pace that is measured")]
        thread::sleep(BETWEEN);
    }
    Ok(())
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}
