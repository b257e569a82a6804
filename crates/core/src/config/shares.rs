//! Reads `sharing` of the config file, which has passed
//! [`shape::check`](super::shape::check).

use super::error::{ConfigError, ConfigWarning, Location};
use super::file::warning;
use super::kind::{parse_boolean, parse_integer};
use super::sections::{choice, number, parsed};
use super::sharing::{ReplicaPlacement, SharedDevices, SharedResource, SharingConfig};
use super::tree::Node;
use crate::resource::ResourceName;

/// Reads, and collects what is wrong or odd.
pub(super) struct Shares<'a> {
    pub(super) errors: &'a mut Vec<ConfigError>,
    pub(super) warnings: &'a mut Vec<ConfigWarning>,
}

/// What an entry takes from the level above.
#[derive(Clone, Copy)]
struct Defaults {
    rename: bool,
    fail_requests_greater_than_one: bool,
}

fn switch(node: &Node, key: &str) -> Option<bool> {
    parse_boolean(node.get(key)?.text()?)
}

impl Shares<'_> {
    /// What is shared, and where `mps` stands.
    pub(super) fn read(&mut self, node: Option<&Node>) -> (SharingConfig, Option<Location>) {
        let part = |name: &str| node.and_then(|sharing| sharing.get(name));
        let (time_slicing, mps) = (part("timeSlicing"), part("mps"));
        let sharing = SharingConfig {
            time_slicing: time_slicing
                .map(|node| self.entries("sharing.timeSlicing", node, false))
                .unwrap_or_default(),
            mps: mps.map(|node| self.entries("sharing.mps", node, true)),
        };
        (sharing, mps.map(|node| node.location))
    }

    fn entries(&mut self, path: &str, node: &Node, fail_by_default: bool) -> Vec<SharedResource> {
        let defaults = Defaults {
            rename: switch(node, "renameByDefault").unwrap_or(false),
            fail_requests_greater_than_one: switch(node, "failRequestsGreaterThanOne")
                .unwrap_or(fail_by_default),
        };
        let mut entries: Vec<SharedResource> = Vec::new();
        let items = node.get("resources").map(Node::items).unwrap_or_default();
        for (at, item) in items.iter().enumerate() {
            let path = format!("{path}.resources[{at}]");
            let Some(entry) = self.entry(&path, item, defaults) else {
                continue;
            };
            let hidden = |other: &SharedResource| {
                other.name == entry.name && other.devices == SharedDevices::All
            };
            if entries.iter().any(hidden) {
                let message = format!(
                    "it never counts: an entry before it shares all devices of {}",
                    entry.name
                );
                self.warn(&path, item.location, &message);
            }
            self.judge(&path, item, &entry, defaults);
            entries.push(entry);
        }
        entries
    }

    fn entry(&mut self, path: &str, item: &Node, defaults: Defaults) -> Option<SharedResource> {
        let name: ResourceName = parsed(item, "name")?;
        let replicas = number(item, "replicas")?;
        let shared_name = match parsed(item, "rename") {
            Some(rename) => Ok(rename),
            None if defaults.rename => name.shared(),
            None => Ok(name.clone()),
        };
        let shared_name = shared_name.map_err(|error| {
            self.errors.push(ConfigError::File {
                location: Some(item.location),
                message: format!("{path}: {error}; give it another name with rename"),
            });
        });
        Some(SharedResource {
            shared_name: shared_name.ok()?,
            name,
            devices: devices(item.get("devices")),
            replicas,
            fail_requests_greater_than_one: switch(item, "failRequestsGreaterThanOne")
                .unwrap_or(defaults.fail_requests_greater_than_one),
            placement: choice(item, "replicaPlacement").unwrap_or_default(),
            policy: choice(item, "allocationPolicy"),
        })
    }

    /// Warns of what does nothing, and of what does something here that it does not in the
    /// reference.
    fn judge(&mut self, path: &str, item: &Node, entry: &SharedResource, defaults: Defaults) {
        if entry.placement != ReplicaPlacement::Any && entry.fail_requests_greater_than_one {
            let message = "replicaPlacement does nothing here: failRequestsGreaterThanOne lets a \
                           container have one replica";
            self.warn(path, item.location, message);
        }
        if entry.devices == SharedDevices::These(Vec::new()) {
            let message = "devices is an empty list, so nothing is shared; leave it out to share \
                           all, as the reference does";
            return self.warn(path, item.location, message);
        }
        let theirs = if defaults.rename {
            entry.name.shared().ok()
        } else {
            Some(entry.name.clone())
        };
        let renamed = theirs.is_some_and(|name| name != entry.shared_name);
        let passed_over = match (renamed, entry.devices != SharedDevices::All) {
            (true, true) => "rename and devices hold; the reference passes them over",
            (true, false) => "rename holds; the reference passes it over",
            (false, true) => "devices holds; the reference passes it over and shares all",
            (false, false) => return,
        };
        self.warn(path, item.location, passed_over);
    }

    fn warn(&mut self, path: &str, location: Location, message: &str) {
        self.warnings.push(warning(path, location, message));
    }
}

fn devices(node: Option<&Node>) -> SharedDevices {
    let Some(node) = node else {
        return SharedDevices::All;
    };
    if let Some(text) = node.text() {
        return parse_integer(text).map_or(SharedDevices::All, SharedDevices::Count);
    }
    let texts = node.items().iter().filter_map(Node::text);
    SharedDevices::These(texts.filter_map(|text| text.parse().ok()).collect())
}
