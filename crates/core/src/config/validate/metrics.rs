//! The settings of the metrics.

use std::time::Duration;

use super::Reader;
use crate::config::error::ConfigError;
use crate::config::metrics::{MetricsConfig, SHORTEST_INTERVAL};
use crate::config::setting::{Setting, parse_milliseconds};

impl Reader<'_> {
    /// Reads them.
    pub(super) fn metrics(&mut self, default: &MetricsConfig) -> MetricsConfig {
        let metrics = MetricsConfig {
            address: self.address(Setting::MetricsAddress),
            web_config_file: self.path(Setting::WebConfigFile),
            interval: self.metrics_interval(default.interval),
            counters: self.path(Setting::MetricsCounters),
            pods: self.boolean(Setting::MetricsPods, default.pods),
            pod_uid: self.boolean(Setting::MetricsPodUid, default.pod_uid),
            hostname: !self.boolean(Setting::MetricsNoHostname, !default.hostname),
            hostname_label: self
                .choice(Setting::MetricsHostnameLabel)
                .unwrap_or_default(),
            old_namespace: self.boolean(Setting::MetricsOldNamespace, default.old_namespace),
            replace_blanks: self.boolean(Setting::MetricsReplaceBlanks, default.replace_blanks),
            xid_window: self
                .milliseconds(Setting::MetricsXidWindow)
                .unwrap_or(default.xid_window),
            clock_events_window: self
                .milliseconds(Setting::MetricsClockEventsWindow)
                .unwrap_or(default.clock_events_window),
        };
        if metrics.address.is_none() && metrics.web_config_file.is_some() {
            self.warn(
                Setting::WebConfigFile,
                "it is for metrics, and does nothing without --metrics-address",
            );
        }
        metrics
    }

    fn metrics_interval(&mut self, default: Duration) -> Duration {
        let setting = Setting::MetricsInterval;
        let interval = self.milliseconds(setting).unwrap_or(default);
        if interval < SHORTEST_INTERVAL
            && let Some((origin, value)) = self.text(setting)
        {
            self.errors.push(ConfigError::InvalidValue {
                origin,
                value,
                expected: "at least 100ms".to_owned(),
                suggestion: None,
            });
        }
        interval
    }

    fn milliseconds(&mut self, setting: Setting) -> Option<Duration> {
        let (origin, text) = self.text(setting)?;
        let value = parse_milliseconds(&text);
        if value.is_none() {
            self.invalid(setting, &origin, &text);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, RawConfig};
    use crate::metrics::HostnameLabel;

    fn config(flags: &[(Setting, &str)]) -> Result<Config, Vec<ConfigError>> {
        let mut raw = RawConfig::default();
        for (setting, text) in flags {
            raw.set_flag(*setting, [(*text).to_owned()]);
        }
        raw.validate()
    }

    #[test]
    fn there_are_no_metrics_unless_an_address_is_given() {
        assert_eq!(config(&[]).unwrap().metrics, MetricsConfig::default());
        for (text, address) in [
            (":9400", "[::]:9400"),
            ("0.0.0.0:9400", "0.0.0.0:9400"),
            ("[::1]:9400", "[::1]:9400"),
        ] {
            let metrics = config(&[(Setting::MetricsAddress, text)]).unwrap().metrics;
            assert_eq!(metrics.address, Some(address.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_milliseconds_as_in_the_exporter() {
        let interval = |text| config(&[(Setting::MetricsInterval, text)]);
        let of = |text| interval(text).unwrap().metrics.interval;
        assert_eq!(of("30000"), Duration::from_secs(30));
        assert_eq!(of("500ms"), Duration::from_millis(500));
        assert_eq!(of("1m"), Duration::from_mins(1));
        for text in ["0", "99", "", "-1", "1.5", "fast"] {
            let error = interval(text).unwrap_err()[0].to_string();
            assert!(error.contains("--metrics-interval"), "{error}");
        }
    }

    #[test]
    fn the_variables_of_the_exporter_are_read() {
        let raw = RawConfig::from_environment(|name| {
            let value = match name {
                "DCGM_EXPORTER_LISTEN" => ":9400",
                "DCGM_EXPORTER_INTERVAL" => "10000",
                "DCGM_EXPORTER_COLLECTORS" => "/counters.csv",
                "DCGM_EXPORTER_KUBERNETES" => "false",
                "DCGM_EXPORTER_NO_HOSTNAME" | "DCGM_EXPORTER_USE_OLD_NAMESPACE" => "1",
                "DCGM_EXPORTER_XID_COUNT_WINDOW_SIZE" => "60000",
                "DCGM_POD_RESOURCES_KUBELET_SOCKET" => "/pods.sock",
                _ => return None,
            };
            Some(value.to_owned())
        });
        let config = raw.validate().unwrap();
        let expected = MetricsConfig {
            address: Some("[::]:9400".parse().unwrap()),
            interval: Duration::from_secs(10),
            counters: Some("/counters.csv".into()),
            pods: false,
            hostname: false,
            old_namespace: true,
            xid_window: Duration::from_mins(1),
            ..MetricsConfig::default()
        };
        assert_eq!(config.metrics, expected);
        assert_eq!(config.pod_resources_socket().to_str(), Some("/pods.sock"));
    }

    #[test]
    fn a_web_config_without_an_address_is_remarked_on() {
        let web = (Setting::WebConfigFile, "/web.yml");
        let warnings = config(&[web]).unwrap().warnings;
        assert!(warnings[0].to_string().contains("--metrics-address"));
        let both = [web, (Setting::MetricsAddress, ":9400")];
        assert!(config(&both).unwrap().warnings.is_empty());
        let label = [(Setting::MetricsHostnameLabel, "hostname")];
        let label = config(&label).unwrap().metrics.hostname_label;
        assert_eq!(label, HostnameLabel::Lower);
    }
}
