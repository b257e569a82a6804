//! What a node offers, for people.

use std::collections::BTreeSet;

use mizzen_core::gpu::Gpu;
use mizzen_core::mig::MigDevice;

use crate::config::findings::Finding;
use crate::config::node::Node;
use crate::config::offer::{Offer, Resource, Unit, word};
use crate::terminal::{BAD, BOLD, DIM, GOOD, Line, PLAIN, Table, WARN};
use crate::words::{counted, times};

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
    let has_mig = offer.resources.iter().any(Resource::has_mig_devices);
    let mut heads = vec!["RESOURCE", "COUNT", "GPUS"];
    heads.extend(has_mig.then_some("PROFILE"));
    heads.extend(["SHARING", "POLICY", "PLACEMENT"]);
    let mut table = Table::new(&heads);
    for resource in &offer.resources {
        let (sharing, placement) = match resource.shared {
            None => ("–".to_owned(), "–"),
            Some(shared) => (sharing(resource), word(shared.placement)),
        };
        let mut row = vec![
            Line::of(BOLD, resource.name().to_string()),
            resource.count().to_string().into(),
            node.indices(resource.units.keys().copied()).into(),
        ];
        row.extend(has_mig.then(|| profiles(resource, node).into()));
        row.extend([
            sharing.into(),
            word(resource.policy()).into(),
            placement.into(),
        ]);
        table.row(row);
    }
    table.lines(2)
}

/// The profiles of the MIG devices behind a resource.
fn profiles(resource: &Resource, node: &Node) -> String {
    let devices = resource.units.keys().filter_map(|unit| node.of(*unit).1);
    let profiles: BTreeSet<String> = devices.map(|device| device.profile.to_string()).collect();
    if profiles.is_empty() {
        return "–".to_owned();
    }
    profiles.into_iter().collect::<Vec<_>>().join(", ")
}

/// `10 replicas each, by time-slicing`.
fn sharing(resource: &Resource) -> String {
    let counts = || {
        let shared = resource.units.values().filter(|backing| backing.is_shared);
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
            offered_as(position, gpu, offer),
            numa.into(),
            Line::of(DIM, gpu.uuid.to_string()),
            gpu.name.clone().into(),
        ]);
        for (at, device) in mig_devices(gpu).iter().enumerate() {
            let unit = Unit {
                gpu: position,
                mig: Some(at),
            };
            table.row(vec![
                Line::of(BOLD, node.index(unit)),
                resources_of(unit, offer).map_or_else(|| Line::of(DIM, "–"), Line::from),
                Line::default(),
                Line::of(DIM, device.uuid.to_string()),
                format!("MIG {}", device.profile).into(),
            ]);
        }
    }
    table.lines(2)
}

fn mig_devices(gpu: &Gpu) -> &[MigDevice] {
    gpu.mig.as_ref().map_or(&[], |mig| &mig.devices)
}

fn offered_as(position: usize, gpu: &Gpu, offer: &Offer) -> Line {
    if let Some(reason) = offer.left_out.get(&position) {
        return Line::of(WARN, format!("left out: {reason}"));
    }
    let unit = |mig| Unit { gpu: position, mig };
    let devices = mig_devices(gpu).len();
    let is_empty = devices == 0 && gpu.mig.as_ref().is_some_and(|mig| mig.mode.current);
    let offered = (0..devices).filter(|at| !offer.of_unit(unit(Some(*at))).is_empty());
    match (offered.count(), resources_of(unit(None), offer)) {
        (0, Some(resources)) => resources.into(),
        (0, None) if is_empty => Line::of(WARN, "nothing: MIG is on, without MIG devices"),
        (0, None) => Line::of(WARN, "nothing"),
        (offered, _) => Line::of(DIM, counted(offered, "MIG device")),
    }
}

/// `nvidia.com/gpu.shared ×10`; nothing where it is offered as nothing.
fn resources_of(unit: Unit, offer: &Offer) -> Option<String> {
    let resources = offer.of_unit(unit).into_iter();
    let parts: Vec<String> = resources.map(|(name, count)| times(&name, count)).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
