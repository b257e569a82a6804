//! Where configs come from: settings that only make sense together.

use std::path::PathBuf;

use super::Reader;
use crate::config::error::{ConfigError, Origin};
use crate::config::setting::Setting;
use crate::config::source::{ConfigMapName, ConfigPlace, ConfigSource, FallbackStrategy};
use crate::config::types::Choice;
use crate::dns::{is_dns_subdomain, is_label_key};

/// The settings that name a place, of which one can be given.
const PLACES: [Setting; 3] = [Setting::ConfigFile, Setting::ConfigDir, Setting::ConfigMap];

impl Reader<'_> {
    /// Reads all settings of the source, and refuses those that contradict each other.
    pub(super) fn config_source(&mut self) -> ConfigSource {
        let default = ConfigSource::default();
        let node_name = self.name(
            Setting::NodeName,
            is_dns_subdomain,
            "the name of a Node, as kubectl get nodes shows it",
        );
        let node_label = self.name(
            Setting::NodeLabel,
            is_label_key,
            "the key of a label, such as nvidia.com/device-plugin.config",
        );
        let source = ConfigSource {
            place: self.place(),
            node_name,
            node_label: node_label.unwrap_or(default.node_label),
            default_config: self.given(Setting::DefaultConfig).map(|value| value.1),
            fallbacks: self.fallbacks(default.fallbacks),
            kubeconfig: self
                .given(Setting::Kubeconfig)
                .map(|value| PathBuf::from(value.1)),
        };
        if self.given(Setting::ConfigMap).is_some() && self.given(Setting::NodeName).is_none() {
            self.refuse(
                Setting::ConfigMap,
                "a node's config is chosen by a label of its Node, and which Node this is was not \
                 said: give --node-name, or NODE_NAME from the pod's spec.nodeName",
            );
        }
        if !source.place.has_names() {
            self.warn(
                Setting::DefaultConfig,
                "it chooses among named configs, and does nothing without --config-dir or \
                 --config-map",
            );
        }
        source
    }

    fn place(&mut self) -> ConfigPlace {
        let given: Vec<(Setting, Origin, String)> = PLACES
            .into_iter()
            .filter_map(|setting| {
                let (origin, text) = self.given(setting)?;
                Some((setting, origin, text))
            })
            .collect();
        if let [(_, first, _), others @ ..] = given.as_slice() {
            for (_, other, _) in others {
                self.errors.push(ConfigError::Unsupported {
                    origin: other.clone(),
                    reason: format!(
                        "{first} is given, too, and configs come from one place: take one away"
                    ),
                });
            }
        }
        match given.into_iter().next() {
            Some((Setting::ConfigFile, _, path)) => ConfigPlace::File(path.into()),
            Some((Setting::ConfigDir, _, path)) => ConfigPlace::Directory(path.into()),
            Some((_, origin, text)) => self.config_map(origin, text),
            None => ConfigPlace::Nowhere,
        }
    }

    fn config_map(&mut self, origin: Origin, text: String) -> ConfigPlace {
        if let Ok(name) = text.parse::<ConfigMapName>() {
            return ConfigPlace::ConfigMap(name);
        }
        self.malformed(
            origin,
            text,
            "NAMESPACE/NAME, such as mizzen-system/mizzen-config",
        );
        ConfigPlace::Nowhere
    }

    fn fallbacks(&mut self, default: Vec<FallbackStrategy>) -> Vec<FallbackStrategy> {
        let Some(value) = self.raw.get(Setting::ConfigFallbackStrategies) else {
            return default;
        };
        let mut fallbacks = Vec::new();
        for text in &value.texts {
            match FallbackStrategy::from_word(text) {
                Some(strategy) => fallbacks.push(strategy),
                None => self.invalid(Setting::ConfigFallbackStrategies, &value.origin, text),
            }
        }
        fallbacks
    }

    /// A text that Kubernetes must take as a name; `None` where it is not given or wrong.
    pub(super) fn name(
        &mut self,
        setting: Setting,
        is_valid: fn(&str) -> bool,
        expected: &str,
    ) -> Option<String> {
        let (origin, text) = self.given(setting)?;
        if is_valid(&text) {
            return Some(text);
        }
        self.malformed(origin, text, expected);
        None
    }

    /// The last text given, if it is not empty.
    pub(super) fn given(&self, setting: Setting) -> Option<(Origin, String)> {
        self.text(setting).filter(|(_, text)| !text.is_empty())
    }

    fn malformed(&mut self, origin: Origin, value: String, expected: &str) {
        self.errors.push(ConfigError::InvalidValue {
            origin,
            value,
            expected: expected.to_owned(),
            suggestion: None,
        });
    }

    pub(super) fn refuse(&mut self, setting: Setting, reason: &str) {
        if let Some(value) = self.raw.get(setting) {
            self.errors.push(ConfigError::Unsupported {
                origin: value.origin.clone(),
                reason: reason.to_owned(),
            });
        }
    }
}
