//! From settings as they were given to settings as they are meant.

mod labels;
mod metrics;
mod mig;
mod source;

use core::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::duration::parse_duration;
use super::error::{ConfigError, ConfigWarning, Origin};
use super::file::warning;
use super::naming::{GpuFilter, GpuSelector, SELECTOR};
use super::raw::{RawConfig, RawValue};
use super::setting::{Setting, parse_address, parse_boolean};
use super::types::{
    AUTO, Choice, Config, DeviceListStrategies, DeviceListStrategy, DiscoveryStrategy,
    HealthTuning, ImexConfig, MigStrategy,
};
use crate::cdi::{CdiKind, HAND_VENDOR, Wanted};
use crate::xid::XidPolicy;

impl RawConfig {
    /// Checks every setting and fills in the defaults.
    ///
    /// # Errors
    /// All that is wrong, not only the first thing.
    pub fn validate(&self) -> Result<Config, Vec<ConfigError>> {
        let mut reader = Reader {
            raw: self,
            errors: self.problems.clone(),
            warnings: self.warnings.clone(),
        };
        let mut config = reader.config(Config::default());
        reader.cross_check(&config);
        if reader.errors.is_empty() {
            config.warnings = reader.warnings;
            Ok(config)
        } else {
            Err(few(reader.errors))
        }
    }
}

/// The most mistakes that are told at once; more help nobody, and end up in one line of a log.
pub(crate) const MOST_ERRORS: usize = 100;

/// The first mistakes, and how many more there are.
pub(crate) fn few(mut errors: Vec<ConfigError>) -> Vec<ConfigError> {
    if errors.len() > MOST_ERRORS {
        let more = errors.len() - MOST_ERRORS;
        errors.truncate(MOST_ERRORS);
        errors.push(ConfigError::File {
            location: None,
            message: format!("there are {more} more mistakes"),
        });
    }
    errors
}

/// Reads settings one by one and collects what is wrong with them.
struct Reader<'a> {
    raw: &'a RawConfig,
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigWarning>,
}

impl Reader<'_> {
    fn config(&mut self, default: Config) -> Config {
        let driver_root = self
            .path(Setting::DriverRoot)
            .unwrap_or(default.driver_root);
        Config {
            mig_strategy: self.choice(Setting::MigStrategy).unwrap_or_default(),
            fail_on_init_error: self.boolean(Setting::FailOnInitError, default.fail_on_init_error),
            dev_root: self
                .path(Setting::DevRoot)
                .unwrap_or_else(|| driver_root.clone()),
            driver_root,
            driver_root_ctr_path: self
                .path(Setting::DriverRootCtrPath)
                .unwrap_or(default.driver_root_ctr_path),
            pass_device_specs: self.boolean(Setting::PassDeviceSpecs, default.pass_device_specs),
            device_list_strategies: self.device_list_strategies(),
            device_id_strategy: self.choice(Setting::DeviceIdStrategy).unwrap_or_default(),
            gdrcopy_enabled: self.boolean(Setting::GdrcopyEnabled, default.gdrcopy_enabled),
            gds_enabled: self.boolean(Setting::GdsEnabled, default.gds_enabled),
            mofed_enabled: self.boolean(Setting::MofedEnabled, default.mofed_enabled),
            cdi_annotation_prefix: self
                .text(Setting::CdiAnnotationPrefix)
                .map_or(default.cdi_annotation_prefix, |value| value.1),
            cdi_hook_path: self.path(Setting::CdiHookPath),
            hook_dir: self.path(Setting::HookDir).unwrap_or(default.hook_dir),
            cdi_feature_flags: self.list(Setting::CdiFeatureFlags),
            cdi_disable_hooks: self.list(Setting::CdiDisableHooks),
            cdi_kinds: self.cdi_kinds(),
            mps_root: self.path(Setting::MpsRoot),
            shared_devices_allocation_policy: self
                .choice(Setting::SharedDevicesAllocationPolicy)
                .unwrap_or_default(),
            gpu_allocation_policy: self
                .choice(Setting::GpuAllocationPolicy)
                .unwrap_or(default.gpu_allocation_policy),
            gpus: GpuFilter::new(
                self.selectors(Setting::IncludeGpus),
                self.selectors(Setting::ExcludeGpus),
            ),
            naming: self.raw.sections.naming.clone(),
            sharing: self.raw.sections.sharing.clone(),
            device_discovery_strategy: self.discovery_strategy(),
            imex: self.imex(),
            kubelet_socket: self.kubelet_socket(default.kubelet_socket),
            xid_policy: self.xid_policy(),
            host_root: self.path(Setting::HostRoot).unwrap_or(default.host_root),
            nvml_library: self.path(Setting::NvmlLibrary),
            state_dir: self.path(Setting::StateDir).unwrap_or(default.state_dir),
            health_address: self.address(Setting::HealthAddress),
            health: self.health(&default.health),
            health_rules: self.raw.sections.health.clone(),
            warnings: Vec::new(),
            source: self.config_source(),
            mig_manager: self.mig_manager(),
            labels: self.labels(default.labels),
            metrics: self.metrics(&default.metrics),
        }
    }

    fn device_list_strategies(&mut self) -> DeviceListStrategies {
        let Some(value) = self.raw.get(Setting::DeviceListStrategy) else {
            return DeviceListStrategies::default();
        };
        if let [text] = value.texts.as_slice()
            && text == AUTO
        {
            return DeviceListStrategies::default();
        }
        let mut strategies = Vec::new();
        for text in &value.texts {
            match DeviceListStrategy::from_word(text) {
                Some(strategy) => strategies.push(strategy),
                None if text == AUTO => self.errors.push(ConfigError::InvalidValue {
                    origin: value.origin.clone(),
                    value: text.clone(),
                    expected: "auto alone, or a list of the others".to_owned(),
                    suggestion: None,
                }),
                None => self.invalid(Setting::DeviceListStrategy, &value.origin, text),
            }
        }
        if value.texts.is_empty() {
            return DeviceListStrategies::default();
        }
        DeviceListStrategies::new(strategies)
    }

    fn cdi_kinds(&mut self) -> Vec<CdiKind> {
        let Some(value) = self.raw.get(Setting::CdiKinds) else {
            return Vec::new();
        };
        let mut kinds = Vec::new();
        for text in &value.texts {
            match text.parse::<CdiKind>() {
                Ok(kind) if Wanted::CLASSES.contains(&kind.class()) => kinds.push(kind),
                Ok(_) | Err(_) => {
                    let expected = format!(
                        "vendor/class, such as {HAND_VENDOR}/gpu, with one of the classes {}",
                        Wanted::CLASSES.join(", ")
                    );
                    self.errors.push(ConfigError::InvalidValue {
                        origin: value.origin.clone(),
                        value: text.clone(),
                        expected,
                        suggestion: None,
                    });
                }
            }
        }
        kinds
    }

    fn discovery_strategy(&mut self) -> DiscoveryStrategy {
        match self.text(Setting::DeviceDiscoveryStrategy) {
            Some((origin, word)) if word == "tegra" => {
                self.errors.push(ConfigError::Unsupported {
                    origin,
                    reason: "this build finds GPUs through NVML only; use auto or nvml".to_owned(),
                });
                DiscoveryStrategy::Auto
            }
            _ => self
                .choice(Setting::DeviceDiscoveryStrategy)
                .unwrap_or_default(),
        }
    }

    fn imex(&mut self) -> ImexConfig {
        let mut channel_ids = Vec::new();
        if let Some(value) = self.raw.get(Setting::ImexChannelIds) {
            // Channel 0 alone is what the reference takes; given twice it is still channel 0.
            for text in &value.texts {
                if text != "0" {
                    self.invalid(Setting::ImexChannelIds, &value.origin, text);
                } else if channel_ids.is_empty() {
                    channel_ids.push(0);
                }
            }
        }
        ImexConfig {
            channel_ids,
            required: self.boolean(Setting::ImexRequired, false),
        }
    }

    fn kubelet_socket(&mut self, default: Option<PathBuf>) -> Option<PathBuf> {
        match self.raw.get(Setting::KubeletSocket) {
            None => default,
            Some(value) => last(value)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
        }
    }

    fn xid_policy(&mut self) -> XidPolicy {
        let disabled = self.list(Setting::DisableHealthChecks).join(",");
        let enabled = self.list(Setting::EnableHealthChecks).join(",");
        let (policy, malformed) = XidPolicy::from_lists(&disabled, &enabled);
        for entry in malformed {
            let setting = match entry.list {
                crate::xid::XidList::Disabled => Setting::DisableHealthChecks,
                crate::xid::XidList::Enabled => Setting::EnableHealthChecks,
            };
            self.warn(setting, &entry.to_string());
        }
        policy
    }

    fn health(&mut self, default: &HealthTuning) -> HealthTuning {
        let tuning = HealthTuning {
            hold_down: self
                .duration(Setting::HealthHoldDown)
                .unwrap_or(default.hold_down),
            check_interval: self
                .duration(Setting::HealthCheckInterval)
                .unwrap_or(default.check_interval),
            nvml_call_timeout: self
                .duration(Setting::NvmlCallTimeout)
                .unwrap_or(default.nvml_call_timeout),
        };
        for (setting, value) in [
            (Setting::HealthCheckInterval, tuning.check_interval),
            (Setting::NvmlCallTimeout, tuning.nvml_call_timeout),
        ] {
            if value.is_zero()
                && let Some((origin, text)) = self.text(setting)
            {
                self.errors.push(ConfigError::InvalidValue {
                    origin,
                    value: text,
                    expected: "a duration longer than 0".to_owned(),
                    suggestion: None,
                });
            }
        }
        tuning
    }

    /// The last text given, and its origin.
    fn text(&self, setting: Setting) -> Option<(Origin, String)> {
        let value = self.raw.get(setting)?;
        last(value).map(|text| (value.origin.clone(), text.to_owned()))
    }

    fn list(&self, setting: Setting) -> Vec<String> {
        let value = self.raw.get(setting);
        value.map(|value| value.texts.clone()).unwrap_or_default()
    }

    fn path(&self, setting: Setting) -> Option<PathBuf> {
        let (_, text) = self.text(setting)?;
        (!text.is_empty()).then(|| text.into())
    }

    fn boolean(&mut self, setting: Setting, default: bool) -> bool {
        let Some((origin, text)) = self.text(setting) else {
            return default;
        };
        let value = parse_boolean(&text);
        if value.is_none() {
            self.invalid(setting, &origin, &text);
        }
        value.unwrap_or(default)
    }

    fn selectors(&mut self, setting: Setting) -> Vec<GpuSelector> {
        let Some(value) = self.raw.get(setting) else {
            return Vec::new();
        };
        let mut selectors = Vec::new();
        for text in &value.texts {
            match text.parse() {
                Ok(selector) => selectors.push(selector),
                Err(_) => self.errors.push(ConfigError::InvalidValue {
                    origin: value.origin.clone(),
                    value: text.clone(),
                    expected: SELECTOR.to_owned(),
                    suggestion: None,
                }),
            }
        }
        selectors
    }

    /// What is wrong, or odd, only together.
    fn cross_check(&mut self, config: &Config) {
        let Some(at) = self.raw.sections.mps_at else {
            return;
        };
        let mut refuse = |message: &str| {
            self.errors.push(ConfigError::File {
                location: Some(at),
                message: format!("sharing.mps: {message}"),
            });
        };
        if config.mig_strategy == MigStrategy::Mixed {
            refuse("MPS cannot share MIG devices; use the MIG strategy none or single");
        }
        if config.mps_root.is_none() {
            refuse(
                "MPS needs the directory of its control daemons: give --mps-root or flags.mpsRoot",
            );
        }
        let place = |message: &str| warning("sharing.mps", at, message);
        if !config.sharing.time_slicing.is_empty() {
            self.warnings.push(place(
                "where both name a GPU, it outranks sharing.timeSlicing",
            ));
        }
        self.warnings.push(place(
            "this build does not run MPS; the GPUs it names are offered whole, to one container each",
        ));
    }

    fn choice<T: Choice>(&mut self, setting: Setting) -> Option<T> {
        let (origin, text) = self.text(setting)?;
        let value = T::from_word(&text);
        if value.is_none() {
            self.invalid(setting, &origin, &text);
        }
        value
    }

    fn duration(&mut self, setting: Setting) -> Option<Duration> {
        let (origin, text) = self.text(setting)?;
        let value = parse_duration(&text).ok();
        if value.is_none() {
            self.invalid(setting, &origin, &text);
        }
        value
    }

    fn address(&mut self, setting: Setting) -> Option<SocketAddr> {
        let (origin, text) = self.text(setting)?;
        if text.is_empty() {
            return None;
        }
        let value = parse_address(&text);
        if value.is_none() {
            self.invalid(setting, &origin, &text);
        }
        value
    }

    fn invalid(&mut self, setting: Setting, origin: &Origin, value: &str) {
        let kind = setting.info().kind;
        self.errors.push(ConfigError::InvalidValue {
            origin: origin.clone(),
            value: value.to_owned(),
            expected: kind.expected(),
            suggestion: super::error::nearest(value, kind.words()),
        });
    }

    fn warn(&mut self, setting: Setting, message: &str) {
        if let Some(value) = self.raw.get(setting) {
            self.warnings.push(ConfigWarning {
                origin: value.origin.clone(),
                message: message.to_owned(),
            });
        }
    }
}

fn last(value: &RawValue) -> Option<&str> {
    value.texts.last().map(String::as_str)
}
