//! The real agent, as a process of its own: so its time to start and its memory are true.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

mod figures;

pub(crate) use figures::Figures;

/// How long the agent may take to drain and to remove its sockets.
const TIME_TO_STOP: Duration = Duration::from_secs(5);

/// How to start the agent.
#[derive(Debug, Clone)]
pub(crate) struct AgentCommand {
    /// The program: this one.
    pub(crate) binary: PathBuf,
    /// Everything after the program's name.
    pub(crate) arguments: Vec<OsString>,
    /// The variables it sees besides ours.
    pub(crate) environment: Vec<(&'static str, OsString)>,
}

/// A running agent. It ends when this is dropped, and when this process dies.
#[derive(Debug)]
pub(crate) struct AgentProcess {
    child: Child,
    pid: Pid,
    log: Lines<BufReader<ChildStderr>>,
    log_is_open: bool,
    started: Instant,
}

impl AgentProcess {
    /// Starts the agent.
    pub(crate) fn start(command: &AgentCommand) -> Result<Self> {
        let started = Instant::now();
        let mut child = Command::new(&command.binary)
            .args(&command.arguments)
            .envs(
                command
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal is for us: we end the agent when we are ready.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {} agent", command.binary.display()))?;
        let stderr = child
            .stderr
            .take()
            .context("the agent has no standard error")?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self {
            pid: pid.context("the agent ended at once")?,
            child,
            log: BufReader::new(stderr).lines(),
            log_is_open: true,
            started,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// When it was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Waits for what it does next. Cancel safe.
    pub(crate) async fn next(&mut self) -> io::Result<News> {
        if self.log_is_open {
            if let Some(line) = self.log.next_line().await? {
                return Ok(News::Line(line));
            }
            self.log_is_open = false;
        }
        self.child.wait().await.map(News::Ended)
    }

    /// Its memory, processor time and threads at this moment.
    pub(crate) fn figures(&self) -> io::Result<Figures> {
        Figures::of(self.pid())
    }

    /// Whether its end has been noticed.
    pub(crate) fn has_ended(&self) -> bool {
        self.child.id().is_none()
    }

    /// Asks it to end and, if it does not in time, ends it. Says how it went.
    pub(crate) async fn stop(&mut self) -> Result<Stopped> {
        let asked = Instant::now();
        kill_process(self.pid, Signal::TERM).context("cannot signal the agent")?;
        match tokio::time::timeout(TIME_TO_STOP, self.child.wait()).await {
            Ok(status) => Ok(Stopped::Itself {
                status: status?,
                after: asked.elapsed(),
            }),
            Err(_elapsed) => {
                self.child.kill().await?;
                Ok(Stopped::Killed)
            }
        }
    }

    /// Ends it as a crash would (SIGKILL).
    pub(crate) async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// What an agent does.
#[derive(Debug)]
pub(crate) enum News {
    /// It wrote a line to its log.
    Line(String),
    /// It ended.
    Ended(ExitStatus),
}

/// How an agent that was asked to end ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// By itself.
    Itself {
        /// What it told its parent.
        status: ExitStatus,
        /// How long it took.
        after: Duration,
    },
    /// It did not in time.
    Killed,
}
