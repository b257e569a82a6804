//! The CDI specs: whether runtimes find what containers are given, and whether it is true.

use std::collections::BTreeSet;
use std::path::Path;

use super::commands::on_host;
use super::finding::Notes;
use super::{CdiFacts, Facts, HookState, Reach, Resolved, SpecFact, counted, some};
use crate::allocate::{cdi_gpu, visible_id};
use crate::cdi::{Contents, PLUGIN_VENDOR, Wanted};
use crate::config::{Choice as _, Config, HOOK_PROGRAM};
use crate::inventory::Inventory;
use crate::pool::{DevicePool, offer};

/// How specs of the agent's are made anew.
const RENEW: &str = "kubectl -n mizzen-system rollout restart daemonset/mizzen-agent";

/// The full names of the CDI devices that containers may be given, whether or not runtimes are told
/// of devices by CDI.
pub fn device_names(inventory: &Inventory, config: &Config) -> BTreeSet<String> {
    let offer = offer(&inventory.gpus, &inventory.links, config);
    let shares = offer.pools.values().flat_map(DevicePool::shares);
    shares
        .map(|share| cdi_gpu(&visible_id(config, &share.unit(&inventory.gpus))))
        .collect()
}

pub(super) fn judge(facts: &Facts, nvml: Option<&'static str>, notes: &mut Notes) {
    let cdi = &facts.cdi;
    let strategies = &facts.settings.config.device_list_strategies;
    let awaits_agent = strategies.is_auto() && cdi.specs.is_empty() && !has_plugin(facts);
    let is_used = strategies.any_cdi() && !awaits_agent;
    for spec in &cdi.specs {
        judge_spec(spec, facts, notes);
    }
    for directory in &cdi.noexec {
        noexec(directory, notes);
    }
    if let Some(why) = nvml.filter(|_| is_used) {
        notes.skipped(&format!("{why}: which names must resolve is not known"));
    } else {
        names(cdi, is_used, strategies.is_auto(), notes);
    }
    if !notes.is_clean() {
        return;
    }
    let directories = cdi.directories.join(" and ");
    if is_used && nvml.is_none() {
        let names = counted(cdi.names.len(), "name");
        notes.ok(
            "cdi",
            format!("{names} of devices resolve in {directories}"),
        );
    } else if cdi.specs.is_empty() {
        let why = if strategies.any_cdi() {
            "; the agent writes them when it starts"
        } else {
            ", and the device-list strategy needs none"
        };
        notes.ok(
            "cdi-unused",
            format!("no spec of NVIDIA's in {directories}{why}"),
        );
    } else {
        let specs = counted(cdi.specs.len(), "spec");
        notes.ok(
            "cdi",
            format!("{specs} of NVIDIA's in {directories}, and all that they name is there"),
        );
    }
}

/// Whether a device plugin runs, even if it hangs: it has written what it wants to be written.
fn has_plugin(facts: &Facts) -> bool {
    let mut plugins = facts.registration.plugins.iter();
    plugins.any(|plugin| matches!(plugin.reach, Reach::Answered | Reach::Late(_)))
}

fn names(cdi: &CdiFacts, is_used: bool, is_auto: bool, notes: &mut Notes) {
    let unknown: Vec<&str> = cdi
        .names
        .iter()
        .filter(|(_, resolved)| *resolved == Resolved::Unknown)
        .map(|(name, _)| name.as_str())
        .collect();
    if is_used && !unknown.is_empty() {
        let all = cdi.names.len();
        notes
            .error(
                "cdi-unresolved",
                format!("{} of {all} names resolve nowhere: {}", unknown.len(), some(&unknown)),
            )
            .means(if is_auto && unknown.len() == all {
                "the agent, which has the choice (auto), offers these devices without CDI"
            } else {
                "the agent marks these devices unhealthy; a container with one would end in \
                 CreateContainerError, \"unresolvable CDI devices\""
            })
            .advise("the agent writes the specs itself: is it running, and may it write to /var/run/cdi?")
            .run(format!("mizzen cdi diff --kind {PLUGIN_VENDOR}/gpu"))
            .run(RENEW);
    }
    let conflict = cdi
        .names
        .iter()
        .find_map(|(name, resolved)| match resolved {
            Resolved::Conflict(files) => Some((name, files)),
            Resolved::Yes | Resolved::Unknown => None,
        });
    // The other names are in the same files.
    if let Some((name, files)) = conflict {
        contradiction(name, files, cdi, notes);
    }
}

/// Files that cancel each other. What the agent keeps stays, for it would write it again; which of
/// others' files is the right one is not known.
fn contradiction(name: &str, files: &[String], cdi: &CdiFacts, notes: &mut Notes) {
    let is_kept = |path: &&String| {
        let mut specs = cdi.specs.iter();
        specs.any(|spec| spec.path == **path && spec.is_kept)
    };
    let (kept, foreign): (Vec<&String>, Vec<&String>) = files.iter().partition(is_kept);
    let finding = notes
        .error(
            "cdi-conflict",
            format!("{name} is in several files: {}", files.join(", ")),
        )
        .means("files of equal rank cancel each other, and runtimes find neither");
    if kept.is_empty() || foreign.is_empty() {
        finding.advise(format!(
            "keep the one that is right, and move the others out of the directory: {}",
            files.join(" or ")
        ));
        return;
    }
    let paths: Vec<String> = foreign.iter().map(|path| on_host(path)).collect();
    finding
        .advise(format!(
            "the agent keeps {} itself; the other is somebody else's",
            kept[0]
        ))
        .run(format!("sudo rm {}", paths.join(" ")));
}

fn judge_spec(spec: &SpecFact, facts: &Facts, notes: &mut Notes) {
    let path = &spec.path;
    if let Some(mistake) = &spec.mistake {
        notes
            .warning("cdi-invalid", format!("{path}: {mistake}"))
            .means("runtimes pass the file over, and find none of its devices")
            .run(format!("mizzen cdi validate {}", on_host(path)));
        return;
    }
    let renew = renewal(spec);
    let running = facts.driver.module.as_deref();
    if let (Some(version), Some(running)) = (spec.driver_version.as_deref(), running)
        && version != running
    {
        notes
            .error(
                "cdi-old-driver",
                format!("{path} is of driver {version}; {running} is running"),
            )
            .means("containers get libraries that do not fit the kernel's module, or do not start")
            .run(&renew);
    }
    let missing: Vec<&str> = spec.missing.iter().map(|file| file.path.as_str()).collect();
    if !missing.is_empty() {
        let has_node = spec.missing.iter().any(|file| file.is_node);
        let what = if has_node {
            "device nodes and files"
        } else {
            "files"
        };
        notes
            .error(
                "cdi-stale",
                format!("{path} names {what} that are not there: {}", some(&missing)),
            )
            .means("containers that get a device of it do not start")
            .run(renew);
    }
    hooks(spec, notes);
}

/// The programs that a spec has runtimes run.
fn hooks(spec: &SpecFact, notes: &mut Notes) {
    let path = &spec.path;
    for hook in &spec.hooks {
        let (id, found, command) = match hook.state {
            HookState::Runs => continue,
            HookState::Missing => (
                "cdi-hook-missing",
                format!("{path} has runtimes run {}, which is not there", hook.path),
                put_there(&hook.path),
            ),
            HookState::NotExecutable => (
                "cdi-hook-not-executable",
                format!(
                    "{path} has runtimes run {}, which may not be run",
                    hook.path
                ),
                format!("sudo chmod 755 {}", on_host(&hook.path)),
            ),
        };
        notes
            .error(id, found)
            .means("containers that get a device of it do not start")
            .advise(
                "the agent installs mizzen-hook in --hook-dir and keeps it there; another program \
                 that --nvidia-cdi-hook-path names is yours to install; --cdi-disable-hooks=all \
                 does without",
            )
            .run(command);
    }
}

/// A directory of programs for hooks from which none may be run.
fn noexec(directory: &str, notes: &mut Notes) {
    notes
        .error(
            "cdi-hook-noexec",
            format!("{directory} is on a file system that is mounted noexec"),
        )
        .means(
            "the runtime cannot start the program for hooks there, and containers that get a GPU \
             by CDI do not start",
        )
        .advise(
            "set --hook-dir (MIZZEN_HOOK_DIR) to a directory from which programs may be run, such \
             as /usr/local/bin, and in the agent's pod the hostPath volume with it; the agent then \
             makes its specs anew",
        )
        .run(format!("findmnt -T {}", on_host(directory)));
}

/// How a spec is made anew, depending on who writes it.
fn renewal(spec: &SpecFact) -> String {
    if spec.is_kept {
        return RENEW.to_owned();
    }
    let path = on_host(&spec.path);
    let wanted = spec.kind.clone();
    let wanted = wanted.and_then(|kind| Wanted::of_kind(kind, spec.names.clone()));
    let Some(Wanted { kind, contents }) = wanted else {
        return format!("mizzen cdi validate {path}");
    };
    let names = match contents {
        Contents::Gpus(names) if !names.strategies.is_empty() => {
            let words = names.strategies.iter().map(|strategy| strategy.word());
            format!(" --name-strategy {}", words.collect::<Vec<_>>().join(","))
        }
        _ => String::new(),
    };
    let is_yaml = Path::new(&spec.path).extension() == Some("yaml".as_ref());
    let form = if is_yaml { " --format yaml" } else { "" };
    // This very file, for one of another name beside it would be in conflict with it.
    format!("sudo mizzen cdi generate --kind {kind}{names}{form} --output {path}")
}

/// How a program of hooks comes where specs have it.
fn put_there(path: &str) -> String {
    if path.ends_with(&format!("/{HOOK_PROGRAM}")) {
        format!(
            "sudo mizzen hook install --dir {}",
            on_host(directory(path))
        )
    } else {
        format!("ls -l {}", on_host(path))
    }
}

/// The directory of a file.
fn directory(path: &str) -> &str {
    path.rsplit_once('/')
        .map_or("/", |(directory, _)| directory)
}
