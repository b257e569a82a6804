//! From what is given to what is meant: every setting, every error at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers may fail it"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use mizzen_core::config::{
    AllocationPolicy, Config, ConfigError, ConfigPlace, ConfigSource, DeviceIdStrategy,
    DeviceListStrategies, DeviceListStrategy, FallbackStrategy, Kind, MigManagerConfig,
    MigStrategy, OwnPod, RawConfig, SETTINGS, Setting,
};
use mizzen_core::xid::{Xid, XidAuthority};

fn flags(pairs: &[(&str, &str)]) -> RawConfig {
    let mut raw = RawConfig::default();
    for (flag, value) in pairs {
        raw.set_flag(Setting::from_flag(flag).unwrap(), [(*value).to_owned()]);
    }
    raw
}

fn variables(pairs: &[(&str, &str)]) -> RawConfig {
    RawConfig::from_environment(|name| {
        let found = pairs.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn failures(raw: &RawConfig) -> Vec<String> {
    raw.validate()
        .unwrap_err()
        .iter()
        .map(ConfigError::to_string)
        .collect()
}

#[test]
fn nothing_given_means_the_defaults() {
    let config = RawConfig::default().validate().unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(
        config.device_plugin_dir(),
        Path::new("/var/lib/kubelet/device-plugins")
    );
    assert_eq!(config.health.hold_down, Duration::from_secs(30));
}

/// The help text's defaults are the program's: giving them changes nothing.
#[test]
fn the_defaults_of_the_table_are_those_of_the_config() {
    let mut raw = RawConfig::default();
    for row in SETTINGS {
        let in_words = matches!(
            row.setting,
            Setting::DevRoot
                | Setting::NvmlLibrary
                | Setting::CdiHookPath
                | Setting::ConfigFile
                | Setting::Kubeconfig
                | Setting::PodResourcesSocket
                | Setting::MetricsCounters
        );
        if row.flag.is_some() && !in_words && row.default != "none"
            || row.setting == Setting::MigStrategy
        {
            raw.set_flag(row.setting, [row.default.to_owned()]);
        }
    }
    assert_eq!(raw.validate().unwrap(), Config::default());
}

fn mig_manager() -> MigManagerConfig {
    MigManagerConfig {
        enabled: true,
        config_file: Some("/layouts.yaml".into()),
        evict: true,
        pod_resources_socket: Some("/pods.sock".into()),
        own_pod: Some(OwnPod {
            namespace: "mizzen-system".to_owned(),
            name: "mizzen-agent-x7k2p".to_owned(),
        }),
    }
}

#[test]
fn the_settings_of_cdi_reach_the_config() {
    let config = flags(&[
        ("cdi-annotation-prefix", "cdi.example.com/"),
        ("nvidia-ctk-path", "/hook"),
        ("hook-dir", "/hooks"),
        ("cdi-feature-flags", "a,b"),
        ("cdi-disable-hooks", "all"),
        ("cdi-kinds", "nvidia.com/gpu,management.nvidia.com/gpu"),
    ]);
    let config = config.validate().unwrap();
    assert_eq!(config.cdi_annotation_prefix, "cdi.example.com/");
    assert_eq!(config.cdi_hook_path.as_deref(), Some(Path::new("/hook")));
    assert_eq!(config.hook_program(), Path::new("/hook"));
    let ours = Config {
        cdi_hook_path: None,
        ..config.clone()
    };
    assert_eq!(ours.hook_program(), Path::new("/hooks/mizzen-hook"));
    assert_eq!(config.cdi_feature_flags, ["a", "b"]);
    assert_eq!(config.cdi_disable_hooks, ["all"]);
    let kinds: Vec<String> = config.cdi_kinds.iter().map(ToString::to_string).collect();
    assert_eq!(kinds, ["nvidia.com/gpu", "management.nvidia.com/gpu"]);
}

#[test]
fn every_other_setting_reaches_the_config() {
    let config = flags(&[
        ("mig-strategy", "mixed"),
        ("fail-on-init-error", "false"),
        ("nvidia-driver-root", "/driver"),
        ("pass-device-specs", "true"),
        ("device-list-strategy", "volume-mounts,cdi-cri"),
        ("device-id-strategy", "index"),
        ("gdrcopy-enabled", "1"),
        ("gds-enabled", "T"),
        ("mofed-enabled", "True"),
        ("container-driver-root", "/ctr"),
        ("mps-root", "/mps"),
        ("shared-devices-allocation-policy", "packed"),
        ("device-discovery-strategy", "nvml"),
        ("imex-channel-ids", "0"),
        ("imex-required", "true"),
        ("kubelet-socket", "/k/kubelet.sock"),
        ("host-root", "/host"),
        ("nvml-library", "/lib/libnvidia-ml.so.1"),
        ("state-dir", "/state"),
        ("health-address", ":8080"),
        ("health-hold-down", "1m"),
        ("health-check-interval", "500ms"),
        ("nvml-call-timeout", "2s"),
        ("node-name", "node-7"),
        ("node-label", "example.com/config"),
        ("config-map", "gpus/configs"),
        ("default-config", "plain"),
        ("fallback-strategies", "single"),
        ("kubeconfig", "/kubeconfig"),
        ("mig-manager", "true"),
        ("mig-config-file", "/layouts.yaml"),
        ("mig-evict", "true"),
        ("pod-resources-socket", "/pods.sock"),
        ("pod-name", "mizzen-agent-x7k2p"),
        ("pod-namespace", "mizzen-system"),
    ])
    .or(variables(&[("DP_DISABLE_HEALTHCHECKS", "48")]))
    .validate()
    .unwrap();

    assert_eq!(config.mig_strategy, MigStrategy::Mixed);
    assert!(!config.fail_on_init_error);
    assert_eq!(config.driver_root, Path::new("/driver"));
    assert_eq!(
        config.dev_root,
        Path::new("/driver"),
        "follows the driver root"
    );
    assert!(config.pass_device_specs);
    assert_eq!(
        config.device_list_strategies,
        DeviceListStrategies::new([DeviceListStrategy::VolumeMounts, DeviceListStrategy::CdiCri])
    );
    assert_eq!(config.device_id_strategy, DeviceIdStrategy::Index);
    assert!(config.gdrcopy_enabled && config.gds_enabled && config.mofed_enabled);
    assert_eq!(config.driver_root_ctr_path, Path::new("/ctr"));
    assert_eq!(config.mps_root.as_deref(), Some(Path::new("/mps")));
    assert_eq!(
        config.shared_devices_allocation_policy,
        AllocationPolicy::Packed
    );
    assert_eq!(config.imex.channel_ids, [0]);
    assert!(config.imex.required);
    assert_eq!(config.device_plugin_dir(), Path::new("/k"));
    assert_eq!(config.host_root, Path::new("/host"));
    assert_eq!(
        config.nvml_library,
        Some(PathBuf::from("/lib/libnvidia-ml.so.1"))
    );
    assert_eq!(config.state_dir, Path::new("/state"));
    assert_eq!(config.health_address.unwrap().to_string(), "[::]:8080");
    assert_eq!(config.health.hold_down, Duration::from_mins(1));
    assert_eq!(config.health.check_interval, Duration::from_millis(500));
    assert_eq!(config.health.nvml_call_timeout, Duration::from_secs(2));
    let verdict = config.xid_policy.classify(Xid(48), &[]);
    assert_eq!(verdict.authority, XidAuthority::Disabled);
    let source = ConfigSource {
        place: ConfigPlace::ConfigMap("gpus/configs".parse().unwrap()),
        node_name: Some("node-7".to_owned()),
        node_label: "example.com/config".to_owned(),
        default_config: Some("plain".to_owned()),
        fallbacks: vec![FallbackStrategy::Single],
        kubeconfig: Some("/kubeconfig".into()),
    };
    assert_eq!(config.source, source);
    assert_eq!(config.mig_manager, mig_manager());
    assert_eq!(config.pod_resources_socket(), Path::new("/pods.sock"));
}

#[test]
fn a_mig_manager_must_know_its_node_and_finds_the_kubelets_pods() {
    let errors = failures(&flags(&[("mig-manager", "true")]));
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("--mig-manager: "), "{errors:?}");
    assert!(errors[0].contains("give --node-name"), "{errors:?}");

    let config = flags(&[("mig-manager", "true"), ("node-name", "n")])
        .validate()
        .unwrap();
    assert_eq!(
        config.pod_resources_socket(),
        Path::new("/var/lib/kubelet/pod-resources/kubelet.sock")
    );
    let idle = flags(&[("mig-evict", "true"), ("mig-config-file", "/f")])
        .validate()
        .unwrap();
    assert_eq!(idle.warnings.len(), 2, "{:?}", idle.warnings);
    let half = flags(&[
        ("mig-manager", "true"),
        ("node-name", "n"),
        ("pod-name", "agent"),
    ]);
    let half = half.validate().unwrap();
    assert_eq!(half.mig_manager.own_pod, None);
    assert_eq!(half.warnings.len(), 1, "{:?}", half.warnings);
    assert!(half.warnings[0].to_string().contains("--pod-namespace"));
}

#[test]
fn configs_come_from_a_file_or_a_directory_or_a_config_map_of_a_known_node() {
    let place = |pairs: &[(&str, &str)]| flags(pairs).validate().unwrap().source.place;
    assert_eq!(place(&[]), ConfigPlace::Nowhere);
    assert_eq!(
        place(&[("config-file", "/c")]),
        ConfigPlace::File("/c".into())
    );
    assert_eq!(
        place(&[("config-file-srcdir", "/d")]),
        ConfigPlace::Directory("/d".into())
    );

    let errors = failures(
        &flags(&[("config-dir", "/d"), ("config-map", "a/b")])
            .or(variables(&[("CONFIG_FILE", "/c"), ("NODE_NAME", "n")])),
    );
    let advice = "environment variable CONFIG_FILE is given, too, and configs come from one \
                  place: take one away";
    assert_eq!(
        errors,
        [
            format!("--config-dir: {advice}"),
            format!("--config-map: {advice}")
        ]
    );

    let errors = failures(&flags(&[("config-map", "a/b")]));
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("give --node-name"), "{errors:?}");

    let errors = failures(&flags(&[
        ("config-map", "configs"),
        ("node-name", "Node 7"),
        ("node-label", "a/b/c"),
        ("config-fallback-strategies", "namd,empty"),
    ]));
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("NAMESPACE/NAME")));
    assert!(
        errors
            .iter()
            .any(|error| error.contains("did you mean \"named\"?"))
    );
}

#[test]
fn a_choice_among_configs_that_are_not_named_is_warned_of() {
    let config = flags(&[("default-config", "a"), ("config-file", "/c")])
        .or(variables(&[("NODE_NAME", "n"), ("KUBECONFIG", "/k")]))
        .validate()
        .unwrap();
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("--default-config: "),
        "{warnings:?}"
    );
}

#[test]
fn every_error_is_reported_at_once_with_where_it_came_from() {
    let raw = flags(&[
        ("mig-strategy", "singel"),
        ("device-list-strategy", "env-var,cdi_cri"),
        ("device-discovery-strategy", "tegra"),
        ("health-hold-down", "30"),
    ])
    .or(variables(&[
        ("PASS_DEVICE_SPECS", "maybe"),
        ("IMEX_CHANNEL_IDS", "0,1"),
        ("MIZZEN_HEALTH_ADDRESS", "localhost"),
        ("MIZZEN_NVML_CALL_TIMEOUT", "0s"),
    ]));
    let mut errors = failures(&raw);
    errors.sort_unstable();
    let mut expected = [
        "--mig-strategy: \"singel\" is not valid: expected one of none, single, mixed; did you \
         mean \"single\"?",
        "--device-list-strategy: \"env-var\" is not valid: expected a list of auto, envvar, \
         volume-mounts, cdi-annotations, cdi-cri; did you mean \"envvar\"?",
        "--device-list-strategy: \"cdi_cri\" is not valid: expected a list of auto, envvar, \
         volume-mounts, cdi-annotations, cdi-cri; did you mean \"cdi-cri\"?",
        "--device-discovery-strategy: this build finds GPUs through NVML only; use auto or nvml",
        "--health-hold-down: \"30\" is not valid: expected numbers with units, such as 30s or \
         1m30s",
        "environment variable PASS_DEVICE_SPECS: \"maybe\" is not valid: expected true or false",
        "environment variable IMEX_CHANNEL_IDS: \"1\" is not valid: expected nothing, or 0 alone",
        "environment variable MIZZEN_HEALTH_ADDRESS: \"localhost\" is not valid: expected an \
         address and port, such as 127.0.0.1:8080",
        "environment variable MIZZEN_NVML_CALL_TIMEOUT: \"0s\" is not valid: expected a duration \
         longer than 0",
    ];
    expected.sort_unstable();
    assert_eq!(errors, expected);
}

#[test]
fn a_value_that_is_far_from_every_valid_one_gets_no_guess() {
    let errors = failures(&flags(&[("device-id-strategy", "serial-number")]));
    assert_eq!(
        errors,
        ["--device-id-strategy: \"serial-number\" is not valid: expected one of uuid, index"]
    );
}

#[test]
fn every_kind_of_value_that_can_be_wrong_is_found_wrong() {
    for row in SETTINGS.iter().filter(|row| row.flag.is_some()) {
        let can_be_wrong = match row.kind {
            Kind::Boolean
            | Kind::Choice(_)
            | Kind::Duration
            | Kind::Interval
            | Kind::Milliseconds
            | Kind::Address => true,
            Kind::List(words) => !words.is_empty() || row.setting == Setting::CdiKinds,
            // Names of Kubernetes' objects, which have a form of their own.
            Kind::Text | Kind::Path => matches!(
                row.setting,
                Setting::NodeName | Setting::NodeLabel | Setting::ConfigMap
            ),
        };
        let flag = row.flag.unwrap();
        let outcome = flags(&[(flag, "no such thing")]).validate();
        assert_eq!(outcome.is_err(), can_be_wrong, "--{flag}");
    }
}

#[test]
fn an_empty_kubelet_socket_means_not_to_register() {
    let config = variables(&[("KUBELET_SOCKET", "")]).validate().unwrap();
    assert_eq!(config.kubelet_socket, None);
    assert_eq!(
        config.device_plugin_dir(),
        Path::new("/var/lib/kubelet/device-plugins")
    );
}

#[test]
fn an_empty_switch_in_the_environment_is_off() {
    let config = variables(&[("FAIL_ON_INIT_ERROR", "")]).validate().unwrap();
    assert!(!config.fail_on_init_error);
}

#[test]
fn a_kind_that_stands_for_nothing_is_refused() {
    let errors = flags(&[("cdi-kinds", "nvidia.com/gpu,nvidia.com,nvidia.com/disk")])
        .validate()
        .unwrap_err();
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("--cdi-kinds: \"nvidia.com\" is not valid"));
    assert!(told[1].contains("one of the classes gpu, imex-channel"));
}

#[test]
fn what_may_surprise_is_warned_of_and_no_more() {
    let config = flags(&[("mig-evict", "true")])
        .or(variables(&[
            ("DP_DISABLE_HEALTHCHECKS", "forty-eight"),
            ("DP_ENABLE_HEALTHCHECKS", "79,0"),
        ]))
        .validate()
        .unwrap();
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    for part in [
        "--mig-evict: ",
        "environment variable DP_DISABLE_HEALTHCHECKS: \"forty-eight\" is passed over",
        "environment variable DP_ENABLE_HEALTHCHECKS: \"0\" is passed over",
    ] {
        let mut each = warnings.iter();
        assert!(
            each.any(|warning| warning.starts_with(part)),
            "{warnings:?}"
        );
    }
    assert_eq!(warnings.len(), 3);
    assert!(RawConfig::default().validate().unwrap().warnings.is_empty());
}
