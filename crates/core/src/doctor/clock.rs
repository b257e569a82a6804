//! Whether the time can be right.

use super::finding::Notes;
use super::{ClockFacts, Synchronised};

/// How far a clock may be behind a file, or away from another clock, in seconds: a mainboard's
/// may run in local time, which is up to 14 h away.
const TOLERANCE: i64 = 300;
const LOCAL_TIME: i64 = 15 * 3600;

pub(super) fn judge(facts: &ClockFacts, notes: &mut Notes) {
    const MEANS: &str = "certificates of the kubelet and the API count as not yet valid or as \
                         expired, and the log's times mislead";
    const MEND: &str = "sudo timedatectl set-ntp true && timedatectl";
    if let Some((path, written)) = &facts.newest
        && facts.now + TOLERANCE < *written
    {
        let behind = span(*written - facts.now);
        notes
            .error(
                "clock-behind",
                format!("the clock is {behind} behind the time at which {path} was written"),
            )
            .means(MEANS)
            .run(MEND);
    }
    if let Some(hardware) = facts.hardware
        && (facts.now - hardware).abs() > LOCAL_TIME
    {
        let apart = span((facts.now - hardware).abs());
        notes
            .warning("clock-hardware", format!("the mainboard's clock is {apart} away from the system's"))
            .means("one of the two is wrong, and after a restart the system begins with the mainboard's")
            .run(MEND)
            .run("sudo hwclock --systohc");
    }
    match &facts.synchronised {
        Synchronised::NotYet => {
            notes
                .hint(
                    "clock-unsynchronised",
                    "systemd-timesyncd runs, and has not found a server of the time yet",
                )
                .means(MEANS)
                .run("timedatectl timesync-status");
        }
        Synchronised::Yes if notes.is_clean() => {
            notes.ok("clock", "the clock is sane and synchronised");
        }
        Synchronised::Watched(by) if notes.is_clean() => {
            notes.ok("clock", format!("the clock is sane; {by} keeps it"));
        }
        Synchronised::Unknown if notes.is_clean() => {
            notes.ok(
                "clock",
                "the clock is sane; whether it is synchronised cannot be seen from here",
            );
        }
        Synchronised::Yes | Synchronised::Watched(_) | Synchronised::Unknown => {}
    }
}

/// A span of time in its largest unit.
fn span(seconds: i64) -> String {
    const UNITS: [(i64, &str); 3] = [(86_400, "days"), (3_600, "hours"), (60, "minutes")];
    let unit = UNITS.iter().find(|(length, _)| seconds >= 2 * length);
    match unit {
        Some((length, name)) => format!("{} {name}", seconds / length),
        None => format!("{seconds} s"),
    }
}
