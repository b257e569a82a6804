//! All keys of the config file as a table, for the documentation.

use std::fmt::Write as _;

use mizzen_core::config::{Key, Kind, Shape};

use super::schema::default_of;

/// The table in Markdown: a row for each key, those below it after it.
pub(super) fn table() -> String {
    let mut table = "| key | value | default | what it does |\n|---|---|---|---|\n".to_owned();
    if let Shape::Map(keys) = Shape::of_file() {
        rows(&keys, "", &mut table);
    }
    table
}

fn rows(keys: &[Key], above: &str, table: &mut String) {
    for key in keys {
        let path = format!("{above}{}", key.name);
        let default = default_of(&key.shape, &path).unwrap_or_default();
        let needed = if key.required { ", required" } else { "" };
        let own = if key.own { " (Mizzen's own)" } else { "" };
        let _infallible = writeln!(
            table,
            "| `{path}` | {}{needed} | {} | {}{own} |",
            value(&key.shape),
            plain(default),
            plain(key.help),
        );
        below(&key.shape, &path, table);
    }
}

/// The keys below a value, if it is a mapping or a list of mappings.
fn below(shape: &Shape, path: &str, table: &mut String) {
    match shape {
        Shape::Map(keys) => rows(keys, &format!("{path}."), table),
        Shape::List(item) => below(item, &format!("{path}[]"), table),
        Shape::OneOf(shapes) => shapes.iter().for_each(|shape| below(shape, path, table)),
        _ => {}
    }
}

/// What a value may be, in few words.
fn value(shape: &Shape) -> String {
    match shape {
        Shape::Map(_) => "mapping".to_owned(),
        Shape::List(item) if matches!(**item, Shape::Map(_)) => "list of mappings".to_owned(),
        Shape::List(item) => format!("list, each {}", value(item)),
        Shape::Word(words) => quoted(words),
        Shape::Setting(setting) => match setting.info().kind {
            Kind::Choice(words) => quoted(words),
            Kind::List(words) if !words.is_empty() => format!("list of {}", quoted(words)),
            kind => plain(&kind.expected()),
        },
        Shape::OneOf(shapes) => {
            let each: Vec<String> = shapes.iter().map(value).collect();
            each.join("; or ")
        }
        shape => plain(&shape.expected()),
    }
}

/// Text in which Markdown sees nothing but text.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '*' | '<' | '|' | '_' | '`') {
            plain.push('\\');
        }
        plain.push(letter);
    }
    plain
}

fn quoted(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}
