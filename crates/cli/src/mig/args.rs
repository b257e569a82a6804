//! What can be typed after `mizzen mig`.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{ArgGroup, ArgMatches, Args, Command, Error, FromArgMatches, Subcommand, ValueEnum};
use mizzen_core::config::{RawConfig, SETTINGS, Setting};

use super::Stop;
use super::pods::Kubelet;
use crate::agent;
use crate::target::Target;

/// What the command is for.
pub(crate) const ABOUT: &str = "\
Cut GPUs into MIG devices: show, plan, apply, export and check how they are partitioned.

Unlike nvidia-mig-parted, which clears a GPU before it changes it, this finds the change that
destroys the fewest MIG devices, shows it before it is made, and leaves alone what pods hold. It
reads the config files of nvidia-mig-parted. docs/mig.md is a guide.";

const EXAMPLES: &str = "\
Examples:
  mizzen mig profiles
      what the GPUs can be cut into, and how much of it is free
  mizzen mig plan 3g.40gb,1g.10gb*2 --gpu 0
      what would be kept, destroyed and made, in a drawing and in words; changes nothing
  mizzen mig apply -f config.yaml -c all-balanced
      the same, and then does it
  mizzen mig export > now.yaml && mizzen mig assert -f now.yaml -c current
      how the GPUs are cut now, as a file that `apply` and `assert` take

The driver is found as the agent finds it. On the simulated driver:
  mizzen sim library /tmp/nvml
  mizzen mig profiles --nvml-library /tmp/nvml/libnvidia-ml.so.1";

const TARGET_HELP: &str = "\
TARGET is a list of MIG devices, `3g.40gb,1g.10gb*2` (`1c.3g.40gb` is a part of a 3g.40gb),
`empty` for MIG on without devices, or `off`; or the name of a config with -c. A config is looked
for in the file of -f (the format of nvidia-mig-parted, version v1) and then among the built-in
ones, which need no file: all-disabled, all-enabled, all-balanced, all-<profile> (all-1g.10gb,
all-1g.10gb.me). With a file of one config -c can be left out.";

const CHANGE_HELP: &str = "\
Before MIG devices are destroyed or a mode is changed, the kubelet is asked which pods hold them;
what is held stays, and what cannot be done because of that is refused. Without a kubelet the
driver's own check has to do, which refuses what a process uses.

On GPUs before Hopper, MIG is turned on and off by a reset of the GPU
(`nvidia-smi --gpu-reset -i 0`): `apply` ends there with exit code 3 and is to be run again after
it.";

const PLAN_CODES: &str = "\
Exit codes:
  0    it can be done, or there is nothing to do
  1    it cannot: the reason is told for each GPU
  2    the command line or the config file cannot be understood";

const APPLY_CODES: &str = "\
Exit codes:
  0    the GPUs are as wanted
  1    one is not: the reason is told; the other GPUs were changed all the same
  2    the command line or the config file cannot be understood
  3    nothing failed, but a GPU must be reset before it goes on";

const ASSERT_CODES: &str = "\
Exit codes:
  0    every GPU is as the target says
  1    one is not, or cannot be asked; each is told with what it lacks and has too many of
  2    the command line or the config file cannot be understood";

/// What was typed after `mizzen mig`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct MigArgs {
    #[command(flatten)]
    pub(super) driver: DriverArgs,

    #[command(subcommand)]
    pub(super) command: MigCommand,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(super) enum MigCommand {
    /// Show what the GPUs can be cut into, and what is free
    #[command(after_long_help = "\
Examples:
  mizzen mig profiles
  mizzen mig profiles --gpu 0,2 --output json")]
    Profiles(ProfilesArgs),
    /// Show how the GPUs would be cut anew, and change nothing
    #[command(after_long_help = [TARGET_HELP, CHANGE_HELP, PLAN_CODES, "\
Examples:
  mizzen mig plan all-1g.10gb
  mizzen mig plan 3g.40gb,1g.10gb*2 --gpu 0
  mizzen mig plan -f config.yaml -c inference --output json"].join("\n\n"))]
    Plan(PlanArgs),
    /// Cut the GPUs as wanted, keeping what can be kept
    #[command(after_long_help = [TARGET_HELP, CHANGE_HELP, APPLY_CODES, "\
Examples:
  mizzen mig apply 3g.40gb,1g.10gb*2 --gpu 0
  mizzen mig apply -f config.yaml -c inference
  mizzen mig apply off --gpu 0 --dry-run"].join("\n\n"))]
    Apply(ApplyArgs),
    /// Print how the GPUs are cut now, as a config file of nvidia-mig-parted
    #[command(after_long_help = "\
GPUs that cannot be partitioned are left out. An empty GPU instance has no place in such a file:
the command says so.

Examples:
  mizzen mig export > now.yaml
  mizzen mig assert -f now.yaml")]
    Export(ExportArgs),
    /// Check whether the GPUs are cut as they should be
    #[command(after_long_help = [TARGET_HELP, ASSERT_CODES, "\
Examples:
  mizzen mig assert -c all-balanced
  mizzen mig assert -f config.yaml -c inference --mode-only"].join("\n\n"))]
    Assert(AssertArgs),
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum AnswerForm {
    /// For people
    Table,
    /// For programs
    Json,
}

/// How a config is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FileForm {
    /// As people write it
    Yaml,
    /// The same as JSON
    Json,
}

/// The GPUs that are meant.
#[derive(Debug, Args)]
pub(super) struct WhichArgs {
    /// Index, UUID or PCI bus id, several with commas. Default: all that can be partitioned
    #[arg(long, short, short_alias = 'i', value_name = "GPU")]
    pub(super) gpu: Option<Target>,
}

/// What the GPUs are to be cut into.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true).multiple(true).args(["devices", "config", "file"]))]
pub(super) struct TargetArgs {
    /// MIG devices such as 3g.40gb,1g.10gb*2, or `empty`, or `off`, or a built-in config
    #[arg(value_name = "TARGET", conflicts_with_all = ["config", "file"])]
    pub(super) devices: Option<String>,

    /// The name of a config
    #[arg(short, long, alias = "selected-config", value_name = "NAME")]
    pub(super) config: Option<String>,

    /// The file of configs; `-` is standard input
    #[arg(short, long, alias = "config-file", value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
}

/// `mizzen mig profiles …`
#[derive(Debug, Args)]
pub(super) struct ProfilesArgs {
    #[command(flatten)]
    pub(super) which: WhichArgs,

    /// A table for people or JSON for programs
    #[arg(long, value_enum, default_value = "table", value_name = "FORM")]
    pub(super) output: AnswerForm,
}

/// `mizzen mig plan …`
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,

    #[command(flatten)]
    pub(super) which: WhichArgs,

    /// The kubelet's socket that tells which pods hold devices
    ///
    /// Default: the one beside the kubelet's device-plugins; where that does not exist there is no
    /// kubelet to ask
    #[arg(long, value_name = "PATH")]
    pod_resources_socket: Option<PathBuf>,

    /// Do not ask the kubelet: what pods hold may be destroyed
    #[arg(long)]
    pub(super) force: bool,

    /// Draw the plan as a picture too (SVG)
    #[arg(long, value_name = "FILE")]
    pub(super) picture: Option<PathBuf>,

    /// A drawing for people or JSON for programs
    #[arg(long, value_enum, default_value = "table", value_name = "FORM")]
    pub(super) output: AnswerForm,
}

impl PlanArgs {
    /// Whether they agree with one another.
    pub(super) fn check(&self) -> Result<(), Stop> {
        if self.picture.is_some() && self.output == AnswerForm::Json {
            return Err(Stop::misunderstood(anyhow!(
                "--picture draws what is printed for people, not --output json"
            )));
        }
        Ok(())
    }

    /// The kubelet that these flags and the environment name, or the usual one.
    pub(super) fn kubelet(&self) -> anyhow::Result<Kubelet> {
        let mut settings = RawConfig::default();
        if let Some(socket) = &self.pod_resources_socket {
            let text = socket.display().to_string();
            settings.set_flag(Setting::PodResourcesSocket, [text]);
        }
        let config = and_environment(settings, &KUBELET_SETTINGS).validate();
        let config = config.map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            anyhow!("{}", errors.join("; "))
        })?;
        Ok(Kubelet {
            socket: config.pod_resources_socket(),
            is_named: config.mig_manager.pod_resources_socket.is_some(),
        })
    }
}

/// `mizzen mig apply …`
#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    pub(super) plan: PlanArgs,

    /// Change nothing: the same as `plan`
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// `mizzen mig export …`
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    pub(super) which: WhichArgs,

    /// The name of the config
    #[arg(long, value_name = "NAME", default_value = "current", value_parser = config_name)]
    pub(super) name: String,

    /// YAML or JSON
    #[arg(long, short, value_enum, default_value = "yaml", value_name = "FORM")]
    pub(super) output: FileForm,
}

/// `mizzen mig assert …`
#[derive(Debug, Args)]
pub(super) struct AssertArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,

    #[command(flatten)]
    pub(super) which: WhichArgs,

    /// Check only whether MIG is on or off as it should be
    #[arg(long, short)]
    pub(super) mode_only: bool,

    /// A list for people or JSON for programs
    #[arg(long, value_enum, default_value = "table", value_name = "FORM")]
    pub(super) output: AnswerForm,
}

/// A name that needs no quotes in YAML, and that a node's label can have.
fn config_name(text: &str) -> Result<String, String> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let letter = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let first = text.bytes().next();
    let valid = first.is_some_and(|byte| byte.is_ascii_alphabetic())
        && letter(text.bytes().last())
        && text.bytes().all(inner)
        && text.len() <= 63;
    valid.then(|| text.to_owned()).ok_or_else(|| {
        "expected at most 63 letters, digits, '-', '_' and '.', beginning with a letter and \
         ending with a letter or digit"
            .to_owned()
    })
}

/// The agent's settings that say where the driver is.
const DRIVER_SETTINGS: [Setting; 5] = [
    Setting::DriverRoot,
    Setting::DriverRootCtrPath,
    Setting::NvmlLibrary,
    Setting::HostRoot,
    Setting::NvmlCallTimeout,
];

/// The agent's settings that say where the kubelet is.
const KUBELET_SETTINGS: [Setting; 2] = [Setting::PodResourcesSocket, Setting::KubeletSocket];

/// Settings, and the environment for what they leave open of these.
fn and_environment(settings: RawConfig, which: &[Setting]) -> RawConfig {
    let rows = SETTINGS.iter().filter(|row| which.contains(&row.setting));
    let names = rows.flat_map(|row| row.env.iter().copied());
    let known: Vec<&str> = names.collect();
    let lookup = |name: &str| {
        let asked = known.contains(&name);
        asked.then(|| agent::variable(name)).flatten()
    };
    settings.or(RawConfig::from_environment(lookup))
}

/// Where the driver is: the agent's flags.
#[derive(Debug, Clone, Default)]
pub(super) struct DriverArgs(RawConfig);

impl DriverArgs {
    /// These flags, and the environment for what they leave open.
    pub(super) fn settings(&self) -> RawConfig {
        and_environment(self.0.clone(), &DRIVER_SETTINGS)
    }
}

fn rows() -> impl Iterator<Item = &'static mizzen_core::config::SettingInfo> {
    SETTINGS
        .iter()
        .filter(|row| DRIVER_SETTINGS.contains(&row.setting))
}

impl Args for DriverArgs {
    fn augment_args(command: Command) -> Command {
        let flags = rows().filter_map(|row| {
            let flag = agent::flag(row, row.flag?);
            Some(flag.global(true).help_heading("The driver"))
        });
        command.args(flags)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for DriverArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self(agent::given(matches, rows())))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
