//! What runtimes refuse a spec for.

use std::collections::BTreeMap;
use std::fmt;

use super::name::{CdiKind, check_device};
use super::shape::HOOK_NAMES;
use super::spec::{CdiSpec, ContainerEdits, DeviceNode, Hook, IntelRdt};
use super::version::{CdiVersion, minimum_version};

/// What is wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `devices[0].containerEdits.mounts[2].hostPath`.
    pub place: String,
    /// What.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Everything that a runtime refuses the spec for, by the rules of the CDI specification and of
/// its reference library.
pub fn problems(spec: &CdiSpec) -> Vec<Problem> {
    let mut judge = Judge::default();
    judge.version(spec);
    if let Err(error) = spec.kind.parse::<CdiKind>() {
        judge.add("kind", error.to_string());
    }
    judge.annotations("annotations", &spec.annotations);
    if spec.devices.is_empty() {
        judge.add("devices", "there must be at least one device");
    }
    let mut names = BTreeMap::new();
    for (at, device) in spec.devices.iter().enumerate() {
        let place = format!("devices[{at}]");
        let name = format!("{place}.name");
        if let Err(error) = check_device(&device.name) {
            judge.add(&name, error.to_string());
        }
        if let Some(first) = names.insert(&device.name, at) {
            let message = format!("{:?} is also the name of devices[{first}]", device.name);
            judge.add(&name, message);
        }
        judge.annotations(&format!("{place}.annotations"), &device.annotations);
        let edits = format!("{place}.containerEdits");
        if device.container_edits.is_empty() {
            judge.add(&edits, "a device must change something in a container");
        }
        judge.edits(&edits, &device.container_edits);
    }
    judge.edits("containerEdits", &spec.container_edits);
    judge.problems
}

#[derive(Default)]
struct Judge {
    problems: Vec<Problem>,
}

impl Judge {
    fn add(&mut self, place: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            place: place.to_owned(),
            message: message.into(),
        });
    }

    fn version(&mut self, spec: &CdiSpec) {
        let least = minimum_version(spec);
        match spec.cdi_version.parse::<CdiVersion>() {
            Err(error) => self.add("cdiVersion", error.to_string()),
            Ok(version) if version < least => {
                let message = format!(
                    "{version} has not all that the spec uses; it must be at least {least}"
                );
                self.add("cdiVersion", message);
            }
            Ok(_) => {}
        }
    }

    fn annotations(&mut self, place: &str, annotations: &BTreeMap<String, String>) {
        for key in annotations.keys().filter(|key| !is_annotation_key(key)) {
            let message =
                format!("{key:?} is not the key of an annotation: expected [prefix/]name");
            self.add(place, message);
        }
        let size: usize = annotations
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if size > MOST_ANNOTATIONS {
            self.add(
                place,
                format!("{size} bytes are more than {MOST_ANNOTATIONS}"),
            );
        }
    }

    fn edits(&mut self, place: &str, edits: &ContainerEdits) {
        self.variables(&format!("{place}.env"), &edits.env);
        for (at, node) in edits.device_nodes.iter().enumerate() {
            self.node(&format!("{place}.deviceNodes[{at}]"), node);
        }
        for (at, hook) in edits.hooks.iter().enumerate() {
            self.hook(&format!("{place}.hooks[{at}]"), hook);
        }
        for (at, mount) in edits.mounts.iter().enumerate() {
            let place = format!("{place}.mounts[{at}]");
            self.not_empty(&format!("{place}.hostPath"), &mount.host_path);
            self.not_empty(&format!("{place}.containerPath"), &mount.container_path);
        }
        for (at, device) in edits.net_devices.iter().enumerate() {
            let place = format!("{place}.netDevices[{at}]");
            self.not_empty(
                &format!("{place}.hostInterfaceName"),
                &device.host_interface_name,
            );
            self.not_empty(&format!("{place}.name"), &device.name);
        }
        if let Some(rdt) = &edits.intel_rdt
            && !is_class_of_service(rdt)
        {
            let message = format!("{:?} is not the name of a class of service", rdt.clos_id);
            self.add(&format!("{place}.intelRdt.closID"), message);
        }
    }

    fn not_empty(&mut self, place: &str, text: &str) {
        if text.is_empty() {
            self.add(place, "it must not be empty");
        }
    }

    fn variables(&mut self, place: &str, variables: &[String]) {
        for (at, variable) in variables.iter().enumerate() {
            if variable.find('=').is_none_or(|at| at == 0) {
                let message = format!("{variable:?} is not a variable: expected NAME=value");
                self.add(&format!("{place}[{at}]"), message);
            }
        }
    }

    fn node(&mut self, place: &str, node: &DeviceNode) {
        self.not_empty(&format!("{place}.path"), &node.path);
        if !["", "b", "c", "u", "p"].contains(&node.node_type.as_str()) {
            let message = format!("{:?} is not the type of a node", node.node_type);
            self.add(&format!("{place}.type"), message);
        }
        let known = node
            .permissions
            .chars()
            .all(|letter| "rwm".contains(letter));
        if !known && node.permissions != "none" {
            let message = format!("{:?} has other letters than r, w and m", node.permissions);
            self.add(&format!("{place}.permissions"), message);
        }
    }

    fn hook(&mut self, place: &str, hook: &Hook) {
        if !HOOK_NAMES.contains(&hook.hook_name.as_str()) {
            let message = format!(
                "{:?} is not when a hook runs: expected one of {}",
                hook.hook_name,
                HOOK_NAMES.join(", ")
            );
            self.add(&format!("{place}.hookName"), message);
        }
        self.not_empty(&format!("{place}.path"), &hook.path);
        self.variables(&format!("{place}.env"), &hook.env);
    }
}

/// What Kubernetes, and with it CDI, lets all annotations have together, in bytes.
const MOST_ANNOTATIONS: usize = 256 << 10;

fn is_annotation_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix.to_ascii_lowercase()), name),
        None => (None, key),
    };
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && bytes.iter().copied().all(inner)
        && ends(bytes.first())
        && ends(bytes.last())
        && prefix.is_none_or(|prefix| crate::dns::is_dns_subdomain(&prefix))
}

/// A name of a file, or the slash of the root class.
fn is_class_of_service(rdt: &IntelRdt) -> bool {
    let name = rdt.clos_id.as_str();
    name == "/" || (name.len() < 4096 && !matches!(name, "." | "..") && !name.contains(['/', '\n']))
}

/// A path of the host that a spec counts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPath<'a> {
    /// Where in the spec, as in [`Problem::place`].
    pub place: String,
    /// The path.
    pub path: &'a str,
    /// Whether a device node is expected there.
    pub is_node: bool,
}

/// The paths of the host without which containers do not start, in the order of the spec.
pub fn host_paths(spec: &CdiSpec) -> Vec<HostPath<'_>> {
    let devices = spec.devices.iter().enumerate();
    let of_devices = devices.map(|(at, device)| {
        let place = format!("devices[{at}].containerEdits");
        (place, &device.container_edits)
    });
    let of_all = ("containerEdits".to_owned(), &spec.container_edits);
    of_devices
        .chain([of_all])
        .flat_map(|(place, edits)| paths_of(&place, edits))
        .collect()
}

fn paths_of<'a>(place: &str, edits: &'a ContainerEdits) -> Vec<HostPath<'a>> {
    let mut paths = Vec::new();
    for (at, node) in edits.device_nodes.iter().enumerate() {
        let (key, path) = match node.host_path.as_str() {
            "" => ("path", node.path.as_str()),
            path => ("hostPath", path),
        };
        paths.push(HostPath {
            place: format!("{place}.deviceNodes[{at}].{key}"),
            path,
            is_node: true,
        });
    }
    for (at, hook) in edits.hooks.iter().enumerate() {
        paths.push(HostPath {
            place: format!("{place}.hooks[{at}].path"),
            path: &hook.path,
            is_node: false,
        });
    }
    // Mounts of a type of their own, such as tmpfs, have no file of the host.
    for (at, mount) in edits.mounts.iter().enumerate() {
        if matches!(mount.mount_type.as_str(), "" | "bind" | "none") {
            paths.push(HostPath {
                place: format!("{place}.mounts[{at}].hostPath"),
                path: &mount.host_path,
                is_node: false,
            });
        }
    }
    paths
}
