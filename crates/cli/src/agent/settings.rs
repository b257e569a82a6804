//! Where the agent's settings come from: the one place that reads its environment and its file.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;

use mizzen_core::config::{Config, ConfigError, RawConfig, file};

use super::logging::{self, LogArgs, LogSettings};
use super::misspelt;

/// Joins the flags with the environment and the config file, and checks the whole.
///
/// # Errors
/// Everything that is wrong, for people, one line each.
pub(super) fn read(flags: &RawConfig) -> Result<Config, String> {
    read_with(flags, variable).map_err(|mistakes| mistakes.join("\n"))
}

/// The same with what the log is to be like.
pub(super) fn read_with_log(
    flags: &RawConfig,
    log: &LogArgs,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<(Config, LogSettings), String> {
    match (read_with(flags, environment), logging::read(log)) {
        (Ok(config), Ok(log)) => Ok((config, log)),
        (config, log) => {
            let mut mistakes = config.err().unwrap_or_default();
            mistakes.extend(log.err().map(|lines| listed("the log's settings", &lines)));
            Err(mistakes.join("\n"))
        }
    }
}

fn read_with(
    flags: &RawConfig,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Config, Vec<String>> {
    let given = flags.clone().or(RawConfig::from_environment(environment));
    let file = match given.config_file() {
        Some(path) => from_file(path),
        None => Ok(RawConfig::default()),
    };
    let unusable = |errors: Vec<ConfigError>| listed("the settings", &errors);
    match file {
        Ok(file) => given
            .or(file)
            .validate()
            .map_err(|errors| vec![unusable(errors)]),
        // What can be said without the file is said, too.
        Err(mistake) => {
            let others = given.validate().err().map(unusable);
            Err(std::iter::once(mistake).chain(others).collect())
        }
    }
}

fn from_file(path: &str) -> Result<RawConfig, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("the config file {path} cannot be read: {error}"))?;
    Ok(file::parse(&text))
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
    use mizzen_core::config::Setting;

    use super::*;

    fn with_file(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        fs::write(&path, text).unwrap();
        let mut flags = RawConfig::default();
        flags.set_flag(Setting::ConfigFile, [path.display().to_string()]);
        flags.set_flag(Setting::PassDeviceSpecs, ["true".to_owned()]);
        read(&flags)
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
            let mistakes = read_with(&flags, environment).unwrap_err().join("\n");
            let in_file = if file.starts_with("/no") {
                "/no/such/file"
            } else {
                "config file, line 3"
            };
            for word in [in_file, "--mig-strategy", "GDS_ENABLED"] {
                assert!(mistakes.contains(word), "{word} is missing in {mistakes}");
            }
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let mut flags = RawConfig::default();
        flags.set_flag(Setting::ConfigFile, ["/no/such/file".to_owned()]);
        assert!(read(&flags).unwrap_err().contains("/no/such/file"));
    }
}
