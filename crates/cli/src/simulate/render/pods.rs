//! A pod, and what each of its containers was given.

use crate::simulate::picture::{Container, Gpu, Phase, Pod, devices_in_words};
use crate::terminal::{BAD, BOLD, BUSY, DIM, GOOD, Line, PLAIN, WARN};

use super::Detail;

/// How much of a UUID is enough to tell GPUs apart: `GPU-4d4d4d4d`.
const SHORT_UUID: usize = 12;

/// The width of a pod's and of a container's name, so that what follows is aligned.
const NAME_WIDTH: usize = 20;

/// The lines of one pod.
pub(super) fn pod_lines(pod: &Pod, gpus: &[Gpu], detail: Detail) -> Vec<Line> {
    let (mark, style) = look(pod);
    let first = Line::of(style, format!("  {mark} "))
        .and(BOLD, format!("{:NAME_WIDTH$}  ", full_name(pod)))
        .and(style, format!("{:?}", pod.phase))
        .and(PLAIN, explanation(pod));
    let containers = pod
        .containers
        .iter()
        .filter(|container| !container.devices.is_empty());
    let given = containers.flat_map(|container| container_lines(container, gpus, detail));
    std::iter::once(first).chain(given).collect()
}

fn full_name(pod: &Pod) -> String {
    match pod.namespace.as_str() {
        "" | "default" => pod.name.clone(),
        namespace => format!("{namespace}/{}", pod.name),
    }
}

fn look(pod: &Pod) -> (&'static str, anstyle::Style) {
    match pod.phase {
        Phase::Succeeded => ("✔", GOOD),
        Phase::Running => ("●", BUSY),
        Phase::Pending => ("◌", WARN),
        Phase::Failed | Phase::Refused => ("✖", BAD),
    }
}

fn explanation(pod: &Pod) -> String {
    match (pod.reason.as_str(), pod.message.as_str()) {
        ("", "") => String::new(),
        ("", message) => format!("  {message}"),
        (reason, "") => format!("  {reason}"),
        (reason, message) => format!("  {reason}: {message}"),
    }
}

/// The container with its GPUs, then everything the device plugin gave it.
fn container_lines(container: &Container, gpus: &[Gpu], detail: Detail) -> Vec<Line> {
    let kind = if container.init { " (init)" } else { "" };
    let name = format!("{}{kind}", container.name);
    let devices = container
        .devices
        .iter()
        .map(|(resource, ids)| devices_in_words(gpus, resource, ids));
    let head = Line::of(PLAIN, format!("      {name:NAME_WIDTH$}")).and(
        BUSY,
        format!("{:9}", devices.collect::<Vec<_>>().join(", ")),
    );
    let mut given = given(container).into_iter().map(|(what, value)| {
        let value = if detail == Detail::Full {
            value
        } else {
            shortened(&value, gpus)
        };
        Line::of(DIM, what).and(PLAIN, value)
    });
    let first = given.next().unwrap_or_default();
    let indent = " ".repeat(6 + NAME_WIDTH);
    let mut lines = vec![head.and(PLAIN, "  ").join(first)];
    lines.extend(given.map(|line| Line::from(indent.as_str()).join(line)));
    lines
}

/// What it was given, as (kind, value) in the form each is known by.
fn given(container: &Container) -> Vec<(String, String)> {
    let env = container
        .env
        .iter()
        .map(|(name, value)| (format!("{name}="), value.clone()));
    let nodes = container
        .device_nodes
        .iter()
        .map(|node| node.container_path.as_str());
    let nodes = nodes.collect::<Vec<_>>().join(" ");
    let mounts = container.mounts.iter().map(|mount| {
        let suffix = if mount.read_only { " (read-only)" } else { "" };
        let value = format!("{} → {}{suffix}", mount.host_path, mount.container_path);
        ("mount ".to_owned(), value)
    });
    let annotations = container
        .annotations
        .iter()
        .map(|(key, value)| (format!("{key}: "), value.clone()));
    let cdi = container
        .cdi_devices
        .iter()
        .map(|name| ("CDI ".to_owned(), name.clone()));
    let nodes = (!nodes.is_empty()).then(|| ("devices ".to_owned(), nodes));
    env.chain(nodes)
        .chain(mounts)
        .chain(annotations)
        .chain(cdi)
        .collect()
}

/// The text with every known UUID cut to its first characters.
fn shortened(text: &str, gpus: &[Gpu]) -> String {
    let uuids = gpus.iter().flat_map(|gpu| {
        let parts = gpu.mig_devices().iter().map(|device| &device.uuid);
        std::iter::once(&gpu.uuid).chain(parts)
    });
    uuids.fold(text.to_owned(), |text, uuid| {
        if !text.contains(uuid.as_str()) {
            return text;
        }
        let short: String = uuid.chars().take(SHORT_UUID).collect();
        text.replace(uuid.as_str(), &format!("{short}…"))
    })
}
