//! The plugin under measurement as a process, and what the kernel says of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::Instant;

/// How to start a plugin.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    /// Program and arguments.
    pub(super) command: Vec<String>,
    /// Environment on top of our own.
    pub(super) environment: Vec<(String, String)>,
    /// Where its output goes.
    pub(super) log: PathBuf,
}

/// A running plugin; killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Just before the process was made.
    pub(super) started: Instant,
}

/// What a process uses of the kernel's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) threads: usize,
    pub(super) descriptors: usize,
}

/// Memory that is resident, in KiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resident {
    pub(super) total_kib: u64,
    pub(super) anonymous_kib: u64,
}

/// What a process has done so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) on_cpu: Duration,
    /// Voluntary context switches: each is a sleep that something ended.
    pub(super) wake_ups: u64,
}

impl Process {
    /// Starts the plugin.
    pub(super) fn start(recipe: &Recipe) -> Result<Self> {
        let (program, arguments) = recipe.command.split_first().context("an empty command")?;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&recipe.log)?;
        let started = Instant::now();
        let child = Command::new(program)
            .args(arguments)
            .envs(recipe.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        Ok(Self { child, started })
    }

    /// Asks the plugin to read its configuration again.
    pub(super) fn reload(&self) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        let pid = rustix::process::Pid::from_raw(pid).context("a running process has a pid")?;
        Ok(rustix::process::kill_process(
            pid,
            rustix::process::Signal::HUP,
        )?)
    }

    /// Threads and open descriptors.
    pub(super) fn held(&self) -> Result<Held> {
        let count = |what| -> Result<usize> { Ok(fs::read_dir(self.proc().join(what))?.count()) };
        Ok(Held {
            threads: count("task")?,
            descriptors: count("fd")?,
        })
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// The most memory that was resident so far, in KiB; an error once it has ended.
    pub(super) fn peak_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(self.proc().join("status"))?;
        status_field(&status, "VmHWM")
    }

    /// Resident memory.
    pub(super) fn resident(&self) -> Result<Resident> {
        let status = fs::read_to_string(self.proc().join("status"))?;
        Ok(Resident {
            total_kib: status_field(&status, "VmRSS")?,
            anonymous_kib: status_field(&status, "RssAnon")?,
        })
    }

    /// Processor time of all threads that have ever been.
    pub(super) fn processor_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(self.proc().join("stat"))?;
        // The program's name may have blanks and brackets in it; user and system time are the
        // 14th and 15th field (`proc_pid_stat(5)`).
        let (_, rest) = stat.rsplit_once(')').context("no name in its stat")?;
        let mut ticks = 0;
        for field in rest.split_whitespace().skip(14 - 3).take(2) {
            ticks += field.parse::<u64>()?;
        }
        let millis = ticks * 1000 / rustix::param::clock_ticks_per_second();
        Ok(Duration::from_millis(millis))
    }

    /// Processor time and wake-ups of all threads that are alive now.
    pub(super) fn work(&self) -> Result<Work> {
        let mut work = Work {
            on_cpu: Duration::ZERO,
            wake_ups: 0,
        };
        for task in fs::read_dir(self.proc().join("task"))? {
            let task = task?.path();
            let schedstat = fs::read_to_string(task.join("schedstat"))?;
            let nanoseconds = schedstat
                .split(' ')
                .next()
                .context("an empty schedstat")?
                .parse()?;
            work.on_cpu += Duration::from_nanos(nanoseconds);
            let status = fs::read_to_string(task.join("status"))?;
            work.wake_ups += status_field(&status, "voluntary_ctxt_switches")?;
        }
        Ok(work)
    }

    fn proc(&self) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number of `/proc/<pid>/status` (`proc_pid_status(5)`).
fn status_field(status: &str, field: &str) -> Result<u64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .and_then(|value| value.split_whitespace().next())
        .with_context(|| format!("no {field} in /proc/<pid>/status"))?
        .parse()
        .with_context(|| format!("{field} is no number"))
}
