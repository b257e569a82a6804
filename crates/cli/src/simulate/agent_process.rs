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

    /// The next line of its log; `None` when it has closed it. Cancel safe.
    pub(crate) async fn next_log_line(&mut self) -> io::Result<Option<String>> {
        self.log.next_line().await
    }

    /// Its memory, processor time and threads at this moment.
    pub(crate) fn figures(&self) -> io::Result<Figures> {
        Figures::of(self.pid())
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
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
