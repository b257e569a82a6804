//! The settings of metrics, made ready for use.

use std::path::Path;
use std::time::Duration;

use mizzen_core::config::Config;
use mizzen_core::metrics::{Counters, PageOptions};
use mizzen_core::sample::Wanted;
use rustix::system::uname;

use crate::config_source::read_config_file;

/// Where images of dcgm-exporter have their own files of counters, which manifests written for it
/// name.
const IN_THE_IMAGE: &str = "/etc/dcgm-exporter/";
/// From which age on a sample is too old at least.
const STALE: Duration = Duration::from_secs(15);

/// What pages are made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) options: PageOptions,
    /// What GPUs are asked.
    pub(super) wanted: Wanted,
    /// How often, while somebody reads the pages.
    pub(super) interval: Duration,
    /// Whether pods are told of.
    pub(super) pods: bool,
    /// What somebody should know of these settings.
    pub(super) remarks: Vec<String>,
}

impl Setup {
    /// Reads the file of counters.
    ///
    /// # Errors
    /// Everything that is wrong with it, for people.
    pub(super) fn read(config: &Config) -> Result<Self, String> {
        let settings = &config.metrics;
        let mut remarks = Vec::new();
        let counters = match &settings.counters {
            None => Counters::default(),
            Some(path) if path.starts_with(IN_THE_IMAGE) && !path.exists() => {
                remarks.push(format!(
                    "{} is a file of the exporter's image, and is not there: the exporter's \
                     default counters are told",
                    path.display()
                ));
                Counters::default()
            }
            Some(path) => counters(path, &mut remarks)?,
        };
        let wanted = Wanted {
            processes: settings.pods,
            ..counters.wanted()
        };
        let hostname = settings.hostname.then(|| hostname(config));
        Ok(Self {
            options: PageOptions {
                counters,
                hostname,
                hostname_label: settings.hostname_label,
                old_namespace: settings.old_namespace,
                pod_uid: settings.pod_uid,
                model_name_without_blanks: settings.replace_blanks,
                stale_after: STALE.max(3 * settings.interval),
                xid_window: settings.xid_window,
                clock_event_window: settings.clock_events_window,
            },
            wanted,
            interval: settings.interval,
            pods: settings.pods,
            remarks,
        })
    }
}

fn counters(path: &Path, remarks: &mut Vec<String>) -> Result<Counters, String> {
    let name = path.display();
    let text = read_config_file(path)
        .map_err(|why| format!("the counters cannot be read: {}", as_file(&why)))?;
    let counters = Counters::parse(&text).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(|one| format!("\n  {one}")).collect();
        format!(
            "the file of counters {name} cannot be used:{}",
            lines.concat()
        )
    })?;
    let each = counters.remarks().iter();
    remarks.extend(each.map(|remark| format!("{name}: {remark}")));
    Ok(counters)
}

/// It is no config.
fn as_file(why: &str) -> String {
    why.replacen("the config file", "the file", 1)
}

/// The node's name: that of its Node, or what the machine calls itself.
fn hostname(config: &Config) -> String {
    let known = config.source.node_name.clone();
    known.unwrap_or_else(|| uname().nodename().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use mizzen_core::config::MetricsConfig;
    use mizzen_core::metrics::Field;

    use super::*;

    fn with_counters(path: &Path) -> Result<Setup, String> {
        let metrics = MetricsConfig {
            counters: Some(path.to_owned()),
            ..MetricsConfig::default()
        };
        Setup::read(&Config {
            metrics,
            ..Config::default()
        })
    }

    #[test]
    fn the_exporters_own_files_stand_for_its_defaults() {
        let setup = with_counters(Path::new("/etc/dcgm-exporter/default-counters.csv")).unwrap();
        assert_eq!(setup.options.counters, Counters::default());
        assert!(setup.remarks[0].contains("default-counters.csv"));
        assert!(setup.wanted.processes && setup.wanted.fields.contains(Field::GpuTemp));
    }

    #[test]
    fn mistakes_in_the_file_are_told_with_their_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counters.csv");
        assert!(with_counters(&path).unwrap_err().contains("the file"));
        fs::write(
            &path,
            "DCGM_FI_DEV_GPU_TEMP, gauge, Warm.\nDCGM_FI_DEV_SM_CLOCK\n",
        )
        .unwrap();
        let mistakes = with_counters(&path).unwrap_err();
        assert!(
            mistakes.contains("counters.csv") && mistakes.contains("line 2"),
            "{mistakes}"
        );
    }

    #[test]
    fn the_nodes_name_is_told_unless_it_shall_not_be() {
        let mut config = Config::default();
        assert!(Setup::read(&config).unwrap().options.hostname.is_some());
        config.source.node_name = Some("gpu-1".to_owned());
        let hostname = Setup::read(&config).unwrap().options.hostname;
        assert_eq!(hostname.as_deref(), Some("gpu-1"));
        config.metrics.hostname = false;
        config.metrics.interval = Duration::from_secs(30);
        let options = Setup::read(&config).unwrap().options;
        assert_eq!(
            (options.hostname, options.stale_after.as_secs()),
            (None, 90)
        );
    }
}
