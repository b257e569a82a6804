//! What is different between two specs, in words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::driver::driver_version;
use super::spec::{CdiDevice, CdiSpec, ContainerEdits, DeviceNode, Hook};

/// Each part of what a container gets, and how it is.
type Words = BTreeMap<String, String>;

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

/// How two specs differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// That one is of another version of the driver, if it is.
    pub driver: Option<DriverChange>,
    /// What is different besides.
    pub differences: Vec<Difference>,
}

/// Another version of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverChange {
    /// The version that was there.
    pub from: String,
    /// The version that is there now.
    pub to: String,
    /// How many paths on the host are the same but for the version.
    pub renamed: usize,
}

impl fmt::Display for DriverChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, renamed } = self;
        let plural = if *renamed == 1 { "" } else { "s" };
        write!(f, "driver {from} → {to}: {renamed} path{plural} renamed")
    }
}

/// What has to change in `before` to make it `after`. What is the same but for the driver's version
/// counts as one change. The order of things says nothing, except that hooks run in theirs.
pub fn compare(before: &CdiSpec, after: &CdiSpec) -> Comparison {
    let versions = driver_version(before).zip(driver_version(after));
    let Some((from, to)) = versions.filter(|(from, to)| from != to) else {
        return Comparison {
            driver: None,
            differences: differences(before, after, &str::to_owned),
        };
    };
    let now = |text: &str| renamed(text, from, to);
    let (had, has) = (paths(before), paths(after));
    let is_renamed = |path: &&&str| {
        let new = now(path);
        new != **path && has.contains(new.as_str())
    };
    Comparison {
        driver: Some(DriverChange {
            from: from.to_owned(),
            to: to.to_owned(),
            renamed: had.iter().filter(is_renamed).count(),
        }),
        differences: differences(before, after, &now),
    }
}

/// The paths of all files that a spec mounts.
fn paths(spec: &CdiSpec) -> BTreeSet<&str> {
    let devices = spec.devices.iter().map(|device| &device.container_edits);
    let all = devices.chain([&spec.container_edits]);
    let mounts = all.flat_map(|edits| &edits.mounts);
    mounts.map(|mount| mount.host_path.as_str()).collect()
}

/// The text with version `to` wherever version `from` is, and not only a part of another number.
fn renamed(text: &str, from: &str, to: &str) -> String {
    let mut new = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let (head, tail) = rest.split_at(at);
        let after = &tail[from.len()..];
        let is_part = head.ends_with(|last: char| last.is_ascii_digit())
            || after.starts_with(|next: char| next.is_ascii_digit());
        new.push_str(head);
        new.push_str(if is_part { from } else { to });
        rest = after;
    }
    new + rest
}

/// The differences that are left when every text of `before` has become what `now` makes of it.
fn differences(
    before: &CdiSpec,
    after: &CdiSpec,
    now: &impl Fn(&str) -> String,
) -> Vec<Difference> {
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
    let updated = |words: Words| -> Words {
        let each = words.into_iter();
        each.map(|(what, detail)| (now(&what), now(&detail)))
            .collect()
    };
    let common = |spec: &CdiSpec| all_words(&spec.container_edits, &spec.annotations);
    found.extend(between(None, updated(common(before)), common(after)));
    found.extend(reordered(
        None,
        &before.container_edits,
        &after.container_edits,
    ));
    let (before, mut after) = (by_name(before), by_name(after));
    for (name, before) in before {
        let gone = || Difference {
            before: Some("the device".to_owned()),
            after: None,
            device: Some(name.to_owned()),
        };
        let Some(after) = after.remove(name) else {
            found.push(gone());
            continue;
        };
        let words = |device: &CdiDevice| all_words(&device.container_edits, &device.annotations);
        found.extend(between(Some(name), updated(words(before)), words(after)));
        found.extend(reordered(
            Some(name),
            &before.container_edits,
            &after.container_edits,
        ));
    }
    found.extend(after.into_keys().map(|name| Difference {
        device: Some(name.to_owned()),
        before: None,
        after: Some("the device".to_owned()),
    }));
    found
}

fn by_name(spec: &CdiSpec) -> BTreeMap<&str, &CdiDevice> {
    let devices = spec.devices.iter();
    devices
        .map(|device| (device.name.as_str(), device))
        .collect()
}

fn all_words(edits: &ContainerEdits, told: &BTreeMap<String, String>) -> Words {
    let mut all = in_words(edits);
    all.extend(annotations(told));
    all
}

fn between(device: Option<&str>, before: Words, mut after: Words) -> Vec<Difference> {
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
fn in_words(edits: &ContainerEdits) -> Words {
    let mut words = BTreeMap::new();
    for variable in &edits.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        words.insert(format!("variable {name}"), format!("={value}"));
    }
    for node in &edits.device_nodes {
        words.insert(format!("node {}", node.path), of_node(node));
    }
    for (name, hook) in hook_names(edits).into_iter().zip(&edits.hooks) {
        words.insert(format!("hook {name}: "), of_hook(hook));
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

/// What the hooks of a container are told apart by, in their order: what each is asked to do, and
/// how often that was asked before.
fn hook_names(edits: &ContainerEdits) -> Vec<String> {
    let mut times = BTreeMap::new();
    let name = |hook: &Hook| {
        let words = hook.args.iter().take_while(|word| !word.starts_with('-'));
        let asked = words.last().unwrap_or(&hook.path);
        let time = times.entry(asked.clone()).or_insert(0);
        *time += 1;
        match time {
            1 => asked.clone(),
            time => format!("{asked} ({time})"),
        }
    };
    edits.hooks.iter().map(name).collect()
}

/// That the hooks which both have run in another order.
fn reordered(
    device: Option<&str>,
    before: &ContainerEdits,
    after: &ContainerEdits,
) -> Option<Difference> {
    let (had, has) = (hook_names(before), hook_names(after));
    let common = |names: &[String], others: &[String]| {
        let both = names.iter().filter(|name| others.contains(name));
        let both: Vec<&str> = both.map(String::as_str).collect();
        format!("hooks in the order {}", both.join(", "))
    };
    let (before, after) = (common(&had, &has), common(&has, &had));
    (before != after).then(|| Difference {
        device: device.map(str::to_owned),
        before: Some(before),
        after: Some(after),
    })
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

#[cfg(test)]
mod tests {
    use super::super::spec::Mount;
    use super::*;

    fn spec(files: &[&str]) -> CdiSpec {
        let mount = |path: &&str| Mount {
            host_path: (*path).to_owned(),
            container_path: (*path).to_owned(),
            ..Mount::default()
        };
        CdiSpec {
            devices: vec![CdiDevice {
                name: "0".to_owned(),
                ..CdiDevice::default()
            }],
            container_edits: ContainerEdits {
                mounts: files.iter().map(mount).collect(),
                hooks: vec![Hook {
                    args: vec![format!("--link {}::/lib/libcuda.so", files[0])],
                    ..Hook::default()
                }],
                ..ContainerEdits::default()
            },
            ..CdiSpec::default()
        }
    }

    #[test]
    fn what_an_upgrade_renames_is_one_change() {
        let before = spec(&[
            "/lib/libcuda.so.580.95.05",
            "/lib/firmware/nvidia/580.95.05/gsp.bin",
            "/lib/libgone.so.580.95.05",
            "/etc/same",
        ]);
        let after = spec(&[
            "/lib/libcuda.so.581.0.0",
            "/lib/firmware/nvidia/581.0.0/gsp.bin",
            "/lib/libnew.so.581.0.0",
            "/etc/same",
        ]);
        let compared = compare(&before, &after);
        let driver = compared.driver.unwrap().to_string();
        assert_eq!(driver, "driver 580.95.05 → 581.0.0: 2 paths renamed");
        let told: Vec<String> = compared
            .differences
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("without mount /lib/libgone.so."),
            "{told:?}"
        );
        assert!(
            told[1].contains("with mount /lib/libnew.so.581.0.0"),
            "{told:?}"
        );
    }

    #[test]
    fn specs_of_one_driver_have_no_change_of_it() {
        let one = spec(&["/lib/libcuda.so.580.95.05", "/a"]);
        let other = spec(&["/lib/libcuda.so.580.95.05", "/b"]);
        let compared = compare(&one, &other);
        assert_eq!((compared.driver, compared.differences.len()), (None, 2));
        assert_eq!(compare(&one, &one).differences, []);
    }

    #[test]
    fn a_hook_more_is_one_difference_and_another_order_is_another() {
        let of = |names: &[&str]| {
            let hook = |name: &&str| Hook {
                path: "/bin/hook".to_owned(),
                args: vec!["hook".to_owned(), (*name).to_owned()],
                ..Hook::default()
            };
            CdiSpec {
                container_edits: ContainerEdits {
                    hooks: names.iter().map(hook).collect(),
                    ..ContainerEdits::default()
                },
                ..CdiSpec::default()
            }
        };
        let told = |before: &[&str], after: &[&str]| {
            let found = compare(&of(before), &of(after)).differences;
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let one = told(&["a", "c"], &["a", "b", "c"]);
        assert_eq!(one.len(), 1, "{one:?}");
        assert!(one[0].contains("with hook b: "), "{one:?}");
        let turned = told(&["a", "b", "b"], &["b", "a", "b"]);
        assert_eq!(
            turned,
            ["all devices: hooks in the order a, b, b (2) becomes hooks in the order b, a, b (2)"]
        );
    }

    #[test]
    fn a_version_is_no_part_of_another_number() {
        let now = |text: &str| renamed(text, "580.95", "581.0");
        assert_eq!(now("/a.580.95/b.so.580.95"), "/a.581.0/b.so.581.0");
        assert_eq!(now("1580.95 580.951"), "1580.95 580.951");
    }
}
