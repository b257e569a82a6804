//! `enable_cdi` in a file of containerd's, turned on and off in its place.

use core::ops::Range;

use super::super::containerd::{config_version, plugin_key};
use super::super::marks::{ADDED, CHANGED, WAS_FALSE, is_whole};
use super::super::report::{Place, SourceFile};
use super::super::toml::TomlFile;
use super::Change;

/// The edit of a file that may have the setting or not.
pub(in super::super) fn in_place(file: &SourceFile) -> Result<Change, String> {
    let toml = TomlFile::parse(file)
        .map_err(|(place, text)| format!("{place} cannot be read: {text}; mend it first"))?;
    let version = config_version(&toml);
    let newer = toml.get(&["plugins", plugin_key(3)]).is_some();
    let key = if version == 2 && newer {
        plugin_key(3)
    } else {
        plugin_key(version)
    };
    // containerd 2 takes a section under its older name too.
    let older = plugin_key(2);
    let key = if version >= 3 && !newer && toml.get(&["plugins", older]).is_some() {
        older
    } else {
        key
    };
    let after = if let Some(set) = toml.get(&["plugins", key, "enable_cdi"]) {
        let span = set
            .span
            .ok_or("enable_cdi is written in a way that is not known")?;
        replaced(&file.text, span)
    } else {
        added(&toml, file, key)?
    };
    Ok(Change {
        file: file.path.clone(),
        before: Some(file.text.clone()),
        after,
    })
}

fn replaced(text: &str, span: core::ops::Range<usize>) -> String {
    let rest = &text[span.end..];
    let line = rest.split('\n').next().unwrap_or_default().trim();
    let with = |value: &str| format!("{}{value}{rest}", &text[..span.start]);
    // Somebody may have turned off what we had turned on.
    let has_mark = line.starts_with(ADDED) || line.starts_with(WAS_FALSE);
    if has_mark || is_whole(&with("true")) {
        return with("true");
    }
    // Within an inline table there is no room for a comment.
    if line.is_empty() || line.starts_with('#') {
        with(CHANGED)
    } else {
        with("true")
    }
}

fn added(toml: &TomlFile<'_>, file: &SourceFile, key: &str) -> Result<String, String> {
    let text = &file.text;
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let table = toml.get(&["plugins", key]);
    let header = table.as_ref().and_then(|table| {
        let table = table.item.as_table()?;
        let has_header = !table.is_implicit() && !table.is_dotted();
        has_header.then(|| table.span())?
    });
    if let Some(span) = header {
        let line_end = text[span.start..].find('\n').map(|at| span.start + at + 1);
        let at = line_end.unwrap_or(text.len());
        let missing_end = if line_end.is_none() { end } else { "" };
        let indent = indent_after(text, at, span.start);
        return Ok(format!(
            "{}{missing_end}{indent}enable_cdi = true {ADDED}{end}{}",
            &text[..at],
            &text[at..]
        ));
    }
    if table.is_some_and(|table| {
        !table.item.is_table()
            || table
                .item
                .as_table()
                .is_some_and(toml_edit::Table::is_dotted)
    }) {
        return Err(format!(
            "plugins.\"{key}\" in {} is not written as a section; add enable_cdi = true to it by \
             hand",
            file.path
        ));
    }
    let missing_end = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        end
    };
    let header = if key.contains('.') {
        format!("[plugins.\"{key}\"]")
    } else {
        format!("[plugins.{key}]")
    };
    Ok(format!(
        "{text}{missing_end}{end}{header} {ADDED}{end}  enable_cdi = true {ADDED}{end}"
    ))
}

/// The indent of the line at `at`, if it is a setting of the section whose header is at `header`;
/// else one level more than the header's.
fn indent_after(text: &str, at: usize, header: usize) -> String {
    let next = text[at..].split('\n').next().unwrap_or_default();
    let trimmed = next.trim_start_matches([' ', '\t']);
    if !trimmed.trim().is_empty() && !trimmed.starts_with('[') {
        return next[..next.len() - trimmed.len()].to_owned();
    }
    let line = text[..header].rsplit('\n').next().unwrap_or_default();
    let blank = line.trim_start_matches([' ', '\t']);
    format!("{}  ", &line[..line.len() - blank.len()])
}

/// The values of `enable_cdi` that are true in `text` and were not in `before`.
///
/// # Errors
/// In words, if one of the two is not TOML.
pub(in super::super) fn turned_on(before: &str, text: &str) -> Result<Vec<Range<usize>>, String> {
    let file = |text: &str| SourceFile {
        path: String::new(),
        text: text.to_owned(),
    };
    let (before, now) = (file(before), file(text));
    let parse = |file| {
        let unread = |(place, text): (Place, String)| format!("line {}: {text}", place.line);
        TomlFile::parse(file).map_err(unread)
    };
    let (before, now) = (parse(&before)?, parse(&now)?);
    let keys = [1, 2, 3].map(plugin_key);
    let turned = keys.iter().filter_map(|key| {
        let path = ["plugins", key, "enable_cdi"];
        let is_on = |toml: &TomlFile<'_>| toml.truth(&path).is_some_and(|(on, _)| on);
        if is_on(&before) || !is_on(&now) {
            return None;
        }
        now.get(&path)?.span
    });
    Ok(turned.collect())
}

/// The text with these values `false`.
pub(in super::super) fn turned_off(text: &str, mut values: Vec<Range<usize>>) -> String {
    let mut text = text.to_owned();
    values.sort_by_key(|value| value.start);
    for value in values.into_iter().rev() {
        text.replace_range(value, "false");
    }
    text
}
