//! The config file, version v1: the reference's own format, read strictly.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::error::{ConfigError, Location, Origin};
use super::raw::RawConfig;
use super::setting::Setting;

/// Reads the text of a config file.
///
/// What another program of the reference's reads from the same file (`flags.gfd`,
/// `flags.useNodeFeatureAPI`) is checked and left alone.
///
/// # Errors
/// A key that is misspelt or there twice, a value of the wrong type, a version other than v1, or
/// a section that this build cannot honour: nothing is passed over in silence.
pub fn parse(text: &str) -> Result<RawConfig, Vec<ConfigError>> {
    // A file with nothing in it says nothing.
    let file: Option<File> =
        serde_saphyr::from_str(text).map_err(|error| vec![describe(&error)])?;
    let file = file.unwrap_or_default();
    let errors = file.unsupported();
    if errors.is_empty() {
        Ok(file.settings())
    } else {
        Err(errors)
    }
}

fn describe(error: &serde_saphyr::Error) -> ConfigError {
    let plain = error.without_snippet();
    let location = error.location().map(|place| Location {
        line: place.line(),
        column: place.column(),
    });
    ConfigError::File {
        location,
        message: plain.to_string(),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct File {
    version: Option<String>,
    flags: Option<Flags>,
    #[serde(deserialize_with = "has_keys")]
    resources: bool,
    #[serde(deserialize_with = "has_keys")]
    sharing: bool,
    imex: Option<Imex>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Flags {
    mig_strategy: Option<String>,
    fail_on_init_error: Option<bool>,
    mps_root: Option<String>,
    nvidia_driver_root: Option<String>,
    nvidia_dev_root: Option<String>,
    gdrcopy_enabled: Option<bool>,
    gds_enabled: Option<bool>,
    mofed_enabled: Option<bool>,
    #[serde(rename = "useNodeFeatureAPI")]
    _use_node_feature_api: Option<bool>,
    device_discovery_strategy: Option<String>,
    plugin: Option<Plugin>,
    #[serde(rename = "gfd")]
    _gfd: Option<FeatureDiscovery>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Plugin {
    pass_device_specs: Option<bool>,
    device_list_strategy: Option<OneOrMany>,
    #[serde(rename = "deviceIDStrategy")]
    device_id_strategy: Option<String>,
    #[serde(rename = "cdiAnnotationPrefix")]
    cdi_annotation_prefix: Option<String>,
    #[serde(rename = "nvidiaCTKPath")]
    nvidia_ctk_path: Option<String>,
    container_driver_root: Option<String>,
    shared_devices_allocation_policy: Option<String>,
}

/// Keys of the feature discovery, which shares the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct FeatureDiscovery {
    #[serde(rename = "oneshot")]
    _oneshot: Option<bool>,
    #[serde(rename = "noTimestamp")]
    _no_timestamp: Option<bool>,
    #[serde(rename = "sleepInterval")]
    _sleep_interval: Option<String>,
    #[serde(rename = "outputFile")]
    _output_file: Option<String>,
    #[serde(rename = "machineTypeFile")]
    _machine_type_file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Imex {
    #[serde(rename = "channelIDs")]
    channel_ids: Option<Vec<i64>>,
    required: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Whether there is anything in a section that is not read any further.
#[allow(
    clippy::zero_sized_map_values,
    reason = "what a key holds must be skipped, and a set cannot be read from a YAML mapping"
)]
fn has_keys<'de, D: Deserializer<'de>>(section: D) -> Result<bool, D::Error> {
    let keys = Option::<BTreeMap<String, IgnoredAny>>::deserialize(section)?;
    Ok(keys.is_some_and(|keys| !keys.is_empty()))
}

impl File {
    fn unsupported(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        if let Some(version) = self.version.as_deref().filter(|version| *version != "v1") {
            errors.push(ConfigError::InvalidValue {
                origin: Origin::File("version".to_owned()),
                value: version.to_owned(),
                expected: "v1, the only version there is".to_owned(),
                suggestion: None,
            });
        }
        for (key, given, reason) in [
            (
                "sharing",
                self.sharing,
                "this build does not share GPUs between containers; leave the section out",
            ),
            (
                "resources",
                self.resources,
                "this build offers all GPUs as nvidia.com/gpu; leave the section out",
            ),
        ] {
            if given {
                errors.push(ConfigError::Unsupported {
                    origin: Origin::File(key.to_owned()),
                    reason: reason.to_owned(),
                });
            }
        }
        errors
    }

    fn settings(self) -> RawConfig {
        let flags = self.flags.unwrap_or_default();
        let plugin = flags.plugin.unwrap_or_default();
        let imex = self.imex.unwrap_or_default();
        let switch = |value: Option<bool>| value.map(|on| vec![on.to_string()]);
        let text = |value: Option<String>| value.map(|text| vec![text]);
        let strategies = plugin.device_list_strategy.map(|value| match value {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        });
        let channels = imex
            .channel_ids
            .map(|ids| ids.iter().map(i64::to_string).collect());

        let mut raw = RawConfig::default();
        for (setting, value) in [
            (Setting::MigStrategy, text(flags.mig_strategy)),
            (Setting::FailOnInitError, switch(flags.fail_on_init_error)),
            (Setting::MpsRoot, text(flags.mps_root)),
            (Setting::DriverRoot, text(flags.nvidia_driver_root)),
            (Setting::DevRoot, text(flags.nvidia_dev_root)),
            (Setting::GdrcopyEnabled, switch(flags.gdrcopy_enabled)),
            (Setting::GdsEnabled, switch(flags.gds_enabled)),
            (Setting::MofedEnabled, switch(flags.mofed_enabled)),
            (
                Setting::DeviceDiscoveryStrategy,
                text(flags.device_discovery_strategy),
            ),
            (Setting::PassDeviceSpecs, switch(plugin.pass_device_specs)),
            (Setting::DeviceListStrategy, strategies),
            (Setting::DeviceIdStrategy, text(plugin.device_id_strategy)),
            (
                Setting::CdiAnnotationPrefix,
                text(plugin.cdi_annotation_prefix),
            ),
            (Setting::CdiHookPath, text(plugin.nvidia_ctk_path)),
            (
                Setting::DriverRootCtrPath,
                text(plugin.container_driver_root),
            ),
            (
                Setting::SharedDevicesAllocationPolicy,
                text(plugin.shared_devices_allocation_policy),
            ),
            (Setting::ImexChannelIds, channels),
            (Setting::ImexRequired, switch(imex.required)),
        ] {
            if let Some(texts) = value {
                raw.set_key(setting, texts);
            }
        }
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(raw: &RawConfig, setting: Setting) -> Vec<String> {
        raw.get(setting)
            .map(|value| value.texts.clone())
            .unwrap_or_default()
    }

    fn failures(text: &str) -> Vec<String> {
        parse(text)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn every_key_of_the_reference_is_read() {
        let raw = parse(
            "version: v1
flags:
  migStrategy: single
  failOnInitError: false
  mpsRoot: /mps
  nvidiaDriverRoot: /driver
  nvidiaDevRoot: /dev-root
  gdrcopyEnabled: true
  gdsEnabled: true
  mofedEnabled: true
  useNodeFeatureAPI: true
  deviceDiscoveryStrategy: nvml
  plugin:
    passDeviceSpecs: true
    deviceListStrategy: [envvar, cdi-cri]
    deviceIDStrategy: index
    cdiAnnotationPrefix: cdi.example.com/
    nvidiaCTKPath: /ctk
    containerDriverRoot: /ctr
    sharedDevicesAllocationPolicy: packed
  gfd: {oneshot: true, noTimestamp: false, sleepInterval: 60s, outputFile: /f, machineTypeFile: /m}
imex: {channelIDs: [0], required: true}
",
        )
        .unwrap();
        for row in super::super::SETTINGS
            .iter()
            .filter(|row| row.key.is_some())
        {
            let value = raw
                .get(row.setting)
                .unwrap_or_else(|| panic!("{:?}", row.key));
            assert_eq!(value.origin, Origin::File(row.key.unwrap().to_owned()));
        }
        assert_eq!(
            texts(&raw, Setting::DeviceListStrategy),
            ["envvar", "cdi-cri"]
        );
        assert_eq!(texts(&raw, Setting::PassDeviceSpecs), ["true"]);
        assert_eq!(texts(&raw, Setting::ImexChannelIds), ["0"]);
        let config = raw.validate().unwrap();
        assert_eq!(config.cdi_annotation_prefix, "cdi.example.com/");
        assert!(!config.fail_on_init_error);
    }

    #[test]
    fn one_strategy_may_stand_without_a_list() {
        let raw = parse("flags: {plugin: {deviceListStrategy: volume-mounts}}").unwrap();
        assert_eq!(texts(&raw, Setting::DeviceListStrategy), ["volume-mounts"]);
    }

    #[test]
    fn nothing_and_empty_sections_say_nothing() {
        for text in [
            "",
            "# nothing\n",
            "version: v1\n",
            "flags:\nsharing: {}\nresources:\n",
        ] {
            assert_eq!(parse(text).unwrap(), RawConfig::default(), "{text:?}");
        }
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_place() {
        let errors = failures("version: v1\nflags:\n  migStrategie: single\n");
        assert_eq!(errors.len(), 1);
        assert!(errors[0].contains("line 3 column 3"), "{}", errors[0]);
        assert!(errors[0].contains("migStrategie"), "{}", errors[0]);
        assert!(errors[0].contains("migStrategy"), "{}", errors[0]);
    }

    #[test]
    fn keys_that_are_there_twice_and_wrong_types_are_refused() {
        for (text, place) in [
            ("flags: {}\nflags: {}\n", "line 2"),
            ("flags:\n  gdsEnabled: perhaps\n", "line 2"),
            ("flags: [a]\n", "line 1"),
            ("flags: {plugin: {}\n", "line"),
        ] {
            let errors = failures(text);
            assert!(errors[0].contains(place), "{text:?}: {errors:?}");
        }
    }

    #[test]
    fn what_this_build_cannot_honour_is_refused_all_at_once() {
        let errors = failures(
            "version: v2\nsharing: {timeSlicing: {resources: []}}\nresources: {gpus: []}\n",
        );
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[0].contains("\"v2\""), "{errors:?}");
        assert!(errors[1].contains("does not share GPUs"), "{errors:?}");
        assert!(errors[2].contains("resources"), "{errors:?}");
    }
}
