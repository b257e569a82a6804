//! Taking an edit back.

use super::edit::{ABSENT, in_place, turned_off, turned_on, with_feature};
use super::json::Json;
use super::marks::{OURS, is_whole, stripped};
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
        return if is_whole(current) {
            Undone::Remove
        } else {
            Undone::Refused(
                "it was edited after `mizzen runtime configure` had written it; remove from it \
                 what you do not want"
                    .to_owned(),
            )
        };
    }
    let rest = stripped(current);
    let Some(backup) = backup else {
        return if rest == current {
            Undone::Nothing
        } else {
            Undone::Stripped(rest)
        };
    };
    // A copy of a file that we had edited before has our edit in it.
    let before = stripped(backup);
    // What only differs in whether the last line ends was brought about by us.
    let is_before = rest != current && rest.trim_end() == before.trim_end();
    if is_before || (before != current && edit_of(&before).as_deref() == Some(current)) {
        return Undone::Restore(before);
    }
    edited_since(current, rest, &before)
}

/// The text with our edit, if it can be made.
fn edit_of(before: &str) -> Option<String> {
    let file = SourceFile {
        path: String::new(),
        text: before.to_owned(),
    };
    in_place(&file).ok().map(|change| change.after)
}

/// How the edit is taken out of a file that held `before` and that somebody has edited after us;
/// `rest` is what is left of it without what has our marks.
fn edited_since(current: &str, rest: String, before: &str) -> Undone {
    // Within an inline table no mark says what is ours.
    let is_unmarked = edit_of(before).is_some_and(|edit| edit != before && stripped(&edit) == edit);
    match turned_on(before, &rest) {
        Ok(values) if !values.is_empty() && is_unmarked => {
            Undone::Stripped(turned_off(&rest, values))
        }
        Ok(values) if !values.is_empty() => Undone::Refused(
            "it has enable_cdi = true without the mark of `mizzen runtime configure`, and had it \
             not before: set it by hand; the copy of what it held before stays"
                .to_owned(),
        ),
        Err(mistake) if is_unmarked => Undone::Refused(format!(
            "it cannot be read ({mistake}), and so the edit not be found in it; mend it first"
        )),
        _ if rest == current => Undone::Nothing,
        _ => Undone::Stripped(rest),
    }
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
    let is_on = |json: &&Json| json.truth() == Some(true);
    let set = now.get(&["features", "cdi"]).filter(is_on);
    let was_on = then
        .get(&["features", "cdi"])
        .is_some_and(|json| is_on(&json));
    let Some(set) = set.filter(|_| !was_on) else {
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
