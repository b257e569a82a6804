//! `mizzen mig assert`: whether the GPUs are cut as they should be.

use std::collections::BTreeMap;

use mizzen_core::inventory::BrokenGpu;
use mizzen_core::mig::{Layout, MigProfile, MigTarget};
use serde::Serialize;

use super::args::{AnswerForm, AssertArgs};
use super::document::{GpuFacts, State, Target};
use super::goal::Goal;
use super::node::{Card, Node, in_words};
use super::{FAILED, FORM, Stop, columns, print_json};
use crate::terminal::wrapped;
use crate::terminal::{BAD, BOLD, DIM, GOOD, Line, PLAIN, Terminal, WARN};
use crate::words::{counted, times};

/// What is printed for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    target: String,
    met: bool,
    remarks: Vec<String>,
    gpus: Vec<Verdict>,
}

/// What is found of one GPU.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    #[serde(flatten)]
    gpu: GpuFacts,
    /// Null if the target says nothing about it.
    target: Option<Target>,
    /// Null if the target says nothing about it.
    met: Option<bool>,
    /// How it differs.
    differences: Vec<String>,
    /// Null if it does not tell.
    now: Option<State>,
}

/// Carries the command out.
pub(super) fn run(node: &Node, args: &AssertArgs) -> Result<u8, Stop> {
    let (cards, goal) = Goal::of(&args.target, &args.which, node)?;
    let all = cards.iter().zip(&goal.of);
    let gpus: Vec<Verdict> = all
        .map(|(card, target)| Verdict::new(card, target.as_ref(), args.mode_only))
        .collect();
    let broken = match args.which.gpu {
        Some(_) => &[],
        None => &node.broken[..],
    };
    let is_meant = gpus.iter().any(|gpu| gpu.met.is_some());
    let met = broken.is_empty() && is_meant && gpus.iter().all(|gpu| gpu.met != Some(false));
    let document = Document {
        version: FORM,
        target: goal.name,
        met,
        remarks: goal.remarks,
        gpus,
    };
    match args.output {
        AnswerForm::Table => {
            let terminal = Terminal::stdout();
            let lines = lines(&document, broken, columns(&terminal));
            terminal.print(lines).map_err(anyhow::Error::from)?;
        }
        AnswerForm::Json => print_json(&document)?,
    }
    Ok(if met { 0 } else { FAILED })
}

fn lines(document: &Document, broken: &[BrokenGpu], columns: usize) -> Vec<Line> {
    let remarks = document.remarks.iter();
    let mut lines: Vec<Line> = remarks
        .flat_map(|remark| wrapped(Line::of(WARN, "note: "), remark, columns))
        .collect();
    for gpu in &document.gpus {
        let name = Line::of(BOLD, format!("GPU {}  ", gpu.gpu.index));
        match gpu.met {
            Some(true) => lines.push(name.and(GOOD, "✔ ").and(PLAIN, "as wanted")),
            None => lines.push(name.and(DIM, "– nothing is wanted of it")),
            Some(false) => {
                let differences = gpu.differences.join("; ");
                lines.extend(wrapped(name.and(BAD, "✖ "), &differences, columns));
            }
        }
    }
    let broken_line = |broken| Line::of(BAD, "✖ ").and(PLAIN, in_words(broken));
    lines.extend(broken.iter().map(broken_line));
    lines.push(verdict(document, broken.len()));
    lines
}

/// What it comes to, over the GPUs of which something is wanted and those that do not answer.
fn verdict(document: &Document, silent: usize) -> Line {
    let count = |met| document.gpus.iter().filter(|gpu| gpu.met == met).count();
    let differing = count(Some(false)) + silent;
    let meant = differing + count(Some(true));
    let target = &document.target;
    let bad = |words| Line::of(BAD, "✖ ").and(BOLD, words);
    match (meant, differing) {
        (0, _) => bad(format!("nothing is wanted of any GPU: {target}")),
        (_, 0) => {
            let all = counted(meant, "GPU");
            Line::of(GOOD, "✔ ").and(BOLD, format!("{all} as wanted: {target}"))
        }
        _ => {
            let all = counted(meant, "GPU");
            bad(format!("{differing} of {all} not as wanted: {target}"))
        }
    }
}

impl Verdict {
    fn new(card: &Card, target: Option<&MigTarget>, mode_only: bool) -> Self {
        let layout = card.mig.as_ref().map(|(_, layout)| layout);
        let differences = match (target, layout) {
            (None, _) => Vec::new(),
            (Some(target), Ok(layout)) => differences(target, layout, mode_only),
            // What cannot be partitioned is as if MIG were off.
            (Some(target), Err(_)) if !card.can_be_partitioned() && !target.enabled => Vec::new(),
            (Some(_), Err(_)) if !card.can_be_partitioned() => {
                vec!["it cannot be partitioned".to_owned()]
            }
            (Some(_), Err(error)) => vec![error.to_string()],
        };
        Self {
            gpu: (&card.gpu).into(),
            target: target.map(Target::from),
            met: target.map(|_| differences.is_empty()),
            differences,
            now: layout.ok().map(State::from),
        }
    }
}

/// How a GPU is not as wanted.
fn differences(target: &MigTarget, layout: &Layout, mode_only: bool) -> Vec<String> {
    let mode = |on| if on { "on" } else { "off" };
    let (now, then) = (layout.mode.current, layout.mode.pending);
    if now != target.enabled {
        let soon = if then == target.enabled {
            " until the next reset of the GPU"
        } else {
            ""
        };
        return vec![format!(
            "MIG is {}{soon}, not {}",
            mode(now),
            mode(target.enabled)
        )];
    }
    if then != now {
        return vec![format!(
            "MIG is {}, but {} after the next reset of the GPU",
            mode(now),
            mode(then)
        )];
    }
    if mode_only || target.is_met_by(layout) {
        return Vec::new();
    }
    let has = devices(layout);
    let surplus_of = |a: &BTreeMap<MigProfile, u32>, b: &BTreeMap<MigProfile, u32>| {
        let extra = a.iter().filter_map(|(profile, count)| {
            let extra = count.saturating_sub(b.get(profile).copied().unwrap_or(0));
            (extra > 0).then(|| times(&profile.to_string(), extra as usize))
        });
        extra.collect::<Vec<_>>().join(", ")
    };
    let (missing, surplus) = (
        surplus_of(&target.devices, &has),
        surplus_of(&has, &target.devices),
    );
    let empty = layout
        .instances
        .iter()
        .filter(|instance| instance.compute.is_empty());
    let empty: Vec<String> = empty
        .map(|instance| format!("{} (GPU instance {})", instance.profile, instance.id))
        .collect();
    [
        ("lacks", missing),
        ("has too many of", surplus),
        ("has empty", empty.join(", ")),
    ]
    .into_iter()
    .filter(|(_, what)| !what.is_empty())
    .map(|(words, what)| format!("{words} {what}"))
    .collect()
}

fn devices(layout: &Layout) -> BTreeMap<MigProfile, u32> {
    let mut devices = BTreeMap::new();
    for instance in &layout.instances {
        for inside in &instance.compute {
            let profile = instance.profile.with_compute_slices(inside.slices);
            *devices.entry(profile).or_default() += 1;
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use mizzen_core::mig::{ComputeInstance, GpuInstance, MigMode, Placement};

    use super::*;

    fn layout(profiles: &[&str]) -> Layout {
        let instance = |(id, name): (u32, &&str)| {
            let profile: MigProfile = name.parse().unwrap();
            let slices = profile.gpu_slices;
            GpuInstance {
                id,
                profile,
                placement: Placement { start: id, size: 1 },
                compute: vec![ComputeInstance {
                    id: 0,
                    slices,
                    placement: Placement {
                        start: 0,
                        size: slices,
                    },
                }],
            }
        };
        Layout {
            mode: MigMode {
                current: true,
                pending: true,
            },
            instances: (0..).zip(profiles).map(instance).collect(),
        }
    }

    #[test]
    fn what_is_missing_and_what_is_too_much_is_told() {
        let target: MigTarget = "1g.10gb*3,3g.40gb".parse().unwrap();
        let mut has = layout(&["1g.10gb", "2g.20gb"]);
        has.instances[1].compute.clear();
        assert_eq!(
            differences(&target, &has, false),
            [
                "lacks 1g.10gb ×2, 3g.40gb",
                "has empty 2g.20gb (GPU instance 1)"
            ]
        );
        let target: MigTarget = "1g.10gb".parse().unwrap();
        let has = layout(&["1g.10gb", "1g.10gb"]);
        assert_eq!(
            differences(&target, &has, false),
            ["has too many of 1g.10gb"]
        );
        assert!(differences(&target, &has, true).is_empty());
    }

    #[test]
    fn a_mode_that_waits_for_a_reset_is_not_yet_as_wanted() {
        let mut has = layout(&[]);
        has.mode.current = false;
        assert_eq!(
            differences(&MigTarget::of([]), &has, true),
            ["MIG is off until the next reset of the GPU, not on"]
        );
    }
}
