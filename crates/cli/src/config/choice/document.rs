//! A choice for programs. `docs/config.md` describes it; names there are a promise.

use mizzen_core::prefer::{Explanation, Rule, Scored};
use serde::Serialize;

use super::Choice;
use crate::config::node::Node;
use crate::config::offer::word;

/// The version of the document's form.
const FORM: u32 = 1;

/// The whole answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    version: u32,
    node: String,
    resource: String,
    want: usize,
    free: usize,
    policy: &'static str,
    /// The ids of the devices that the container gets, empty where it stays pending.
    gets: Vec<String>,
    /// Why it is refused with them.
    refusal: Option<String>,
    gpus: Vec<GpuStand>,
    rules: Option<Rules>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GpuStand {
    index: u32,
    devices: usize,
    taken: usize,
    gets: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rules {
    chosen: Set,
    runners_up: Vec<Set>,
    sets: u64,
    complete: bool,
    decided_by: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Set {
    gpus: Vec<u32>,
    links: u64,
    left_over: u64,
    numa_splits: u64,
    pcie_steps: u64,
}

impl Document {
    pub(super) fn new(choice: &Choice<'_>) -> Self {
        let gpus = choice.gpus.iter().map(|stand| GpuStand {
            index: choice.node.gpus()[stand.gpu].index,
            devices: stand.devices,
            taken: stand.taken,
            gets: stand.gets,
        });
        Self {
            version: FORM,
            node: choice.node.name.clone(),
            resource: choice.resource.name().to_string(),
            want: choice.want,
            free: choice.free(),
            policy: word(choice.resource.policy()),
            gets: choice.gets.clone(),
            refusal: choice.refusal.clone(),
            gpus: gpus.collect(),
            rules: choice.rules.as_ref().map(|told| rules(told, choice.node)),
        }
    }
}

fn rules(told: &Explanation, node: &Node) -> Rules {
    Rules {
        chosen: set(&told.chosen, node),
        runners_up: told
            .runners_up
            .iter()
            .map(|other| set(other, node))
            .collect(),
        sets: told.sets,
        complete: told.complete,
        decided_by: told.decided_by.map(|rule| match rule {
            Rule::Links => "links",
            Rule::Remainder => "leftOver",
            Rule::Numa => "numaSplits",
            Rule::Pcie => "pcieSteps",
            Rule::Positions => "lowestIndices",
        }),
    }
}

fn set(set: &Scored, node: &Node) -> Set {
    Set {
        gpus: set.gpus.iter().map(|&gpu| node.gpus()[gpu].index).collect(),
        links: set.scores.links,
        left_over: set.scores.remainder,
        numa_splits: set.scores.numa_splits,
        pcie_steps: set.scores.pcie_steps,
    }
}
