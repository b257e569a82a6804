//! One server process of the cluster: started in a session of its own, found again by a
//! later run through its pid file, and stopped by its process id, never by its name.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::time::{Instant, sleep};

use crate::layout::Layout;

/// How long a server may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// How often the end of a process is looked for.
const POLL: Duration = Duration::from_millis(20);

/// How to start a server.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    pid_file: PathBuf,
    log: PathBuf,
}

impl Server {
    /// A server called `name`, with its log and pid file in the cluster's directories.
    pub(crate) fn new(layout: &Layout, name: &'static str, program: PathBuf) -> Self {
        Self {
            name,
            program,
            arguments: Vec::new(),
            environment: Vec::new(),
            pid_file: layout.run().join(format!("{name}.pid")),
            log: layout.logs().join(format!("{name}.log")),
        }
    }

    /// Adds one argument.
    pub(crate) fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds `--name=value`, with a path as its value.
    pub(crate) fn path_flag(self, name: &str, path: &Path) -> Self {
        self.arg(format!("--{name}={}", path.display()))
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Its name in logs and messages.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Where it logs.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Starts it, appending to its log, and records its process id.
    pub(crate) fn start(&self) -> Result<()> {
        if let Some(process) = self.process() {
            bail!("{} runs already, as process {}", self.name, process.pid);
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // An interrupt at the terminal is for the suite, which then stops its servers.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        let process = Process::of(child.id().try_into()?)
            .with_context(|| format!("{} ended at once: see {}", self.name, self.log.display()))?;
        fs::write(
            &self.pid_file,
            format!("{} {}\n", process.pid, process.started),
        )?;
        Ok(())
    }

    /// The running process, if the pid file names one that still lives.
    pub(crate) fn process(&self) -> Option<Process> {
        let recorded = fs::read_to_string(&self.pid_file).ok()?;
        let mut words = recorded.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        let started: u64 = words.next()?.parse().ok()?;
        Process::of(pid).filter(|process| process.started == started)
    }

    /// Ends it with SIGTERM, then SIGKILL; nothing happens when it does not run.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.end(Signal::TERM).await
    }

    /// Ends it with SIGKILL.
    pub(crate) async fn kill(&self) -> Result<()> {
        self.end(Signal::KILL).await
    }

    async fn end(&self, signal: Signal) -> Result<()> {
        if let Some(process) = self.process() {
            process
                .end(signal)
                .await
                .with_context(|| format!("stop {}", self.name))?;
        }
        if self.pid_file.exists() {
            fs::remove_file(&self.pid_file)?;
        }
        Ok(())
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// A process, told apart from a later one with the same id by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its process id.
    pub(crate) pid: i32,
    /// Clock ticks from the machine's start to the process's (proc(5), stat field 22).
    pub(crate) started: u64,
}

impl Process {
    /// The living process of that id; a zombie is not alive.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command's name is in parentheses and may itself hold any of them.
        let mut after_name = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
        let state = after_name.next()?;
        let started = after_name.nth(18)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(Self { pid, started })
    }

    /// The program it runs.
    pub(crate) fn program(self) -> Option<PathBuf> {
        fs::read_link(self.path("exe")).ok()
    }

    /// Its command line, arguments separated by spaces.
    pub(crate) fn command_line(self) -> String {
        let bytes = fs::read(self.path("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    }

    /// A path below its directory in /proc.
    pub(crate) fn path(self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(name)
    }

    /// A file of its directory in /proc.
    pub(crate) fn file(self, name: &str) -> Result<String> {
        let path = self.path(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// Whether it runs in a pod's control group.
    pub(crate) fn is_in_a_pod(self) -> bool {
        self.file("cgroup")
            .is_ok_and(|groups| groups.contains("/kubepods"))
    }

    /// Every process of the machine.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let ids = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        Ok(ids.filter_map(Self::of).collect())
    }

    /// Sends a signal and waits for its end, with SIGKILL after the time of grace.
    pub(crate) async fn end(self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid).context("process ids are positive")?;
        let killed_at = Instant::now() + GRACE;
        let given_up_at = killed_at + GRACE;
        send(pid, signal)?;
        while Process::of(self.pid) == Some(self) {
            let now = Instant::now();
            if now > given_up_at {
                bail!("process {} does not end", self.pid);
            }
            if now > killed_at {
                send(pid, Signal::KILL)?;
            }
            sleep(POLL).await;
        }
        // Reaped if it was this process's child; whose it otherwise was sees to it.
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        Ok(())
    }
}

fn send(pid: Pid, signal: Signal) -> Result<()> {
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(directory: &Path) -> Server {
        let layout = Layout::new(directory).unwrap();
        fs::create_dir_all(layout.run()).unwrap();
        fs::create_dir_all(layout.logs()).unwrap();
        Server::new(&layout, "sleeper", PathBuf::from("/bin/sleep")).arg("60")
    }

    #[tokio::test]
    async fn a_started_server_is_found_by_its_pid_file_and_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let server = sleeper(directory.path());
        server.start().unwrap();
        let process = server.process().unwrap();
        assert!(server.start().is_err(), "a second start is refused");
        server.stop().await.unwrap();
        assert_eq!(Process::of(process.pid), None);
        assert_eq!(server.process(), None);
    }

    #[tokio::test]
    async fn a_pid_file_of_an_earlier_process_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let server = sleeper(directory.path());
        let own = Process::of(std::process::id().try_into().unwrap()).unwrap();
        let text = format!("{} {}\n", own.pid, own.started + 1);
        fs::write(&server.pid_file, text).unwrap();
        assert_eq!(server.process(), None);
        // Were it believed, this test would end here.
        server.kill().await.unwrap();
    }
}
