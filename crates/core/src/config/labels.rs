//! Settings of the labels.

use std::path::PathBuf;
use std::time::Duration;

use super::setting::Setting;

/// The settings that `mizzen labels` has and the agent has not.
pub const LABEL_SETTINGS: [Setting; 5] = [
    Setting::Oneshot,
    Setting::NoTimestamp,
    Setting::SleepInterval,
    Setting::OutputFile,
    Setting::MachineTypeFile,
];

/// Where Node Feature Discovery looks for the labels of others.
pub(super) const FEATURES_FILE: &str = "/etc/kubernetes/node-feature-discovery/features.d/gfd";

/// How labels are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelsConfig {
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

impl Default for LabelsConfig {
    fn default() -> Self {
        Self {
            oneshot: false,
            timestamp: true,
            sleep_interval: Some(Duration::from_mins(1)),
            output_file: Some(FEATURES_FILE.into()),
            machine_type_file: Some("/sys/class/dmi/id/product_name".into()),
        }
    }
}
