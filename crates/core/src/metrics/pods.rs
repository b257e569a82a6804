//! What each container uses of each GPU, by the driver's accounting of processes.
//!
//! The names are our own, so that nothing here is added to the device's series by a query that
//! sums those. What no container is known to use has a series without a pod's labels, so that the
//! sum of a family is the device's.

use std::collections::BTreeMap;

use super::Field;
use super::gpus::pod_labels;
use super::holders::{ContainerKey, Holders};
use super::own::{OwnMetric, POD_MEMORY, POD_MEMORY_UTIL, POD_PROCESSES, POD_SM};
use super::page::PageInput;
use super::units::{GpuUnit, Unit};
use crate::sample::{GpuSample, Number, ProcessSample};

const MIB: u64 = 1024 * 1024;

/// What the processes of one container use together; `None` where the driver does not tell it of
/// any of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Use {
    processes: u64,
    memory: Option<u64>,
    sm_util: Option<u64>,
    mem_util: Option<u64>,
}

impl Use {
    /// What a container uses that has no process here: nothing of what is told of any process.
    fn nothing(unit: &Unit<'_>, processes: &[&ProcessSample]) -> Self {
        // Partitioned GPUs do not count how busy a process keeps them.
        let is_counted = |told: fn(&ProcessSample) -> bool| {
            let mut any = processes.iter();
            unit.instance.is_none() && (processes.is_empty() || any.any(|process| told(process)))
        };
        Self {
            processes: 0,
            memory: Some(0),
            sm_util: is_counted(|process| process.sm_util.is_some()).then_some(0),
            mem_util: is_counted(|process| process.mem_util.is_some()).then_some(0),
        }
    }

    fn add(&mut self, process: &ProcessSample) {
        let add = |sum: &mut Option<u64>, part: Option<u64>| {
            if let Some(part) = part {
                *sum = Some(sum.unwrap_or(0) + part);
            }
        };
        self.processes += 1;
        add(&mut self.memory, process.memory);
        add(&mut self.sm_util, process.sm_util.map(u64::from));
        add(&mut self.mem_util, process.mem_util.map(u64::from));
    }
}

/// The uses of a GPU or GPU instance.
struct Uses<'a> {
    unit: &'a Unit<'a>,
    /// By container; `None` is what nobody is known to use.
    shares: Vec<(Option<ContainerKey>, Use)>,
}

/// Writes the series of every GPU and GPU instance that has a sample.
pub(super) fn series(page: &mut String, units: &[GpuUnit<'_>], input: &PageInput<'_>) {
    let all = uses(units, input.holders);
    let labels: Vec<String> = input
        .holders
        .containers()
        .iter()
        .map(|container| pod_labels(container, input.options.pod_uid))
        .collect();
    let mut each = |metric: OwnMetric, value: fn(&Use) -> Option<u64>| {
        let mut family = metric.on(page);
        for uses in &all {
            for (container, share) in &uses.shares {
                let pod = container.and_then(|key| labels.get(key.place()));
                if let Some(value) = value(share) {
                    let pod = pod.map_or("", String::as_str);
                    family.series(&[&uses.unit.short, pod], Number::Whole(value));
                }
            }
        }
    };
    each(POD_MEMORY, |share| share.memory);
    each(POD_SM, |share| share.sm_util);
    each(POD_MEMORY_UTIL, |share| share.mem_util);
    each(POD_PROCESSES, |share| Some(share.processes));
}

fn uses<'a>(units: &'a [GpuUnit<'a>], holders: &Holders) -> Vec<Uses<'a>> {
    let mut all = Vec::new();
    for gpu in units {
        let Some(sample) = gpu.sample else { continue };
        let is_whole = gpu.instances.is_empty();
        for unit in std::iter::once(&gpu.whole).chain(&gpu.instances) {
            // A partitioned GPU's processes are its instances'.
            if unit.instance.is_some() || is_whole {
                all.push(uses_of(unit, sample, holders));
            }
        }
    }
    all
}

fn uses_of<'a>(unit: &'a Unit<'a>, sample: &GpuSample, holders: &Holders) -> Uses<'a> {
    let mut shares: BTreeMap<Option<ContainerKey>, Use> = BTreeMap::new();
    let here = |process: &&ProcessSample| {
        unit.instance.is_none() || process.instance.map(|(id, _)| id) == unit.instance
    };
    let processes: Vec<&ProcessSample> = sample.processes.iter().filter(here).collect();
    for process in &processes {
        let owner = holders.owner(process.pid);
        shares.entry(owner).or_default().add(process);
    }
    // One that does nothing is told all the same.
    let nothing = Use::nothing(unit, &processes);
    for held in &unit.holdings {
        shares
            .entry(Some(held.holding.container))
            .or_insert(nothing);
    }
    leave_rest_to_nobody(unit, &mut shares);
    Uses {
        unit,
        shares: shares.into_iter().collect(),
    }
}

/// What is used of the memory and by no known container: processes of nobody known, and what the
/// driver itself takes.
fn leave_rest_to_nobody(unit: &Unit<'_>, shares: &mut BTreeMap<Option<ContainerKey>, Use>) {
    let used = match unit
        .readings
        .and_then(|readings| readings.get(Field::FbUsed))
    {
        Some(Ok(Number::Whole(mib))) => Some(mib * MIB),
        _ => None,
    };
    let known = shares.iter().filter(|(container, _)| container.is_some());
    let known: u64 = known.filter_map(|(_, share)| share.memory).sum();
    let nobody = shares.entry(None).or_default();
    if let Some(used) = used {
        nobody.memory = Some(used.saturating_sub(known));
    }
}
