//! Whether a process grows.

use std::time::Duration;

use anyhow::Result;

use super::super::process::{Held, Process, Resident};
use super::super::samples::ms;

/// By how much the median of the last fifth may be above that of the first: what is known of
/// faults, and kept, takes a while to be complete.
const MORE_KIB: u64 = 512;
/// By how many the median of threads may be above: calls that hang at the moment.
const MORE_THREADS: u64 = 2;
/// By how many that of descriptors may: two profiles of which there was no device for long, each
/// with a socket and a connection.
const MORE_DESCRIPTORS: u64 = 4;
/// By how many they may, from before the first fault to after the last is healed.
const MORE_LEFT: usize = 1;

/// What a process holds at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    resident: Resident,
    held: Held,
}

impl Look {
    pub(super) fn at(process: &Process) -> Result<Self> {
        Ok(Self {
            resident: process.resident()?,
            held: process.held()?,
        })
    }

    /// It as a line of the table.
    pub(super) fn row(&self, when: &str, faults: usize, slowest: Duration) -> String {
        let mib = super::super::mib;
        let slowest = if slowest.is_zero() {
            String::new()
        } else {
            ms(slowest)
        };
        format!(
            "| {when} | {:.2} MiB ({:.2}) | {} | {} | {faults} | {slowest} |",
            mib(self.resident.total_kib),
            mib(self.resident.anonymous_kib),
            self.held.descriptors,
            self.held.threads,
        )
    }

    /// What is there after all faults that was not before the first.
    pub(super) fn left_behind(&self, after: &Self) -> Vec<String> {
        let held = [
            ("descriptors", self.held.descriptors, after.held.descriptors),
            ("threads", self.held.threads, after.held.threads),
        ];
        let more = held
            .into_iter()
            .filter(|(_, before, after)| *after > before + MORE_LEFT);
        more.map(|(what, before, after)| {
            format!("{before} {what} at the start, {after} at the end")
        })
        .collect()
    }
}

/// What it held at many moments, in order.
#[derive(Debug, Default)]
pub(super) struct Looks(Vec<Look>);

impl Looks {
    pub(super) fn push(&mut self, look: Look) {
        self.0.push(look);
    }

    /// What is more in the last fifth than in the first, in words.
    pub(super) fn grown(&self) -> Vec<String> {
        let held = |count| u64::try_from(count).unwrap_or(u64::MAX);
        [
            self.more("KiB resident", MORE_KIB, |look| look.resident.total_kib),
            self.more("KiB anonymous", MORE_KIB, |look| {
                look.resident.anonymous_kib
            }),
            self.more("descriptors", MORE_DESCRIPTORS, |look| {
                held(look.held.descriptors)
            }),
            self.more("threads", MORE_THREADS, |look| held(look.held.threads)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn more(&self, what: &str, allowed: u64, of: impl Fn(&Look) -> u64) -> Option<String> {
        let fifth = self.0.len() / 5;
        let first = median(self.0.iter().take(fifth).map(&of));
        let last = median(self.0.iter().rev().take(fifth).map(&of));
        (last > first + allowed).then(|| {
            format!("{first} {what} in the first fifth, {last} in the last ({allowed} more may be)")
        })
    }
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(kib: u64, threads: usize) -> Look {
        Look {
            resident: Resident {
                total_kib: 8000,
                anonymous_kib: kib,
            },
            held: Held {
                threads,
                descriptors: 20,
            },
        }
    }

    #[test]
    fn a_leak_is_told_and_a_hanging_call_at_the_end_is_not() {
        let mut steady = Looks((0..100).map(|_| look(2000, 7)).collect());
        steady.push(look(90_000, 15));
        assert_eq!(steady.grown(), [""; 0]);
        let leaking = Looks((0..100).map(|at| look(2000 + 10 * at, 7)).collect());
        let [told] = &leaking.grown()[..] else {
            unreachable!("one thing grows: {:?}", leaking.grown())
        };
        assert!(told.contains("2100 KiB anonymous"), "{told}");
        let spawning = Looks((0..100).map(|at| look(2000, 7 + at / 10)).collect());
        assert!(spawning.grown()[0].contains("threads"));
    }

    #[test]
    fn what_stays_after_the_last_fault_is_told() {
        assert_eq!(look(0, 7).left_behind(&look(9000, 8)), [""; 0]);
        let left = look(0, 7).left_behind(&look(0, 9));
        assert_eq!(left, ["7 threads at the start, 9 at the end"]);
    }
}
