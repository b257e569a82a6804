//! The config file, version v1: the reference's own format, read strictly, and what Mizzen adds
//! to it.

use super::error::{ConfigWarning, Location, Origin};
use super::kind::{Kind, parse_boolean};
use super::raw::RawConfig;
use super::sections;
use super::setting::SETTINGS;
use super::shape::{Findings, Shape, check};
use super::tree::{self, Node, Value};

/// Reads the text of a config file.
///
/// Never fails by itself: what is wrong with the file is kept beside what can be used, so that
/// [`RawConfig::validate`] tells it together with what is wrong elsewhere. Nothing is passed over
/// in silence.
pub fn parse(text: &str) -> RawConfig {
    let mut document = tree::read(text);
    let mut raw = RawConfig::default();
    raw.problems.append(&mut document.errors);
    let shape = Shape::of_file();
    let mut findings = Findings {
        whole: Some(shape.clone()),
        ..Findings::default()
    };
    check(&mut document.root, &shape, "", &mut findings);
    raw.problems.append(&mut findings.errors);
    for (key, location) in findings.miscased {
        raw.warnings.push(warning(
            &key,
            location,
            "the key is written so; other letters are read all the same",
        ));
    }
    if let Some(location) = document.second {
        raw.warnings.push(warning(
            "---",
            location,
            "only the first document of the file is read",
        ));
    }
    for row in SETTINGS {
        if let Some(key) = row.key
            && let Some(node) = find(&document.root, key)
        {
            raw.set_key_at(row.setting, texts(row.kind, node), Some(node.location));
        }
    }
    raw.sections = sections::read(&document.root, &mut raw.problems, &mut raw.warnings);
    raw
}

pub(super) fn warning(key: &str, location: Location, message: &str) -> ConfigWarning {
    ConfigWarning {
        origin: Origin::File {
            key: key.to_owned(),
            location: Some(location),
        },
        message: message.to_owned(),
    }
}

/// The value of a key with those above it, joined by dots.
fn find<'a>(root: &'a Node, path: &str) -> Option<&'a Node> {
    path.split('.').try_fold(root, |node, key| node.get(key))
}

fn texts(kind: Kind, node: &Node) -> Vec<String> {
    let text = |node: &Node| {
        let text = node.text()?;
        let boolean = (kind == Kind::Boolean)
            .then(|| parse_boolean(text))
            .flatten();
        Some(boolean.map_or_else(|| text.to_owned(), |on| on.to_string()))
    };
    match &node.value {
        Value::List(items) => items.iter().filter_map(text).collect(),
        _ => text(node).into_iter().collect(),
    }
}
