//! A pod that holds what a layout takes away.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::Context;
use super::super::config_by_node::event;
use super::{Bench, Calm, LARGE, LIMIT, POLL, SMALL, on_bench, unchanged};
use crate::agent::Manifest;
use crate::client;
use crate::devices;
use crate::pods::{self, GPU};

const BUDGET: &str = "mizzen-e2e-holder";

/// It is waited for; where that is asked for it is evicted, as soon as its budget allows that.
pub(in super::super) async fn a_holder_is_waited_for_or_evicted(
    context: &Context<'_>,
) -> Result<()> {
    on_bench(context, unchanged, async |bench: &Bench<'_>| {
        bench
            .partition("quarters", &[(GPU, 7), (LARGE, 1), (SMALL, 4)])
            .await?;
        let mut pod = bench.pod("holder", LARGE);
        pod["metadata"]["labels"]["app"] = json!(BUDGET);
        context.pods.run(&pod).await?;
        let calm = Calm::of(context, "holder").await?;
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(context.client.clone(), "default");
        let tested = async {
            waited_for(bench, &calm).await?;
            evicted(bench, &calm, &budgets).await
        };
        let outcome = tested.await;
        if budgets.get_opt(BUDGET).await?.is_some() {
            budgets.delete(BUDGET, &DeleteParams::default()).await?;
        }
        outcome
    })
    .await
}

/// Without eviction the GPU is left as it is, and the others are done.
async fn waited_for(bench: &Bench<'_>, calm: &Calm) -> Result<()> {
    let context = bench.context;
    bench.relabel("all-1g.10gb").await?;
    let words = ["GPU 0", "held by pod default/holder"];
    event(context, "MigConfigWaiting", &words).await?;
    devices::offers(&[(LARGE, 1), (SMALL, 4 + 7 * 7)]).await?;
    bench.is("pending").await?;
    calm.lasts(context, "holder").await
}

/// With it the pod goes, once its budget lets it.
async fn evicted(bench: &Bench<'_>, calm: &Calm, budgets: &Api<PodDisruptionBudget>) -> Result<()> {
    let context = bench.context;
    let budget = json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": { "name": BUDGET, "namespace": "default" },
        "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": BUDGET } } },
    });
    client::apply(&context.client, &budget).await?;
    let is_minded = |budget: &PodDisruptionBudget| {
        let status = budget.status.as_ref();
        status.is_some_and(|status| status.current_healthy == Some(1))
    };
    let deadline = Instant::now() + LIMIT;
    while !is_minded(&budgets.get(BUDGET).await?) {
        ensure!(Instant::now() < deadline, "nobody minds the budget");
        sleep(POLL).await;
    }
    bench.install(with_eviction()?, |_| Ok(())).await?;
    let words = [
        "default/holder",
        "may not be evicted now",
        "disruption budget",
    ];
    event(context, "MigConfigWaiting", &words).await?;
    bench.is("pending").await?;
    calm.lasts(context, "holder").await?;
    let pod = context.pods.get("holder").await?;
    ensure!(
        pods::phase(&pod) == "Running" && pod.metadata.deletion_timestamp.is_none(),
        "it is evicted in spite of its budget"
    );

    budgets.delete(BUDGET, &DeleteParams::default()).await?;
    devices::offers(&[(SMALL, 8 * 7)]).await?;
    bench.is("success").await?;
    let left = context.pods.get("holder").await;
    ensure!(left.is_err(), "it is still there: {left:?}");
    Ok(())
}

/// The manifest with those lines in force that it names for eviction.
fn with_eviction() -> Result<Vec<Value>> {
    let text = Manifest::Mig.text()?;
    let text = in_force(&text, "- apiGroups: [\"\"]\n  # ", 3)?;
    let text = in_force(&text, "- name: MIZZEN_MIG_EVICT\n", 2)?;
    client::documents(&text)
}

/// The text with so many lines no comments any more, from the one that begins so on.
fn in_force(text: &str, beginning: &str, lines: usize) -> Result<String> {
    let found = text.find(&format!("# {beginning}"));
    let at = found.with_context(|| format!("no comment has {beginning:?}"))?;
    let (before, after) = text.split_at(at);
    let mut after = after.to_owned();
    let mut from = 0;
    for _ in 0..lines {
        let mark = after[from..].find("# ").context("it is a comment")? + from;
        after.replace_range(mark..mark + 2, "");
        from = after[mark..]
            .find('\n')
            .map_or(after.len(), |end| mark + end);
    }
    Ok(format!("{before}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_for_eviction_can_be_taken_in() {
        let documents = with_eviction().unwrap();
        let of = |kind: &str| documents.iter().find(|one| one["kind"] == kind).unwrap();
        let rule = &of("ClusterRole")["rules"][1];
        assert_eq!(rule["resources"], json!(["pods/eviction"]));
        assert_eq!(rule["verbs"], json!(["create"]));
        let container = &of("DaemonSet")["spec"]["template"]["spec"]["containers"][0];
        let variables = container["env"].as_array().unwrap();
        let expected = json!({ "name": "MIZZEN_MIG_EVICT", "value": "true" });
        assert!(variables.contains(&expected), "{variables:?}");
    }
}
