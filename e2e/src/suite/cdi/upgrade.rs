//! A driver that is upgraded under running pods.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, sleep};

use super::super::Context;
use super::files::has_the_links;
use super::{Bench, VERSION, bench};
use crate::images::users::GLIBC_IMAGE;
use crate::pods::GPU;

/// The next version of the same branch.
const NEXT: &str = "580.105.08";
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// The libraries of the next version, and the running pod's as they were.
pub(in super::super) async fn the_next_pod_has_the_new_driver(context: &Context<'_>) -> Result<()> {
    let bench = bench(context).await?;
    let before = bench
        .run(&bench.pod("before", GLIBC_IMAGE, Some(GPU)))
        .await?;
    has_the_links(&bench, "before", VERSION).await?;
    bench.hardware.upgrade_driver(VERSION, NEXT).await?;
    let tested = async {
        specs_follow(&bench, NEXT).await?;
        let after = bench
            .run(&bench.pod("after", GLIBC_IMAGE, Some(GPU)))
            .await?;
        has_the_links(&bench, "after", NEXT).await?;
        bench.sees("after", &[&after]).await?;
        ensure!(after != before, "{after} is given twice");
        // Its files are mounted, and stay what they were.
        has_version(&bench, "before", VERSION).await?;
        bench.sees("before", &[&before]).await
    };
    let tested = tested.await;
    bench.hardware.upgrade_driver(NEXT, VERSION).await?;
    specs_follow(&bench, VERSION).await?;
    tested
}

async fn has_version(bench: &Bench<'_>, pod: &str, version: &str) -> Result<()> {
    let library = format!("{}/libnvidia-ml.so.{version}", super::LIBRARIES);
    bench.exec(pod, &["ls", &library]).await?;
    Ok(())
}

/// Waits until the spec of what is handed out has the libraries of this version alone.
async fn specs_follow(bench: &Bench<'_>, version: &str) -> Result<()> {
    let spec = bench.specs().join("k8s.device-plugin.nvidia.com-gpu.json");
    let deadline = Instant::now() + LIMIT;
    loop {
        let text = fs::read_to_string(&spec).unwrap_or_default();
        let mut libraries = text.match_indices("/libcuda.so.5").peekable();
        let is_new =
            |(at, _): (usize, &str)| text[at..].starts_with(&format!("/libcuda.so.{version}\""));
        if libraries.peek().is_some() && libraries.all(is_new) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{} is not of {version} after {LIMIT:?}",
            spec.display()
        );
        sleep(POLL).await;
    }
}
