//! The flags of `mizzen agent`, made from the table of all settings.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use mizzen_core::config::{Kind, LABEL_SETTINGS, RawConfig, SETTINGS, SettingInfo};

use super::logging::LogArgs;

/// What was typed after `mizzen agent`.
#[derive(Debug, Clone)]
pub(crate) struct AgentArgs {
    /// The settings that were given as flags.
    pub(super) settings: RawConfig,
    /// How to log.
    pub(super) log: LogArgs,
}

/// The settings that an agent has.
pub(crate) fn rows() -> impl Iterator<Item = &'static SettingInfo> {
    let of_agent = |row: &&SettingInfo| !LABEL_SETTINGS.contains(&row.setting);
    SETTINGS.iter().filter(of_agent)
}

impl Args for AgentArgs {
    fn augment_args(command: Command) -> Command {
        let flags = rows().filter_map(|row| Some(flag(row, row.flag?)));
        LogArgs::augment_args(command.args(flags))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for AgentArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self {
            settings: given(matches, rows()),
            log: LogArgs::from_arg_matches(matches)?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Those of these settings that were given as flags.
pub(crate) fn given(
    matches: &ArgMatches,
    rows: impl Iterator<Item = &'static SettingInfo>,
) -> RawConfig {
    let mut settings = RawConfig::default();
    for row in rows {
        let Some(name) = row.flag else { continue };
        if let Some(texts) = matches.get_many::<String>(name) {
            settings.set_flag(row.setting, texts.cloned());
        }
    }
    settings
}

/// Words for the help text and for completion. Any text is taken, for it is checked with all other
/// settings, so that every mistake is told at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words(pub(super) &'static [&'static str]);

impl TypedValueParser for Words {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().copied().map(PossibleValue::new)))
    }
}

/// The flag of a setting.
pub(crate) fn flag(row: &SettingInfo, name: &'static str) -> Arg {
    let variables = match row.env {
        [] => String::new(),
        names => format!(" [env: {}]", names.join(", ")),
    };
    let arg = Arg::new(name)
        .long(name)
        .visible_aliases(row.aliases)
        .help(format!(
            "{} [default: {}]{variables}",
            row.help, row.default
        ))
        .hide_default_value(true);
    match row.kind {
        // As the reference reads them: --flag, --flag=true, --flag=false.
        Kind::Boolean => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL")
            .action(ArgAction::Set),
        Kind::List(_) => arg.value_name("LIST").action(ArgAction::Append),
        Kind::Choice(words) => arg
            .value_parser(Words(words))
            .value_name("WORD")
            .action(ArgAction::Set),
        Kind::Path => arg.value_name("PATH").action(ArgAction::Set),
        Kind::Duration | Kind::Interval | Kind::Milliseconds => {
            arg.value_name("DURATION").action(ArgAction::Set)
        }
        Kind::Address => arg.value_name("ADDRESS").action(ArgAction::Set),
        Kind::Text => arg.value_name("TEXT").action(ArgAction::Set),
    }
}

#[cfg(test)]
mod tests {
    use mizzen_core::config::Setting;

    use super::*;

    fn parse(words: &[&str]) -> Result<AgentArgs, Error> {
        let command = AgentArgs::augment_args(Command::new("agent"));
        let words = std::iter::once(&"agent").chain(words);
        AgentArgs::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    fn texts(args: &AgentArgs, setting: Setting) -> Vec<&str> {
        let value = args.settings.get(setting);
        value
            .map(|value| value.texts.iter().map(String::as_str).collect())
            .unwrap_or_default()
    }

    #[test]
    fn the_command_is_consistent() {
        AgentArgs::augment_args(Command::new("agent")).debug_assert();
    }

    #[test]
    fn every_flag_of_the_table_and_every_alias_is_taken() {
        for row in rows() {
            let value = match row.kind {
                Kind::Boolean => "true",
                Kind::Choice(words) => words[0],
                Kind::List(words) => words.first().copied().unwrap_or("x"),
                _ => "x",
            };
            for name in row.flag.iter().chain(row.aliases) {
                let args = parse(&[&format!("--{name}={value}")]).unwrap();
                assert_eq!(texts(&args, row.setting), [value], "--{name}");
            }
        }
    }

    #[test]
    fn what_is_for_labels_alone_is_no_flag_of_the_agent() {
        assert!(parse(&["--oneshot"]).is_err());
    }

    #[test]
    fn switches_need_no_value_and_take_none_from_the_next_word() {
        let args = parse(&["--pass-device-specs", "--fail-on-init-error=false"]).unwrap();
        assert_eq!(texts(&args, Setting::PassDeviceSpecs), ["true"]);
        assert_eq!(texts(&args, Setting::FailOnInitError), ["false"]);
        assert!(parse(&["--pass-device-specs", "false"]).is_err());
    }

    #[test]
    fn lists_are_given_with_commas_or_repeatedly() {
        let args = parse(&[
            "--device-list-strategy=envvar,cdi-cri",
            "--device-list-strategy",
            "x",
        ])
        .unwrap();
        let texts = texts(&args, Setting::DeviceListStrategy);
        assert_eq!(texts, ["envvar", "cdi-cri", "x"]);
    }

    #[test]
    fn an_empty_kubelet_socket_is_a_value() {
        let args = parse(&["--kubelet-socket", ""]).unwrap();
        assert_eq!(texts(&args, Setting::KubeletSocket), [""]);
    }

    #[test]
    fn a_word_that_is_none_of_the_choices_is_taken_and_the_choices_are_in_the_help_text() {
        let args = parse(&["--mig-strategy=singel", "--log-level=loud"]).unwrap();
        assert_eq!(texts(&args, Setting::MigStrategy), ["singel"]);
        let mut command = AgentArgs::augment_args(Command::new("agent"));
        let help = command.render_help().to_string();
        for words in ["none, single, mixed", "error, warn, info"] {
            assert!(help.contains(words), "{help}");
        }
    }

    #[test]
    fn what_is_not_given_is_not_set() {
        assert_eq!(parse(&[]).unwrap().settings, RawConfig::default());
    }
}
