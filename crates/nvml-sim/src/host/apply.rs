//! Makes the directory what the plan says, with as few changes as possible.

use rustix::io::Errno;

use super::make::Made;
use super::manifest::Manifest;
use super::plan::{Content, Entry, Plan};
use super::tree::{Found, Tree};
use super::{DeviceNode, HostError, HostReport, NodeKind};

/// An entry of the plan, and what is in its place.
struct Surveyed<'a> {
    entry: &'a Entry,
    found: Found,
    /// Whether the simulator wrote what is there.
    ours: bool,
}

/// Brings `tree` in line with `plan`, where `before` lists what an earlier call wrote. Nothing is
/// changed if anything is in the way.
pub(super) fn apply(tree: &Tree, before: &Manifest, plan: &Plan) -> Result<HostReport, HostError> {
    let entries = survey(tree, plan, before)?;
    let after = ours(&entries);
    // Empty files stay as they are where there can still be no devices.
    let empty = entries
        .iter()
        .any(|surveyed| surveyed.found == Found::EmptyFile);
    let refusal = if empty { tree.refuses_devices()? } else { None };
    let has_work = |surveyed: &Surveyed<'_>| match surveyed.found {
        Found::Same => false,
        Found::EmptyFile => surveyed.ours && refusal.is_none(),
        Found::Nothing | Found::Different | Found::InTheWay => true,
    };
    let changes = before.interrupted
        || before.gone_in(&after).next().is_some()
        || entries.iter().any(has_work);
    if changes {
        before.towards(&after).save(tree)?;
    }
    let mut report = HostReport {
        root: tree.path().to_owned(),
        device_nodes: Vec::new(),
        no_devices_because: refusal.map(reason),
        mounted_nodev: tree.is_nodev(),
        written: 0,
        removed: clear(tree, before, &after)?,
    };
    for surveyed in &entries {
        let made = if has_work(surveyed) {
            settle(tree, surveyed)?
        } else {
            None
        };
        report.written += usize::from(has_work(surveyed));
        tell(&mut report, surveyed, made);
    }
    if changes {
        after.save(tree)?;
    }
    Ok(report)
}

/// Looks at every place of the plan.
fn survey<'a>(
    tree: &Tree,
    plan: &'a Plan,
    before: &Manifest,
) -> Result<Vec<Surveyed<'a>>, HostError> {
    let look = |entry: &'a Entry| {
        let found = tree.look(entry)?;
        let ours = before.holds(entry) || found == Found::Nothing;
        if found == Found::InTheWay || (found == Found::Different && !ours) {
            let path = tree.absolute(&entry.path);
            let wanted = entry.content.noun();
            return Err(HostError::Occupied { path, wanted });
        }
        Ok(Surveyed { entry, found, ours })
    };
    plan.entries().iter().map(look).collect()
}

/// The list of what will have been written.
fn ours(entries: &[Surveyed<'_>]) -> Manifest {
    let mut manifest = Manifest::default();
    for surveyed in entries.iter().filter(|surveyed| surveyed.ours) {
        manifest.insert(surveyed.entry);
    }
    manifest
}

/// Removes what is no longer true, device nodes first. How much it was.
fn clear(tree: &Tree, before: &Manifest, after: &Manifest) -> Result<usize, HostError> {
    if before.interrupted {
        for (path, _) in before.entries() {
            tree.sweep(path)?;
        }
    }
    let mut removed = 0;
    for (path, letter) in before.gone_in(after) {
        removed += usize::from(tree.remove(path, letter)?);
    }
    Ok(removed)
}

/// Makes the entry true; says what a device node became.
fn settle(tree: &Tree, surveyed: &Surveyed<'_>) -> Result<Option<Made>, HostError> {
    match surveyed.found {
        Found::Nothing => tree.make(surveyed.entry),
        _ => tree.replace(surveyed.entry),
    }
}

/// Adds the entry to the report if it is a device node.
fn tell(report: &mut HostReport, surveyed: &Surveyed<'_>, made: Option<Made>) {
    let Content::Node(numbers) = surveyed.entry.content else {
        return;
    };
    let kind = match (made, surveyed.found) {
        (Some(made), _) => made.kind,
        (None, Found::EmptyFile) => NodeKind::EmptyFile,
        (None, _) => NodeKind::CharacterDevice,
    };
    if let Some(refusal) = made.and_then(|made| made.refusal) {
        report
            .no_devices_because
            .get_or_insert_with(|| reason(refusal));
    }
    report.device_nodes.push(DeviceNode {
        path: format!("/{}", surveyed.entry.path),
        major: numbers.major,
        minor: numbers.minor,
        kind,
    });
}

fn reason(refusal: Errno) -> String {
    match refusal {
        Errno::PERM => "this user or container may not make character devices".to_owned(),
        error => format!(
            "character devices cannot be made here: {}",
            std::io::Error::from(error)
        ),
    }
}
