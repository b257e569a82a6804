//! The shape of the config file: one description that the file is checked by, that its JSON
//! Schema is made of, and that names the keys in messages.

use std::fmt;

use super::document;
use super::error::{ConfigError, Location, did_you_mean, nearest};
use super::kind::{Kind, parse_integer};
use super::setting::{Setting, SettingInfo};
use super::tree::{Entry, Node, Value, same_key};
use super::validate::MOST_ERRORS;

/// What a value in the file may be.
#[derive(Clone)]
pub enum Shape {
    /// What one of the [`SETTINGS`](super::SETTINGS) takes.
    Setting(Setting),
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer {
        /// The lowest.
        least: u32,
        /// The highest.
        most: u32,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text of a form of its own.
    Form(Form),
    /// One of these, of which no two are the same kind of value, or only single values.
    OneOf(Vec<Shape>),
    /// Any number of these.
    List(Box<Shape>),
    /// These keys and no others.
    Map(Vec<Key>),
}

/// A form that a text must have.
#[derive(Clone, Copy)]
pub struct Form {
    /// What is expected, in words.
    pub expected: &'static str,
    /// The same as a regular expression, where it has one (JSON Schema's `pattern`).
    pub pattern: Option<&'static str>,
    /// Says why a text has not the form.
    pub check: fn(&str) -> Result<(), String>,
}

/// A key of the config file.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub help: &'static str,
    /// What its value may be.
    pub shape: Shape,
    /// Whether it must be there.
    pub required: bool,
    /// Whether only Mizzen knows it: the reference passes such a key over.
    pub own: bool,
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expected())
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }
}

impl Shape {
    /// The shape of the whole file, version v1.
    pub fn of_file() -> Self {
        document::shape()
    }

    /// What is expected, in words.
    pub fn expected(&self) -> String {
        match self {
            Self::Setting(setting) => setting.info().kind.expected(),
            Self::Boolean => Kind::Boolean.expected(),
            Self::Integer {
                least,
                most: u32::MAX,
            } => format!("a whole number of at least {least}"),
            Self::Integer { least, most } => format!("a whole number from {least} to {most}"),
            Self::Word(words) => match words {
                [word] => (*word).to_owned(),
                words => format!("one of {}", words.join(", ")),
            },
            Self::Form(form) => form.expected.to_owned(),
            Self::OneOf(shapes) => {
                let each: Vec<String> = shapes.iter().map(Self::expected).collect();
                each.join(", or ")
            }
            Self::List(item) => format!("a list, each item {}", item.expected()),
            Self::Map(keys) => format!("a mapping with the keys {}", names(keys)),
        }
    }

    /// The path of the first key of this name below.
    fn place_of(&self, name: &str, path: &str) -> Option<String> {
        match self {
            Self::Map(keys) => place_of(keys, name, path),
            Self::List(item) => item.place_of(name, &format!("{path}[]")),
            Self::OneOf(shapes) => shapes.iter().find_map(|shape| shape.place_of(name, path)),
            _ => None,
        }
    }

    /// The words that are valid, for "did you mean".
    fn words(&self) -> Vec<&'static str> {
        match self {
            Self::Setting(setting) => setting.info().kind.words().to_vec(),
            Self::Boolean => Kind::Boolean.words().to_vec(),
            Self::Word(words) => words.to_vec(),
            Self::OneOf(shapes) => shapes.iter().flat_map(Self::words).collect(),
            Self::Integer { .. } | Self::Form(_) | Self::List(_) | Self::Map(_) => Vec::new(),
        }
    }

    /// Whether a single value, a list or a mapping has any chance to be this.
    fn takes_kind_of(&self, value: &Value) -> bool {
        match self {
            Self::List(_) => matches!(value, Value::List(_)),
            Self::Map(_) => matches!(value, Value::Map(_)),
            Self::OneOf(shapes) => shapes.iter().any(|shape| shape.takes_kind_of(value)),
            Self::Setting(setting) if is_list(setting.info()) => !matches!(value, Value::Map(_)),
            _ => matches!(value, Value::Scalar { .. }),
        }
    }

    /// Why a single value is not this; `None` if it is.
    fn objection(&self, text: &str, quoted: bool) -> Option<String> {
        let plain = |valid: bool| (!valid).then(String::new);
        match self {
            Self::Setting(setting) => plain(setting.info().kind.accepts(text)),
            Self::Boolean => plain(Kind::Boolean.accepts(text)),
            Self::Integer { least, most } => {
                let number = parse_integer(text).filter(|_| !quoted);
                plain(number.is_some_and(|number| (*least..=*most).contains(&number)))
            }
            Self::Word(words) => plain(words.contains(&text)),
            Self::Form(form) => (form.check)(text).err(),
            Self::OneOf(shapes) => {
                let each = shapes.iter().map(|shape| shape.objection(text, quoted));
                let all: Option<Vec<String>> = each.collect();
                all.map(|_| String::new())
            }
            Self::List(_) | Self::Map(_) => Some(String::new()),
        }
    }
}

fn is_list(row: &SettingInfo) -> bool {
    matches!(row.kind, Kind::List(_))
}

fn names(keys: &[Key]) -> String {
    let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
    names.join(", ")
}

/// What is wrong with a tree, and where its keys are spelt in another case than they should be.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<ConfigError>,
    /// The path of the key as it should be, and where it stands.
    pub(crate) miscased: Vec<(String, Location)>,
    /// The shape of the whole file, for keys that are in the wrong place of it.
    pub(crate) whole: Option<Shape>,
}

/// Holds a tree against a shape, and drops from it what does not fit, so that what is left can
/// be read without another look.
pub(crate) fn check(node: &mut Node, shape: &Shape, path: &str, findings: &mut Findings) {
    if node.value == Value::Null {
        return;
    }
    let fits = match shape {
        _ if !shape.takes_kind_of(&node.value) => {
            let message = format!(
                "{}: expected {}, not {}",
                named(path),
                shape.expected(),
                node.kind()
            );
            findings.error(node.location, message);
            false
        }
        Shape::OneOf(shapes) if node.text().is_none() => {
            let fitting = shapes.iter().find(|shape| shape.takes_kind_of(&node.value));
            if let Some(fitting) = fitting {
                check(node, fitting, path, findings);
            }
            true
        }
        Shape::Map(keys) => {
            check_map(node, keys, path, findings);
            true
        }
        Shape::List(item) => {
            check_items(node, item, path, findings);
            true
        }
        Shape::Setting(_) if matches!(node.value, Value::List(_)) => {
            check_items(node, shape, path, findings);
            true
        }
        _ => check_single(node, shape, path, findings),
    };
    if !fits {
        node.value = Value::Null;
    }
}

fn check_single(node: &Node, shape: &Shape, path: &str, findings: &mut Findings) -> bool {
    let Value::Scalar { text, quoted } = &node.value else {
        return false;
    };
    let Some(objection) = shape.objection(text, *quoted) else {
        return true;
    };
    let objection = if objection.is_empty() {
        format!("{text:?} is not valid: expected {}", shape.expected())
    } else {
        objection
    };
    let hint = did_you_mean(nearest(text, &shape.words()).as_deref());
    findings.error(node.location, format!("{}: {objection}{hint}", named(path)));
    false
}

fn check_items(node: &mut Node, item: &Shape, path: &str, findings: &mut Findings) {
    let Value::List(items) = &mut node.value else {
        return;
    };
    for (at, node) in items.iter_mut().enumerate() {
        let path = format!("{path}[{at}]");
        if node.value == Value::Null {
            let message = format!("{path}: expected {}, not nothing", item.expected());
            findings.error(node.location, message);
        }
        check(node, item, &path, findings);
    }
    items.retain(|node| node.value != Value::Null);
}

fn check_map(node: &mut Node, keys: &[Key], path: &str, findings: &mut Findings) {
    let location = node.location;
    let Value::Map(entries) = &mut node.value else {
        return;
    };
    let mut given = Vec::new();
    entries.retain_mut(|entry| {
        let Some(key) = key_of(entry, keys) else {
            let message = if findings.errors.len() < MOST_ERRORS {
                unknown(&entry.key, keys, path, findings.whole.as_ref())
            } else {
                // It is only counted.
                String::new()
            };
            findings.error(entry.location, message);
            return false;
        };
        let path = join(path, key.name);
        if entry.key != key.name {
            findings.miscased.push((path.clone(), entry.location));
        }
        if entry.node.value != Value::Null {
            given.push(key.name);
        }
        check(&mut entry.node, &key.shape, &path, findings);
        true
    });
    for key in keys.iter().filter(|key| key.required) {
        if !given.contains(&key.name) {
            let message = format!(
                "{} must be given: {}",
                named(&join(path, key.name)),
                key.help
            );
            findings.error(location, message);
        }
    }
}

fn key_of<'a>(entry: &Entry, keys: &'a [Key]) -> Option<&'a Key> {
    keys.iter().find(|key| same_key(&entry.key, key.name))
}

/// The path of the first key of this name among `keys` and below.
fn place_of(keys: &[Key], name: &str, path: &str) -> Option<String> {
    keys.iter().find_map(|key| {
        let path = join(path, key.name);
        if same_key(key.name, name) {
            Some(path)
        } else {
            key.shape.place_of(name, &path)
        }
    })
}

fn unknown(typed: &str, keys: &[Key], path: &str, whole: Option<&Shape>) -> String {
    let place = match path {
        "" => "at the top of the file".to_owned(),
        path => format!("in {path}"),
    };
    let known: Vec<&str> = keys.iter().map(|key| key.name).collect();
    // Somebody may have put it in the wrong place: below of here, or anywhere.
    let elsewhere = || place_of(keys, typed, path).or_else(|| whole?.place_of(typed, ""));
    let meant = nearest(typed, &known).or_else(elsewhere);
    let hint = meant.map_or_else(String::new, |name| format!("did you mean {name:?}? "));
    format!(
        "there is no key {typed:?} {place}; {hint}known are {}",
        known.join(", ")
    )
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn named(path: &str) -> &str {
    if path.is_empty() { "the file" } else { path }
}

impl Findings {
    fn error(&mut self, location: Location, message: String) {
        self.errors.push(ConfigError::File {
            location: Some(location),
            message,
        });
    }
}
