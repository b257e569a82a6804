//! Settings of the labels.

use std::path::PathBuf;
use std::time::Duration;

use super::setting::Setting;
use super::types::Choice;

/// The settings that `mizzen labels` has flags for and the agent has not.
pub const LABEL_SETTINGS: [Setting; 6] = [
    Setting::UseNodeFeatureApi,
    Setting::Oneshot,
    Setting::NoTimestamp,
    Setting::SleepInterval,
    Setting::OutputFile,
    Setting::MachineTypeFile,
];

/// Where Node Feature Discovery looks for the labels of others.
pub(super) const FEATURES_FILE: &str = "/etc/kubernetes/node-feature-discovery/features.d/gfd";

/// Where labels go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LabelsTo {
    /// Nowhere.
    Off,
    /// To the Node, through the Kubernetes API.
    Node,
    /// To a `NodeFeature` object, of which Node Feature Discovery makes labels of the Node.
    NodeFeature,
    /// To a file, which Node Feature Discovery reads.
    File,
}

impl LabelsTo {
    /// Whether the Kubernetes API is needed, and the name of the Node.
    pub fn needs_api(self) -> bool {
        matches!(self, Self::Node | Self::NodeFeature)
    }
}

impl Choice for LabelsTo {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("off", Self::Off),
        ("node", Self::Node),
        ("node-feature", Self::NodeFeature),
        ("file", Self::File),
    ];
}

/// How labels are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelsConfig {
    /// `--labels-to`; `None` where it was not given.
    pub to: Option<LabelsTo>,
    /// `--use-node-feature-api`, which the agent passes over.
    pub use_node_feature_api: bool,
    /// `--namespace`: where the `NodeFeature` object is; `None` is wherever the client belongs.
    pub namespace: Option<String>,
    /// `--oneshot`: once, and no more.
    pub oneshot: bool,
    /// Whether one of them tells the time of the start: without `--no-timestamp`.
    pub timestamp: bool,
    /// `--sleep-interval`: how long between two looks at the node; `None` is for ever.
    pub sleep_interval: Option<Duration>,
    /// `--output-file`: the file they are written to; `None` is standard output.
    pub output_file: Option<PathBuf>,
    /// `--machine-type-file`: the file that says what the machine is; `None` does not ask.
    pub machine_type_file: Option<PathBuf>,
}

impl LabelsConfig {
    /// Where the agent's labels go: nowhere unless it is told so.
    pub fn of_agent(&self) -> LabelsTo {
        self.to.unwrap_or(LabelsTo::Off)
    }

    /// Where those of `mizzen labels` go; standard output is a file.
    pub fn of_command(&self) -> LabelsTo {
        let otherwise = if self.use_node_feature_api {
            LabelsTo::NodeFeature
        } else {
            LabelsTo::File
        };
        self.to.unwrap_or(otherwise)
    }

    /// The file that the agent keeps, which has no standard output to tell labels on.
    pub fn features_file(&self) -> PathBuf {
        let given = self.output_file.clone();
        given.unwrap_or_else(|| FEATURES_FILE.into())
    }
}

impl Default for LabelsConfig {
    fn default() -> Self {
        Self {
            to: None,
            use_node_feature_api: false,
            namespace: None,
            oneshot: false,
            timestamp: true,
            sleep_interval: Some(Duration::from_mins(1)),
            output_file: Some(FEATURES_FILE.into()),
            machine_type_file: Some("/sys/class/dmi/id/product_name".into()),
        }
    }
}
