//! What the page says of GPUs besides the exporter's counters: samples, health, Xids, throttling,
//! who holds them, and whether they use them.

use std::time::Duration;

use super::holders::{Container, ContainerKey, Tenancy};
use super::own::{
    ALLOCATED, ALLOCATED_SINCE, GPU_HEALTHY, GPU_INFO, GPU_SAMPLE_AGE, GPU_SAMPLE_ERRORS,
    GPU_SAMPLE_TIMESTAMP, GPU_SAMPLED, GPU_UNHEALTHY_REASON, GPU_UNHEALTHY_SINCE, IDLE, OwnMetric,
    THROTTLED, XID_ERRORS, XID_LAST, XID_OF_NOBODY,
};
use super::page::PageInput;
use super::text::{Family, next_label, push_label, push_next_label};
use super::throttle::ClockEvent;
use super::units::{GpuUnit, Unit};
use super::{Field, GpuHistory};
use crate::health::GpuHealth;
use crate::mig::MigUuid;
use crate::sample::Number;
use crate::state::{DriverStatus, GpuXids, XidCount, XidKind};

/// Writes all of them.
pub(super) fn series(page: &mut String, units: &[GpuUnit<'_>], input: &PageInput<'_>) {
    info(page, units);
    samples(page, units, input);
    health(page, units, input);
    xids(page, units, input);
    throttled(page, units);
    allocated(page, units, input);
    idle(page, units, input);
}

fn number(is_so: bool) -> Number {
    Number::Whole(u64::from(is_so))
}

pub(super) fn seconds(time: Duration) -> Number {
    Number::Real(time.as_secs_f64())
}

fn info(page: &mut String, units: &[GpuUnit<'_>]) {
    let mut family = GPU_INFO.on(page);
    for unit in units {
        let gpu = &unit.known.gpu;
        let mut labels = next_label("model", &gpu.name);
        push_next_label(&mut labels, "pci_bus_id", &gpu.pci.to_string());
        push_next_label(&mut labels, "minor", &gpu.minor.to_string());
        let (major, minor) = gpu.compute_capability;
        push_next_label(
            &mut labels,
            "compute_capability",
            &format!("{major}.{minor}"),
        );
        family.series(&[&unit.whole.short, &labels], Number::Whole(1));
    }
}

fn samples(page: &mut String, units: &[GpuUnit<'_>], input: &PageInput<'_>) {
    let mut each = |metric: OwnMetric, value: &dyn Fn(&GpuHistory) -> Option<Number>| {
        let mut family = metric.on(page);
        for unit in units {
            let history = input.history.of(&unit.known.gpu.uuid);
            if let Some(number) = history.and_then(value) {
                family.series(&[&unit.whole.short], number);
            }
        }
    };
    each(GPU_SAMPLED, &|history| {
        Some(number(history.error().is_none()))
    });
    each(GPU_SAMPLE_TIMESTAMP, &|history| {
        history.last().map(|(_, taken)| Number::Whole(taken.wall))
    });
    each(GPU_SAMPLE_AGE, &|history| {
        let (_, taken) = history.last()?;
        let age = input.now.monotonic.saturating_sub(taken.monotonic);
        Some(seconds(age))
    });
    each(GPU_SAMPLE_ERRORS, &|history| {
        Some(Number::Whole(history.errors()))
    });
}

/// The labels of a GPU, or of a MIG device of it, with its health.
fn healths<'a>(units: &'a [GpuUnit<'_>]) -> Vec<(&'a GpuUnit<'a>, String, &'a GpuHealth)> {
    let mut all = Vec::new();
    for unit in units {
        all.push((unit, String::new(), &unit.known.health));
        for (uuid, health) in &unit.known.instances {
            all.push((unit, next_label("mig_uuid", uuid.as_str()), health));
        }
    }
    all
}

fn health(page: &mut String, units: &[GpuUnit<'_>], input: &PageInput<'_>) {
    let is_running = matches!(input.state.driver(), DriverStatus::Running(_));
    let all = healths(units);
    let mut family = GPU_HEALTHY.on(page);
    for (unit, mig, health) in &all {
        let value = number(is_running && health.is_healthy());
        family.series(&[&unit.whole.short, mig], value);
    }
    let signs = || {
        all.iter().flat_map(|(unit, mig, health)| {
            let signs = health.signs().iter();
            signs.map(move |sign| (unit, mig, next_label("reason", &sign.reason.word()), sign))
        })
    };
    // Two errors in different words are one reason here.
    let is_first = |seen: &mut Vec<String>, labels: &[&str]| {
        let labels = labels.concat();
        let is_new = !seen.contains(&labels);
        seen.push(labels);
        is_new
    };
    for (metric, is_since) in [(GPU_UNHEALTHY_REASON, false), (GPU_UNHEALTHY_SINCE, true)] {
        let mut family = metric.on(page);
        let mut seen = Vec::new();
        for (unit, mig, reason, sign) in signs() {
            let labels: [&str; 3] = [&unit.whole.short, mig, &reason];
            let value = if is_since { sign.since } else { 1 };
            if is_first(&mut seen, &labels) {
                family.series(&labels, Number::Whole(value));
            }
        }
    }
}

fn xids(page: &mut String, units: &[GpuUnit<'_>], input: &PageInput<'_>) {
    let log = input.state.xids();
    for (metric, value) in [
        (XID_ERRORS, (|count| count.total) as fn(XidCount) -> u64),
        (XID_LAST, |count| count.last),
    ] {
        let mut family = metric.on(page);
        for unit in units {
            let xids = log.of(&unit.known.gpu.uuid).into_iter();
            for (kind, count) in xids.flat_map(GpuXids::counts) {
                let labels = xid_labels(kind);
                family.series(&[&unit.whole.short, &labels], Number::Whole(value(count)));
            }
        }
    }
    let mut family = XID_OF_NOBODY.on(page);
    for (kind, count) in log.of_nobody().counts() {
        let mut label = String::new();
        push_label(&mut label, "xid", &xid_number(kind));
        family.series(&[&label], Number::Whole(count.total));
    }
}

fn xid_labels(kind: XidKind) -> String {
    let mut labels = String::new();
    if let Some((gpu_instance, compute_instance)) = kind.instance {
        push_next_label(&mut labels, "GPU_I_ID", &gpu_instance.to_string());
        if let Some(id) = compute_instance {
            push_next_label(&mut labels, "GPU_CI_ID", &id.to_string());
        }
    }
    push_next_label(&mut labels, "xid", &xid_number(kind));
    labels
}

fn xid_number(kind: XidKind) -> String {
    kind.xid
        .map_or_else(|| "other".to_owned(), |xid| xid.0.to_string())
}

fn throttled(page: &mut String, units: &[GpuUnit<'_>]) {
    let reasons = ClockEvent::ALL.map(|event| (event, next_label("reason", event.as_str())));
    let mut family = THROTTLED.on(page);
    for gpu in units {
        for (unit, bits) in gpu.tellers(Field::ClockThrottleReasons) {
            let Number::Whole(bits) = bits else { continue };
            for (event, label) in &reasons {
                let value = number(bits & event.bit() != 0);
                family.series(&[&unit.short, label], value);
            }
        }
    }
}

/// The labels of a container on metrics of our own, where the names are always the new ones.
pub(super) fn pod_labels(container: &Container, with_uid: bool) -> String {
    let mut labels = next_label("container", &container.container);
    push_next_label(&mut labels, "namespace", &container.namespace);
    push_next_label(&mut labels, "pod", &container.pod);
    if let Some(uid) = container.pod_uid.as_ref().filter(|_| with_uid) {
        push_next_label(&mut labels, "pod_uid", uid);
    }
    labels
}

/// A device, who holds it, how many of its replicas, and since when.
struct Held<'a> {
    mig: Option<&'a MigUuid>,
    container: ContainerKey,
    devices: u64,
    since: Option<u64>,
}

/// What is held of a unit, by device and container.
fn held<'a>(unit: &'a Unit<'_>) -> Vec<Held<'a>> {
    let mut all: Vec<Held<'_>> = Vec::new();
    for device in &unit.holdings {
        let mig = device.mig.map(|mig| &mig.uuid);
        let container = device.holding.container;
        let since = device.holding.since;
        let known = all
            .iter_mut()
            .find(|held| held.container == container && held.mig == mig);
        match known {
            Some(known) => {
                known.devices += 1;
                known.since = known.since.min(since).or(known.since).or(since);
            }
            None => all.push(Held {
                mig,
                container,
                devices: 1,
                since,
            }),
        }
    }
    all
}

fn allocated(page: &mut String, units: &[GpuUnit<'_>], input: &PageInput<'_>) {
    for (metric, value) in [
        (
            ALLOCATED,
            (|held| Some(held.devices)) as fn(&Held<'_>) -> Option<u64>,
        ),
        (ALLOCATED_SINCE, |held| held.since),
    ] {
        let mut family = metric.on(page);
        for unit in all_units(units) {
            for held in held(unit) {
                let container = input.holders.get(held.container);
                if let (Some(value), Some(container)) = (value(&held), container) {
                    let mig = held.mig.map(|uuid| next_label("mig_uuid", uuid.as_str()));
                    let pod = pod_labels(container, input.options.pod_uid);
                    let mig = mig.unwrap_or_default();
                    family.series(&[&unit.short, &mig, &pod], Number::Whole(value));
                }
            }
        }
    }
}

/// For how long what is held has done nothing: since it was last at work, but no longer than it is
/// held. What is shared is idle when none of its holders works.
fn idle(page: &mut String, units: &[GpuUnit<'_>], input: &PageInput<'_>) {
    let mut family = IDLE.on(page);
    for gpu in units {
        let Some(history) = input.history.of(&gpu.known.gpu.uuid) else {
            continue;
        };
        let gone = history.last().map(|(_, taken)| taken.wall);
        for unit in std::iter::once(&gpu.whole).chain(&gpu.instances) {
            idle_of(&mut family, unit, history, gone, input);
        }
    }
}

fn idle_of(
    family: &mut Family<'_>,
    unit: &Unit<'_>,
    history: &GpuHistory,
    sampled: Option<u64>,
    input: &PageInput<'_>,
) {
    let (false, Some(sampled)) = (unit.holdings.is_empty(), sampled) else {
        return;
    };
    let Some(idle) = history.idle(unit.instance) else {
        return;
    };
    let held_since = unit.holdings.iter().map(|held| held.holding.since);
    let earliest = held_since.min().flatten();
    let idle = match earliest {
        Some(since) => idle.min(Duration::from_secs(sampled.saturating_sub(since))),
        None => idle,
    };
    let holder = match unit.tenancy {
        Tenancy::Exclusive(key) => input.holders.get(key),
        Tenancy::Free | Tenancy::Shared => None,
    };
    let pod = holder.map(|container| pod_labels(container, input.options.pod_uid));
    family.series(&[&unit.short, &pod.unwrap_or_default()], seconds(idle));
}

/// Every GPU, and every GPU instance.
pub(super) fn all_units<'a>(units: &'a [GpuUnit<'a>]) -> impl Iterator<Item = &'a Unit<'a>> {
    units
        .iter()
        .flat_map(|gpu| std::iter::once(&gpu.whole).chain(&gpu.instances))
}
