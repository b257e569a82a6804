//! The smallest edit that turns CDI on.

use super::containerd::{
    config_version, import_patterns, plugin_key, read_containerd, replaces_sections,
};
use super::crio::read_crio;
use super::docker::read_docker;
use super::json::Json;
use super::marks::{ADDED, CHANGED, OURS, whole};
use super::places::{ContainerdFlavour, KnownPlace};
use super::report::{CdiState, RuntimeKind, RuntimeReport, SourceFile};
use super::toml::TomlFile;
use super::version::RuntimeVersion;
use crate::cdi::SPEC_DIRECTORIES;

mod switch;

pub(super) use switch::{in_place, turned_off, turned_on};

/// The name of a drop-in.
const DROP_IN: &str = "99-mizzen-cdi.toml";
/// What a template of k3s or RKE2 takes its own settings in with.
const BASE: &str = "{{ template \"base\" . }}";

/// What is kept in place of a `daemon.json` that was not there.
pub const ABSENT: &str = "there was no such file\n";

/// A file as it is and as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its path on the host.
    pub file: String,
    /// What is in it; `None` if there is no such file.
    pub before: Option<String>,
    /// What shall be in it.
    pub after: String,
}

/// The files besides `config` that an edit of `place` may have made or changed, on the host.
pub fn files_of_edit(place: &KnownPlace) -> Vec<String> {
    let mut files: Vec<String> = place.template.map(str::to_owned).into_iter().collect();
    files.extend(
        place
            .drop_ins
            .map(|directory| format!("{directory}/{DROP_IN}")),
    );
    if place.flavour == ContainerdFlavour::Rancher {
        files.push(format!("{}/config-v3.toml.d/{DROP_IN}", place.directory()));
    }
    files
}

/// Where a drop-in of ours may be that a config of containerd's once imported, and perhaps does not
/// any more: in the directories that `text`, what is in `config`, names in quotes, be it in a
/// comment or in TOML that cannot be read, and in those of these names `beside` the config.
pub fn lost_drop_ins(config: &str, text: &str, beside: &[String]) -> Vec<String> {
    let parent = config.rsplit_once('/').map_or("", |(parent, _)| parent);
    let quoted = text.split(['"', '\'']);
    let patterns = quoted.filter_map(|name| name.strip_suffix("/*.toml"));
    let names = patterns.filter(|name| !name.contains(['*', '?', '[', '\\', '\n']));
    let names = names.chain(beside.iter().map(String::as_str));
    let paths = names.map(|name| match name.strip_prefix("./").unwrap_or(name) {
        name if name.starts_with('/') => format!("{name}/{DROP_IN}"),
        name => format!("{parent}/{name}/{DROP_IN}"),
    });
    paths.collect()
}

/// Whether an edit is in these files of `place` already that its runtime only takes over when it is
/// started anew, since its config is made of them: `texts` are those of [`files_of_edit`].
pub fn awaits_restart(place: &KnownPlace, texts: &[SourceFile]) -> bool {
    let has_mark = |text: &str| {
        let mut lines = text.lines();
        text.starts_with(OURS)
            || lines.any(|line| line.trim_end().ends_with(ADDED) || line.contains(CHANGED))
    };
    // Somebody may have set it in the template by hand.
    let is_set = |file: &SourceFile| {
        place.flavour == ContainerdFlavour::Microk8s
            && read_containerd(core::slice::from_ref(file), None).cdi.state == CdiState::On
    };
    texts
        .iter()
        .any(|file| has_mark(&file.text) || is_set(file))
}

/// What it takes to turn CDI on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Nothing: it is on.
    AlreadyOn,
    /// These files, in this order.
    Changes(Vec<Change>),
    /// It cannot be done, for the reason in words, which say what can.
    Refused(String),
}

/// The edit of `place`, whose main config is `config` and whose `files` are the main config first and then what counts besides, in
/// the order in which the runtime reads them. `template` is the file that the main config is made
/// of, if there is one.
///
/// The result has been read again: with it, CDI is on.
pub fn turn_on(
    place: &KnownPlace,
    config: &str,
    files: &[SourceFile],
    template: Option<&SourceFile>,
    version: Option<RuntimeVersion>,
) -> Turn {
    let report = read(place.kind, files, version);
    if let Some(unread) = report.unread() {
        return Turn::Refused(format!("{unread}; mend it first"));
    }
    match report.cdi.state {
        CdiState::Unsupported if report.switched_off.is_some() => {
            return Turn::Refused(format!(
                "{}; take it out of that list, or name the runtime that the kubelet uses with \
                 --runtime",
                report.cdi.why
            ));
        }
        CdiState::Unsupported => {
            return Turn::Refused(format!("{}: upgrade {}", report.cdi.why, place.kind));
        }
        CdiState::On if report.spec_directories.hold_ours() => return Turn::AlreadyOn,
        CdiState::On if place.kind == RuntimeKind::Crio => {
            return add_directory(place, files, &report);
        }
        CdiState::On => return Turn::Refused(missing_directory(&report)),
        CdiState::Off | CdiState::Unknown => {}
    }
    let changes = match place.kind {
        RuntimeKind::Containerd => containerd(place, config, files, template, &report),
        RuntimeKind::Docker => docker(config, files),
        RuntimeKind::Crio => Err("CRI-O has no switch for CDI".to_owned()),
    };
    match changes {
        Ok(changes) => checked(place, files, version, changes),
        Err(reason) => Turn::Refused(reason),
    }
}

fn read(kind: RuntimeKind, files: &[SourceFile], version: Option<RuntimeVersion>) -> RuntimeReport {
    match kind {
        RuntimeKind::Containerd => read_containerd(files, version),
        RuntimeKind::Crio => read_crio(files, version),
        RuntimeKind::Docker => read_docker(files.first(), version),
    }
}

fn missing_directory(report: &RuntimeReport) -> String {
    let directories = &report.spec_directories;
    let place = directories.place.as_ref();
    format!(
        "CDI is on, but specs are read in {} and not in {}: add it to the list in {}",
        directories.directories.join(", "),
        SPEC_DIRECTORIES[1],
        place.map_or_else(|| report.kind.to_string(), ToString::to_string)
    )
}

/// The files as they are with these changes. A template cannot be read before the distribution has
/// made a config of it.
pub fn edited(place: &KnownPlace, files: &[SourceFile], changes: &[Change]) -> Vec<SourceFile> {
    let mut then = files.to_vec();
    for change in changes {
        if place.template == Some(change.file.as_str())
            && place.flavour == ContainerdFlavour::Rancher
        {
            continue;
        }
        match then.iter_mut().find(|file| file.path == change.file) {
            Some(file) => file.text.clone_from(&change.after),
            None => then.push(SourceFile {
                path: change.file.clone(),
                text: change.after.clone(),
            }),
        }
    }
    then
}

/// The changes, if the runtime has CDI on with them.
fn checked(
    place: &KnownPlace,
    files: &[SourceFile],
    version: Option<RuntimeVersion>,
    changes: Vec<Change>,
) -> Turn {
    let then = edited(place, files, &changes);
    let report = read(place.kind, &then, version);
    if report.cdi.state != CdiState::On {
        return Turn::Refused(format!(
            "CDI would still not be on with the edit ({}); set it by hand",
            report.cdi.why
        ));
    }
    Turn::Changes(changes)
}

fn containerd(
    place: &KnownPlace,
    config: &str,
    files: &[SourceFile],
    template: Option<&SourceFile>,
    report: &RuntimeReport,
) -> Result<Vec<Change>, String> {
    match place.flavour {
        ContainerdFlavour::Rancher => rancher(place, files, template, report),
        ContainerdFlavour::Microk8s => {
            let template = template.ok_or_else(|| {
                format!(
                    "{} is missing, of which MicroK8s makes its config",
                    place.template.unwrap_or_default()
                )
            })?;
            in_place(template).map(|change| vec![change])
        }
        ContainerdFlavour::K0s => {
            let version = main_version(files);
            let directory = place.drop_ins.unwrap_or_default();
            Ok(vec![drop_in(directory, version)])
        }
        ContainerdFlavour::Plain => plain(config, files, report).map(|change| vec![change]),
    }
}

/// The config version of the main file; what containerd 1.7 and 2 both read where there is none.
fn main_version(files: &[SourceFile]) -> i64 {
    let main = files.first().and_then(|file| TomlFile::parse(file).ok());
    main.map_or(2, |toml| config_version(&toml))
}

fn drop_in(directory: &str, version: i64) -> Change {
    let header = section(version);
    let version = version.max(2);
    Change {
        file: format!("{directory}/{DROP_IN}"),
        before: None,
        after: whole(&format!(
            "version = {version}\n\n{header}\n  enable_cdi = true\n"
        )),
    }
}

/// `[plugins.…]` of the plugin in a config of this version.
fn section(version: i64) -> String {
    match plugin_key(version) {
        key if version <= 1 => format!("[plugins.{key}]"),
        key => format!("[plugins.\"{key}\"]"),
    }
}

fn plain(config: &str, files: &[SourceFile], report: &RuntimeReport) -> Result<Change, String> {
    if let Some(generated) = files.first().filter(|file| is_generated(&file.text)) {
        return Err(format!(
            "{} is made anew at every start, as it says itself: edit what it is made of",
            generated.path
        ));
    }
    let Some(main) = files.first() else {
        return Ok(Change {
            file: config.to_owned(),
            before: None,
            after: whole(&format!(
                "version = 2\n\n{}\n  enable_cdi = true\n",
                section(2)
            )),
        });
    };
    let merges = report.version.map_or_else(
        || main_version(files) >= 3,
        |version| !replaces_sections(Some(version)),
    );
    let decided_by = report.cdi.place.as_ref().map(|place| place.file.as_str());
    if merges
        && main_version(files) >= 2
        && let Some(change) = imported_drop_in(main, files, decided_by)
    {
        return Ok(change);
    }
    let target = match decided_by {
        Some(decided) => files.iter().find(|file| file.path == decided),
        None if merges => None,
        // With containerd 1 the last file that has the section has all of it.
        None => files.iter().rfind(|file| {
            TomlFile::parse(file).is_ok_and(|toml| {
                let key = plugin_key(config_version(&toml).min(2));
                toml.get(&["plugins", key]).is_some()
            })
        }),
    };
    in_place(target.unwrap_or(main))
}

/// Whether a config begins with the usual warning to those who would edit it.
fn is_generated(text: &str) -> bool {
    let mut comments = text.lines().take_while(|line| line.starts_with('#'));
    comments.any(|line| line.contains("DO NOT EDIT"))
}

/// A drop-in in the last directory that `main` imports, if it would be new there and have the last
/// word against the file that decides now.
fn imported_drop_in(
    main: &SourceFile,
    files: &[SourceFile],
    decided_by: Option<&str>,
) -> Option<Change> {
    let patterns = import_patterns(main).unwrap_or_default();
    let mut directories = patterns
        .iter()
        .filter_map(|pattern| pattern.strip_suffix("/*.toml"))
        .filter(|directory| !directory.contains(['*', '?', '[', '\\']));
    let directory = directories.next_back()?;
    let change = drop_in(directory, main_version(files));
    // What is read after it would have the last word.
    let is_last = decided_by.is_none_or(|decided| {
        let is_beside = decided
            .rsplit_once('/')
            .is_some_and(|(parent, _)| parent == directory);
        decided == main.path || (is_beside && *decided < *change.file)
    });
    let is_new = !files.iter().any(|file| file.path == change.file);
    (is_last && is_new).then_some(change)
}

/// k3s and RKE2 make `config.toml` of a template at every start. What they have in the section
/// themselves cannot be written twice, so what is ours comes in by an import, which containerd 2
/// merges key by key.
fn rancher(
    place: &KnownPlace,
    files: &[SourceFile],
    template: Option<&SourceFile>,
    report: &RuntimeReport,
) -> Result<Vec<Change>, String> {
    let main = main_version(files);
    let name = place.name;
    if main < 3 || replaces_sections(report.version) {
        return Err(format!(
            "this {name} has a containerd older than 2, whose settings for CDI no drop-in can add: \
             upgrade {name} (v1.31.6, v1.32.2 and later bring containerd 2, which has CDI on), or \
             put enable_cdi = true into a full {}/config.toml.tmpl by hand",
            place.directory()
        ));
    }
    let directory = format!("{}/config-v3.toml.d", place.directory());
    let import = format!("{directory}/*.toml");
    let change = drop_in(&directory, main);
    let line = format!("imports = [\"{import}\"] {ADDED}\n");
    // A config that was made of our template before an undo loses its import at the next start.
    let has_line = |file: &SourceFile| file.text.contains(line.trim_end());
    let is_stale = files.first().is_some_and(has_line) && !template.is_some_and(has_line);
    if let Some(generated) = files.first().filter(|_| !is_stale) {
        let patterns = import_patterns(generated).unwrap_or_default();
        if patterns.contains(&import) {
            return Ok(vec![change]);
        }
        if has_imports(generated) {
            return other_import(generated, files, report, &import);
        }
    }
    let path = place.template.unwrap_or_default();
    let template = match template {
        None => Change {
            file: path.to_owned(),
            before: None,
            after: whole(&format!("{line}{BASE}\n")),
        },
        Some(file) if file.text.contains(BASE) && !file.text.contains("imports") => Change {
            file: file.path.clone(),
            before: Some(file.text.clone()),
            after: format!("{line}{}", file.text),
        },
        Some(file) => {
            return Err(format!(
                "{} is a template of your own: put enable_cdi = true into its section {} by hand",
                file.path,
                section(main)
            ));
        }
    };
    Ok(vec![change, template])
}

fn has_imports(file: &SourceFile) -> bool {
    TomlFile::parse(file).is_ok_and(|toml| toml.get(&["imports"]).is_some())
}

/// The edit of a generated config that imports other files, which leaves no room for an import of
/// ours: TOML has a key once.
fn other_import(
    generated: &SourceFile,
    files: &[SourceFile],
    report: &RuntimeReport,
    import: &str,
) -> Result<Vec<Change>, String> {
    let decided_by = report.cdi.place.as_ref().map(|place| place.file.as_str());
    let change = imported_drop_in(generated, files, decided_by).ok_or_else(|| {
        format!(
            "{} has imports of its own, among which ours cannot be put: add \"{import}\" to them \
             in the template that it is made of, or put enable_cdi = true into a file that they \
             name",
            generated.path
        )
    })?;
    Ok(vec![change])
}

/// A drop-in of CRI-O's that adds the directory that specs are written to.
fn add_directory(place: &KnownPlace, files: &[SourceFile], report: &RuntimeReport) -> Turn {
    let file = format!("{}/{DROP_IN}", place.drop_ins.unwrap_or_default());
    let decided = report.spec_directories.place.as_ref();
    if files.iter().any(|known| known.path == file)
        || decided.is_some_and(|decided| decided.file > file)
    {
        return Turn::Refused(missing_directory(report));
    }
    let mut directories = report.spec_directories.directories.clone();
    directories.push(SPEC_DIRECTORIES[1].to_owned());
    let list: Vec<String> = directories.iter().map(|path| format!("{path:?}")).collect();
    let change = Change {
        file,
        before: None,
        after: whole(&format!(
            "[crio.runtime]\ncdi_spec_dirs = [{}]\n",
            list.join(", ")
        )),
    };
    let mut then = files.to_vec();
    then.push(SourceFile {
        path: change.file.clone(),
        text: change.after.clone(),
    });
    if read_crio(&then, report.version)
        .spec_directories
        .hold_ours()
    {
        Turn::Changes(vec![change])
    } else {
        Turn::Refused(missing_directory(report))
    }
}

fn docker(config: &str, files: &[SourceFile]) -> Result<Vec<Change>, String> {
    let file = files.first();
    let text = file.map_or("", |file| file.text.as_str());
    let path = file.map_or(config, |file| file.path.as_str());
    Ok(vec![Change {
        file: path.to_owned(),
        before: file.map(|file| file.text.clone()),
        after: with_feature(text).map_err(|reason| format!("{path}: {reason}"))?,
    }])
}

/// `daemon.json` with the feature `cdi`.
pub(super) fn with_feature(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Ok("{\n  \"features\": {\n    \"cdi\": true\n  }\n}\n".to_owned());
    }
    let json = Json::parse(text).map_err(|(at, expected)| format!("byte {at}: {expected}"))?;
    let put = |at: usize, inserted: &str| format!("{}{inserted}{}", &text[..at], &text[at..]);
    if let Some(set) = json.get(&["features", "cdi"]) {
        return Ok(format!(
            "{}true{}",
            &text[..set.span.start],
            &text[set.span.end..]
        ));
    }
    let (object, name, value) = match json.get(&["features"]) {
        Some(features) => (features, "\"cdi\": ", None),
        None => (&json, "\"features\": ", Some("\"cdi\": true")),
    };
    let start = object.span.start + 1;
    let first = object
        .members()
        .first()
        .map(|member| member.name_span.start);
    let Some(first) = first else {
        let inner = value.map_or_else(|| "true".to_owned(), |value| format!("{{{value}}}"));
        return match object.value {
            super::json::Value::Object(_) => Ok(put(start, &format!("{name}{inner}"))),
            _ => Err("it has no object where one is expected".to_owned()),
        };
    };
    let space = &text[start..first];
    let inner = match value {
        None => "true".to_owned(),
        Some(value) if space.contains('\n') => {
            let indent = space.rsplit('\n').next().unwrap_or_default();
            format!("{{{space}{indent}{value}{space}}}")
        }
        Some(value) => format!("{{{value}}}"),
    };
    let space = if space.is_empty() { " " } else { space };
    Ok(put(first, &format!("{name}{inner},{space}")))
}

#[cfg(test)]
mod tests;
