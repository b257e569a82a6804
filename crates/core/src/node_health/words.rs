//! The words for what is told of a node's GPUs.

use std::fmt;

use super::{GpuSight, Standing};
use crate::health::Reason;

/// Room that is kept for saying how much was left out.
const REST: usize = 60;

/// The time in UTC, as Kubernetes writes it.
pub(super) struct Utc(pub(super) u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: u64 = 86_400;
        let (year, month, day) = date(self.0 / DAY);
        let second = self.0 % DAY;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

/// Year, month and day of a day since 1970, in the calendar of 400 years (146,097 days), which are
/// counted from a March so that a leap day is the last of a year.
fn date(days: u64) -> (u64, u64, u64) {
    const FROM_YEAR_0: u64 = 719_468;
    const CYCLE: u64 = 146_097;
    let days = days + FROM_YEAR_0;
    let of_cycle = days % CYCLE;
    let year = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (year + days / CYCLE * 400 + next, month, day)
}

/// `1 GPU`, `8 GPUs`.
pub(super) fn count(gpus: usize) -> String {
    match gpus {
        1 => "1 GPU".to_owned(),
        gpus => format!("{gpus} GPUs"),
    }
}

/// `is` or `are`.
pub(super) fn are(gpus: usize) -> &'static str {
    if gpus == 1 { "is" } else { "are" }
}

/// `GPU 2 (GPU-… at 0000:03:00.0)`, or `GPUs 0-3, 7`.
pub(super) fn names(gpus: &[&GpuSight]) -> String {
    if let [gpu] = gpus {
        return format!("GPU {} ({} at {})", gpu.index, gpu.uuid, gpu.pci);
    }
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for gpu in gpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == gpu.index => *last = gpu.index,
            _ => runs.push((gpu.index, gpu.index)),
        }
    }
    let run = |(first, last): &(u32, u32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first}-{last}"),
    };
    let runs: Vec<String> = runs.iter().map(run).collect();
    format!("GPUs {}", runs.join(", "))
}

/// Tells of sick GPUs which they are, since when and why they are, and what helps; those that
/// are so for the same reasons together. What does not fit into `limit` bytes is counted.
pub(super) fn story(sick: &[&GpuSight], limit: usize) -> String {
    let mut text = String::new();
    let mut told = 0;
    for group in alike(sick) {
        let sentence = sentence(&group);
        let sentence = match text.as_str() {
            "" => sentence,
            _ => format!(". {sentence}"),
        };
        let last = told + group.len() == sick.len();
        let room = if last { limit } else { limit - REST };
        if told > 0 && text.len() + sentence.len() > room {
            break;
        }
        text.push_str(&sentence);
        told += group.len();
    }
    match sick.len() - told {
        0 => text,
        rest => format!("{text}. {} more {} not well", count(rest), are(rest)),
    }
}

/// The GPUs in groups of those that have the same troubles, by their first ones' order.
fn alike<'a>(gpus: &[&'a GpuSight]) -> Vec<Vec<&'a GpuSight>> {
    let mut groups: Vec<Vec<&GpuSight>> = Vec::new();
    for gpu in gpus {
        let same = |group: &&mut Vec<&GpuSight>| group[0].causes() == gpu.causes();
        match groups.iter_mut().find(same) {
            Some(group) => group.push(gpu),
            None => groups.push(vec![gpu]),
        }
    }
    groups
}

fn sentence(group: &[&GpuSight]) -> String {
    let first = group[0];
    let troubles = group.iter().flat_map(|gpu| &gpu.troubles);
    let since = troubles.map(|trouble| trouble.since).min();
    let since = since.map_or_else(String::new, |since| format!(" since {}", Utc(since)));
    let word = match first.standing() {
        Standing::Lost => "lost",
        _ => "unhealthy",
    };
    let (who, are, why) = (names(group), are(group.len()), headlines(first));
    match remedy(first) {
        Some(remedy) => format!("{who} {are} {word}{since}: {why}; to do: {remedy}"),
        None => format!("{who} {are} {word}{since}: {why}"),
    }
}

/// What is wrong with a GPU.
pub(super) fn headlines(gpu: &GpuSight) -> String {
    let headline = |trouble: &super::Trouble| match &trouble.part {
        Some(part) => format!("{part}: {}", trouble.reason),
        None => trouble.reason.to_string(),
    };
    let headlines: Vec<String> = gpu.troubles.iter().map(headline).collect();
    headlines.join("; ")
}

/// What helps: what the driver asks for, or else what the gravest of the troubles is cured with.
fn remedy(gpu: &GpuSight) -> Option<&'static str> {
    let rank = |reason: &Reason| {
        let asked = matches!(reason, Reason::RecoveryAction(_));
        (asked, reason.is_beyond_recovery())
    };
    let reasons = gpu.troubles.iter().map(|trouble| &trouble.reason);
    // Of equals the first, which mostly is the cause of the others.
    let gravest = reasons.rev().max_by_key(|reason| rank(reason));
    gravest.map(Reason::advice)
}

/// `message`, cut between letters to what `limit` bytes can hold.
pub fn shortened(message: &str, limit: usize) -> String {
    const MARK: &str = " …";
    if message.len() <= limit {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(limit - MARK.len());
    format!("{}{MARK}", &message[..end])
}
