//! What this process may do, and what time it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mizzen_core::config::Config;
use mizzen_core::doctor::{
    ClockFacts, DirectoryFact, DirectoryState, PermissionFacts, Synchronised,
};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::{Host, text};
use crate::cdi::{directories, hook};

/// Files of a node that were written while its clock was right, most likely.
const WRITTEN: [&str; 3] = [
    "var/lib/kubelet/pki/kubelet-client-current.pem",
    "etc/ld.so.cache",
    "etc/resolv.conf",
];
/// What keeps clocks, by the files of those that run.
const KEEPERS: [(&str, &str); 4] = [
    ("run/chrony/chronyd.pid", "chronyd"),
    ("run/chronyd.pid", "chronyd"),
    ("run/ntpd.pid", "ntpd"),
    ("run/ntpsec/ntpd.pid", "ntpd"),
];

pub(super) fn permissions(config: &Config, host: &Host) -> PermissionFacts {
    let held = rustix::thread::capabilities(None);
    let is_on = |path: &str, word: &str| {
        let roots = [&host.kernel, &host.files];
        let mut texts = roots.iter().filter_map(|root| text(root.join(path)));
        texts.any(|text| text == word)
    };
    let profile = is_on("sys/module/apparmor/parameters/enabled", "Y")
        .then(|| text(host.kernel.join("proc/self/attr/current")));
    PermissionFacts {
        user: rustix::process::geteuid().as_raw(),
        has_sys_admin: held.is_ok_and(|held| held.effective.contains(CapabilitySet::SYS_ADMIN)),
        directories: written_to(config, host),
        selinux: is_on("sys/fs/selinux/enforce", "1"),
        apparmor: profile
            .flatten()
            .filter(|profile| !profile.starts_with("unconfined")),
    }
}

/// The directories that an agent writes to. That of the kubelet is not its to make.
fn written_to(config: &Config, host: &Host) -> Vec<DirectoryFact> {
    let mut all = vec![(config.state_dir.clone(), "what must survive a restart")];
    if config.kubelet_socket.is_some() && config.device_plugin_dir().exists() {
        all.push((config.device_plugin_dir().to_owned(), "its sockets"));
    }
    if config.device_list_strategies.any_cdi() || !config.cdi_kinds.is_empty() {
        let specs = directories(&host.kernel).pop();
        all.extend(specs.map(|directory| (directory, "CDI specs")));
        if hook::is_ours(config) {
            all.push((
                hook::directory(config),
                "the program of the CDI specs' hooks",
            ));
        }
    }
    let fact = |(path, purpose): (PathBuf, _)| DirectoryFact {
        state: directory(&std::path::absolute(&path).unwrap_or_else(|_| path.clone())),
        path: host.shown(&path),
        is_on_host: path.starts_with(host.files.as_path()),
        purpose,
    };
    all.into_iter().map(fact).collect()
}

/// Whether a directory can be written to, or made.
fn directory(path: &Path) -> DirectoryState {
    let Some(existing) = path.ancestors().find(|ancestor| ancestor.exists()) else {
        return DirectoryState::NoDirectory;
    };
    if !existing.is_dir() {
        return DirectoryState::NoDirectory;
    }
    let access = Access::WRITE_OK | Access::EXEC_OK;
    match accessat(CWD, existing, access, AtFlags::EACCESS) {
        Ok(()) => DirectoryState::Writable,
        Err(Errno::ROFS) => DirectoryState::ReadOnly,
        Err(_) => DirectoryState::Denied,
    }
}

pub(super) fn clock(host: &Host) -> ClockFacts {
    let own = std::env::current_exe().ok();
    let others = WRITTEN.iter().map(|path| host.files.join(path));
    let written = others.chain(own).filter_map(|path| {
        let when = fs::metadata(&path).ok()?.modified().ok()?;
        Some((host.shown(&path), seconds(when)?))
    });
    ClockFacts {
        now: seconds(SystemTime::now()).unwrap_or_default(),
        newest: written.max_by_key(|(_, when)| *when),
        hardware: text(host.kernel.join("sys/class/rtc/rtc0/since_epoch"))
            .and_then(|seconds| seconds.parse().ok()),
        synchronised: synchronised(host),
    }
}

fn seconds(time: SystemTime) -> Option<i64> {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs().try_into().ok(),
        Err(before) => i64::try_from(before.duration().as_secs())
            .ok()
            .map(|ago| -ago),
    }
}

fn synchronised(host: &Host) -> Synchronised {
    let has = |path: &str| host.files.join(path).exists();
    if has("run/systemd/timesync/synchronized") {
        return Synchronised::Yes;
    }
    if let Some((_, keeper)) = KEEPERS.iter().find(|(path, _)| has(path)) {
        return Synchronised::Watched(keeper);
    }
    if has("run/systemd/timesync") {
        Synchronised::NotYet
    } else {
        Synchronised::Unknown
    }
}
