//! One fault after the other: its alert comes, says something, and goes when the fault is healed.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};

use super::{Views, eventually, rules};
use crate::report;

/// What `mizzen sim inject` breaks on a GPU that nobody holds, and the alerts that tell it.
const INJECTED: [(&[&str], &[&str]); 10] = [
    (&["lost"], &["MizzenGpuLost"]),
    (&["hang"], &["MizzenGpuHung", "MizzenSamplingStale"]),
    (&["xid", "74"], &["MizzenGpuUnhealthy", "MizzenXidCritical"]),
    (&["ecc", "double"], &["MizzenEccDoubleBit"]),
    (&["row-remap", "failure"], &["MizzenRowRemapFailure"]),
    (&["row-remap", "pending"], &["MizzenRowRemapPending"]),
    (&["throttle", "thermal"], &["MizzenGpuThermalThrottling"]),
    (&["throttle", "power-brake"], &["MizzenGpuPowerBrake"]),
    (
        &["link-errors", "nvlink-replay", "--count", "50"],
        &["MizzenNvlinkErrors"],
    ),
    (
        &["link-errors", "pcie-replay", "--count", "50"],
        &["MizzenPcieReplays"],
    ),
];

/// What cannot be broken here, but in promtool's tests: Allocate asks nobody and waits for nothing,
/// so nothing outside the agent makes it slow at a moment of the test's choice.
const NOT_HERE: [&str; 1] = ["MizzenAllocateSlow"];

/// Tries every alert.
pub(super) async fn all(views: &mut Views) -> Result<()> {
    let mut tried = Tried::default();
    late_node(views, &mut tried).await?;
    let gpu = views.busy.free_gpu()?;
    for (words, alerts) in INJECTED {
        let name = format!("{}: {}", words.join(" "), alerts.join(", "));
        let inject = [&["inject"], words].concat();
        let trial = async {
            quiet(views, alerts).await?;
            views.busy.simulate(&inject, &gpu).await?;
            fire(views, &mut tried, alerts).await?;
            views.busy.simulate(&["heal"], &gpu).await?;
            end(views, alerts).await
        };
        report::step(&name, trial).await?;
    }
    report::step("a GPU that is held and idle", idle(views, &mut tried)).await?;
    report::step("a shared GPU's memory", full_memory(views, &mut tried)).await?;
    report::step("a refused Allocate", refusal(views, &mut tried)).await?;
    report::step("a kubelet that forgets", forgetful(views, &mut tried)).await?;
    report::step(
        "an agent that dies again and again",
        deaths(views, &mut tried),
    )
    .await?;
    report::step("no agents", nobody(views, &mut tried)).await?;
    let mut wanted = rules::names()?;
    wanted.retain(|name| !NOT_HERE.contains(&name.as_str()));
    let untried: Vec<_> = wanted.difference(&tried.0).collect();
    ensure!(
        untried.is_empty(),
        "alerts that were not tried: {untried:?}"
    );
    Ok(())
}

/// The alerts that have fired.
#[derive(Debug, Default)]
struct Tried(BTreeSet<String>);

/// The matcher of an alert by its name, or one that is given with more labels.
fn matcher(alert: &str) -> String {
    match alert.split_once(", ") {
        Some((name, labels)) => format!("alertname=\"{name}\", {labels}"),
        None => format!("alertname=\"{alert}\""),
    }
}

async fn quiet(views: &Views, alerts: &[&str]) -> Result<()> {
    for alert in alerts {
        if views.prometheus.fires(&matcher(alert)).await? {
            bail!("{alert} fires before its fault");
        }
    }
    Ok(())
}

/// Waits until all of them fire, and looks at what they say and at the panels that were empty.
async fn fire(views: &mut Views, tried: &mut Tried, alerts: &[&str]) -> Result<()> {
    for alert in alerts {
        let what = format!("{alert} fires");
        eventually(&what, async || {
            views.prometheus.fires(&matcher(alert)).await
        })
        .await?;
        let name = alert.split(',').next().unwrap_or_default();
        tried.0.insert(name.to_owned());
    }
    for words in views.prometheus.annotations().await? {
        let has_gap = ["<no value>", "{{", "error calling", "%!"]
            .iter()
            .any(|gap| words.contains(gap));
        ensure!(!has_gap, "an alert's words: {words}");
    }
    views.watched.look(&views.prometheus).await
}

async fn end(views: &Views, alerts: &[&str]) -> Result<()> {
    for alert in alerts {
        let what = format!("{alert} ends");
        let ends = async || Ok(!views.prometheus.fires(&matcher(alert)).await?);
        eventually(&what, ends).await?;
    }
    Ok(())
}

/// A node whose driver comes late, and whose kubelet comes later.
async fn late_node(views: &mut Views, tried: &mut Tried) -> Result<()> {
    let no_driver = ["MizzenDriverMissing, instance=\"node-b\""];
    let no_kubelet = ["MizzenNotRegistered, instance=\"node-b\""];
    let driver = async {
        fire(views, tried, &no_driver).await?;
        quiet(views, &no_kubelet).await?;
        views.late.place_driver().await?;
        end(views, &no_driver).await
    };
    report::step("a driver that comes late", driver).await?;
    let kubelet = async {
        fire(views, tried, &no_kubelet).await?;
        views.late.start_kubelet().await?;
        end(views, &no_kubelet).await
    };
    report::step("a kubelet that comes late", kubelet).await
}

/// It works again, and the alert about it ends; others go on.
async fn idle(views: &mut Views, tried: &mut Tried) -> Result<()> {
    let alert = ["MizzenGpuHeldIdle, pod=\"notebook\""];
    fire(views, tried, &alert).await?;
    quiet(views, &["MizzenGpuHeldIdle, pod=\"train\""]).await?;
    let gpu = views.busy.gpu_of("notebook")?;
    let work = ["load", "--utilization", "80"];
    views.busy.simulate(&work, &gpu).await?;
    end(views, &alert).await
}

async fn full_memory(views: &mut Views, tried: &mut Tried) -> Result<()> {
    let alert = ["MizzenSharedGpuMemoryFull"];
    quiet(views, &alert).await?;
    // A GPU of one pod's own may be as full as it likes.
    let own = views.busy.gpu_of("notebook")?;
    let shared = views.busy.gpu_of("share-a")?;
    let fill = ["load", "--memory", "81559"];
    views.busy.simulate(&fill, &own).await?;
    views.busy.simulate(&fill, &shared).await?;
    fire(views, tried, &alert).await?;
    quiet(views, &[&format!("{}, UUID=\"{own}\"", alert[0])]).await?;
    views.busy.simulate(&["load", "--idle"], &shared).await?;
    end(views, &alert).await
}

async fn refusal(views: &mut Views, tried: &mut Tried) -> Result<()> {
    let alert = ["MizzenAllocateFailing"];
    quiet(views, &alert).await?;
    views.late.ask_for_nonsense().await?;
    fire(views, tried, &alert).await?;
    end(views, &alert).await
}

async fn forgetful(views: &mut Views, tried: &mut Tried) -> Result<()> {
    let alert = ["MizzenCapacityBelowDevices"];
    quiet(views, &alert).await?;
    views.late.forget_registrations().await?;
    fire(views, tried, &alert).await?;
    views.late.take_registrations()?;
    end(views, &alert).await
}

async fn deaths(views: &mut Views, tried: &mut Tried) -> Result<()> {
    let down = ["MizzenAgentDown, instance=\"node-b\""];
    let restarting = ["MizzenAgentRestarting, instance=\"node-b\""];
    quiet(views, &[down[0], restarting[0]]).await?;
    views.late.kill_agent().await?;
    fire(views, tried, &down).await?;
    for _ in 0..5 {
        views.late.start_agent()?;
        let is_up = "up{job=\"mizzen\", instance=\"node-b\"} == 1";
        eventually("the agent is scraped", async || {
            Ok(!views.prometheus.series(is_up).await?.is_empty())
        })
        .await?;
        if views.prometheus.fires(&matcher(restarting[0])).await? {
            break;
        }
        views.late.kill_agent().await?;
        let is_down = "up{job=\"mizzen\", instance=\"node-b\"} == 0";
        eventually("the agent is missed", async || {
            Ok(!views.prometheus.series(is_down).await?.is_empty())
        })
        .await?;
    }
    if !views.prometheus.fires(&matcher(restarting[0])).await? {
        views.late.start_agent()?;
    }
    fire(views, tried, &restarting).await?;
    end(views, &[down[0], restarting[0]]).await
}

async fn nobody(views: &mut Views, tried: &mut Tried) -> Result<()> {
    let alert = ["MizzenNoAgents"];
    quiet(views, &alert).await?;
    views.prometheus.scrape_agents(false)?;
    fire(views, tried, &alert).await?;
    views.prometheus.scrape_agents(true)?;
    end(views, &alert).await
}
