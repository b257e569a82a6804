//! The CDI specs of the host.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mizzen_core::cdi::{
    Catalog, CatalogFile, CdiKind, CdiSpec, NameStrategy, Resolution, SPEC_DIRECTORIES,
    driver_version, host_paths,
};
use mizzen_core::config::Config;
use mizzen_core::doctor::{
    CdiFacts, HookFact, HookState, MissingFile, Resolved, SpecFact, device_names,
};
use mizzen_core::inventory::Inventory;

use super::Host;
use crate::cdi::{SpecStore, directories, hook as program, read_catalog, store};

/// What the vendors of NVIDIA's kinds end with.
const NVIDIA: &str = "nvidia.com";

pub(super) fn facts(host: &Host, config: &Config, inventory: Option<&Inventory>) -> CdiFacts {
    let directories = directories(&host.files);
    let catalog = read_catalog(&directories);
    let kept = store(&directories);
    let names = inventory.map(|known| device_names(known, config));
    let names = names.into_iter().flatten();
    let specs = catalog.files().iter();
    let specs: Vec<SpecFact> = specs.filter_map(|file| spec(file, &kept, host)).collect();
    CdiFacts {
        directories: SPEC_DIRECTORIES.map(str::to_owned).to_vec(),
        noexec: noexec(&specs, host, config),
        specs,
        names: names.map(|name| resolved(name, &catalog, host)).collect(),
    }
}

fn resolved(name: String, catalog: &Catalog, host: &Host) -> (String, Resolved) {
    let found = match catalog.resolve(&name) {
        Resolution::Device(..) => Resolved::Yes,
        Resolution::Unknown => Resolved::Unknown,
        Resolution::Conflict(files) => {
            let paths = files.iter().map(|file| host.shown(Path::new(&file.path)));
            Resolved::Conflict(paths.collect())
        }
    };
    (name, found)
}

/// What of a file is of interest; nothing of those of other vendors.
fn spec(file: &CatalogFile, kept: &SpecStore, host: &Host) -> Option<SpecFact> {
    let path = host.shown(Path::new(&file.path));
    let spec = match &file.spec {
        Ok(spec) => spec,
        Err(mistake) => {
            return Some(SpecFact {
                path,
                mistake: Some(mistake.clone()),
                ..SpecFact::default()
            });
        }
    };
    let kind: CdiKind = spec.kind.parse().ok()?;
    if !kind.vendor().ends_with(NVIDIA) {
        return None;
    }
    Some(SpecFact {
        path,
        mistake: None,
        kind: Some(kind),
        names: names(spec),
        is_kept: kept.keeps(Path::new(&file.path), spec),
        driver_version: driver_version(spec).map(str::to_owned),
        missing: missing(spec, host),
        hooks: hooks(spec, host),
    })
}

/// The ways in which the devices of a spec are named.
fn names(spec: &CdiSpec) -> BTreeSet<NameStrategy> {
    let names = spec.devices.iter().map(|device| device.name.as_str());
    names.filter_map(NameStrategy::of_name).collect()
}

fn missing(spec: &CdiSpec, host: &Host) -> Vec<MissingFile> {
    let mut missing: Vec<MissingFile> = Vec::new();
    for named in host_paths(spec) {
        let is_known = missing.iter().any(|file| file.path == named.path);
        if is_known || named.place.contains(".hooks[") || host.files.resolve(named.path).is_ok() {
            continue;
        }
        missing.push(MissingFile {
            path: named.path.to_owned(),
            is_node: named.is_node,
        });
    }
    missing
}

/// The programs that the spec names, each once.
fn hooks(spec: &CdiSpec, host: &Host) -> Vec<HookFact> {
    let devices = spec.devices.iter().map(|device| &device.container_edits);
    let all = devices.chain([&spec.container_edits]);
    let mut paths: Vec<&str> = all
        .flat_map(|edits| &edits.hooks)
        .map(|hook| hook.path.as_str())
        .collect();
    paths.sort_unstable();
    paths.dedup();
    let look = |path: &str| HookFact {
        path: path.to_owned(),
        state: hook(path, host),
    };
    paths.into_iter().map(look).collect()
}

/// The directories from which no program may be run, of those in which specs have one and that in
/// which the agent puts its own.
fn noexec(specs: &[SpecFact], host: &Host, config: &Config) -> Vec<String> {
    let named = specs.iter().flat_map(|spec| &spec.hooks);
    let named = named.filter_map(|hook| Path::new(&hook.path).parent());
    let installs = config.device_list_strategies.any_cdi() || !config.cdi_kinds.is_empty();
    let own = (installs && program::is_ours(config)).then_some(config.hook_dir.as_path());
    let directories: BTreeSet<&Path> = named.chain(own).collect();
    let here = |directory: &Path| {
        // What is missing is made where the directories above it lead.
        let mut each = directory.ancestors();
        each.find_map(|path| host.files.resolve(path).ok())
    };
    let is_noexec =
        |directory: &&Path| here(directory).is_some_and(|here| program::is_noexec(&here));
    let found = directories.into_iter().filter(is_noexec);
    found.map(|path| path.display().to_string()).collect()
}

fn hook(path: &str, host: &Host) -> HookState {
    let found = host.files.resolve(path).and_then(fs::metadata);
    match found {
        Err(_) => HookState::Missing,
        Ok(known) if known.is_file() && known.permissions().mode() & 0o111 != 0 => HookState::Runs,
        Ok(_) => HookState::NotExecutable,
    }
}
