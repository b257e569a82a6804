//! The page of metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use super::agent;
use super::counters::{Counter, Counters, ExporterCounter, Source};
use super::exporter;
use super::facts::AgentFacts;
use super::gpus;
use super::holders::Holders;
use super::own::{GPU_METRICS, METRIC_SUPPORTED, METRICS_CONFIGURED};
use super::pods;
use super::text::{Family, push_next_label};
use super::units::{GpuUnit, Unit};
use super::{Field, History};
use crate::gpu::GpuUuid;
use crate::health::Moment;
use crate::sample::{Number, Texts};
use crate::state::NodeState;

/// How the label with the node's name is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostnameLabel {
    /// `hostname`, as newer versions of the exporter write it.
    Lower,
    /// `Hostname`, as most versions of it do, and dashboards expect.
    #[default]
    Upper,
}

/// What does not change from page to page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageOptions {
    /// The counters.
    pub counters: Counters,
    /// The node's name; `None` for no label of it.
    pub hostname: Option<String>,
    /// How that label is written.
    pub hostname_label: HostnameLabel,
    /// The labels of the exporter's versions 1: `uuid`, `pod_name`, `pod_namespace`,
    /// `container_name`.
    pub old_namespace: bool,
    /// Whether pods have a label `pod_uid`.
    pub pod_uid: bool,
    /// Whether the blanks in `modelName` become `-`.
    pub model_name_without_blanks: bool,
    /// From which age on a sample is no longer told as what is.
    pub stale_after: Duration,
    /// Over which time `DCGM_EXP_XID_ERRORS_COUNT` counts.
    pub xid_window: Duration,
    /// Over which time `DCGM_EXP_CLOCK_EVENTS_COUNT` counts; a [`History`] of [`history`](Self::history)
    /// keeps as much.
    pub clock_event_window: Duration,
}

/// The exporter's defaults.
impl Default for PageOptions {
    fn default() -> Self {
        Self {
            counters: Counters::default(),
            hostname: None,
            hostname_label: HostnameLabel::default(),
            old_namespace: false,
            pod_uid: false,
            model_name_without_blanks: false,
            stale_after: Duration::from_secs(15),
            xid_window: Duration::from_mins(5),
            clock_event_window: Duration::from_mins(5),
        }
    }
}

impl PageOptions {
    /// A [`History`] that keeps what such pages need.
    pub fn history(&self) -> History {
        let counts = self.counters.includes(ExporterCounter::ClockEvents);
        History::new(if counts {
            self.clock_event_window
        } else {
            Duration::ZERO
        })
    }
}

/// Everything that a page is made of.
#[derive(Debug, Clone, Copy)]
pub struct PageInput<'a> {
    /// What does not change.
    pub options: &'a PageOptions,
    /// The node.
    pub state: &'a NodeState,
    /// What was sampled.
    pub history: &'a History,
    /// The words of the GPUs, for labels.
    pub texts: &'a BTreeMap<GpuUuid, Texts>,
    /// Who holds what.
    pub holders: &'a Holders,
    /// The agent itself.
    pub facts: &'a AgentFacts,
    /// Now.
    pub now: Moment,
}

/// Makes the page.
pub fn render(input: &PageInput<'_>) -> String {
    let mut page = String::new();
    render_into(input, &mut page);
    page
}

/// Makes the page in place of what `page` has, whose memory is used again.
pub fn render_into(input: &PageInput<'_>, page: &mut String) {
    let units = GpuUnit::all(input);
    page.clear();
    let series: usize = units.iter().map(|unit| 1 + unit.instances.len()).sum();
    page.reserve(8 * 1024 + series * (input.options.counters.counters().len() + 16) * 360);
    for counter in input.options.counters.counters() {
        match counter.source {
            Source::Field(Field::XidErrors) => exporter::last_xid(page, counter, &units, input),
            Source::Field(field) => device_series(page, counter, field, &units),
            Source::Exporter(own) => exporter::series(page, counter, own, &units, input),
        }
    }
    supported(page, &units, input);
    gpus::series(page, &units, input);
    pods::series(page, &units, input);
    agent::series(page, input);
}

fn device_series(page: &mut String, counter: &Counter, field: Field, units: &[GpuUnit<'_>]) {
    let mut family = Family::new(page, &counter.name, counter.kind, &counter.help);
    for gpu in units {
        for (unit, number) in gpu.tellers(field) {
            family.series(&[&unit.labels, &unit.pod.container, &unit.pod.rest], number);
        }
    }
}

/// What the GPUs do not give of what is configured.
fn supported(page: &mut String, units: &[GpuUnit<'_>], input: &PageInput<'_>) {
    let counters = &input.options.counters;
    let mut given = Vec::with_capacity(units.len());
    let mut family = METRIC_SUPPORTED.on(page);
    let mut label = String::new();
    for gpu in units {
        let mut missing = 0;
        for counter in counters.counters() {
            let silent = missing_of(gpu, counter);
            missing += usize::from(silent.iter().any(|(unit, _)| unit.instance.is_none()));
            for (unit, reason) in silent {
                label.clear();
                push_next_label(&mut label, "field", &counter.name);
                push_next_label(&mut label, "reason", reason);
                family.series(&[&unit.short, &label], Number::Whole(0));
            }
        }
        given.push(counters.counters().len() - missing);
    }
    for name in counters.unknown() {
        label.clear();
        super::text::push_label(&mut label, "field", name);
        push_next_label(&mut label, "reason", "unknown");
        family.series(&[&label], Number::Whole(0));
    }
    let mut family = GPU_METRICS.on(page);
    for (gpu, given) in units.iter().zip(given) {
        family.series(&[&gpu.whole.short], Number::Whole(given as u64));
    }
    let configured = counters.counters().len() + counters.unknown().len();
    METRICS_CONFIGURED
        .on(page)
        .series(&[], Number::Whole(configured as u64));
}

fn missing_of<'a>(gpu: &'a GpuUnit<'a>, counter: &Counter) -> Vec<(&'a Unit<'a>, &'static str)> {
    match counter.source {
        Source::Field(Field::XidErrors) => Vec::new(),
        Source::Field(field) => gpu.missing(field),
        Source::Exporter(own) => exporter::missing(own, gpu),
    }
}
