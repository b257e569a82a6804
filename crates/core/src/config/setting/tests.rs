use std::collections::BTreeSet;

use super::super::types::{AUTO, DeviceListStrategy};
use super::*;

#[test]
fn every_setting_finds_its_own_row() {
    for (position, row) in SETTINGS.iter().enumerate() {
        assert_eq!(row.setting as usize, position);
        assert_eq!(row.setting.info().setting, row.setting);
    }
}

#[test]
fn no_name_means_two_settings() {
    let mut names = BTreeSet::new();
    for row in SETTINGS {
        let flags = row.flag.iter().chain(row.aliases);
        for name in flags.chain(row.env).chain(&row.key) {
            assert!(names.insert(*name), "{name} is there twice");
        }
    }
}

#[test]
fn flags_and_keys_lead_back_to_their_settings() {
    for row in SETTINGS {
        for flag in row.flag.iter().chain(row.aliases) {
            assert_eq!(Setting::from_flag(flag), Some(row.setting));
        }
        if let Some(key) = row.key {
            assert_eq!(Setting::from_key(key), Some(row.setting));
        }
    }
    assert_eq!(Setting::from_flag("no-such-flag"), None);
}

#[test]
fn whole_numbers_are_read_in_the_spellings_of_yaml() {
    for (text, number) in [
        ("0", 0),
        ("10", 10),
        ("1_000", 1000),
        ("0x10", 16),
        ("0o10", 8),
        ("010", 8),
        ("4.0", 4),
    ] {
        assert_eq!(parse_integer(text), Some(number), "{text}");
    }
    for bad in ["", "-1", "4.5", "1e3", "0x", "09", "ten", "4294967296"] {
        assert_eq!(parse_integer(bad), None, "{bad}");
    }
}

#[test]
fn every_word_of_a_choice_is_in_the_table() {
    let Kind::List(strategies) = Setting::DeviceListStrategy.info().kind else {
        panic!("strategies are a list");
    };
    let chosen = words::<DeviceListStrategy, 4>();
    assert_eq!(strategies, [&[AUTO], &chosen[..]].concat());
    assert_eq!(
        Setting::MigStrategy.info().kind,
        Kind::Choice(&["none", "single", "mixed"])
    );
}

/// The names of the reference (its section 1), so that manifests written for it go on working.
#[test]
fn the_references_flags_and_variables_are_all_there() {
    for (flag, env) in [
        ("mig-strategy", "MIG_STRATEGY"),
        ("fail-on-init-error", "FAIL_ON_INIT_ERROR"),
        ("nvidia-driver-root", "NVIDIA_DRIVER_ROOT"),
        ("nvidia-dev-root", "NVIDIA_DEV_ROOT"),
        ("pass-device-specs", "PASS_DEVICE_SPECS"),
        ("device-list-strategy", "DEVICE_LIST_STRATEGY"),
        ("device-id-strategy", "DEVICE_ID_STRATEGY"),
        ("gdrcopy-enabled", "GDRCOPY_ENABLED"),
        ("gds-enabled", "GDS_ENABLED"),
        ("mofed-enabled", "MOFED_ENABLED"),
        ("cdi-annotation-prefix", "CDI_ANNOTATION_PREFIX"),
        ("nvidia-cdi-hook-path", "NVIDIA_CDI_HOOK_PATH"),
        ("nvidia-ctk-path", "NVIDIA_CTK_PATH"),
        ("driver-root-ctr-path", "DRIVER_ROOT_CTR_PATH"),
        ("container-driver-root", "CONTAINER_DRIVER_ROOT"),
        ("mps-root", "MPS_ROOT"),
        (
            "shared-devices-allocation-policy",
            "SHARED_DEVICES_ALLOCATION_POLICY",
        ),
        ("device-discovery-strategy", "DEVICE_DISCOVERY_STRATEGY"),
        ("imex-channel-ids", "IMEX_CHANNEL_IDS"),
        ("imex-required", "IMEX_REQUIRED"),
        ("kubelet-socket", "KUBELET_SOCKET"),
        ("config-file", "CONFIG_FILE"),
        ("cdi-feature-flags", "CDI_FEATURE_FLAGS"),
        ("node-name", "NODE_NAME"),
        ("node-label", "NODE_LABEL"),
        ("config-file-srcdir", "CONFIG_FILE_SRCDIR"),
        ("default-config", "DEFAULT_CONFIG"),
        ("fallback-strategies", "FALLBACK_STRATEGIES"),
        ("kubeconfig", "KUBECONFIG"),
    ] {
        let setting = Setting::from_flag(flag).unwrap_or_else(|| panic!("--{flag}"));
        assert!(setting.info().env.contains(&env), "{env}");
    }
}
