//! The picture as lines for people.

use std::collections::{BTreeMap, BTreeSet};

use crate::duration;
use crate::terminal::{BAD, BOLD, BUSY, DIM, GOOD, Line, PLAIN, Table, WARN};
use crate::words::{counted, models, times};

use super::picture::{Agent, Devices, Gpu, Health, MigDevice, Picture};
use super::timeline::{Entry, Tone, in_order};

mod pods;

use pods::pod_lines;

/// How many lines of the timeline are shown however small the terminal is.
const TIMELINE_AT_LEAST: usize = 3;

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// What fits into so many rows: UUIDs shortened, the timeline's end only.
    Rows(usize),
    /// A person's last look: UUIDs shortened in the pods' part, everything else.
    Terminal,
    /// Everything in full.
    Full,
}

/// The whole picture: node, GPUs, pods, timeline, and the outcome when there is one.
pub(crate) fn frame(picture: &Picture, detail: Detail) -> Vec<Line> {
    let mut lines = state(picture, detail);
    let end = ending(picture);
    let mut timeline: Vec<_> = in_order(&picture.timeline)
        .into_iter()
        .map(timeline_line)
        .collect();
    if let Detail::Rows(rows) = detail {
        // Heading and blank line of the timeline, and the line the cursor rests on.
        let room = rows
            .saturating_sub(lines.len() + end.len() + 3)
            .max(TIMELINE_AT_LEAST);
        timeline.drain(..timeline.len().saturating_sub(room));
    }
    lines.push(Line::default());
    lines.push(Line::of(BOLD, "TIMELINE"));
    lines.extend(timeline);
    lines.extend(end);
    lines
}

/// The width of the terminal in pictures.
const PICTURE_COLUMNS: usize = 118;

/// The end of a run as a picture of a terminal in which `command` was typed.
pub(crate) fn svg(command: &str, picture: &Picture) -> String {
    let mut lines = vec![Line::of(DIM, "$ ").and(BOLD, command), Line::default()];
    lines.extend(frame(picture, Detail::Terminal));
    let lines: Vec<_> = lines
        .into_iter()
        .map(|line| line.clipped(PICTURE_COLUMNS))
        .collect();
    crate::terminal::svg::picture("mizzen simulate", &lines)
}

/// The node, its GPUs and the pods.
pub(crate) fn state(picture: &Picture, detail: Detail) -> Vec<Line> {
    let mut lines = heading(picture);
    lines.push(Line::default());
    lines.push(Line::of(BOLD, "GPUS"));
    lines.extend(gpu_table(&picture.gpus));
    if !picture.pods.is_empty() {
        lines.push(Line::default());
        lines.push(Line::of(BOLD, "PODS"));
        lines.extend(
            picture
                .pods
                .iter()
                .flat_map(|pod| pod_lines(pod, &picture.gpus, detail)),
        );
    }
    lines
}

/// One entry of the timeline.
pub(crate) fn timeline_line(entry: &Entry) -> Line {
    let style = match entry.tone {
        Tone::Neutral => PLAIN,
        Tone::Good => GOOD,
        Tone::Warning => WARN,
        Tone::Bad => BAD,
    };
    Line::of(
        DIM,
        format!("{:>11}  {:9}  ", duration::moment(entry.at), entry.source),
    )
    .and(style, entry.message.clone())
}

/// How it ended and what the agent cost.
pub(crate) fn ending(picture: &Picture) -> Vec<Line> {
    let Some(outcome) = &picture.outcome else {
        return Vec::new();
    };
    let verdict = match outcome.exit_code {
        0 => Line::of(GOOD, "✔ ").and(BOLD, outcome.summary.clone()),
        _ => Line::of(BAD, "✖ ").and(BOLD, outcome.summary.clone()),
    };
    vec![Line::default(), verdict, agent_line(&picture.agent)]
}

fn heading(picture: &Picture) -> Vec<Line> {
    let node = &picture.node;
    let mut facts = vec![models(picture.gpus.iter().map(|gpu| gpu.name.as_str()))];
    if !node.driver_version.is_empty() {
        facts.push(format!(
            "driver {}, CUDA {}",
            node.driver_version, node.cuda_version
        ));
    }
    let mut counts: Vec<String> = node
        .resources
        .iter()
        .map(|(resource, count)| {
            let (allocatable, capacity) = (count.allocatable, count.capacity);
            format!("{resource}: {allocatable} allocatable of {capacity}")
        })
        .collect();
    if counts.len() == 1 {
        facts.append(&mut counts);
    }
    let elapsed = format!("{:.1} s", picture.elapsed.as_secs_f64());
    let mut lines = vec![
        Line::of(BOLD, node.name.clone()).and(DIM, format!(", a simulated node  {elapsed}")),
        Line::from(format!("  {}", facts.join(" · "))),
    ];
    lines.extend(
        counts
            .into_iter()
            .map(|count| Line::from(format!("  {count}"))),
    );
    lines
}

fn gpu_table(gpus: &[Gpu]) -> Vec<Line> {
    let named = gpus
        .iter()
        .any(|gpu| gpu.name != gpus[0].name || gpu.is_cut());
    // Where every GPU is one device of one resource, the node's heading says it all.
    let shared = gpus.iter().any(Gpu::is_cut)
        || gpus.iter().any(|gpu| is_shared(&gpu.offered_as))
        || resources(gpus).len() > 1;
    let mut heads = vec!["GPU", "HEALTH"];
    if shared {
        heads.extend(["OFFERED AS", "IN USE"]);
    }
    heads.extend(["HELD BY", "NUMA", "UUID", "NAME", "FAULT"]);
    let mut table = Table::new(&heads);
    for gpu in gpus {
        let mut row = vec![Line::of(BOLD, gpu.index.to_string()), health(gpu.health)];
        if shared {
            row.extend([offered_by(gpu), in_use(&gpu.offered_as).into()]);
        }
        let held = if gpu.is_cut() {
            whole_holders(gpu)
        } else {
            holders(&gpu.held_by, &gpu.was_held_by, &gpu.offered_as)
        };
        let numa = gpu.numa_node.map(|node| node.to_string());
        row.extend([
            held,
            numa.unwrap_or_default().into(),
            Line::of(DIM, gpu.uuid.clone()),
            Line::from(if named { gpu.name.as_str() } else { "" }),
            Line::of(BAD, gpu.faults.join(", ")),
        ]);
        table.row(row);
        let is_shown =
            |device: &&MigDevice| gpu.is_cut() || device.gone && !device.held_by.is_empty();
        for device in gpu.mig_devices().iter().filter(is_shown) {
            table.row(mig_row(device));
        }
    }
    table.lines(2)
}

fn mig_row(device: &MigDevice) -> Vec<Line> {
    let health = match device {
        MigDevice { gone: true, .. } => Line::of(WARN, "○ gone"),
        device => health(device.health),
    };
    vec![
        Line::of(BOLD, device.name.clone()),
        health,
        offered_as(&device.offered_as).into(),
        in_use(&device.offered_as).into(),
        holders(&device.held_by, &device.was_held_by, &device.offered_as),
        Line::default(),
        Line::of(DIM, device.uuid.clone()),
        format!("MIG {}", device.profile).into(),
    ]
}

/// What a GPU is offered as; of one that is cut, how many MIG devices it has.
fn offered_by(gpu: &Gpu) -> Line {
    if gpu.is_cut() {
        let there = gpu.mig_devices().iter().filter(|device| !device.gone);
        return Line::of(DIM, counted(there.count(), "MIG device"));
    }
    offered_as(&gpu.offered_as).into()
}

/// What a GPU or MIG device is offered as, by resource.
type Offered = BTreeMap<String, Devices>;

fn resources(gpus: &[Gpu]) -> BTreeSet<&String> {
    gpus.iter().flat_map(|gpu| gpu.offered_as.keys()).collect()
}

fn is_shared(offered: &Offered) -> bool {
    offered.values().any(|here| here.devices > 1)
}

/// `nvidia.com/gpu.shared ×10`.
fn offered_as(offered: &Offered) -> String {
    let parts = offered.iter().map(|(resource, here)| {
        let devices = usize::try_from(here.devices).unwrap_or(usize::MAX);
        times(resource, devices)
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// `3 of 10`, where a GPU is more than one device.
fn in_use(offered: &Offered) -> String {
    let devices: u64 = offered.values().map(|here| here.devices).sum();
    if devices < 2 {
        return String::new();
    }
    let held = offered.values().flat_map(|here| here.held_by.values());
    format!("{} of {devices}", held.sum::<u64>())
}

/// More containers on one GPU than this are told as a number.
const NAMED_HOLDERS: usize = 3;

/// Who has it, or who had it.
fn holders(held_by: &[String], was_held_by: &[String], offered: &Offered) -> Line {
    match (held_by, was_held_by) {
        ([], []) => Line::of(DIM, "–"),
        ([], ended) => {
            let mut pods: Vec<_> = ended
                .iter()
                .map(|holder| pod_of(holder).to_owned())
                .collect();
            pods.dedup();
            Line::of(DIM, format!("{} (ended)", few(pods)))
        }
        (holders, _) => {
            let held = |holder: &String| {
                let counts = offered.values().filter_map(|here| here.held_by.get(holder));
                usize::try_from(counts.sum::<u64>()).unwrap_or(usize::MAX)
            };
            let shown = holders
                .iter()
                .map(|holder| times(holder, held(holder).max(1)));
            Line::of(BUSY, few(shown.collect()))
        }
    }
}

/// Who has, or had, a GPU as a whole that is offered as its MIG devices; nothing where nobody did.
fn whole_holders(gpu: &Gpu) -> Line {
    let held: Vec<String> = gpu.held_as_whole().cloned().collect();
    let ended: Vec<String> = gpu.was_held_as_whole().cloned().collect();
    if held.is_empty() && ended.is_empty() {
        return Line::default();
    }
    holders(&held, &ended, &Offered::new())
}

/// The first of many, and how many more there are.
fn few(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED_HOLDERS);
    if more > 1 {
        names.truncate(NAMED_HOLDERS);
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

/// `pod` of `pod/container`.
fn pod_of(holder: &str) -> &str {
    holder
        .rsplit_once('/')
        .map_or(holder, |(pod, _container)| pod)
}

fn health(health: Health) -> Line {
    match health {
        Health::Healthy => Line::of(GOOD, "● healthy"),
        Health::Unhealthy => Line::of(BAD, "✖ unhealthy"),
        Health::Unknown => Line::of(WARN, "○ not reported"),
    }
}

fn agent_line(agent: &Agent) -> Line {
    let figures = &agent.figures;
    let mut facts = Vec::new();
    if let Some(ready) = agent.ready {
        facts.push(format!(
            "first device list after {}",
            duration::short(ready)
        ));
    }
    let (resident, own) = (
        mebibytes(figures.resident_kib),
        mebibytes(figures.anonymous_kib),
    );
    facts.push(format!("{resident} resident ({own} its own)"));
    facts.push(format!("{} of CPU", duration::short(figures.cpu)));
    let plural = if figures.threads == 1 { "" } else { "s" };
    facts.push(format!("{} thread{plural}", figures.threads));
    Line::of(DIM, "  agent: ").and(PLAIN, facts.join(" · "))
}

/// KiB as MiB with one decimal.
fn mebibytes(kib: u64) -> String {
    let tenths = (kib * 10 + 512) / 1024;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests;
