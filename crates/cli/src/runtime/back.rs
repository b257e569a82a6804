//! The steps that take an edit back.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Result;
use mizzen_agent::runtime::FoundRuntime;
use mizzen_core::runtime::{
    ABSENT, Remark, RuntimeKind, Undone, files_of_edit, import_patterns, lost_drop_ins, undo,
};
use mizzen_nvml::HostRoot;

use super::configure::Step;
use super::files::HostFile;

/// The steps that take back whatever is ours in the files of the runtime; a reason if that cannot
/// be done.
pub(super) fn steps_back(
    host: &HostRoot,
    found: &FoundRuntime,
) -> Result<Result<Vec<Step>, String>> {
    let mut steps = Vec::new();
    let mut seen = BTreeSet::new();
    for path in files(host, found)? {
        let file = HostFile::new(host, &path);
        if !seen.insert(file.path().to_owned()) {
            continue;
        }
        match step_back(found.place.kind, path, &file)? {
            Ok(step) => steps.extend(step),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    Ok(match unread(found) {
        // What it imports is not known then.
        Some(unread) if steps.is_empty() => Err(format!(
            "{unread}; mend it first: nothing of Mizzen's was found, and not everywhere looked for"
        )),
        _ => Ok(steps),
    })
}

/// Why a file of the runtime could not be read, if one could not.
pub(super) fn unread(found: &FoundRuntime) -> Option<Remark> {
    let of_text = found.files.iter().filter_map(|file| {
        let toml = found.place.kind != RuntimeKind::Docker;
        let remark = toml.then(|| import_patterns(file).err()).flatten()?;
        Some(Remark {
            text: format!("not TOML: {}", remark.text),
            ..remark
        })
    });
    let of_files = found.remarks.iter().filter(|remark| remark.is_unread);
    of_files.cloned().chain(of_text).next()
}

/// The files that may have something of ours, each by its path on the host.
fn files(host: &HostRoot, found: &FoundRuntime) -> Result<BTreeSet<String>> {
    let mut files: BTreeSet<String> = found.files.iter().map(|file| file.path.clone()).collect();
    files.insert(found.config.clone());
    files.extend(files_of_edit(&found.place));
    if found.place.kind == RuntimeKind::Containerd {
        let text = HostFile::new(host, &found.config).read()?;
        let beside = directories_beside(host, &found.config);
        files.extend(lost_drop_ins(
            &found.config,
            &text.unwrap_or_default(),
            &beside,
        ));
    }
    // What is made of a template holds what is ours until it is made anew.
    let is_generated = |path: &String| found.place.template.is_some() && path == found.place.config;
    files.retain(|path| !is_generated(path));
    Ok(files)
}

/// The names of the directories in the one of `config`.
fn directories_beside(host: &HostRoot, config: &str) -> Vec<String> {
    let parent = config.rsplit_once('/').map_or("", |(parent, _)| parent);
    let entries = host.resolve(parent).and_then(fs::read_dir);
    let names = entries.into_iter().flatten().filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let whole = host.resolve(format!("{parent}/{name}")).ok()?;
        whole.is_dir().then_some(name)
    });
    names.collect()
}

fn step_back(
    kind: RuntimeKind,
    path: String,
    file: &HostFile,
) -> Result<Result<Option<Step>, String>> {
    let Some(before) = file.read()? else {
        return Ok(Ok(None));
    };
    let backup = file.backup()?;
    // A copy of what somebody wrote is not thrown away while the file holds something else.
    let is_known = |text: &str| text == ABSENT || text == before;
    let (after, is_exact) = match undo(kind, &before, backup.as_deref()) {
        Undone::Nothing => {
            return Ok(Ok(backup.map(|text| {
                if is_known(&text) {
                    Step::Forget(path)
                } else {
                    Step::Leave(path)
                }
            })));
        }
        Undone::Remove => (None, true),
        Undone::Restore(text) => (Some(text), true),
        Undone::Stripped(text) => (Some(text), false),
        Undone::Refused(reason) => return Ok(Err(format!("{path}: {reason}"))),
    };
    let forgets = after.is_some() || backup.as_deref().is_some_and(is_known);
    Ok(Ok(Some(Step::Back {
        file: path,
        before,
        after,
        is_exact,
        forgets,
    })))
}
