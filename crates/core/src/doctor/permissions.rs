//! What this process may do, and so an agent that is started as it was.

use super::commands::on_host;
use super::finding::Notes;
use super::{DirectoryFact, DirectoryState, PermissionFacts, counted};
use crate::config::Config;
use crate::shell::quoted;

pub(super) fn judge(facts: &PermissionFacts, config: &Config, notes: &mut Notes) {
    if facts.user != 0 {
        notes
            .warning("not-root", format!("this process is user {}, not root", facts.user))
            .means("sockets and directories of the kubelet are root's: much of this report is guesswork")
            .run("sudo mizzen doctor");
    }
    if config.mig_manager.enabled && !facts.has_sys_admin {
        notes
            .error(
                "no-sys-admin",
                "--mig-manager is on, and this process lacks CAP_SYS_ADMIN",
            )
            .means("the driver lets only its holder change how GPUs are partitioned")
            .advise("make the agent's container privileged, as deploy/mizzen-mig.yaml does");
    }
    for directory in &facts.directories {
        judge_directory(directory, facts.user, notes);
    }
    if facts.selinux {
        notes
            .hint("selinux", "SELinux enforces its policy")
            .means("containers that are not privileged may be kept from sockets and device nodes")
            .advise("where something is denied: privileged containers, or the type spc_t")
            .run("sudo ausearch -m avc -ts recent");
    }
    if let Some(profile) = &facts.apparmor {
        notes
            .hint(
                "apparmor",
                format!("AppArmor confines this process: {profile}"),
            )
            .means("it may be kept from mounts, sockets and device nodes")
            .run("sudo dmesg | grep -i 'apparmor.*denied'");
    }
    if notes.is_clean() {
        let count =
            counted(facts.directories.len(), "directory").replace("directorys", "directories");
        notes.ok("permissions", format!("root; {count} can be written to"));
    }
}

fn judge_directory(directory: &DirectoryFact, user: u32, notes: &mut Notes) {
    let DirectoryFact {
        path,
        is_on_host,
        purpose,
        state,
    } = directory;
    let word = if *is_on_host {
        on_host(path)
    } else {
        quoted(path)
    };
    let means = format!("the agent cannot keep {purpose} there");
    match state {
        DirectoryState::Writable => {}
        DirectoryState::NoDirectory => {
            notes
                .error(
                    "directory-missing",
                    format!("{path} is no directory, and none can be made"),
                )
                .means(means)
                .run(format!("ls -ld {word}"))
                .run(format!("sudo mkdir -p {word}"));
        }
        DirectoryState::ReadOnly => {
            notes
                .error(
                    "directory-read-only",
                    format!("{path} is on a file system that is mounted read-only"),
                )
                .means(means)
                .advise("mount the host's directory there, writable, as deploy/mizzen.yaml does");
        }
        DirectoryState::Denied if user != 0 => {}
        DirectoryState::Denied => {
            notes
                .error("directory-denied", format!("{path} may not be written to"))
                .means(means)
                .run(format!("ls -ld {word}"));
        }
    }
}
