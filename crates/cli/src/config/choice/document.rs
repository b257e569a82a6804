//! A choice for programs. `docs/config.md` describes it; names there are a promise.

use std::collections::BTreeMap;

use mizzen_core::prefer::{Explanation, Rule, Scored};
use serde::Serialize;

use super::{Choice, Stand};
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
    mig_devices: Vec<MigStand>,
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
struct MigStand {
    /// `<index of the GPU>:<index on it>`.
    index: String,
    uuid: String,
    profile: String,
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
        Self {
            version: FORM,
            node: choice.node.name.clone(),
            resource: choice.resource.name().to_string(),
            want: choice.want,
            free: choice.free(),
            policy: word(choice.resource.policy()),
            gets: choice.gets.clone(),
            refusal: choice.refusal.clone(),
            gpus: gpus(choice),
            mig_devices: mig_devices(choice),
            rules: choice.rules.as_ref().map(|told| rules(told, choice.node)),
        }
    }
}

/// The GPUs, with what is on their MIG devices.
fn gpus(choice: &Choice<'_>) -> Vec<GpuStand> {
    let mut gpus: BTreeMap<usize, GpuStand> = BTreeMap::new();
    for stand in &choice.stands {
        let gpu = gpus.entry(stand.unit.gpu).or_insert_with(|| GpuStand {
            index: choice.node.gpus()[stand.unit.gpu].index,
            devices: 0,
            taken: 0,
            gets: 0,
        });
        gpu.devices += stand.devices;
        gpu.taken += stand.taken;
        gpu.gets += stand.gets;
    }
    gpus.into_values().collect()
}

fn mig_devices(choice: &Choice<'_>) -> Vec<MigStand> {
    let device = |stand: &Stand| {
        let device = choice.node.of(stand.unit).1?;
        Some(MigStand {
            index: choice.node.index(stand.unit),
            uuid: device.uuid.to_string(),
            profile: device.profile.to_string(),
            devices: stand.devices,
            taken: stand.taken,
            gets: stand.gets,
        })
    };
    choice.stands.iter().filter_map(device).collect()
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
