//! `mizzen mig export`: how the GPUs are cut now, as a config of nvidia-mig-parted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::anyhow;
use mizzen_core::mig::MigTarget;
use serde::Serialize;

use super::args::{ExportArgs, FileForm};
use super::node::{Card, Node, in_words};
use super::{FAILED, Stop, print, print_json};

/// The file, in the format that nvidia-mig-parted reads.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    version: &'static str,
    mig_configs: BTreeMap<String, Vec<Item>>,
}

/// Some GPUs and how they are cut.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Item {
    #[serde(skip_serializing_if = "Option::is_none")]
    device_filter: Option<String>,
    devices: Devices,
    mig_enabled: bool,
    mig_devices: BTreeMap<String, u32>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Devices {
    All(&'static str),
    These(Vec<u32>),
}

/// Carries the command out.
pub(super) fn run(node: &Node, args: &ExportArgs) -> Result<u8, Stop> {
    let cards = node.chosen(args.which.gpu.as_ref())?;
    let broken = match args.which.gpu {
        Some(_) => &[],
        None => &node.broken[..],
    };
    let mut is_complete = broken.is_empty();
    for broken in broken {
        eprintln!("mizzen mig: left out: {}", in_words(broken));
    }
    let mut cut = Vec::new();
    for card in cards {
        match present(card) {
            Ok(target) => cut.push((card, target)),
            Err(reason) => {
                is_complete = false;
                eprintln!("mizzen mig: left out: {}: {reason}", card.name());
            }
        }
    }
    if cut.is_empty() {
        return Err(Stop::failed(anyhow!("there is no GPU to export")));
    }
    let file = File {
        version: "v1",
        mig_configs: BTreeMap::from([(args.name.clone(), items(node, &cut))]),
    };
    match args.output {
        FileForm::Yaml => print(&yaml(&file))?,
        FileForm::Json => print_json(&file)?,
    }
    Ok(if is_complete { 0 } else { FAILED })
}

/// How a GPU is cut, as a target.
fn present(card: &Card) -> Result<MigTarget, String> {
    let (_, layout) = card.mig.as_ref().map_err(ToString::to_string)?;
    if layout.mode.current != layout.mode.pending {
        eprintln!(
            "mizzen mig: {}: its mode changes with its next reset, which a config cannot say",
            card.name()
        );
    }
    if !layout.mode.current {
        return Ok(MigTarget::off());
    }
    let empty = layout
        .instances
        .iter()
        .filter(|instance| instance.compute.is_empty());
    for instance in empty {
        eprintln!(
            "mizzen mig: {}: GPU instance {} ({}) is empty, which a config cannot say",
            card.name(),
            instance.id,
            instance.profile
        );
    }
    let devices = layout.instances.iter().flat_map(|instance| {
        let inside = instance.compute.iter();
        inside.map(|inside| (instance.profile.with_compute_slices(inside.slices), 1))
    });
    Ok(MigTarget::of(devices))
}

/// GPUs that are cut alike together: by model where all of a model are, else by index; only by
/// index where a GPU does not tell what it is, for it may be of any model.
fn items(node: &Node, cut: &[(&Card, MigTarget)]) -> Vec<Item> {
    let mut targets: Vec<&MigTarget> = Vec::new();
    for (_, target) in cut {
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    let is_complete = |indices: &[u32], model: Option<u32>| {
        let of_model = node
            .cards
            .iter()
            .filter(|card| model.is_none_or(|model| card.gpu.device_id == model));
        let all = of_model.map(|card| card.gpu.index);
        node.broken.is_empty() && all.eq(indices.iter().copied())
    };
    let mut items = Vec::new();
    for target in targets {
        let same = || cut.iter().filter(|(_, other)| other == target);
        let indices: Vec<u32> = same().map(|(card, _)| card.gpu.index).collect();
        if is_complete(&indices, None) {
            items.push(item(None, Devices::All("all"), target));
            continue;
        }
        let models: BTreeSet<u32> = same().map(|(card, _)| card.gpu.device_id).collect();
        let mut left = Vec::new();
        for model in models {
            let of_model = same().filter(|(card, _)| card.gpu.device_id == model);
            let indices: Vec<u32> = of_model.map(|(card, _)| card.gpu.index).collect();
            if model != 0 && is_complete(&indices, Some(model)) {
                let filter = format!("0x{model:08X}");
                items.push(item(Some(filter), Devices::All("all"), target));
            } else {
                left.extend(indices);
            }
        }
        left.sort_unstable();
        if !left.is_empty() {
            items.push(item(None, Devices::These(left), target));
        }
    }
    items
}

fn item(device_filter: Option<String>, devices: Devices, target: &MigTarget) -> Item {
    let counts = target.devices.iter();
    Item {
        device_filter,
        devices,
        mig_enabled: target.enabled,
        mig_devices: counts
            .map(|(profile, count)| (profile.to_string(), *count))
            .collect(),
    }
}

/// The file as people write it. No name in it needs quotes but those of models, which would be
/// numbers.
fn yaml(file: &File) -> String {
    let mut text = format!("version: {}\nmig-configs:\n", file.version);
    for (name, items) in &file.mig_configs {
        let none = if items.is_empty() { " []" } else { "" };
        let _infallible = writeln!(text, "  {name}:{none}");
        for item in items {
            let mut keys = Vec::new();
            keys.extend(
                item.device_filter
                    .iter()
                    .map(|id| format!("device-filter: \"{id}\"")),
            );
            keys.push(match &item.devices {
                Devices::All(word) => format!("devices: {word}"),
                Devices::These(indices) => {
                    let indices: Vec<String> = indices.iter().map(u32::to_string).collect();
                    format!("devices: [{}]", indices.join(", "))
                }
            });
            keys.push(format!("mig-enabled: {}", item.mig_enabled));
            if item.mig_devices.is_empty() {
                keys.push("mig-devices: {}".to_owned());
            } else {
                keys.push("mig-devices:".to_owned());
                let counts = item.mig_devices.iter();
                keys.extend(counts.map(|(profile, count)| format!("  {profile}: {count}")));
            }
            for (at, key) in keys.iter().enumerate() {
                let lead = if at == 0 { "-" } else { " " };
                let _infallible = writeln!(text, "  {lead} {key}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_written_as_people_write_it() {
        let target: MigTarget = "1g.10gb*2,1g.10gb+me".parse().unwrap();
        let items = vec![
            item(Some("0x233010DE".to_owned()), Devices::All("all"), &target),
            item(None, Devices::These(vec![1, 3]), &MigTarget::off()),
        ];
        let file = File {
            version: "v1",
            mig_configs: BTreeMap::from([("now".to_owned(), items)]),
        };
        let expected = "\
version: v1
mig-configs:
  now:
  - device-filter: \"0x233010DE\"
    devices: all
    mig-enabled: true
    mig-devices:
      1g.10gb: 2
      1g.10gb+me: 1
  - devices: [1, 3]
    mig-enabled: false
    mig-devices: {}
";
        assert_eq!(yaml(&file), expected);
        mizzen_core::mig::MigConfigFile::parse(expected).unwrap();
    }
}
