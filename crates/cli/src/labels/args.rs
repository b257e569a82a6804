//! What can be typed after `mizzen labels`, made from the table of all settings.

use std::path::Path;

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches, Parser};
use mizzen_agent::read_config_file;
use mizzen_core::config::{
    Config, LABEL_SETTINGS, LabelsTo, RawConfig, SETTINGS, Setting, SettingInfo, file,
};

use crate::agent;
use crate::host_root;

/// What the command is for.
pub(crate) const ABOUT: &str = "\
Tell what GPUs the node has, as node labels: those of NVIDIA's gpu-feature-discovery

Names, values, flags and variables are those of gpu-feature-discovery, and the config file is the
agent's. With --oneshot the labels are printed as lines of key=value, or written to a file;
without, the node is looked at again and again, and the file, which Node Feature Discovery reads,
is written anew when a label changes. With --labels-to node the Node itself gets them, with
--labels-to node-feature a NodeFeature object does. docs/labels.md tells every label.";

const HELP: &str = "\
Signals: SIGTERM, SIGINT and SIGQUIT end it and remove the file, if it looks again and again;
SIGHUP has it read its settings anew.

Exit codes:
  0    the labels were told
  1    the driver cannot be asked, the file cannot be written or the API does not take the labels
  2    the command line, the environment or the config file cannot be understood

Examples:
  mizzen labels --oneshot
      the labels of this node
  mizzen labels --oneshot --mig-strategy mixed --no-timestamp --output gfd
      the same with those of MIG devices, in a file
  mizzen labels
      keep the file of Node Feature Discovery as the node is
  mizzen labels --oneshot --labels-to node --node-name NODE --kubeconfig ~/.kube/config
      label the Node, which no Node Feature Discovery is needed for";

/// The settings of the agent that decide about labels.
const SHARED: [Setting; 15] = [
    Setting::LabelsTo,
    Setting::NodeName,
    Setting::NodeFeatureNamespace,
    Setting::Kubeconfig,
    Setting::MigStrategy,
    Setting::FailOnInitError,
    Setting::DriverRoot,
    Setting::DriverRootCtrPath,
    Setting::MpsRoot,
    Setting::IncludeGpus,
    Setting::ExcludeGpus,
    Setting::DeviceDiscoveryStrategy,
    Setting::ConfigFile,
    Setting::HostRoot,
    Setting::NvmlLibrary,
];

/// Variables that the reference reads with this before their names, too.
const PREFIX: &str = "GFD_";
const PREFIXED: [&str; 3] = ["MIG_STRATEGY", "FAIL_ON_INIT_ERROR", "CONFIG_FILE"];

fn rows() -> impl Iterator<Item = &'static SettingInfo> {
    let is_one =
        |row: &&SettingInfo| SHARED.contains(&row.setting) || LABEL_SETTINGS.contains(&row.setting);
    SETTINGS.iter().filter(is_one)
}

/// The command's flags alone, for the reason that the agent's have a parser of their own.
#[derive(Debug, Parser)]
#[command(name = "mizzen labels", bin_name = "mizzen labels", version, long_about = ABOUT)]
pub(crate) struct LabelsCli {
    #[command(flatten)]
    pub(crate) args: LabelsArgs,
}

/// What was typed after `mizzen labels`.
#[derive(Debug, Clone, Default)]
pub(crate) struct LabelsArgs(RawConfig);

impl LabelsArgs {
    /// These flags, the environment for what they leave open, and then the config file.
    ///
    /// # Errors
    /// Everything that is wrong, for people.
    pub(super) fn config(&self) -> Result<Config, String> {
        let given = self.0.clone().or(from_environment(agent::variable));
        let file = match given.config_file() {
            Some(path) => file::parse(&read_config_file(Path::new(path))?),
            None => RawConfig::default(),
        };
        // Where MPS keeps its sockets is of no matter to labels, and need not be said.
        let mut nothing = RawConfig::default();
        nothing.set_key(Setting::MpsRoot, ["/run/nvidia/mps".to_owned()]);
        let config = given.or(file).or(nothing).validate();
        let config = config.map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(|error| format!("\n  {error}")).collect();
            format!("the settings cannot be used:{}", lines.concat())
        })?;
        host_root::check(&config.host_root)?;
        match config.labels.of_command() {
            LabelsTo::Off => {
                Err("--labels-to off is for the agent: nothing is to be done".to_owned())
            }
            to if to.needs_api() && config.source.node_name.is_none() => Err(
                "labels that go to the Kubernetes API need the name of the Node: give \
                 --node-name, or NODE_NAME from the pod's spec.nodeName"
                    .to_owned(),
            ),
            _ => Ok(config),
        }
    }
}

/// The settings of these variables that the command has.
fn from_environment(variable: impl Fn(&str) -> Option<String>) -> RawConfig {
    let known: Vec<&str> = rows().flat_map(|row| row.env.iter().copied()).collect();
    RawConfig::from_environment(|name| {
        if !known.contains(&name) {
            return None;
        }
        let own = PREFIXED
            .contains(&name)
            .then(|| variable(&format!("{PREFIX}{name}")));
        let own = own.flatten().filter(|text| !text.is_empty());
        own.or_else(|| variable(name))
    })
}

fn flag(row: &'static SettingInfo) -> Option<Arg> {
    let arg = agent::flag(row, row.flag?);
    Some(match row.setting {
        Setting::OutputFile => arg.short('o'),
        Setting::FailOnInitError => arg.help(
            "End with an error where the driver cannot be asked; false: tell what is known \
             without it [default: true] [env: GFD_FAIL_ON_INIT_ERROR, FAIL_ON_INIT_ERROR]",
        ),
        Setting::LabelsTo
        | Setting::NodeName
        | Setting::NodeFeatureNamespace
        | Setting::Kubeconfig => arg.help_heading("In the Kubernetes API"),
        setting if LABEL_SETTINGS.contains(&setting) => arg,
        _ => arg.help_heading("As for the agent"),
    })
}

impl Args for LabelsArgs {
    fn augment_args(command: Command) -> Command {
        command.args(rows().filter_map(flag)).after_long_help(HELP)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for LabelsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self(agent::given(matches, rows())))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &'static [(&str, &str)]) -> RawConfig {
        from_environment(|name| {
            let found = pairs.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_command_is_consistent() {
        LabelsArgs::augment_args(Command::new("labels")).debug_assert();
    }

    #[test]
    fn variables_of_the_reference_go_before_those_of_the_plugin() {
        let raw = environment(&[
            ("GFD_MIG_STRATEGY", "mixed"),
            ("MIG_STRATEGY", "single"),
            ("FAIL_ON_INIT_ERROR", "false"),
            ("GFD_SLEEP_INTERVAL", "5m"),
            ("NODE_NAME", "n"),
            // Of the agent alone.
            ("NODE_LABEL", "l"),
        ]);
        let config = raw.validate().unwrap();
        assert_eq!(config.mig_strategy, mizzen_core::config::MigStrategy::Mixed);
        assert!(!config.fail_on_init_error);
        assert_eq!(config.labels.sleep_interval.unwrap().as_secs(), 300);
        assert_eq!(config.source.node_name.as_deref(), Some("n"));
        assert_eq!(raw.get(Setting::NodeLabel), None);
    }

    /// The names of the reference, so that manifests written for it go on working.
    #[test]
    fn the_references_flags_and_variables_are_all_there() {
        let command = LabelsArgs::augment_args(Command::new("labels"));
        for (words, setting, variable) in [
            (
                ["--mig-strategy", "mixed"],
                Setting::MigStrategy,
                "MIG_STRATEGY",
            ),
            (["--config-file", "f"], Setting::ConfigFile, "CONFIG_FILE"),
            (
                ["--sleep-interval", "1s"],
                Setting::SleepInterval,
                "GFD_SLEEP_INTERVAL",
            ),
            (
                ["--output-file", "f"],
                Setting::OutputFile,
                "GFD_OUTPUT_FILE",
            ),
            (["--output", "f"], Setting::OutputFile, "GFD_OUTPUT_FILE"),
            (["-o", "f"], Setting::OutputFile, "GFD_OUTPUT_FILE"),
            (
                ["--machine-type-file", "f"],
                Setting::MachineTypeFile,
                "GFD_MACHINE_TYPE_FILE",
            ),
            (
                ["--namespace", "n"],
                Setting::NodeFeatureNamespace,
                "NAMESPACE",
            ),
            (["--node-name", "n"], Setting::NodeName, "NODE_NAME"),
            (["--kubeconfig", "f"], Setting::Kubeconfig, "KUBECONFIG"),
            (
                ["--driver-root-ctr-path", "d"],
                Setting::DriverRootCtrPath,
                "DRIVER_ROOT_CTR_PATH",
            ),
        ] {
            let matches = command
                .clone()
                .try_get_matches_from([&["labels"], &words[..]].concat());
            let args = LabelsArgs::from_arg_matches(&matches.unwrap()).unwrap();
            assert!(args.0.get(setting).is_some(), "{words:?}");
            assert!(setting.info().env.contains(&variable));
        }
        let api = Setting::UseNodeFeatureApi.info();
        for variable in ["GFD_USE_NODE_FEATURE_API", "USE_NODE_FEATURE_API"] {
            assert!(api.env.contains(&variable));
        }
        for switch in [
            "--oneshot",
            "--no-timestamp",
            "--fail-on-init-error=false",
            "--use-node-feature-api",
        ] {
            assert!(
                command
                    .clone()
                    .try_get_matches_from(["labels", switch])
                    .is_ok()
            );
        }
    }
}
