//! Where the settings that may change while the agent runs come from: a file, or a named config
//! that is chosen for this node.

use std::fmt;
use std::path::PathBuf;

use super::types::Choice;
use crate::dns::{is_dns_label, is_dns_subdomain};

/// The label of the Node that names its config, as the reference has it.
pub(super) const NODE_LABEL: &str = "nvidia.com/device-plugin.config";

/// Where configs are, and how one of them is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSource {
    /// `--config-file`, `--config-dir` or `--config-map`.
    pub place: ConfigPlace,
    /// `--node-name`: the Node whose label chooses; without it no label is looked at.
    pub node_name: Option<String>,
    /// `--node-label`: the key of the label.
    pub node_label: String,
    /// `--default-config`: the config of a node without the label.
    pub default_config: Option<String>,
    /// `--config-fallback-strategies`: what is tried, in this order, where there is neither a
    /// label nor a default.
    pub fallbacks: Vec<FallbackStrategy>,
    /// `--kubeconfig`: how to reach the Kubernetes API from outside of a cluster.
    pub kubeconfig: Option<PathBuf>,
}

impl ConfigSource {
    /// Whether the node's label has a say.
    pub fn has_label(&self) -> bool {
        self.place.has_names() && self.node_name.is_some()
    }

    /// Whether the Kubernetes API is needed.
    pub fn needs_api(&self) -> bool {
        self.has_label() || matches!(self.place, ConfigPlace::ConfigMap(_))
    }
}

impl Default for ConfigSource {
    fn default() -> Self {
        Self {
            place: ConfigPlace::Nowhere,
            node_name: None,
            node_label: NODE_LABEL.to_owned(),
            default_config: None,
            fallbacks: FallbackStrategy::WORDS
                .iter()
                .map(|(_, one)| *one)
                .collect(),
            kubeconfig: None,
        }
    }
}

/// Where the texts of configs are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ConfigPlace {
    /// There is none: flags and environment are all.
    #[default]
    Nowhere,
    /// One file, which is the config.
    File(PathBuf),
    /// A directory in which every file is a config of that name: a mounted ConfigMap.
    Directory(PathBuf),
    /// A ConfigMap in which every key is a config of that name, read through the API.
    ConfigMap(ConfigMapName),
}

impl ConfigPlace {
    /// Whether there are several configs, of which one is chosen by name.
    pub fn has_names(&self) -> bool {
        matches!(self, Self::Directory(_) | Self::ConfigMap(_))
    }
}

impl fmt::Display for ConfigPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("nowhere"),
            Self::File(path) => write!(f, "the config file {}", path.display()),
            Self::Directory(path) => write!(f, "the directory {}", path.display()),
            Self::ConfigMap(name) => write!(f, "the ConfigMap {name}"),
        }
    }
}

/// A ConfigMap's namespace and name, written `NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMapName {
    /// Its namespace, a DNS label.
    pub namespace: String,
    /// Its name, a DNS subdomain.
    pub name: String,
}

impl std::str::FromStr for ConfigMapName {
    type Err = InvalidConfigMapName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if is_dns_label(namespace) && is_dns_subdomain(name) => {
                Ok(Self {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => Err(InvalidConfigMapName),
        }
    }
}

impl fmt::Display for ConfigMapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A text that is not `NAMESPACE/NAME` with names that Kubernetes takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not NAMESPACE/NAME")]
pub struct InvalidConfigMapName;

/// What stands in for a config that nobody has named, as in the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FallbackStrategy {
    /// The config called `default`.
    Named,
    /// The only config there is.
    Single,
    /// None: what flags and environment say.
    Empty,
}

impl FallbackStrategy {
    /// The word that means it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Single => "single",
            Self::Empty => "empty",
        }
    }
}

impl Choice for FallbackStrategy {
    const WORDS: &'static [(&'static str, Self)] = &[
        (Self::Named.word(), Self::Named),
        (Self::Single.word(), Self::Single),
        (Self::Empty.word(), Self::Empty),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_maps_name_has_two_parts_that_kubernetes_takes() {
        let name: ConfigMapName = "mizzen-system/mizzen.config".parse().unwrap();
        assert_eq!(name.namespace, "mizzen-system");
        assert_eq!(name.to_string(), "mizzen-system/mizzen.config");
        for text in ["", "a", "a/", "/b", "a/b/c", "A/b", "a.b/c", "-a/b", "a/b."] {
            assert!(text.parse::<ConfigMapName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_namespace_is_short_and_other_names_are_bounded_as_a_whole() {
        let good = |namespace: usize, name: usize| {
            let text = format!("{}/{}", "a".repeat(namespace), "b".repeat(name));
            text.parse::<ConfigMapName>().is_ok()
        };
        assert!(good(63, 253));
        assert!(!good(64, 1));
        assert!(!good(1, 254));
    }
}
