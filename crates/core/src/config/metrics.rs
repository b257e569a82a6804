//! Settings of the metrics.

use core::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::setting::Setting;
use super::types::Choice;
use crate::metrics::HostnameLabel;

/// The settings that concern metrics alone.
pub const METRICS_SETTINGS: [Setting; 12] = [
    Setting::MetricsAddress,
    Setting::MetricsInterval,
    Setting::MetricsCounters,
    Setting::MetricsPods,
    Setting::MetricsPodUid,
    Setting::MetricsNoHostname,
    Setting::MetricsHostnameLabel,
    Setting::MetricsOldNamespace,
    Setting::MetricsReplaceBlanks,
    Setting::MetricsXidWindow,
    Setting::MetricsClockEventsWindow,
    Setting::WebConfigFile,
];

/// How often GPUs may be sampled at most: what GPM tells of less is noise.
pub(super) const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// What metrics there are, and for whom.
#[allow(
    clippy::struct_excessive_bools,
    reason = "they are the switches that the command line has"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    /// `--metrics-address`: where they are served; `None` for no metrics at all.
    pub address: Option<SocketAddr>,
    /// `--web-config-file`: who may read them; `None` for everybody, by plain HTTP.
    pub web_config_file: Option<PathBuf>,
    /// `--metrics-interval`: how long between two samples of the GPUs.
    pub interval: Duration,
    /// `--metrics-counters`: the file of the counters; `None` for those of the reference.
    pub counters: Option<PathBuf>,
    /// `--metrics-pods`: whether it is told which pods hold and use the GPUs.
    pub pods: bool,
    /// `--metrics-pod-uid`: whether the UIDs of pods are told.
    pub pod_uid: bool,
    /// Whether the node's name is told: without `--metrics-no-hostname`.
    pub hostname: bool,
    /// `--metrics-hostname-label`: how the label with the node's name is written.
    pub hostname_label: HostnameLabel,
    /// `--metrics-old-namespace`: whether labels are those of dcgm-exporter 1.
    pub old_namespace: bool,
    /// `--metrics-replace-blanks`: whether the names of models are told without blanks.
    pub replace_blanks: bool,
    /// `--metrics-xid-window`: over how long `DCGM_EXP_XID_ERRORS_COUNT` counts.
    pub xid_window: Duration,
    /// `--metrics-clock-events-window`: over how long `DCGM_EXP_CLOCK_EVENTS_COUNT` counts.
    pub clock_events_window: Duration,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            address: None,
            web_config_file: None,
            interval: Duration::from_secs(1),
            counters: None,
            pods: true,
            pod_uid: false,
            hostname: true,
            hostname_label: HostnameLabel::default(),
            old_namespace: false,
            replace_blanks: false,
            xid_window: Duration::from_mins(5),
            clock_events_window: Duration::from_mins(5),
        }
    }
}

impl Choice for HostnameLabel {
    const WORDS: &'static [(&'static str, Self)] =
        &[("Hostname", Self::Upper), ("hostname", Self::Lower)];
}
