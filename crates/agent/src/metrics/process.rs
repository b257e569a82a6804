//! What the operating system tells of this process.

use std::fs;
use std::path::Path;
use std::time::Duration;

use mizzen_core::metrics::ProcessFacts;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// The process's own view of itself, whatever root the host's files have.
const PROC: &str = "/proc";

/// What is told now; `None` where it cannot be read.
pub(super) fn facts() -> Option<ProcessFacts> {
    let proc = Path::new(PROC);
    let stat = fs::read_to_string(proc.join("self/stat")).ok()?;
    let boot = fs::read_to_string(proc.join("stat")).ok()?;
    let fds = fs::read_dir(proc.join("self/fd")).ok()?.count();
    let ticks = clock_ticks_per_second();
    let started = started(&stat)? / ticks;
    let (user, system) = (field(&stat, 14)?, field(&stat, 15)?);
    let resident = field(&stat, 24)?;
    Some(ProcessFacts {
        resident: resident * page_size() as u64,
        virtual_size: field(&stat, 23)?,
        cpu: Duration::from_millis((user + system) * 1000 / ticks),
        // The directory that is being read is one.
        open_fds: (fds as u64).saturating_sub(1),
        max_fds: getrlimit(Resource::Nofile).current,
        threads: field(&stat, 20)?,
        started: boot_time(&boot)? + started,
    })
}

/// When a process was started, in ticks since the machine was, of the text of its
/// `/proc/<pid>/stat`.
pub(super) fn started(stat: &str) -> Option<u64> {
    field(stat, 22)
}

/// A field of that text by its number in `proc_pid_stat(5)`, from the third on: the second, the
/// program's name, may have blanks and brackets in it.
fn field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number - 3)?.parse().ok()
}

/// When the machine was started, in seconds since 1970, of the text of `/proc/stat`.
fn boot_time(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn this_process_is_told_of() {
        let facts = facts().unwrap();
        assert!(facts.resident > 1 << 20 && facts.virtual_size > facts.resident);
        assert!(facts.threads >= 1 && facts.open_fds >= 3);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        assert!(facts.started <= now + 1 && facts.started + 24 * 3600 > now);
    }

    #[test]
    fn names_of_programs_may_look_like_fields() {
        let stat = "7 (x) y 1 2) S 1 2 3";
        assert_eq!(field(stat, 4), Some(1));
        assert_eq!(field(stat, 7), None);
        assert_eq!(boot_time("cpu 1\nbtime 12\n"), Some(12));
    }
}
