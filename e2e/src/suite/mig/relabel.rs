//! What a relabelled node goes through.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::Context;
use super::super::config_by_node::event;
use super::super::gpu_pods::wait_for_amounts;
use super::{Bench, Calm, LARGE, PAIR, Registered, SMALL, WHOLE_PART, on_bench, unchanged};
use crate::devices;
use crate::pods::GPU;
use crate::report;

/// From the label to the kubelet's list of new resources, with eight GPUs that change.
const PROMISE: Duration = Duration::from_secs(1);

/// Eight GPUs into sevenths, in halves, and whole again; how long it takes is the figure.
pub(in super::super) async fn eight_gpus_within_a_second(context: &Context<'_>) -> Result<()> {
    on_bench(context, unchanged, async |bench: &Bench<'_>| {
        let mut slowest = Duration::ZERO;
        for (layout, resource, count) in [
            ("all-1g.10gb", SMALL, 56),
            ("all-3g.40gb", LARGE, 16),
            ("all-disabled", GPU, 8),
        ] {
            let labelled = bench.relabel(layout).await?;
            devices::offers(&[(resource, count)]).await?;
            let offered = labelled.elapsed();
            wait_for_amounts(context, resource, (count, count)).await?;
            report::line(&format!(
                "  label {layout} to the kubelet's list: {} ms; to the node's allocatable: {} ms",
                offered.as_millis(),
                labelled.elapsed().as_millis()
            ));
            slowest = slowest.max(offered);
            bench.is("success").await?;
        }
        ensure!(slowest <= PROMISE, "it takes {slowest:?}");
        Ok(())
    })
    .await
}

/// A pod on a GPU that stays whole and one on an instance that stays, beside others that go.
pub(in super::super) async fn what_stays_is_left_alone(context: &Context<'_>) -> Result<()> {
    on_bench(context, unchanged, async |bench: &Bench<'_>| {
        let mixture = [(GPU, 1), (LARGE, 1), (SMALL, 4), (WHOLE_PART, 6)];
        bench.partition("mixture", &mixture).await?;
        let pods = [("whole", GPU), ("kept", LARGE)];
        let mut before = Vec::new();
        for (name, resource) in pods {
            context.pods.run(&bench.pod(name, resource)).await?;
            let calm = Calm::of(context, name).await?;
            ensure!(
                calm.held.len() == 1 && calm.seen.iter().any(|seen| calm.held.contains(seen)),
                "{name} has {calm:?}"
            );
            before.push((name, calm, resource, Registered::now(context, resource)?));
        }
        bench.has_its_instance("kept").await?;

        let other = [(GPU, 1), (LARGE, 1), (PAIR, 2), (SMALL, 42)];
        bench.partition("other-mixture", &other).await?;
        for (name, calm, resource, registered) in &before {
            calm.lasts(context, name).await?;
            let now = Registered::now(context, resource)?;
            ensure!(
                *registered == now,
                "{resource}: it was {registered:?} and is {now:?}"
            );
        }
        bench.has_its_instance("kept").await?;
        for (name, resource) in [("pair", PAIR), ("small", SMALL)] {
            context.pods.run(&bench.pod(name, resource)).await?;
            bench.has_its_instance(name).await?;
        }
        Ok(())
    })
    .await
}

/// With the strategy `single` parts of GPUs are the one resource that there is.
pub(in super::super) async fn parts_as_gpus(context: &Context<'_>) -> Result<()> {
    on_bench(context, as_single, async |bench: &Bench<'_>| {
        bench.partition("all-1g.10gb", &[(GPU, 56)]).await?;
        context.pods.run(&bench.pod("part", GPU)).await?;
        bench.has_its_instance("part").await
    })
    .await
}

fn as_single(documents: &mut [Value]) -> Result<()> {
    let mut sets = documents.iter_mut();
    let set = sets.find(|document| document["kind"] == "DaemonSet");
    let container =
        &mut set.context("there is a DaemonSet")?["spec"]["template"]["spec"]["containers"][0];
    let variables = container["env"]
        .as_array_mut()
        .context("it has variables")?;
    let strategy = variables
        .iter_mut()
        .find(|one| one["name"] == "MIG_STRATEGY");
    strategy.context("the strategy is one")?["value"] = json!("single");
    Ok(())
}

/// Layouts that cannot be, and one that can.
pub(in super::super) async fn a_mistake_touches_nothing(context: &Context<'_>) -> Result<()> {
    on_bench(context, unchanged, async |bench: &Bench<'_>| {
        let before = bench.hardware.partitions().await?;
        let whole = Registered::now(context, GPU)?;
        bench.relabel("too-much").await?;
        bench.is("failed").await?;
        let words = ["too-much", "GPU 0", "3 × 3g.40gb do not fit"];
        let failed = event(context, "MigConfigFailed", &words).await?;
        ensure!(
            failed.type_.as_deref() == Some("Warning"),
            "its type is {:?}",
            failed.type_
        );
        bench.label(Some("hlf")).await?;
        let words = ["hlf", "did you mean \"half\""];
        event(context, "MigConfigFailed", &words).await?;
        bench.is("failed").await?;
        let after = bench.hardware.partitions().await?;
        ensure!(before == after, "it was {before:?} and is {after:?}");
        devices::offers(&[(GPU, 8)]).await?;
        let now = Registered::now(context, GPU)?;
        ensure!(whole == now, "it was {whole:?} and is {now:?}");

        let healed = Instant::now();
        bench.partition("half", &[(LARGE, 8), (SMALL, 32)]).await?;
        event(context, "MigConfigApplied", &["half"]).await?;
        ensure!(
            healed.elapsed() < super::LIMIT,
            "it takes {:?}",
            healed.elapsed()
        );
        Ok(())
    })
    .await
}
