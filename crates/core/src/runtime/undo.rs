//! Taking an edit back.

use super::edit::{ABSENT, ADDED, CHANGED, OURS, in_place, with_feature};
use super::json::Json;
use super::report::{RuntimeKind, SourceFile};

/// What taking an edit back comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undone {
    /// The file holds nothing of ours.
    Nothing,
    /// The file is wholly ours and goes.
    Remove,
    /// The file gets exactly the text that it had.
    Restore(String),
    /// Only what is ours goes, since the file was edited after us.
    Stripped(String),
    /// It cannot be told what is ours, for the reason in words.
    Refused(String),
}

/// How the edit of a file is taken back: `current` is what is in it, `backup` what was in it
/// before the edit, if that was kept; [`ABSENT`] for a `daemon.json` that was not there.
pub fn undo(kind: RuntimeKind, current: &str, backup: Option<&str>) -> Undone {
    if kind == RuntimeKind::Docker {
        return undo_json(current, backup);
    }
    if current.starts_with(OURS) {
        let rest = current.strip_prefix(OURS).unwrap_or_default();
        return if is_whole(rest) {
            Undone::Remove
        } else {
            Undone::Refused(
                "it was edited after `mizzen runtime configure` had written it; remove from it \
                 what you do not want"
                    .to_owned(),
            )
        };
    }
    let stripped = stripped(current);
    match backup {
        // Within an inline table no mark says what is ours.
        Some(backup) if backup != current && is_edit_of(current, backup) => {
            Undone::Restore(backup.to_owned())
        }
        _ if stripped == current => Undone::Nothing,
        // What only differs in whether the last line ends was brought about by us.
        Some(backup) if stripped.trim_end() == backup.trim_end() => {
            Undone::Restore(backup.to_owned())
        }
        _ => Undone::Stripped(stripped),
    }
}

/// Whether `current` is `backup` with our edit and nothing else.
fn is_edit_of(current: &str, backup: &str) -> bool {
    let file = SourceFile {
        path: String::new(),
        text: backup.to_owned(),
    };
    in_place(&file).is_ok_and(|change| change.after == current)
}

/// Whether what follows our first line is what we write, and nothing else.
fn is_whole(rest: &str) -> bool {
    let is_ours = |line: &str| {
        let line = line.trim();
        line.is_empty()
            || line.ends_with(ADDED)
            || line.starts_with("version = ")
            || line.starts_with("[plugins.")
            || line == "[crio.runtime]"
            || line.starts_with("cdi_spec_dirs = ")
            || line == "enable_cdi = true"
            || line == "{{ template \"base\" . }}"
    };
    rest.lines().all(is_ours)
}

/// The text without the lines that we added, and with the values that we changed as they were.
fn stripped(text: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut kept: Vec<String> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if !line.trim_end().ends_with(ADDED) {
            kept.push(line.replace(CHANGED, "false"));
            continue;
        }
        if !line.trim_start().starts_with('[') {
            continue;
        }
        if has_more(&lines[at + 1..]) {
            // Somebody has added to our section.
            kept.push(line.replace(&format!(" {ADDED}"), ""));
        } else if kept.last().is_some_and(|before| before.trim().is_empty()) {
            kept.pop();
        }
    }
    kept.concat()
}

/// Whether the section that these lines begin with has settings that are not ours.
fn has_more(lines: &[&str]) -> bool {
    let of_section = lines.iter().map(|line| line.trim());
    let mut settings = of_section
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty() && !line.starts_with('#') && !line.ends_with(ADDED));
    settings.next().is_some()
}

fn undo_json(current: &str, backup: Option<&str>) -> Undone {
    let Some(backup) = backup else {
        return Undone::Nothing;
    };
    let was_there = backup != ABSENT;
    let backup = if was_there { backup } else { "" };
    if with_feature(backup).is_ok_and(|after| after == current) {
        return if was_there {
            Undone::Restore(backup.to_owned())
        } else {
            Undone::Remove
        };
    }
    let backup = if backup.trim().is_empty() {
        "{}"
    } else {
        backup
    };
    let (Ok(now), Ok(then)) = (Json::parse(current), Json::parse(backup)) else {
        return Undone::Refused("it is not JSON any more; mend it first".to_owned());
    };
    let Some(set) = now.get(&["features", "cdi"]) else {
        return Undone::Nothing;
    };
    if let Some(before) = then.get(&["features", "cdi"]) {
        let (start, end) = (set.span.start, set.span.end);
        let value = &backup[before.span.clone()];
        return Undone::Stripped(format!("{}{value}{}", &current[..start], &current[end..]));
    }
    let features = now
        .get(&["features"])
        .map_or(0, |value| value.members().len());
    let whole = features == 1 && then.get(&["features"]).is_none();
    let (object, name) = if whole {
        (Some(&now), "features")
    } else {
        (now.get(&["features"]), "cdi")
    };
    match object.and_then(|object| without(current, object, name)) {
        Some(text) => Undone::Stripped(text),
        None => Undone::Refused("features.cdi cannot be taken out of it".to_owned()),
    }
}

/// The text without a member of an object, and without the comma that belonged to it.
fn without(text: &str, object: &Json, name: &str) -> Option<String> {
    let members = object.members();
    let at = members.iter().position(|member| member.name == name)?;
    let member = &members[at];
    let (start, end) = if let Some(next) = members.get(at + 1) {
        (member.name_span.start, next.name_span.start)
    } else if at > 0 {
        (members[at - 1].value.span.end, member.value.span.end)
    } else {
        (object.span.start + 1, object.span.end - 1)
    };
    Some(format!("{}{}", &text[..start], &text[end..]))
}
