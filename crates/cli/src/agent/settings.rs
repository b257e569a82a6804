//! Where the agent's settings come from: the one place that reads its environment and its file.

use std::fs;

use mizzen_agent::ConfigText;
use mizzen_core::config::{Config, ConfigError, RawConfig, file};

/// The settings to begin with: flags, environment and the config file, if one is named.
///
/// # Errors
/// Everything that is wrong, for people, one line each.
pub(super) fn read(flags: &RawConfig) -> Result<Config, String> {
    let given = given(flags);
    let Some(path) = given.config_file() else {
        return joined(given, None);
    };
    let text = fs::read_to_string(path)
        .map_err(|error| format!("the config file {path} cannot be read: {error}"))?;
    let name = format!("the config file {path}");
    let text = ConfigText {
        name: &name,
        text: &text,
    };
    joined(given, Some(text))
}

/// Joins the flags with the environment and the text of a config, and checks the whole.
///
/// # Errors
/// Everything that is wrong, for people, one line each.
pub(super) fn with_text(
    flags: &RawConfig,
    config: Option<ConfigText<'_>>,
) -> Result<Config, String> {
    joined(given(flags), config)
}

fn given(flags: &RawConfig) -> RawConfig {
    flags.clone().or(RawConfig::from_environment(variable))
}

fn joined(given: RawConfig, config: Option<ConfigText<'_>>) -> Result<Config, String> {
    let file = match config {
        Some(config) => file::parse(config.text).map_err(|errors| listed(config.name, &errors))?,
        None => RawConfig::default(),
    };
    given
        .or(file)
        .validate()
        .map_err(|errors| listed("the settings", &errors))
}

/// A variable of the environment, if it is text.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the module that reads the environment"
)]
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn listed(what: &str, errors: &[ConfigError]) -> String {
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
    fn a_file_that_is_not_there_is_named() {
        let mut flags = RawConfig::default();
        flags.set_flag(Setting::ConfigFile, ["/no/such/file".to_owned()]);
        assert!(read(&flags).unwrap_err().contains("/no/such/file"));
    }
}
