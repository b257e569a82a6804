//! What can be typed after `mizzen metrics`, made from the table of all settings.

use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use mizzen_agent::read_config_file;
use mizzen_core::config::{
    Config, METRICS_SETTINGS, RawConfig, SETTINGS, Setting, SettingInfo, file,
};

use super::exporter;
use crate::agent::{self, LogArgs};

/// What the command is for.
pub(crate) const ABOUT: &str = "\
Tell what the GPUs measure, and who holds them, as metrics for Prometheus

Names, labels, flags and variables are those of NVIDIA's dcgm-exporter, without DCGM, and Mizzen's
own besides. Metrics are served on --address until the program is ended, or with --oneshot one page
is printed. The agent serves the same with --metrics-address, and needs no second process: this is
for nodes without it. docs/metrics.md tells every metric, docs/metrics-server.md the server, TLS
and users.";

const HELP: &str = "\
Flags of the exporter that mean nothing here (for DCGM, its log, dumps) are taken with a remark.

Signals: SIGTERM, SIGINT and SIGQUIT end it; SIGHUP has it read the file of counters again.

Exit codes:
  0    the page was printed, or the server was ended
  1    the driver cannot be asked (--oneshot; the server waits for it)
  2    the command line, the environment or a file of settings cannot be understood

Examples:
  mizzen metrics --oneshot
      one page of this node's metrics
  mizzen metrics --kubernetes --collectors counters.csv
      serve on :9400 the counters of a file, and tell which pods hold the GPUs";

/// The settings of the agent that decide about metrics.
const SHARED: [Setting; 13] = [
    Setting::MigStrategy,
    Setting::DriverRoot,
    Setting::DriverRootCtrPath,
    Setting::IncludeGpus,
    Setting::ExcludeGpus,
    Setting::ConfigFile,
    Setting::HostRoot,
    Setting::StateDir,
    Setting::NvmlLibrary,
    Setting::NvmlCallTimeout,
    Setting::NodeName,
    Setting::KubeletSocket,
    Setting::PodResourcesSocket,
];

/// The letters of the exporter.
const LETTERS: [(Setting, char); 7] = [
    (Setting::MetricsAddress, 'a'),
    (Setting::MetricsCounters, 'f'),
    (Setting::MetricsInterval, 'c'),
    (Setting::MetricsPods, 'k'),
    (Setting::MetricsNoHostname, 'n'),
    (Setting::MetricsOldNamespace, 'o'),
    (Setting::MetricsXidWindow, 'x'),
];

const ONESHOT: &str = "oneshot";

fn rows() -> impl Iterator<Item = &'static SettingInfo> {
    let is_one = |row: &&SettingInfo| {
        SHARED.contains(&row.setting) || METRICS_SETTINGS.contains(&row.setting)
    };
    SETTINGS.iter().filter(is_one)
}

/// What was typed after `mizzen metrics`.
#[derive(Debug, Clone)]
pub(crate) struct MetricsArgs {
    settings: RawConfig,
    foreign: Vec<(&'static str, String)>,
    pub(super) oneshot: bool,
    pub(super) log: LogArgs,
}

impl MetricsArgs {
    /// These flags, the environment for what they leave open, the config file, and then what is
    /// the default here.
    ///
    /// # Errors
    /// Everything that is wrong, for people.
    pub(super) fn config(&self) -> Result<Config, String> {
        self.config_with(agent::variable)
    }

    fn config_with(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Config, String> {
        let known: Vec<&str> = rows().flat_map(|row| row.env.iter().copied()).collect();
        let environment = RawConfig::from_environment(|name| {
            let is_known = known.contains(&name);
            is_known.then(|| variable(name)).flatten()
        });
        let given = self.settings.clone().or(environment);
        let file = match given.config_file() {
            Some(path) => file::parse(&read_config_file(Path::new(path))?),
            None => RawConfig::default(),
        };
        let mut default = RawConfig::default();
        default.set_flag(Setting::MetricsAddress, [":9400".to_owned()]);
        default.set_flag(Setting::MetricsPods, ["false".to_owned()]);
        let config = given.or(file).or(default).validate();
        config.map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(|error| format!("\n  {error}")).collect();
            format!("the settings cannot be used:{}", lines.concat())
        })
    }

    /// What to say of flags and variables that do nothing here.
    pub(super) fn remarks(&self, variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
        exporter::remarks(&self.foreign, variable)
    }
}

fn flag(row: &'static SettingInfo) -> Option<Arg> {
    let arg = agent::flag(row, row.flag?);
    let arg = match row.setting {
        Setting::MetricsAddress => arg.help(default_of(row, ":9400")),
        Setting::MetricsPods => arg.help(default_of(row, "false")),
        Setting::MetricsReplaceBlanks => arg.alias("rbmn"),
        setting if METRICS_SETTINGS.contains(&setting) => arg,
        _ => arg.help_heading("As for the agent"),
    };
    let letter = LETTERS.iter().find(|(setting, _)| *setting == row.setting);
    Some(match letter {
        Some((_, letter)) => arg.short(*letter),
        None => arg,
    })
}

fn default_of(row: &SettingInfo, default: &str) -> String {
    let (help, env) = (row.help, row.env.join(", "));
    format!("{help} [default: {default}] [env: {env}]")
}

impl Args for MetricsArgs {
    fn augment_args(command: Command) -> Command {
        let oneshot = Arg::new(ONESHOT)
            .long(ONESHOT)
            .action(ArgAction::SetTrue)
            .help("Print one page and end");
        let command = command
            .arg(oneshot)
            .args(rows().filter_map(flag))
            .args(exporter::flags())
            .after_long_help(HELP);
        LogArgs::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for MetricsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self {
            settings: agent::given(matches, rows()),
            foreign: exporter::given(matches),
            oneshot: matches.get_flag(ONESHOT),
            log: LogArgs::from_arg_matches(matches)?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(words: &[&str]) -> Result<MetricsArgs, Error> {
        let command = MetricsArgs::augment_args(Command::new("metrics"));
        let words = std::iter::once(&"metrics").chain(words);
        MetricsArgs::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    fn config(words: &[&str]) -> Config {
        parse(words).unwrap().config_with(|_| None).unwrap()
    }

    #[test]
    fn the_command_is_consistent() {
        MetricsArgs::augment_args(Command::new("metrics")).debug_assert();
    }

    #[test]
    fn without_flags_it_is_served_where_the_exporter_does_and_pods_are_not_told_of() {
        let metrics = config(&[]).metrics;
        assert_eq!(metrics.address, Some("[::]:9400".parse().unwrap()));
        assert!(!metrics.pods);
        let from_environment = parse(&[]).unwrap().config_with(|name| {
            let value = match name {
                "DCGM_EXPORTER_LISTEN" => "127.0.0.1:1",
                "DCGM_EXPORTER_KUBERNETES" => "true",
                // Of the agent alone.
                "MIG_STRATEGY" => "mixed",
                "IMEX_REQUIRED" => "maybe",
                _ => return None,
            };
            Some(value.to_owned())
        });
        let metrics = from_environment.unwrap().metrics;
        assert_eq!(metrics.address, Some("127.0.0.1:1".parse().unwrap()));
        assert!(metrics.pods);
    }

    /// The names of the reference, so that manifests written for it go on working.
    #[test]
    fn the_exporters_flags_are_all_there() {
        let long = config(&[
            "--address=:1",
            "--collectors=/c.csv",
            "--collect-interval=5000",
            "--kubernetes",
            "--kubernetes-enable-pod-uid",
            "--use-old-namespace",
            "--no-hostname",
            "--web-config-file=/w.yml",
            "--xid-count-window-size=1000",
            "--replace-blanks-in-model-name",
            "--clock-events-count-window-size=2000",
            "--pod-resources-kubelet-socket=/p.sock",
            "--log-format=json",
        ]);
        let metrics = &long.metrics;
        assert_eq!(metrics.counters.as_deref(), Some(Path::new("/c.csv")));
        assert_eq!(metrics.interval, Duration::from_secs(5));
        assert!(metrics.pods && metrics.pod_uid && metrics.old_namespace && !metrics.hostname);
        assert_eq!(
            metrics.web_config_file.as_deref(),
            Some(Path::new("/w.yml"))
        );
        assert_eq!(metrics.xid_window, Duration::from_secs(1));
        assert_eq!(metrics.clock_events_window, Duration::from_secs(2));
        assert!(metrics.replace_blanks);
        assert_eq!(long.pod_resources_socket(), Path::new("/p.sock"));
        let short = config(&[
            "-a", ":1", "-f", "/c.csv", "-c", "5000", "-k", "-n", "-o", "-x", "1000",
        ]);
        assert_eq!(short.metrics.counters, metrics.counters);
        assert_eq!(short.metrics.address, metrics.address);
        assert!(short.metrics.pods && !short.metrics.hostname && short.metrics.old_namespace);
    }

    #[test]
    fn what_means_nothing_here_is_taken_with_a_remark_and_the_unknown_is_refused() {
        let args = parse(&[
            "-d",
            "g:0",
            "-r",
            "dcgm:5555",
            "--enable-dcgm-log",
            "-s",
            "f",
        ])
        .unwrap();
        let remarks = args.remarks(|_| None);
        assert_eq!(remarks.len(), 3, "{remarks:?}");
        assert!(parse(&["--no-such-flag"]).is_err());
        assert!(parse(&["--oneshot"]).unwrap().oneshot);
    }
}
