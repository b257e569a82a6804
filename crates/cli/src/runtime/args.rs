//! What can be typed after `mizzen runtime`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use mizzen_core::runtime::{RuntimeKind, RuntimeVersion};
use mizzen_core::shell::quoted;

use crate::host_root;

/// What the command is for.
pub(crate) const ABOUT: &str = "\
Check the node's container runtime, and turn CDI on in it.

A runtime with CDI (the Container Device Interface) gives containers their GPUs by the specs that the
agent writes, without NVIDIA's container toolkit. containerd 2, Docker 28.2 and CRI-O have it on;
containerd 1.7 and Docker 25 have it and need a setting, which this command makes.";

const EXAMPLES: &str = "\
Examples:
  mizzen runtime check
      whether the runtime that the kubelet uses resolves CDI names, and how that is known
  mizzen runtime configure --dry-run
      the edit that turns CDI on, not made
  sudo mizzen runtime configure --restart
      make it, and restart the runtime, after a word on what becomes of running containers
  sudo mizzen runtime configure --undo
      take it back";

const CHECK_HELP: &str = "\
Exit codes:
  0    CDI is on, and Mizzen's specs are where the runtime looks for them
  1    CDI is off, the runtime is too old for it, or it looks for specs elsewhere
  2    the command line cannot be understood
  3    no runtime was found, or what was found does not tell";

const CONFIGURE_HELP: &str = "\
The edit is the smallest that does: a value changed, a line added, or a file dropped into a directory
that the config imports; every other byte stays as it is. What a file held before is kept beside it
in NAME.mizzen-backup, and --undo takes the edit back: to the byte if nobody has edited the file
since, else what is ours alone. Files are replaced by rename and keep their owner and mode.
Nothing is restarted unless --restart is given. containerd and CRI-O leave running containers alone
when they are restarted; Docker stops them, unless daemon.json has \"live-restore\": true.

Exit codes:
  0    it is done, or there was nothing to do
  1    it cannot be done; what can is said
  2    the command line cannot be understood, or a file cannot be read or written
  3    no runtime was found";

/// What was typed after `mizzen runtime`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct RuntimeArgs {
    #[command(subcommand)]
    pub(crate) command: RuntimeCommand,
}

/// What can be done with a runtime.
#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeCommand {
    /// Tell whether the runtime resolves CDI names, and how that is known
    #[command(after_long_help = CHECK_HELP)]
    Check(CheckArgs),
    /// Turn CDI on, or take that back
    #[command(after_long_help = CONFIGURE_HELP)]
    Configure(ConfigureArgs),
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnswerForm {
    /// For people
    Table,
    /// For programs
    Json,
}

/// A runtime, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuntimeWord {
    /// containerd
    Containerd,
    /// CRI-O
    Crio,
    /// Docker
    Docker,
}

impl From<RuntimeWord> for RuntimeKind {
    fn from(word: RuntimeWord) -> Self {
        match word {
            RuntimeWord::Containerd => Self::Containerd,
            RuntimeWord::Crio => Self::Crio,
            RuntimeWord::Docker => Self::Docker,
        }
    }
}

/// Which runtime.
#[derive(Debug, Args)]
pub(crate) struct WhichArgs {
    /// The runtime. Default: the one that the kubelet uses, or the first that is found
    #[arg(long, value_enum, value_name = "RUNTIME", help_heading = "The runtime")]
    pub(crate) runtime: Option<RuntimeWord>,

    /// Its main config, by its path on the host. Default: where it usually is
    #[arg(long, value_name = "FILE", help_heading = "The runtime")]
    pub(crate) config: Option<String>,

    /// Its socket, which is asked what it is unless --runtime says so. Default: where it usually is
    #[arg(long, value_name = "PATH", help_heading = "The runtime")]
    pub(crate) socket: Option<PathBuf>,

    /// Its version, instead of what it says itself
    #[arg(long, value_name = "VERSION", value_parser = version, help_heading = "The runtime")]
    pub(crate) runtime_version: Option<RuntimeVersion>,

    /// Where the root of the machine is for this process
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/",
        value_parser = host_root::parser(),
        help_heading = "The runtime"
    )]
    pub(crate) host_root: PathBuf,
}

impl WhichArgs {
    /// The same flags, each after a space, for a command about the same runtime.
    pub(crate) fn words(&self) -> String {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let runtime = self.runtime.and_then(|word| word.to_possible_value());
        let root = Some(&*self.host_root).filter(|root| *root != Path::new("/"));
        let given = [
            ("runtime", runtime.map(|word| word.get_name().to_owned())),
            ("config", self.config.clone()),
            ("socket", self.socket.as_deref().map(path)),
            (
                "runtime-version",
                self.runtime_version.map(|version| version.to_string()),
            ),
            ("host-root", root.map(path)),
        ];
        let words = given.into_iter().filter_map(|(name, value)| {
            let value = value?;
            Some(format!(" --{name} {}", quoted(&value)))
        });
        words.collect()
    }
}

fn version(text: &str) -> Result<RuntimeVersion, String> {
    RuntimeVersion::find(text).ok_or_else(|| "expected a version such as 1.7.24".to_owned())
}

/// `mizzen runtime check …`
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,

    /// Words for people or JSON for programs
    #[arg(long, value_enum, default_value = "table", value_name = "FORM")]
    pub(crate) output: AnswerForm,
}

/// `mizzen runtime configure …`
#[derive(Debug, Args)]
pub(crate) struct ConfigureArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,

    /// Show the edit and make it not
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Take the edit back
    #[arg(long)]
    pub(crate) undo: bool,

    /// Restart the runtime afterwards
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) restart: bool,
}
