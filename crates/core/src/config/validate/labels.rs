//! The settings of the labels.

use std::path::PathBuf;
use std::time::Duration;

use super::Reader;
use crate::config::error::ConfigError;
use crate::config::kind::INFINITE;
use crate::config::labels::{LabelsConfig, LabelsTo};
use crate::config::setting::Setting;
use crate::dns::is_dns_label;

impl Reader<'_> {
    /// Reads them.
    pub(super) fn labels(&mut self, default: LabelsConfig) -> LabelsConfig {
        let oneshot = self.boolean(Setting::Oneshot, default.oneshot);
        let output_file = if oneshot { None } else { default.output_file };
        LabelsConfig {
            to: self.labels_to(),
            use_node_feature_api: self.boolean(Setting::UseNodeFeatureApi, false),
            namespace: self.name(
                Setting::NodeFeatureNamespace,
                is_dns_label,
                "the name of a namespace, from metadata.namespace by the downward API",
            ),
            oneshot,
            timestamp: !self.boolean(Setting::NoTimestamp, !default.timestamp),
            sleep_interval: self.sleep_interval(default.sleep_interval),
            output_file: self.path_or_nothing(Setting::OutputFile, output_file),
            machine_type_file: self
                .path_or_nothing(Setting::MachineTypeFile, default.machine_type_file),
        }
    }

    fn labels_to(&mut self) -> Option<LabelsTo> {
        let to: Option<LabelsTo> = self.choice(Setting::LabelsTo);
        if to.is_some_and(LabelsTo::needs_api) && self.given(Setting::NodeName).is_none() {
            self.refuse(
                Setting::LabelsTo,
                "which Node the labels are of was not said: give --node-name, or NODE_NAME from \
                 the pod's spec.nodeName",
            );
        }
        to
    }

    /// A path, for which an empty one stands for none.
    fn path_or_nothing(&self, setting: Setting, default: Option<PathBuf>) -> Option<PathBuf> {
        match self.text(setting) {
            None => default,
            Some((_, text)) => (!text.is_empty()).then(|| text.into()),
        }
    }

    fn sleep_interval(&mut self, default: Option<Duration>) -> Option<Duration> {
        let Some((origin, text)) = self.text(Setting::SleepInterval) else {
            return default;
        };
        if text == INFINITE {
            return None;
        }
        let interval = self.duration(Setting::SleepInterval)?;
        if interval.is_zero() {
            self.errors.push(ConfigError::InvalidValue {
                origin,
                value: text,
                expected: "a duration longer than 0, or infinite".to_owned(),
                suggestion: None,
            });
        }
        Some(interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, RawConfig};

    fn config(flags: &[(Setting, &str)]) -> Result<Config, Vec<ConfigError>> {
        let mut raw = RawConfig::default();
        for (setting, text) in flags {
            raw.set_flag(*setting, [(*text).to_owned()]);
        }
        raw.validate()
    }

    #[test]
    fn once_is_on_standard_output_and_again_and_again_is_in_the_file_of_the_reference() {
        let again = config(&[]).unwrap().labels;
        assert_eq!(again, LabelsConfig::default());
        let once = config(&[(Setting::Oneshot, "true")]).unwrap().labels;
        assert_eq!(once.output_file, None);
        let file = (Setting::OutputFile, "/f");
        let once = config(&[(Setting::Oneshot, "true"), file]).unwrap().labels;
        assert_eq!(once.output_file, Some("/f".into()));
    }

    #[test]
    fn an_empty_path_is_standard_output_and_no_machine() {
        let labels = config(&[(Setting::OutputFile, ""), (Setting::MachineTypeFile, "")]);
        let labels = labels.unwrap().labels;
        assert_eq!((labels.output_file, labels.machine_type_file), (None, None));
    }

    #[test]
    fn labels_go_where_it_is_said_and_to_the_api_with_the_name_of_the_node() {
        let of = |flags: &[(Setting, &str)]| {
            let labels = config(flags).unwrap().labels;
            (labels.of_agent(), labels.of_command())
        };
        let api = (Setting::UseNodeFeatureApi, "true");
        let node = (Setting::NodeName, "n");
        assert_eq!(of(&[]), (LabelsTo::Off, LabelsTo::File));
        assert_eq!(of(&[api]), (LabelsTo::Off, LabelsTo::NodeFeature));
        let given = (Setting::LabelsTo, "node");
        assert_eq!(of(&[api, given, node]), (LabelsTo::Node, LabelsTo::Node));
        for word in ["node", "node-feature"] {
            let error = &config(&[(Setting::LabelsTo, word)]).unwrap_err()[0];
            assert!(error.to_string().contains("NODE_NAME"), "{error}");
        }
        assert!(config(&[(Setting::LabelsTo, "nodes")]).is_err());
        assert!(config(&[(Setting::NodeFeatureNamespace, "a/b")]).is_err());
    }

    #[test]
    fn an_interval_is_a_time_or_has_no_end_and_is_never_nothing() {
        let interval = |text| config(&[(Setting::SleepInterval, text)]);
        let of = |text| interval(text).unwrap().labels.sleep_interval;
        assert_eq!(of("5m"), Some(Duration::from_mins(5)));
        assert_eq!(of("infinite"), None);
        for text in ["0", "0s", "never", "60"] {
            let error = &interval(text).unwrap_err()[0];
            let error = error.to_string();
            assert!(
                error.contains("--sleep-interval") && error.contains("infinite"),
                "{error}"
            );
        }
    }
}
