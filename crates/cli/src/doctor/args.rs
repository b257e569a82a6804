//! What can be typed after `mizzen doctor`.

use clap::{ArgMatches, Args, Command, Error, FromArgMatches, ValueEnum};
use mizzen_core::config::{RawConfig, Setting};

use crate::agent;

/// What the command is for.
pub(crate) const ABOUT: &str = "\
Look for what keeps pods from their GPUs, and say how to mend it.

Looks at settings, driver, NVML, GPUs, device nodes, CDI specs, container runtime, kubelet,
registration, agent, permissions and clock, in the order in which they depend on each other, and
changes nothing. Each finding says what it means, and the command that mends it. Run it as root on a
node, or in the agent's pod:

  kubectl -n mizzen-system exec daemonset/mizzen-agent -- mizzen doctor

docs/doctor.md lists symptoms and the findings that explain them.";

const AFTER: &str = "\
The settings are those of the agent, from flags, environment and config file; --help lists all.

Exit codes:
  0    nothing is wrong; hints and warnings may have been told
  1    there is an error, or with --strict a warning
  2    the command line cannot be understood

Examples:
  sudo mizzen doctor
  sudo mizzen doctor --config-file /etc/mizzen/config.yaml --output json
  mizzen sim host /tmp/node --driver-layout debian && mizzen doctor --host-root /tmp/node";

/// The settings that most people give; the others are in the long help.
const FIRST: [Setting; 8] = [
    Setting::ConfigFile,
    Setting::HostRoot,
    Setting::DriverRoot,
    Setting::NvmlLibrary,
    Setting::KubeletSocket,
    Setting::HealthAddress,
    Setting::MigStrategy,
    Setting::DeviceListStrategy,
];

/// What was typed after `mizzen doctor`.
#[derive(Debug)]
pub(crate) struct DoctorArgs {
    /// The settings that were given as flags.
    pub(super) settings: RawConfig,
    pub(super) answer: AnswerArgs,
}

/// How the answer is given.
#[derive(Debug, Args)]
pub(super) struct AnswerArgs {
    /// A list for people or JSON for programs
    #[arg(long, value_enum, default_value = "table", value_name = "FORM")]
    pub(super) output: AnswerForm,

    /// Exit with 1 for warnings, too
    #[arg(long)]
    pub(super) strict: bool,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum AnswerForm {
    /// For people
    Table,
    /// For programs
    Json,
}

impl Args for DoctorArgs {
    fn augment_args(command: Command) -> Command {
        let flags = agent::rows().filter_map(|row| {
            let flag = agent::flag(row, row.flag?);
            let is_first = FIRST.contains(&row.setting);
            Some(
                flag.help_heading("The agent's settings")
                    .hide_short_help(!is_first),
            )
        });
        AnswerArgs::augment_args(command)
            .args(flags)
            .after_help(AFTER)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for DoctorArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self {
            settings: agent::given(matches, agent::rows()),
            answer: AnswerArgs::from_arg_matches(matches)?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
