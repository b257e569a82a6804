//! Where the agent's settings come from: the one place that reads its environment and its file.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::Path;

use mizzen_agent::{ConfigText, last_good_text, read_config_file};
use mizzen_core::config::{Config, RawConfig, file};
use mizzen_core::doctor::SettingsFacts;

use super::logging::{self, LogArgs, LogSettings};
use super::misspelt;

/// Finds the text that the config file of these settings had when it could last be used; see
/// [`mizzen_agent::last_good_text`].
pub(super) type LastGood = fn(&Config) -> Result<Option<String>, String>;

/// The settings to begin with, from flags, environment and the config file, if one is named; and
/// what the log is to be like. Where only the file cannot be used, its last good text stands in,
/// and the agent will say so.
///
/// # Errors
/// Everything that is wrong, for people, one line each.
pub(super) fn read_with_log(
    flags: &RawConfig,
    log: &LogArgs,
    environment: impl Fn(&str) -> Option<String>,
    last_good: LastGood,
) -> Result<(Config, LogSettings), String> {
    match (read(flags, environment, last_good), logging::read(log)) {
        (Ok(begun), Ok(log)) => Ok((begun.config, log)),
        (begun, log) => {
            let mut mistakes = begun.map_or_else(|mistakes| mistakes, |begun| begun.passed_over);
            mistakes.extend(log.err().map(|lines| listed("the log's settings", &lines)));
            Err(mistakes.join("\n"))
        }
    }
}

/// Settings that can be used.
#[derive(Debug)]
struct Begun {
    config: Config,
    /// What is wrong with the file, where its last good text stands in.
    passed_over: Vec<String>,
}

impl Begun {
    fn as_given(config: Config) -> Self {
        Self {
            config,
            passed_over: Vec::new(),
        }
    }
}

fn read(
    flags: &RawConfig,
    environment: impl Fn(&str) -> Option<String>,
    last_good: LastGood,
) -> Result<Begun, Vec<String>> {
    let given = flags.clone().or(RawConfig::from_environment(environment));
    let alone = || joined(given.clone(), None);
    let Some(path) = given.config_file() else {
        return alone()
            .map(Begun::as_given)
            .map_err(|mistakes| vec![mistakes]);
    };
    let with = |name: &str, text: &str| joined(given.clone(), Some(ConfigText { name, text }));
    let name = format!("the config file {path}");
    let mut mistakes = match read_config_file(Path::new(path)) {
        Ok(text) => match with(&name, &text) {
            Ok(config) => return Ok(Begun::as_given(config)),
            Err(mistakes) => vec![mistakes],
        },
        // What can be said without the file is said, too.
        Err(mistake) => std::iter::once(mistake).chain(alone().err()).collect(),
    };
    // Nothing stands in for flags and environment.
    let Ok(alone) = alone() else {
        return Err(mistakes);
    };
    let stand_in = |text: String| with(&format!("the last good text of {name}"), &text);
    match last_good(&alone).and_then(|text| text.map(stand_in).transpose()) {
        Ok(Some(config)) => {
            return Ok(Begun {
                config,
                passed_over: mistakes,
            });
        }
        Ok(None) => {}
        Err(mistake) => mistakes.push(mistake),
    }
    Err(mistakes)
}

/// The settings of an agent that is given these flags, or as much of them as can be used, and what
/// is wrong with the rest.
///
/// # Errors
/// Everything that is wrong with the flags themselves, one line each.
pub(crate) fn best(
    flags: &RawConfig,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<SettingsFacts, String> {
    let alone = joined(flags.clone(), None)?;
    let given = flags.clone().or(RawConfig::from_environment(&environment));
    let file = given.config_file().map(str::to_owned);
    let source = match &file {
        Some(path) => format!("flags, environment and the config file {path}"),
        None => "flags and environment".to_owned(),
    };
    let (config, mistakes) = match read(flags, environment, last_good_text) {
        Ok(begun) => (begun.config, begun.passed_over),
        Err(mistakes) => (joined(given, None).unwrap_or(alone), mistakes),
    };
    Ok(SettingsFacts {
        config,
        source,
        file,
        mistakes,
    })
}

/// Joins the flags with the environment and the text of a config, and checks the whole.
///
/// # Errors
/// Everything that is wrong, for people, one line each.
pub(super) fn with_text(
    flags: &RawConfig,
    config: Option<ConfigText<'_>>,
) -> Result<Config, String> {
    let given = flags.clone().or(RawConfig::from_environment(variable));
    joined(given, config)
}

fn joined(given: RawConfig, config: Option<ConfigText<'_>>) -> Result<Config, String> {
    let (what, file) = match config {
        Some(config) => (
            format!("the settings with {}", config.name),
            file::parse(config.text),
        ),
        None => ("the settings".to_owned(), RawConfig::default()),
    };
    let config = given.or(file).validate();
    config.map_err(|errors| listed(&what, &errors))
}

/// What to say of variables that look like ours and that nothing reads.
pub(super) fn misspelt_variables() -> Vec<String> {
    let names = std::env::vars_os().map(|(name, _)| name);
    misspelt::warnings(names.filter_map(|name: OsString| name.into_string().ok()))
}

/// A variable of the environment, if it is text.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the module that reads the environment"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn listed(what: &str, errors: &[impl Display]) -> String {
    let lines: Vec<String> = errors.iter().map(|error| format!("\n  {error}")).collect();
    format!("{what} cannot be used:{}", lines.concat())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use mizzen_core::config::Setting;

    use super::*;

    fn with_file(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        fs::write(&path, text).unwrap();
        let mut flags = RawConfig::default();
        flags.set_flag(Setting::ConfigFile, [path.display().to_string()]);
        flags.set_flag(Setting::PassDeviceSpecs, ["true".to_owned()]);
        start(&flags)
    }

    fn start(flags: &RawConfig) -> Result<Config, String> {
        let begun = read(flags, |_| None, |_| Ok(None));
        let begun = begun.map_err(|mistakes| mistakes.join("\n"))?;
        assert!(begun.passed_over.is_empty());
        Ok(begun.config)
    }

    #[test]
    fn the_file_fills_in_what_flags_leave_open() {
        let config = with_file(
            "version: v1\nflags:\n  gdsEnabled: true\n  plugin:\n    passDeviceSpecs: false\n",
        )
        .unwrap();
        assert!(config.gds_enabled);
        assert!(config.pass_device_specs, "the flag outranks the file");
    }

    #[test]
    fn a_misspelt_key_is_an_error_with_its_place() {
        let error = with_file("version: v1\nflags:\n  gdsEnabeld: true\n").unwrap_err();
        assert!(error.contains("line 3"), "{error}");
    }

    #[test]
    fn a_mistake_in_the_file_hides_none_in_flags_and_environment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        fs::write(&path, "version: v1\nflags:\n  gdsEnabeld: true\n").unwrap();
        for file in [path.display().to_string(), "/no/such/file".to_owned()] {
            let mut flags = RawConfig::default();
            flags.set_flag(Setting::ConfigFile, [file.clone()]);
            flags.set_flag(Setting::MigStrategy, ["singel".to_owned()]);
            let environment = |name: &str| (name == "GDS_ENABLED").then(|| "maybe".to_owned());
            let last_good: LastGood = |_| Ok(Some("version: v1\n".to_owned()));
            let mistakes = read(&flags, environment, last_good).unwrap_err().join("\n");
            for word in [&file, "--mig-strategy", "GDS_ENABLED"] {
                assert!(mistakes.contains(word), "{word} is missing in {mistakes}");
            }
        }
    }

    #[test]
    fn a_file_that_is_not_there_or_never_ends_is_named() {
        for file in ["/no/such/file", "/dev/zero", "/dev"] {
            let mut flags = RawConfig::default();
            flags.set_flag(Setting::ConfigFile, [file.to_owned()]);
            assert!(start(&flags).unwrap_err().contains(file));
        }
    }
    #[test]
    fn the_last_good_text_stands_in_for_a_file_that_cannot_be_used_if_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        fs::write(&path, "version: v1\nflags:\n  gdsEnabeld: true\n").unwrap();
        let mut flags = RawConfig::default();
        flags.set_flag(Setting::ConfigFile, [path.display().to_string()]);
        flags.set_flag(Setting::StateDir, ["/state".to_owned()]);

        let begun = read(
            &flags,
            |_| None,
            |settings| {
                assert_eq!(settings.state_dir, Path::new("/state"));
                Ok(Some("version: v1\nflags: {gdsEnabled: true}\n".to_owned()))
            },
        );
        let begun = begun.unwrap();
        assert!(begun.config.gds_enabled);
        assert!(begun.passed_over[0].contains("line 3"));

        let useless: [(LastGood, &str); 2] = [
            (|_| Ok(Some("verion: v1\n".to_owned())), "last good text"),
            (|_| Err("config.json is torn".to_owned()), "torn"),
        ];
        for (last_good, word) in useless {
            let mistakes = read(&flags, |_| None, last_good).unwrap_err();
            assert!(mistakes[0].contains("line 3"), "{mistakes:?}");
            assert!(mistakes[1].contains(word), "{mistakes:?}");
        }
    }
}
