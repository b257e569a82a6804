//! What the page says of the agent, the driver and the resources.

use std::collections::BTreeMap;

use super::facts::{AgentFacts, ProcessFacts};
use super::gpus::seconds;
use super::own::{
    ALLOCATE_DURATION, ALLOCATE_FAILURES, BUILD_INFO, CONFIG_GENERATION, CONFIG_INFO,
    CONFIG_TIMESTAMP, DRIVER_INFO, DRIVER_RUNNING, OwnMetric, PODS_TOLD, PROCESS_CPU,
    PROCESS_MAX_FDS, PROCESS_OPEN_FDS, PROCESS_RESIDENT, PROCESS_START, PROCESS_THREADS,
    PROCESS_VIRTUAL, REGISTRATIONS, RESOURCE_ALLOCATED, RESOURCE_DEVICES, RESOURCE_HEALTHY,
};
use super::page::PageInput;
use super::text::{push_label, push_next_label};
use crate::health::DeviceHealth;
use crate::pool::{DevicePool, Share};
use crate::resource::ResourceName;
use crate::sample::Number;
use crate::state::DriverStatus;

/// Writes all of it.
pub(super) fn series(page: &mut String, input: &PageInput<'_>) {
    resources(page, input);
    let facts = input.facts;
    by_resource(page, REGISTRATIONS, &facts.registrations);
    allocate(page, facts);
    let mut pods_told = PODS_TOLD.on(page);
    if let Some(wall) = facts.pods_told {
        pods_told.series(&[], Number::Whole(wall));
    }
    config(page, facts);
    driver(page, input);
    let mut labels = String::new();
    push_label(&mut labels, "version", &facts.version);
    push_next_label(&mut labels, "revision", &facts.revision);
    BUILD_INFO.on(page).series(&[&labels], Number::Whole(1));
    if let Some(process_facts) = &facts.process {
        process(page, process_facts);
    }
}

fn by_resource(page: &mut String, metric: OwnMetric, counts: &BTreeMap<ResourceName, u64>) {
    let mut family = metric.on(page);
    for (resource, count) in counts {
        let mut label = String::new();
        push_label(&mut label, "resource", resource.as_str());
        family.series(&[&label], Number::Whole(*count));
    }
}

fn resources(page: &mut String, input: &PageInput<'_>) {
    let pools = input.state.pools();
    let counts = |count: &dyn Fn(&DevicePool) -> u64| -> BTreeMap<ResourceName, u64> {
        let each = pools.iter();
        each.map(|(name, pool)| (name.clone(), count(pool)))
            .collect()
    };
    let all = counts(&|pool| pool.device_count() as u64);
    let healthy = counts(&|pool| {
        let is_healthy = |share: &&Share| input.state.health(share) == DeviceHealth::Healthy;
        let shares = pool.shares().iter().filter(is_healthy);
        shares.map(|share| share.devices() as u64).sum()
    });
    let allocated = counts(&|pool| {
        let holdings = input.holders.holdings();
        holdings
            .filter(|held| pool.share_of(&held.id).is_some())
            .count() as u64
    });
    by_resource(page, RESOURCE_DEVICES, &all);
    by_resource(page, RESOURCE_HEALTHY, &healthy);
    by_resource(page, RESOURCE_ALLOCATED, &allocated);
}

fn allocate(page: &mut String, facts: &AgentFacts) {
    let latencies = &facts.allocate;
    let mut family = ALLOCATE_DURATION.on(page);
    for (micros, count) in latencies.cumulated() {
        let mut label = String::new();
        push_label(&mut label, "le", &bound(micros));
        family.suffixed("_bucket", &[&label], Number::Whole(count));
    }
    family.suffixed(
        "_bucket",
        &["le=\"+Inf\""],
        Number::Whole(latencies.count()),
    );
    family.suffixed("_sum", &[], seconds(latencies.sum()));
    family.suffixed("_count", &[], Number::Whole(latencies.count()));
    let failures = Number::Whole(facts.allocate_failures);
    ALLOCATE_FAILURES.on(page).series(&[], failures);
}

/// Microseconds as seconds, without zeros at the end.
fn bound(micros: u64) -> String {
    let decimals = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    decimals
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

fn config(page: &mut String, facts: &AgentFacts) {
    let config = &facts.config;
    let generation = Number::Whole(config.generation);
    CONFIG_GENERATION.on(page).series(&[], generation);
    let since = Number::Whole(config.since);
    CONFIG_TIMESTAMP.on(page).series(&[], since);
    let mut label = String::new();
    push_label(&mut label, "hash", &config.hash);
    CONFIG_INFO.on(page).series(&[&label], Number::Whole(1));
}

fn driver(page: &mut String, input: &PageInput<'_>) {
    let versions = match input.state.driver() {
        DriverStatus::Running(versions) => Some(versions),
        DriverStatus::Unknown | DriverStatus::Absent(_) => None,
    };
    let is_running = Number::Whole(u64::from(versions.is_some()));
    DRIVER_RUNNING.on(page).series(&[], is_running);
    if let Some(versions) = versions {
        let mut labels = String::new();
        let (major, minor) = versions.cuda;
        push_label(&mut labels, "driver_version", &versions.driver);
        push_next_label(&mut labels, "nvml_version", &versions.nvml);
        push_next_label(&mut labels, "cuda_version", &format!("{major}.{minor}"));
        DRIVER_INFO.on(page).series(&[&labels], Number::Whole(1));
    }
}

fn process(page: &mut String, facts: &ProcessFacts) {
    PROCESS_CPU.on(page).series(&[], seconds(facts.cpu));
    let mut whole = |metric: OwnMetric, value: u64| {
        metric.on(page).series(&[], Number::Whole(value));
    };
    whole(PROCESS_OPEN_FDS, facts.open_fds);
    if let Some(most) = facts.max_fds {
        whole(PROCESS_MAX_FDS, most);
    }
    whole(PROCESS_RESIDENT, facts.resident);
    whole(PROCESS_VIRTUAL, facts.virtual_size);
    whole(PROCESS_THREADS, facts.threads);
    whole(PROCESS_START, facts.started);
}
