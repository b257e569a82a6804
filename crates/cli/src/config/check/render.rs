//! What a node offers, for people.

use crate::config::findings::Finding;
use crate::config::node::Node;
use crate::config::offer::{Offer, Resource, word};
use crate::terminal::{BAD, BOLD, DIM, GOOD, Line, PLAIN, Table, WARN};
use crate::words::{counted, ranges, times};

/// The verdict, the warnings, the node, its resources and its GPUs.
pub(super) fn lines(file: &str, warnings: &[Finding], node: &Node, offer: &Offer) -> Vec<Line> {
    let odd = match warnings.len() {
        0 => String::new(),
        number => format!(", with {}", counted(number, "warning")),
    };
    let mut lines = vec![Line::of(GOOD, "✔ ").and(BOLD, format!("{file} can be used{odd}"))];
    for warning in warnings {
        lines.push(Line::of(
            WARN,
            format!("  {}", warning.in_file(file, "warning: ")),
        ));
    }
    lines.push(Line::default());
    lines.extend(heading(node));
    lines.push(Line::default());
    lines.push(Line::of(BOLD, "RESOURCES"));
    lines.extend(resources(node, offer));
    for remark in &offer.remarks {
        lines.push(Line::of(WARN, format!("  note: {remark}")));
    }
    lines.push(Line::default());
    lines.push(Line::of(BOLD, "GPUS"));
    lines.extend(gpus(node, offer));
    for broken in &node.inventory.broken {
        let message = format!(
            "  GPU {} cannot be described: {}",
            broken.index, broken.error
        );
        lines.push(Line::of(BAD, message));
    }
    lines
}

/// Which node it is, and its GPUs.
pub(in crate::config) fn heading(node: &Node) -> Vec<Line> {
    let names = crate::words::models(node.gpus().iter().map(|gpu| gpu.name.as_str()));
    let driver = &node.inventory.driver;
    let (major, minor) = driver.cuda;
    vec![
        Line::of(BOLD, node.name.clone()),
        Line::of(
            PLAIN,
            format!("  {names} · driver {}, CUDA {major}.{minor}", driver.driver),
        ),
    ]
}

fn resources(node: &Node, offer: &Offer) -> Vec<Line> {
    if offer.resources.is_empty() {
        return vec![Line::of(WARN, "  none")];
    }
    let mut table = Table::new(&[
        "RESOURCE",
        "COUNT",
        "GPUS",
        "SHARING",
        "POLICY",
        "PLACEMENT",
    ]);
    for resource in &offer.resources {
        let indices = resource.gpus.keys().map(|&at| node.gpus()[at].index);
        let (sharing, placement) = match resource.shared {
            None => ("–".to_owned(), "–"),
            Some(shared) => (sharing(resource), word(shared.placement)),
        };
        table.row(vec![
            Line::of(BOLD, resource.name().to_string()),
            resource.count().to_string().into(),
            ranges(indices).into(),
            sharing.into(),
            word(resource.policy()).into(),
            placement.into(),
        ]);
    }
    table.lines(2)
}

/// `10 replicas each, by time-slicing`.
fn sharing(resource: &Resource) -> String {
    let counts = || {
        let shared = resource.gpus.values().filter(|backing| backing.is_shared);
        shared.map(|backing| backing.ids.len())
    };
    let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    let replicas = if least == most {
        format!("{} each", counted(most, "replica"))
    } else {
        format!("{least} to {most} replicas")
    };
    let one = match resource.shared {
        Some(shared) if shared.one_per_container => ", one per container",
        _ => "",
    };
    format!("{replicas} by time-slicing{one}")
}

fn gpus(node: &Node, offer: &Offer) -> Vec<Line> {
    let mut table = Table::new(&["GPU", "OFFERED AS", "NUMA", "UUID", "NAME"]);
    for (position, gpu) in node.gpus().iter().enumerate() {
        let numa = gpu
            .numa_node
            .map_or_else(String::new, |numa| numa.to_string());
        table.row(vec![
            Line::of(BOLD, gpu.index.to_string()),
            offered_as(position, offer),
            numa.into(),
            Line::of(DIM, gpu.uuid.to_string()),
            gpu.name.clone().into(),
        ]);
    }
    table.lines(2)
}

fn offered_as(position: usize, offer: &Offer) -> Line {
    if let Some(reason) = offer.left_out.get(&position) {
        return Line::of(WARN, format!("left out: {reason}"));
    }
    let resources = offer.resources.iter();
    let parts = resources.filter_map(|resource| {
        let backing = resource.gpus.get(&position)?;
        Some(times(resource.name().as_str(), backing.ids.len()))
    });
    parts.collect::<Vec<_>>().join(", ").into()
}
