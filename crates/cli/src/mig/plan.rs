//! `mizzen mig plan`: what would be kept, destroyed and made.

use std::path::Path;

use anyhow::Context as _;
use mizzen_core::mig::MigStep;

use super::args::{AnswerForm, PlanArgs};
use super::document::PlanDocument;
use super::goal::Goal;
use super::node::{Node, in_words};
use super::pods::{Asked, Holders};
use super::prospect::{Prospect, Way, prospects};
use super::{FAILED, Stop, columns, picture, print_json, steps};
use crate::terminal::{BAD, BOLD, DIM, GOOD, Line, PLAIN, Terminal, WARN, wrapped};
use crate::words::{counted, ranges, times};
use picture::Scene;

/// Carries the command out.
pub(super) fn run(node: &Node, args: &PlanArgs) -> Result<u8, Stop> {
    args.check()?;
    let (cards, goal) = Goal::of(&args.target, &args.which, node)?;
    let (prospects, asked) = prospects(args, &goal, &cards);
    match args.output {
        AnswerForm::Table => {
            let terminal = Terminal::stdout();
            let mut lines = lines(&goal, &prospects, &asked, columns(&terminal));
            lines.extend(broken(node, args));
            lines.push(verdict(&prospects, silent(node, args)));
            if let Some(file) = &args.picture {
                draw(file, &lines)?;
            }
            terminal.print(lines).map_err(anyhow::Error::from)?;
        }
        AnswerForm::Json => print_json(&PlanDocument::new(&goal, &prospects, &asked))?,
    }
    let fails = prospects.iter().any(|prospect| prospect.way.is_err());
    Ok(if fails || silent(node, args) > 0 {
        FAILED
    } else {
        0
    })
}

/// All GPUs with what is to be done to them, those that are alike together.
pub(super) fn lines(
    goal: &Goal,
    prospects: &[Prospect<'_>],
    asked: &Asked,
    columns: usize,
) -> Vec<Line> {
    let mut lines = vec![Line::of(DIM, "wanted: ").and(BOLD, goal.name.clone())];
    for remark in &goal.remarks {
        lines.extend(wrapped(Line::of(WARN, "note: "), remark, columns));
    }
    if let Asked::NoKubelet(socket) = asked {
        let socket = socket.display();
        let note = format!(
            "no kubelet at {socket}: which pods hold devices is not known; the driver itself \
             refuses to destroy what a process uses"
        );
        lines.extend(wrapped(Line::of(WARN, "note: "), &note, columns));
    }
    let holders = asked.holders();
    for group in groups(prospects) {
        lines.push(Line::default());
        lines.extend(of_group(&group, columns));
        lines.extend(kept_for(&group, &holders, columns));
    }
    lines.push(Line::default());
    lines
}

/// How many GPUs do not even tell what they are, where all are meant.
pub(super) fn silent(node: &Node, args: &PlanArgs) -> usize {
    match args.which.gpu {
        Some(_) => 0,
        None => node.broken.len(),
    }
}

/// Which GPUs those are.
pub(super) fn broken(node: &Node, args: &PlanArgs) -> Vec<Line> {
    let broken = node.broken.iter().take(silent(node, args));
    let line = |broken| Line::of(BAD, "✖ ").and(PLAIN, in_words(broken));
    broken.map(line).collect()
}

/// Writes what was printed as a picture of a terminal.
pub(super) fn draw(file: &Path, lines: &[Line]) -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let typed = words.join(" ");
    let typed = typed.split(" --picture").next().unwrap_or_default();
    let command = Line::of(DIM, "$ ").and(BOLD, format!("mizzen {typed}"));
    let all: Vec<Line> = std::iter::once(command)
        .chain(lines.iter().cloned())
        .collect();
    let picture = crate::terminal::svg::picture("mizzen mig", &all);
    std::fs::write(file, picture).with_context(|| format!("cannot write {}", file.display()))
}

/// Those that are alike and to which the same is to be done, in the order of their first ones.
fn groups<'a>(prospects: &'a [Prospect<'_>]) -> Vec<Vec<&'a Prospect<'a>>> {
    let mut groups: Vec<Vec<&Prospect<'_>>> = Vec::new();
    for prospect in prospects {
        let same = groups.iter_mut().find(|group| {
            let first = group[0];
            first.card.gpu.name == prospect.card.gpu.name
                && first.card.mig == prospect.card.mig
                && first.target == prospect.target
                && first.way == prospect.way
        });
        match same {
            Some(group) => group.push(prospect),
            None => groups.push(vec![prospect]),
        }
    }
    groups
}

fn of_group(group: &[&Prospect<'_>], columns: usize) -> Vec<Line> {
    let Some(first) = group.first() else {
        return Vec::new();
    };
    let card = first.card;
    let mut lines = vec![heading(group)];
    let Ok((table, layout)) = &card.mig else {
        lines.extend(match &first.way {
            Ok(way) => vec![idle(first, way)],
            Err(reason) => wrapped(Line::of(BAD, "  ✖ "), &reason.to_string(), columns),
        });
        return lines;
    };
    match &first.way {
        Err(reason) => {
            let scenes = [Scene::of("now", layout)];
            lines.extend(picture::lines(Some(table), &scenes, columns));
            lines.extend(wrapped(Line::of(BAD, "  ✖ "), &reason.to_string(), columns));
        }
        Ok(way) if way.plan.is_empty() => {
            let scenes = [Scene::of("now", layout)];
            lines.extend(picture::lines(Some(table), &scenes, columns));
            lines.push(idle(first, way));
        }
        Ok(way) => {
            let scenes = [
                Scene::before(layout, &way.plan),
                Scene::after(layout, &way.plan),
            ];
            lines.extend(picture::lines(Some(table), &scenes, columns));
            lines.push(picture::legend(&scenes));
            lines.extend(in_order(first, way, columns));
        }
    }
    lines
}

/// `GPUs 0-3  4 × NVIDIA A30  MIG off`.
fn heading(group: &[&Prospect<'_>]) -> Line {
    let indices = ranges(group.iter().map(|prospect| prospect.card.gpu.index));
    let plural = if group.len() == 1 { "" } else { "s" };
    let gpu = &group[0].card.gpu;
    let model = match group.len() {
        1 => gpu.name.clone(),
        count => format!("{count} × {}", gpu.name),
    };
    let mode = group[0].card.mig.as_ref().ok().map(|(_, layout)| {
        let mode = layout.mode;
        let now = if mode.current { "MIG on" } else { "MIG off" };
        match (mode.current, mode.pending) {
            (true, false) => format!("{now}, off after a reset"),
            (false, true) => format!("{now}, on after a reset"),
            _ => now.to_owned(),
        }
    });
    Line::of(BOLD, format!("GPU{plural} {indices}"))
        .and(PLAIN, format!("  {model}  "))
        .and(DIM, mode.unwrap_or_default())
}

/// What is said where there is no step.
fn idle(prospect: &Prospect<'_>, way: &Way) -> Line {
    match (&prospect.target, way.needs_reset) {
        (None, _) => Line::of(DIM, "  – left as it is"),
        (_, true) => Line::of(WARN, "  ↻ waits for its reset: ").and(PLAIN, reset(prospect)),
        (_, false) => Line::of(GOOD, "  ✔ nothing to do: it is so already"),
    }
}

fn reset(prospect: &Prospect<'_>) -> String {
    format!("nvidia-smi --gpu-reset -i {}", prospect.card.gpu.index)
}

/// The steps in their order, and what they come to.
fn in_order(prospect: &Prospect<'_>, way: &Way, columns: usize) -> Vec<Line> {
    let Ok((_, layout)) = &prospect.card.mig else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for (number, step) in (1..).zip(&way.plan.steps) {
        let words = steps::in_words(step, layout);
        let number = Line::of(DIM, format!("  {number}. "));
        lines.extend(wrapped(number, &words, columns));
        let MigStep::SetMode(on) = step else {
            continue;
        };
        if way.needs_reset {
            let words = Line::of(WARN, "     ↻ takes effect with a reset: ");
            lines.push(words.and(PLAIN, reset(prospect)));
        }
        if *on && !way.is_open && !layout.mode.current {
            let words =
                "     (the rest is looked at again then: drivers tell places only with MIG on)";
            lines.push(Line::of(DIM, words));
        }
    }
    if way.is_open {
        let words = "     what comes then, the driver tells once MIG is on";
        lines.push(Line::of(WARN, words));
    }
    lines.extend(sum(prospect, way, columns));
    lines
}

/// `keeps 3g.40gb · destroys 1g.10gb ×2 · makes 2g.20gb`, in lines where that is too long.
fn sum(prospect: &Prospect<'_>, way: &Way, columns: usize) -> Vec<Line> {
    let Ok((_, layout)) = &prospect.card.mig else {
        return Vec::new();
    };
    let named = |ids: &[(u32, u32)], layout| {
        let profiles = ids.iter().filter_map(|ids| steps::profile(layout, *ids));
        let mut counts: Vec<(String, usize)> = Vec::new();
        for profile in profiles.map(|profile| profile.to_string()) {
            match counts.iter_mut().find(|(known, _)| *known == profile) {
                Some((_, count)) => *count += 1,
                None => counts.push((profile, 1)),
            }
        }
        let parts = counts.iter().map(|(profile, count)| times(profile, *count));
        parts.collect::<Vec<_>>().join(", ")
    };
    let parts = [
        ("keeps", PLAIN, named(&way.plan.kept, layout)),
        ("destroys", BAD, named(&way.plan.destroyed, layout)),
        ("makes", GOOD, named(&way.made(), &way.plan.after)),
    ];
    let mut line = Line::from("  ");
    let used = parts.iter().filter(|(_, _, what)| !what.is_empty());
    for (at, (word, style, what)) in used.clone().enumerate() {
        line = line.and(DIM, if at == 0 { "" } else { " · " });
        line = line.and(*style, format!("{word} ")).and(PLAIN, what);
    }
    if line.width() <= columns {
        return vec![line];
    }
    let each = used.flat_map(|(word, style, what)| {
        let mark = Line::of(*style, format!("  {word} "));
        wrapped(mark, what, columns)
    });
    each.collect()
}

/// Which of the MIG devices that stay are held by whom, where something else is changed.
fn kept_for(group: &[&Prospect<'_>], holders: &Holders, columns: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for prospect in group {
        let (Ok((_, layout)), Ok(way)) = (&prospect.card.mig, &prospect.way) else {
            continue;
        };
        let gpu = &prospect.card.gpu;
        for ids in way.plan.kept.iter().filter(|_| !way.plan.is_empty()) {
            for holder in holders.of_device(gpu, *ids) {
                let device = steps::device(layout, *ids);
                let words = format!("{device} of GPU {} is held by {holder}", gpu.index);
                lines.extend(wrapped(Line::of(DIM, "  kept: "), &words, columns));
            }
        }
    }
    lines
}

/// What it comes to, over all GPUs.
fn verdict(prospects: &[Prospect<'_>], silent: usize) -> Line {
    let refused = prospects.iter().filter(|prospect| prospect.way.is_err());
    let impossible = refused.count() + silent;
    let ways = || {
        prospects
            .iter()
            .filter_map(|prospect| prospect.way.as_ref().ok())
    };
    let changed = ways().filter(|way| !way.plan.is_empty()).count();
    let waiting = ways().filter(|way| way.needs_reset).count();
    let resets = match waiting {
        0 => String::new(),
        number => format!(", {} to be reset", counted(number, "GPU")),
    };
    match (impossible, changed) {
        (0, 0) if waiting == 0 => Line::of(GOOD, "✔ ").and(BOLD, "nothing to do"),
        (0, 0) => Line::of(WARN, "↻ ").and(BOLD, format!("nothing to do{resets}")),
        (0, number) => Line::of(GOOD, "✔ ").and(
            BOLD,
            format!("can be done: {} to change{resets}", counted(number, "GPU")),
        ),
        (number, _) => {
            let all = counted(prospects.len() + silent, "GPU");
            Line::of(BAD, "✖ ").and(BOLD, format!("cannot be done on {number} of {all}"))
        }
    }
}
