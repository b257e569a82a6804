//! What is different between two specs, in words.

use std::collections::BTreeMap;
use std::fmt;

use super::spec::{CdiSpec, ContainerEdits, DeviceNode, Hook};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The device that it is about; `None` for what all of them have in common.
    pub device: Option<String>,
    /// What was there; `None` where there was nothing.
    pub before: Option<String>,
    /// What is there now; `None` where there is nothing any more.
    pub after: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self
            .device
            .as_ref()
            .map_or_else(|| "all devices".to_owned(), |name| format!("device {name}"));
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "{device}: {before} becomes {after}"),
            (Some(before), None) => write!(f, "{device}: without {before}"),
            (None, Some(after)) => write!(f, "{device}: with {after}"),
            (None, None) => write!(f, "{device}: nothing"),
        }
    }
}

/// What has to change in `before` to make it `after`. The order of things says nothing, except
/// that hooks run in theirs.
pub fn differences(before: &CdiSpec, after: &CdiSpec) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut changed = |what: &str, before: &str, after: &str| {
        if before != after {
            found.push(Difference {
                device: None,
                before: Some(format!("{what} {before}")),
                after: Some(format!("{what} {after}")),
            });
        }
    };
    changed("version", &before.cdi_version, &after.cdi_version);
    changed("kind", &before.kind, &after.kind);
    let all = |spec: &CdiSpec| {
        let mut all = in_words(&spec.container_edits);
        all.extend(annotations(&spec.annotations));
        all
    };
    found.extend(between(None, all(before), all(after)));
    let devices = |spec: &CdiSpec| -> BTreeMap<String, BTreeMap<String, String>> {
        let devices = spec.devices.iter().map(|device| {
            let mut parts = in_words(&device.container_edits);
            parts.extend(annotations(&device.annotations));
            (device.name.clone(), parts)
        });
        devices.collect()
    };
    let (before, mut after) = (devices(before), devices(after));
    for (name, before) in before {
        match after.remove(&name) {
            Some(after) => found.extend(between(Some(&name), before, after)),
            None => found.push(Difference {
                before: Some("the device".to_owned()),
                after: None,
                device: Some(name),
            }),
        }
    }
    found.extend(after.into_keys().map(|name| Difference {
        device: Some(name),
        before: None,
        after: Some("the device".to_owned()),
    }));
    found
}

fn between(
    device: Option<&str>,
    before: BTreeMap<String, String>,
    mut after: BTreeMap<String, String>,
) -> Vec<Difference> {
    let mut found = Vec::new();
    for (what, detail) in before {
        let now = after.remove(&what);
        if now.as_ref() == Some(&detail) {
            continue;
        }
        found.push(Difference {
            device: device.map(str::to_owned),
            before: Some(format!("{what}{detail}")),
            after: now.map(|now| format!("{what}{now}")),
        });
    }
    found.extend(after.into_iter().map(|(what, detail)| Difference {
        device: device.map(str::to_owned),
        before: None,
        after: Some(format!("{what}{detail}")),
    }));
    found
}

fn annotations(annotations: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let each = annotations.iter();
    each.map(|(key, value)| (format!("annotation {key}"), format!("={value}")))
        .collect()
}

/// What each part of the edits is, and how it is.
fn in_words(edits: &ContainerEdits) -> BTreeMap<String, String> {
    let mut words = BTreeMap::new();
    for variable in &edits.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        words.insert(format!("variable {name}"), format!("={value}"));
    }
    for node in &edits.device_nodes {
        words.insert(format!("node {}", node.path), of_node(node));
    }
    for (at, hook) in edits.hooks.iter().enumerate() {
        words.insert(format!("hook {} ", at + 1), of_hook(hook));
    }
    for mount in &edits.mounts {
        let from = if mount.host_path == mount.container_path {
            String::new()
        } else {
            format!(" from {}", mount.host_path)
        };
        let options = mount.options.join(",");
        words.insert(
            format!("mount {}", mount.container_path),
            format!("{from} ({options}{})", mount.mount_type),
        );
    }
    for device in &edits.net_devices {
        let from = format!(" from {}", device.host_interface_name);
        words.insert(format!("interface {}", device.name), from);
    }
    if let Some(rdt) = &edits.intel_rdt {
        words.insert("Intel RDT".to_owned(), format!(" {rdt:?}"));
    }
    for gid in &edits.additional_gids {
        words.insert(format!("group {gid}"), String::new());
    }
    words
}

fn of_node(node: &DeviceNode) -> String {
    let told = |text: &str, before: &str| (!text.is_empty()).then(|| format!("{before}{text}"));
    let numbers = (node.major, node.minor);
    let parts = [
        told(&node.host_path, "from "),
        (numbers != (0, 0)).then(|| format!("{}:{}", numbers.0, numbers.1)),
        node.file_mode.map(|mode| format!("mode {mode:04o}")),
        node.uid.map(|id| format!("owner {id}")),
        node.gid.map(|id| format!("group {id}")),
        told(&node.node_type, ""),
        told(&node.permissions, ""),
    ];
    let mut words = vec![String::new()];
    words.extend(parts.into_iter().flatten());
    words.join(" ")
}

fn of_hook(hook: &Hook) -> String {
    let timeout = hook
        .timeout
        .map_or_else(String::new, |limit| format!(" within {limit} s"));
    format!(
        "{} {} {}{} {}",
        hook.hook_name,
        hook.path,
        hook.args.join(" "),
        timeout,
        hook.env.join(" ")
    )
}
