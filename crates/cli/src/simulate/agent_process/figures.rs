//! What the kernel says about a process.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

/// Memory, processor time and threads of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    /// Resident memory, KiB (`VmRSS`).
    pub(crate) resident_kib: u64,
    /// Of which not backed by files: its own, KiB (`RssAnon`).
    pub(crate) anonymous_kib: u64,
    /// Processor time of all its living threads.
    #[serde(rename = "cpuMs", serialize_with = "crate::simulate::picture::millis")]
    pub(crate) cpu: Duration,
    /// Threads.
    pub(crate) threads: u64,
}

impl Figures {
    /// Reads the figures of the process `pid`.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let status = std::fs::read_to_string(directory.join("status"))?;
        let mut figures = Self::from_status(&status);
        figures.cpu = processor_time(&directory)?;
        Ok(figures)
    }

    fn from_status(status: &str) -> Self {
        let mut figures = Self::default();
        for (key, value) in status.lines().filter_map(|line| line.split_once(':')) {
            let number = || {
                value
                    .split_whitespace()
                    .next()
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(0)
            };
            match key {
                "VmRSS" => figures.resident_kib = number(),
                "RssAnon" => figures.anonymous_kib = number(),
                "Threads" => figures.threads = number(),
                _ => {}
            }
        }
        figures
    }
}

/// The first number of each thread's `schedstat`: nanoseconds on a processor.
fn processor_time(directory: &Path) -> io::Result<Duration> {
    let mut total = Duration::ZERO;
    for thread in std::fs::read_dir(directory.join("task"))? {
        // A thread may end between the listing and the reading.
        let schedstat =
            std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        let nanos = schedstat
            .split_whitespace()
            .next()
            .and_then(|text| text.parse().ok());
        total += Duration::from_nanos(nanos.unwrap_or(0));
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let status = "Name:\tmizzen\nVmRSS:\t    4812 kB\nRssAnon:\t     900 kB\nThreads:\t3\n";
        let figures = Figures::from_status(status);
        assert_eq!(
            (figures.resident_kib, figures.anonymous_kib, figures.threads),
            (4812, 900, 3)
        );
    }

    #[test]
    fn a_living_process_has_memory_threads_and_time() {
        let figures = Figures::of(std::process::id().cast_signed()).unwrap();
        assert!(figures.resident_kib > 0 && figures.threads > 0 && figures.cpu > Duration::ZERO);
    }
}
