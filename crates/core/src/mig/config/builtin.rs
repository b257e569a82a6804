//! Configs that need no file, made of what the GPUs can be cut into.

use super::targets::{MigGpu, MigTargets, left};
use crate::mig::layout::{MigTable, ProfileInfo};
use crate::mig::profile::{MigProfile, ProfileExtra};
use crate::mig::target::MigTarget;

/// What a built-in name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Builtin {
    Disabled,
    Enabled,
    Balanced,
    /// As many as fit.
    Only(MigProfile),
}

const PREFIX: &str = "all-";
const WORDS: [(&str, Builtin); 3] = [
    ("all-disabled", Builtin::Disabled),
    ("all-enabled", Builtin::Enabled),
    ("all-balanced", Builtin::Balanced),
];

/// The names of configs that need no file and that at least one of the GPUs can have:
/// `all-disabled`, `all-enabled` (MIG on, no devices), `all-balanced` (two of one slice, one of
/// two, and on GPUs of seven slices one of three) and `all-<profile>` (as many as fit), in which
/// `.` stands for `+`.
pub fn builtin_names(gpus: &[MigGpu<'_>]) -> Vec<String> {
    let words = WORDS.iter();
    let words = words.filter(|(_, builtin)| targets(*builtin, gpus).is_some());
    let mut names: Vec<String> = words.map(|(word, _)| (*word).to_owned()).collect();
    let tables = gpus.iter().filter_map(|gpu| gpu.table);
    for info in tables.flat_map(|table| &table.profiles) {
        let name = format!("{PREFIX}{}", info.profile.dotted());
        if info.most > 0 && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What a name says, if it has the form of a built-in one.
pub(super) fn parse(name: &str) -> Option<Builtin> {
    if let Some((_, builtin)) = WORDS.iter().find(|(word, _)| *word == name) {
        return Some(*builtin);
    }
    let profile = MigProfile::from_dotted(name.strip_prefix(PREFIX)?)?;
    (!profile.is_split()).then_some(Builtin::Only(profile))
}

/// What it wants of each GPU; `None` if none of them can be so.
pub(super) fn targets(builtin: Builtin, gpus: &[MigGpu<'_>]) -> Option<MigTargets> {
    let mut targets = MigTargets::default();
    for gpu in gpus {
        let target = match (gpu.table, builtin) {
            // Without MIG it is as a GPU that cannot have it is.
            (_, Builtin::Disabled) => Some(MigTarget::off()),
            (table, _) => table.and_then(|table| target(builtin, table)),
        };
        if target.is_none() {
            let why = match (gpu.table, builtin) {
                (None, _) => "cannot be partitioned".to_owned(),
                (_, Builtin::Only(profile)) => format!("has no profile {profile}"),
                _ => "has no such profiles".to_owned(),
            };
            targets.remarks.push(left(gpu, &why));
        }
        targets.of.push(target);
        targets.speaks_of.push(true);
    }
    let any = targets.of.iter().any(Option::is_some);
    (any || builtin == Builtin::Disabled).then_some(targets)
}

fn target(builtin: Builtin, table: &MigTable) -> Option<MigTarget> {
    match builtin {
        Builtin::Disabled => Some(MigTarget::off()),
        Builtin::Enabled => Some(MigTarget::of([])),
        Builtin::Balanced => balanced(table),
        Builtin::Only(profile) => {
            let info = table.find(profile).filter(|info| info.most > 0)?;
            Some(MigTarget::of([(profile, info.most)]))
        }
    }
}

fn balanced(table: &MigTable) -> Option<MigTarget> {
    let slices = table.profiles.iter().map(|info| info.profile.gpu_slices);
    let counts: &[(u32, u32)] = match slices.max()? {
        7 => &[(1, 2), (2, 1), (3, 1)],
        4 => &[(1, 2), (2, 1)],
        _ => return None,
    };
    let each = counts
        .iter()
        .map(|(slices, count)| Some((plain(table, *slices)?.profile, *count)));
    let each: Option<Vec<_>> = each.collect();
    Some(MigTarget::of(each?))
}

/// The profile of so many slices that has nothing else, and of several the one with the least
/// memory.
fn plain(table: &MigTable, slices: u32) -> Option<&ProfileInfo> {
    let profiles = table.profiles.iter();
    profiles
        .filter(|info| {
            info.profile.gpu_slices == slices && info.profile.extra == ProfileExtra::None
        })
        .min_by_key(|info| info.memory_mib)
}
