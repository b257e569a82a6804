//! A file of named ways to cut the GPUs of a node, in the format of NVIDIA's mig-parted, version
//! v1, read strictly.

use super::targets::Choice;
use crate::config::error::{ConfigError, Location, did_you_mean};
use crate::config::kind::{parse_boolean, parse_integer};
use crate::config::shape::{Findings, Form, Key, Shape, check};
use crate::config::tree::{self, Entry, Node, Value, same_key};
use crate::config::validate::few;
use crate::mig::profile::MigProfile;
use crate::mig::target::MigTarget;

/// A file of named ways to cut GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MigConfigFile {
    pub(super) configs: Vec<(String, Vec<Choice>)>,
}

impl MigConfigFile {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the text.
    pub fn parse(text: &str) -> Result<Self, Vec<ConfigError>> {
        let mut document = tree::read(text);
        let mut reader = Reader::default();
        if let Some(location) = document.second {
            reader.error(location, "there may be only one document".to_owned());
        }
        let mut errors = document.errors;
        // What cannot be read is not empty.
        let is_unread = document.root.value == Value::Null && !errors.is_empty();
        let file = if is_unread {
            MigConfigFile::default()
        } else {
            reader.file(&mut document.root)
        };
        errors.append(&mut reader.finish());
        errors.sort_by_key(|error| error.location().map(|place| (place.line, place.column)));
        if errors.is_empty() {
            Ok(file)
        } else {
            Err(few(errors))
        }
    }

    /// The names, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.configs.iter().map(|(name, _)| name.as_str())
    }

    pub(super) fn find(&self, name: &str) -> Option<&[Choice]> {
        let mut configs = self.configs.iter();
        let found = configs.find(|(known, _)| known == name);
        found.map(|(_, choices)| choices.as_slice())
    }
}

const CONFIGS: &str = "mig-configs";
const DEVICES: &str = "mig-devices";

fn key(name: &'static str, help: &'static str, shape: Shape, required: bool) -> Key {
    Key {
        name,
        help,
        shape,
        required,
        own: false,
    }
}

/// The file but for what is in `mig-configs`, whose keys are names.
fn of_file() -> Shape {
    Shape::Map(vec![
        key(
            "version",
            "the format's version, v1",
            Shape::Word(&["v1"]),
            true,
        ),
        key(
            CONFIGS,
            "the ways to cut GPUs, by name",
            Shape::Map(Vec::new()),
            true,
        ),
    ])
}

const DEVICE_ID: Form = Form {
    expected: "a PCI device id and vendor id such as 0x233010DE",
    pattern: Some("^0[xX][0-9A-Fa-f]{8}$"),
    check: |text| {
        let valid = device_id(text).is_some();
        valid.then_some(()).ok_or_else(String::new)
    },
};

fn device_id(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x").or(text.strip_prefix("0X"))?;
    let valid = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| valid)
}

/// One choice of GPUs but for what is in `mig-devices`, whose keys are profiles.
fn of_choice() -> Shape {
    let index = Shape::Integer {
        least: 0,
        most: u32::MAX,
    };
    Shape::Map(vec![
        key(
            "device-filter",
            "the models that are meant; all where it is missing",
            Shape::OneOf(vec![
                Shape::Form(DEVICE_ID),
                Shape::List(Box::new(Shape::Form(DEVICE_ID))),
            ]),
            false,
        ),
        key(
            "devices",
            "the GPUs that are meant, all or a list of indices",
            Shape::OneOf(vec![Shape::Word(&["all"]), Shape::List(Box::new(index))]),
            true,
        ),
        key("mig-enabled", "whether MIG is on", Shape::Boolean, true),
        key(
            DEVICES,
            "how many MIG devices of each profile",
            Shape::Map(Vec::new()),
            false,
        ),
    ])
}

#[derive(Default)]
struct Reader {
    findings: Findings,
}

impl Reader {
    fn error(&mut self, location: Location, message: String) {
        self.findings.errors.push(ConfigError::File {
            location: Some(location),
            message,
        });
    }

    /// All that was found; keys in other letters are mistakes here, as they are to mig-parted.
    fn finish(mut self) -> Vec<ConfigError> {
        for (key, location) in std::mem::take(&mut self.findings.miscased) {
            let name = key.rsplit('.').next().unwrap_or_default();
            let hint = did_you_mean(Some(name));
            self.error(location, format!("{key} is written in other letters{hint}"));
        }
        self.findings.errors
    }

    fn file(&mut self, root: &mut Node) -> MigConfigFile {
        if root.value == Value::Null {
            let message = format!("the file is empty; expected {}", of_file().expected());
            self.error(root.location, message);
            return MigConfigFile::default();
        }
        let configs = take_entries(root, CONFIGS);
        check(root, &of_file(), "", &mut self.findings);
        let Some((location, configs)) = configs else {
            return MigConfigFile::default();
        };
        if configs.is_empty() {
            self.error(location, format!("{CONFIGS}: expected at least one name"));
        }
        let configs = configs.into_iter().map(|mut config| {
            let choices = self.config(&mut config);
            (config.key, choices)
        });
        MigConfigFile {
            configs: configs.collect(),
        }
    }

    fn config(&mut self, config: &mut Entry) -> Vec<Choice> {
        let path = format!("{CONFIGS}.{}", config.key);
        let node = &mut config.node;
        if node.value == Value::Null || node.value == Value::List(Vec::new()) {
            self.error(node.location, format!("{path}: expected at least one item"));
            return Vec::new();
        }
        let devices: Vec<_> = match &mut node.value {
            Value::List(items) => items
                .iter_mut()
                .filter(|item| matches!(item.value, Value::Map(_)))
                .map(|item| take_entries(item, DEVICES))
                .collect(),
            _ => Vec::new(),
        };
        let shape = Shape::List(Box::new(of_choice()));
        check(node, &shape, &path, &mut self.findings);
        let items = node.items().iter().zip(devices).enumerate();
        items
            .filter_map(|(at, (item, devices))| {
                let devices = devices.map(|(_, devices)| devices);
                self.choice(&format!("{path}[{at}]"), item, devices)
            })
            .collect()
    }

    /// One choice of GPUs and what is wanted of them; `None` if anything of it is wrong.
    fn choice(&mut self, path: &str, item: &Node, devices: Option<Vec<Entry>>) -> Option<Choice> {
        let enabled = item.get("mig-enabled").and_then(Node::text);
        let enabled = enabled.and_then(parse_boolean);
        if enabled == Some(true) && devices.is_none() && item.get(DEVICES).is_none() {
            let message = format!(
                "{path}.{DEVICES} must be given where MIG is on: how many MIG devices of each \
                 profile, or {{}} for none"
            );
            self.error(item.location, message);
        }
        let mut counts = Vec::new();
        for entry in devices.unwrap_or_default() {
            let location = entry.location;
            let Some((profile, count)) = self.device(path, entry) else {
                continue;
            };
            if enabled == Some(false) && count > 0 {
                let message = format!(
                    "{path}.{DEVICES}.{profile}: there are no MIG devices where mig-enabled is \
                     false"
                );
                self.error(location, message);
            }
            counts.push((profile, count));
        }
        let filter = item.get("device-filter");
        if let Some(filter) = filter.filter(|node| node.value == Value::List(Vec::new())) {
            let message = format!(
                "{path}.device-filter: an empty list matches no GPU; leave it out to match all"
            );
            self.error(filter.location, message);
        }
        Some(Choice {
            filter: filter.map(|node| numbers(node, device_id)),
            devices: match item.get("devices")? {
                node if node.text() == Some("all") => None,
                node => Some(numbers(node, parse_integer)),
            },
            target: if enabled? {
                MigTarget::of(counts)
            } else {
                MigTarget::off()
            },
        })
    }

    fn device(&mut self, path: &str, mut entry: Entry) -> Option<(MigProfile, u32)> {
        let path = format!("{path}.{DEVICES}");
        let profile = match entry.key.parse::<MigProfile>() {
            Ok(profile) => Some(profile),
            Err(error) => {
                let meant = MigProfile::from_dotted(&entry.key.to_ascii_lowercase());
                let meant = meant.map(|profile| profile.to_string());
                let hint = did_you_mean(meant.as_deref());
                self.error(entry.location, format!("{path}: {error}{hint}"));
                None
            }
        };
        let path = format!("{path}.{}", entry.key);
        let number = Shape::Integer {
            least: 0,
            most: u32::MAX,
        };
        if entry.node.value == Value::Null {
            let message = format!("{path}: expected {}, not nothing", number.expected());
            self.error(entry.location, message);
        }
        check(&mut entry.node, &number, &path, &mut self.findings);
        let count = entry.node.text().and_then(parse_integer)?;
        Some((profile?, count))
    }
}

/// Takes what is in the mapping behind a key, so that the key itself can be checked like others.
fn take_entries(node: &mut Node, key: &str) -> Option<(Location, Vec<Entry>)> {
    let Value::Map(entries) = &mut node.value else {
        return None;
    };
    let mut entries = entries.iter_mut();
    let found = entries.find(|entry| same_key(&entry.key, key))?;
    let location = found.node.location;
    match &mut found.node.value {
        Value::Map(inside) => Some((location, std::mem::take(inside))),
        _ => None,
    }
}

/// The numbers of a single value or a list.
fn numbers(node: &Node, parse: fn(&str) -> Option<u32>) -> Vec<u32> {
    let single = std::slice::from_ref(node);
    let nodes = match &node.value {
        Value::List(items) => items,
        _ => single,
    };
    let texts = nodes.iter().filter_map(Node::text);
    texts.filter_map(parse).collect()
}
