//! Settings as they were given: texts and where they came from.

use std::collections::BTreeMap;

use super::error::{ConfigError, ConfigWarning, Location, Origin};
use super::kind::Kind;
use super::sections::Sections;
use super::setting::{SETTINGS, Setting};

/// A setting's value as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawValue {
    /// The texts: one, or as many as a list has.
    pub texts: Vec<String>,
    /// Where they came from.
    pub origin: Origin,
}

/// Settings as they were given; every one may be missing.
///
/// Layers are merged with [`or`](Self::or):
/// ```
/// # use mizzen_core::config::{RawConfig, Setting};
/// let mut flags = RawConfig::default();
/// flags.set_flag(Setting::MigStrategy, ["single".to_owned()]);
/// let variables = |name: &str| (name == "MIG_STRATEGY").then(|| "mixed".to_owned());
/// let raw = flags.or(RawConfig::from_environment(variables));
/// assert_eq!(raw.get(Setting::MigStrategy).unwrap().texts, ["single"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawConfig {
    values: BTreeMap<Setting, RawValue>,
    /// What the config file says besides single settings.
    pub(super) sections: Sections,
    /// What is wrong with the config file.
    pub(super) problems: Vec<ConfigError>,
    /// What is odd about it.
    pub(super) warnings: Vec<ConfigWarning>,
}

impl RawConfig {
    /// Records what a flag was given; a list's texts are split at their commas.
    pub fn set_flag(&mut self, setting: Setting, texts: impl IntoIterator<Item = String>) {
        let name = setting.info().flag.unwrap_or_default();
        self.set(setting, Origin::CommandLine(format!("--{name}")), texts);
    }

    /// Records what the config file says under a setting's key.
    pub fn set_key(&mut self, setting: Setting, texts: impl IntoIterator<Item = String>) {
        self.set_key_at(setting, texts, None);
    }

    /// The same, with the place where the value stands.
    pub(super) fn set_key_at(
        &mut self,
        setting: Setting,
        texts: impl IntoIterator<Item = String>,
        location: Option<Location>,
    ) {
        let key = setting.info().key.unwrap_or_default().to_owned();
        self.set(setting, Origin::File { key, location }, texts);
    }

    /// The settings that the environment holds, asked through `lookup`.
    ///
    /// A variable that is there but empty counts as not set, as templates leave it behind, with
    /// exceptions that the reference's users rely on: an empty switch means false, an empty
    /// `KUBELET_SOCKET` means not to register, and an empty `GFD_OUTPUT_FILE` standard output.
    pub fn from_environment(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let mut config = Self::default();
        for row in SETTINGS {
            let empty_counts = row.kind == Kind::Boolean
                || matches!(row.setting, Setting::KubeletSocket | Setting::OutputFile);
            let found = row.env.iter().find_map(|name| {
                let text = lookup(name)?;
                (empty_counts || !text.is_empty()).then_some((name, text))
            });
            if let Some((name, text)) = found {
                config.set(row.setting, Origin::Environment((*name).to_owned()), [text]);
            }
        }
        config
    }

    fn set(&mut self, setting: Setting, origin: Origin, texts: impl IntoIterator<Item = String>) {
        let texts = texts.into_iter();
        let texts = if matches!(setting.info().kind, Kind::List(_)) {
            texts.flat_map(|text| split_list(&text)).collect()
        } else {
            texts.collect()
        };
        self.values.insert(setting, RawValue { texts, origin });
    }

    /// These settings, and those of `fallback` where these say nothing.
    #[must_use]
    pub fn or(self, fallback: Self) -> Self {
        let mut values = fallback.values;
        values.extend(self.values);
        let mut problems = self.problems;
        problems.extend(fallback.problems);
        let mut warnings = self.warnings;
        warnings.extend(fallback.warnings);
        let silent = self.sections == Sections::default();
        Self {
            values,
            sections: if silent {
                fallback.sections
            } else {
                self.sections
            },
            problems,
            warnings,
        }
    }

    /// What was given for `setting`.
    pub fn get(&self, setting: Setting) -> Option<&RawValue> {
        self.values.get(&setting)
    }

    /// The config file that flags or environment name, to be read and merged in by the caller.
    pub fn config_file(&self) -> Option<&str> {
        let value = self.get(Setting::ConfigFile)?;
        value
            .texts
            .last()
            .map(String::as_str)
            .filter(|path| !path.is_empty())
    }
}

fn split_list(text: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> RawConfig {
        RawConfig::from_environment(|name| {
            let found = pairs.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn origin(raw: &RawConfig, setting: Setting) -> String {
        raw.get(setting).unwrap().origin.to_string()
    }

    #[test]
    fn the_command_line_outranks_the_environment_which_outranks_the_file() {
        let mut file = RawConfig::default();
        let mut flags = RawConfig::default();
        for setting in [Setting::MigStrategy, Setting::DriverRoot, Setting::DevRoot] {
            file.set_key(setting, ["file".to_owned()]);
        }
        let variables = environment(&[("NVIDIA_DRIVER_ROOT", "env"), ("MIG_STRATEGY", "env")]);
        flags.set_flag(Setting::MigStrategy, ["flag".to_owned()]);

        let raw = flags.or(variables).or(file);

        assert_eq!(origin(&raw, Setting::MigStrategy), "--mig-strategy");
        assert_eq!(
            origin(&raw, Setting::DriverRoot),
            "environment variable NVIDIA_DRIVER_ROOT"
        );
        assert_eq!(
            origin(&raw, Setting::DevRoot),
            "config file, flags.nvidiaDevRoot"
        );
        assert_eq!(raw.get(Setting::HostRoot), None);
    }

    #[test]
    fn the_first_variable_of_a_setting_that_is_set_counts() {
        let both = environment(&[("NVIDIA_CTK_PATH", "/b"), ("NVIDIA_CDI_HOOK_PATH", "/a")]);
        assert_eq!(both.get(Setting::CdiHookPath).unwrap().texts, ["/a"]);
        let one = environment(&[("NVIDIA_CTK_PATH", "/b"), ("NVIDIA_CDI_HOOK_PATH", "")]);
        assert_eq!(
            origin(&one, Setting::CdiHookPath),
            "environment variable NVIDIA_CTK_PATH"
        );
    }

    #[test]
    fn an_empty_variable_counts_only_for_switches_and_the_kubelets_socket() {
        let raw = environment(&[
            ("MIG_STRATEGY", ""),
            ("PASS_DEVICE_SPECS", ""),
            ("KUBELET_SOCKET", ""),
        ]);
        assert_eq!(raw.get(Setting::MigStrategy), None);
        assert_eq!(raw.get(Setting::PassDeviceSpecs).unwrap().texts, [""]);
        assert_eq!(raw.get(Setting::KubeletSocket).unwrap().texts, [""]);
    }

    #[test]
    fn lists_are_split_at_commas_wherever_they_come_from() {
        let raw = environment(&[("DEVICE_LIST_STRATEGY", "envvar, cdi-cri,")]);
        assert_eq!(
            raw.get(Setting::DeviceListStrategy).unwrap().texts,
            ["envvar", "cdi-cri"]
        );
        let mut flags = RawConfig::default();
        flags.set_flag(Setting::CdiFeatureFlags, ["a,b".to_owned(), "c".to_owned()]);
        assert_eq!(
            flags.get(Setting::CdiFeatureFlags).unwrap().texts,
            ["a", "b", "c"]
        );
    }

    #[test]
    fn the_config_file_is_named_by_flags_or_environment() {
        assert_eq!(
            environment(&[("CONFIG_FILE", "/c.yaml")]).config_file(),
            Some("/c.yaml")
        );
        assert_eq!(RawConfig::default().config_file(), None);
    }
}
