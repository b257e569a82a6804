//! A choice for people.

use mizzen_core::config::AllocationPolicy;
use mizzen_core::prefer::{Explanation, Rule, Scored};

use super::Choice;
use crate::config::check::heading;
use crate::config::offer::word;
use crate::terminal::{BAD, BOLD, BUSY, DIM, GOOD, Line, PLAIN, Table, WARN};
use crate::words::{ranges, times};

/// The node, what the container gets, and why.
pub(super) fn lines(choice: &Choice<'_>) -> Vec<Line> {
    let mut lines = heading(choice.node);
    lines.push(Line::default());
    lines.push(verdict(choice));
    lines.push(Line::of(DIM, format!("  {}", policy(choice))));
    lines.push(Line::default());
    if let Some(told) = &choice.rules {
        lines.extend(sets(told, choice));
        lines.push(Line::default());
        lines.push(Line::from(format!("  {}", decision(told, choice))));
    } else {
        lines.extend(stands(choice));
    }
    lines
}

fn verdict(choice: &Choice<'_>) -> Line {
    let asks = format!(
        "A container that asks for {} × {} ",
        choice.want,
        choice.resource.name()
    );
    if choice.gets.is_empty() {
        let free = match choice.free() {
            1 => "stays Pending: 1 is free".to_owned(),
            free => format!("stays Pending: {free} are free"),
        };
        return Line::from(asks).and(WARN, free);
    }
    if let Some(refusal) = &choice.refusal {
        return Line::from(asks).and(BAD, format!("is refused: {refusal}"));
    }
    let with = choice.stands.iter().filter(|stand| stand.gets > 0);
    let parts: Vec<String> = if choice.resource.shared.is_some() {
        with.map(|stand| times(&choice.node.index(stand.unit), stand.gets))
            .collect()
    } else {
        vec![choice.node.indices(with.map(|stand| stand.unit))]
    };
    let kind = if choice.resource.has_mig_devices() {
        "MIG"
    } else {
        "GPU"
    };
    Line::from(asks + "gets ").and(GOOD, format!("{kind} {}", parts.join(", ")))
}

fn policy(choice: &Choice<'_>) -> String {
    let policy = choice.resource.policy();
    let what = match policy {
        _ if choice.resource.has_mig_devices() => of_mig_devices(policy),
        AllocationPolicy::Distributed => "the GPU with the fewest devices given out goes first",
        AllocationPolicy::Packed => "the GPU with the most devices given out goes first",
        AllocationPolicy::Aligned => "the best connected GPUs go together",
        AllocationPolicy::Numa => "the fewest NUMA nodes, and on them the best connected GPUs",
        AllocationPolicy::NumaDistributed => {
            "the NUMA node with the fewest devices given out goes first"
        }
        AllocationPolicy::NumaPacked => {
            "the NUMA node with the most devices given out that has enough goes first"
        }
    };
    let placement = choice.resource.shared.map_or_else(String::new, |shared| {
        format!(" · replicaPlacement {}", word(shared.placement))
    });
    format!("policy {}: {what}{placement}", word(policy))
}

/// MIG devices are joined by no links; what can be saved is a GPU that nobody uses.
fn of_mig_devices(policy: AllocationPolicy) -> &'static str {
    match policy {
        AllocationPolicy::Aligned | AllocationPolicy::Packed => {
            "the GPU that is fullest goes first, so that others stay empty"
        }
        AllocationPolicy::Distributed => "the GPU with the fewest devices given out goes first",
        AllocationPolicy::Numa | AllocationPolicy::NumaPacked => {
            "the fewest NUMA nodes, and on them the GPU that is fullest"
        }
        AllocationPolicy::NumaDistributed => {
            "the NUMA node with the fewest devices given out goes first"
        }
    }
}

/// The chosen set and the next best, with what each rule says.
fn sets(told: &Explanation, choice: &Choice<'_>) -> Vec<Line> {
    let mut table = Table::new(&[
        "",
        "GPUS",
        "LINKS",
        "LEFT OVER",
        "NUMA SPLITS",
        "PCIE STEPS",
    ]);
    let sets = std::iter::once(&told.chosen).chain(&told.runners_up);
    for (place, set) in sets.enumerate() {
        let (mark, style) = if place == 0 {
            ("▸", BUSY)
        } else {
            ("", PLAIN)
        };
        let scores = &set.scores;
        let numbers = [
            scores.links,
            scores.remainder,
            scores.numa_splits,
            scores.pcie_steps,
        ];
        let mut row = vec![Line::of(style, mark), Line::of(style, gpus(set, choice))];
        row.extend(numbers.map(|number| Line::of(style, number.to_string())));
        table.row(row);
    }
    table.lines(2)
}

fn gpus(set: &Scored, choice: &Choice<'_>) -> String {
    ranges(set.gpus.iter().map(|&gpu| choice.node.gpus()[gpu].index))
}

/// Which rule decided, between which sets.
fn decision(told: &Explanation, choice: &Choice<'_>) -> String {
    let Some((rule, next)) = told.decided_by.zip(told.runners_up.first()) else {
        return match told.sets {
            1 => "There was nothing to choose: no other set is possible.".to_owned(),
            sets => format!("{sets} sets were possible."),
        };
    };
    let (chosen, other) = (&told.chosen.scores, &next.scores);
    let against = |what, chosen: u64, other: u64| {
        let next = gpus(next, choice);
        format!("{what}: {chosen} against {other} of {next}")
    };
    let why = match rule {
        Rule::Links => against("links", chosen.links, other.links),
        Rule::Remainder => against("what is left over", chosen.remainder, other.remainder),
        Rule::Numa => against("NUMA splits", chosen.numa_splits, other.numa_splits),
        Rule::Pcie => against("PCIe steps", chosen.pcie_steps, other.pcie_steps),
        Rule::Positions => {
            let next = gpus(next, choice);
            format!("the lowest indices: {next} is as good by every other rule")
        }
    };
    let compared = if told.complete {
        ""
    } else {
        " (the others shown are the best of those that differ in one GPU)"
    };
    format!("Of {} sets{compared}, decided by {why}.", told.sets)
}

/// How many devices of each GPU or MIG device are given out, and to whom they go now.
fn stands(choice: &Choice<'_>) -> Vec<Line> {
    let has_mig = choice.resource.has_mig_devices();
    let mut heads = vec!["GPU"];
    heads.extend(has_mig.then_some("PROFILE"));
    heads.extend(["DEVICES", "TAKEN", "GETS", "NUMA"]);
    let mut table = Table::new(&heads);
    for stand in &choice.stands {
        let style = if stand.gets > 0 { BUSY } else { PLAIN };
        let (gpu, device) = choice.node.of(stand.unit);
        let profile = device.map_or_else(|| "–".to_owned(), |device| device.profile.to_string());
        let mut row = vec![Line::of(BOLD, choice.node.index(stand.unit))];
        row.extend(has_mig.then(|| Line::from(profile)));
        row.extend([
            stand.devices.to_string().into(),
            stand.taken.to_string().into(),
            Line::of(style, stand.gets.to_string()),
            gpu.numa_node
                .map_or_else(String::new, |numa| numa.to_string())
                .into(),
        ]);
        table.row(row);
    }
    table.lines(2)
}
