//! Where the agent's settings come from: the one place that reads its environment and its file.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::Path;

use mizzen_agent::{ConfigText, read_config_file};
use mizzen_core::config::{Config, RawConfig, file};

use super::logging::{self, LogArgs, LogSettings};
use super::misspelt;

/// The settings to begin with, from flags, environment and the config file, if one is named; and
/// what the log is to be like.
///
/// # Errors
/// Everything that is wrong, for people, one line each.
pub(super) fn read_with_log(
    flags: &RawConfig,
    log: &LogArgs,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<(Config, LogSettings), String> {
    match (read(flags, environment), logging::read(log)) {
        (Ok(config), Ok(log)) => Ok((config, log)),
        (config, log) => {
            let mut mistakes = config.err().unwrap_or_default();
            mistakes.extend(log.err().map(|lines| listed("the log's settings", &lines)));
            Err(mistakes.join("\n"))
        }
    }
}

fn read(
    flags: &RawConfig,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Config, Vec<String>> {
    let given = flags.clone().or(RawConfig::from_environment(environment));
    let Some(path) = given.config_file().map(str::to_owned) else {
        return joined(given, None).map_err(|mistakes| vec![mistakes]);
    };
    let name = format!("the config file {path}");
    match read_config_file(Path::new(&path)) {
        Ok(text) => {
            let text = ConfigText {
                name: &name,
                text: &text,
            };
            joined(given, Some(text)).map_err(|mistakes| vec![mistakes])
        }
        // What can be said without the file is said, too.
        Err(mistake) => {
            let others = joined(given, None).err();
            Err(std::iter::once(mistake).chain(others).collect())
        }
    }
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
pub(super) fn variable(name: &str) -> Option<String> {
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
        read(flags, |_| None).map_err(|mistakes| mistakes.join("\n"))
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
            let mistakes = read(&flags, environment).unwrap_err().join("\n");
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
}
