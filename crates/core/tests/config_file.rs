//! The config file: everything the reference's says, everything Mizzen adds, and every mistake at
//! once with its place.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers may fail it"
)]

use std::time::Duration;

use mizzen_core::config::{
    AllocationPolicy, Config, ConfigError, ConfigWarning, DeviceRef, FaultAction, FaultRule,
    HealthRules, Location, Origin, RawConfig, ReplicaPlacement, SETTINGS, Setting, SharedDevices,
    XidSet, file,
};
use mizzen_core::driver::RecoveryAction;
use mizzen_core::xid::Xid;

fn config(text: &str) -> Config {
    file::parse(text)
        .validate()
        .unwrap_or_else(|errors| panic!("{text}: {errors:#?}"))
}

fn failures(text: &str) -> Vec<String> {
    file::parse(text)
        .validate()
        .unwrap_err()
        .iter()
        .map(ConfigError::to_string)
        .collect()
}

fn warnings(text: &str) -> Vec<String> {
    config(text)
        .warnings
        .iter()
        .map(ConfigWarning::to_string)
        .collect()
}

fn texts(raw: &RawConfig, setting: Setting) -> Vec<String> {
    raw.get(setting)
        .map(|value| value.texts.clone())
        .unwrap_or_default()
}

const EVERY_SETTING: &str = "version: v1
flags:
  migStrategy: single
  failOnInitError: false
  mpsRoot: /mps
  nvidiaDriverRoot: /driver
  nvidiaDevRoot: /dev-root
  gdrcopyEnabled: true
  gdsEnabled: yes
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
    gpuAllocationPolicy: numa
  gfd: {oneshot: true, noTimestamp: false, sleepInterval: 60s, outputFile: /f, machineTypeFile: /m}
imex: {channelIDs: [0], required: true}
gpus:
  include: ['*H100*', 3]
  exclude: 0000:3b:00.0
health: {holdDown: 1m, checkInterval: 5s, nvmlCallTimeout: 2s}
metrics:
  interval: 5s
  counters: /c
  pods: true
  podUID: true
  noHostname: true
  hostnameLabel: hostname
  oldNamespace: true
  replaceBlanks: true
  xidWindow: 1m
  clockEventsWindow: 2m
";

#[test]
fn every_setting_with_a_key_is_read_with_its_place() {
    let raw = file::parse(EVERY_SETTING);
    for row in SETTINGS.iter().filter(|row| row.key.is_some()) {
        let value = raw
            .get(row.setting)
            .unwrap_or_else(|| panic!("{:?}", row.key));
        let Origin::File { key, location } = &value.origin else {
            panic!("{:?}", value.origin);
        };
        assert_eq!(Some(key.as_str()), row.key);
        assert!(location.is_some(), "{key}");
    }
    assert_eq!(
        texts(&raw, Setting::DeviceListStrategy),
        ["envvar", "cdi-cri"]
    );
    assert_eq!(texts(&raw, Setting::GdsEnabled), ["true"]);
    assert_eq!(texts(&raw, Setting::ImexChannelIds), ["0"]);
    let value = raw.get(Setting::MigStrategy).unwrap();
    assert_eq!(
        value.origin.to_string(),
        "config file, line 3 column 16, flags.migStrategy"
    );

    let config = raw.validate().unwrap();
    assert_eq!(config.cdi_annotation_prefix, "cdi.example.com/");
    assert!(!config.fail_on_init_error && config.gds_enabled);
    assert_eq!(config.gpu_allocation_policy, AllocationPolicy::Numa);
    assert_eq!(config.gpus.include.len(), 2);
    assert_eq!(config.gpus.exclude[0].to_string(), "0000:3b:00.0");
    assert_eq!(config.health.hold_down, Duration::from_mins(1));
}

#[test]
fn one_strategy_may_stand_without_a_list() {
    let raw = file::parse("flags: {plugin: {deviceListStrategy: volume-mounts}}");
    assert_eq!(texts(&raw, Setting::DeviceListStrategy), ["volume-mounts"]);
}

#[test]
fn nothing_and_empty_sections_say_nothing() {
    for text in [
        "",
        "# nothing\n",
        "version: v1\n",
        "flags:\nsharing: {}\nresources:\nhealth: {xids: []}\n",
        "sharing: {timeSlicing: {resources: []}}",
    ] {
        assert_eq!(config(text), Config::default(), "{text:?}");
    }
}

#[test]
fn resources_are_named_by_patterns_with_and_without_the_domain() {
    let naming = config(
        "resources:
  gpus:
  - {pattern: '*H100*', name: h100}
  - {pattern: 'Tesla T4', name: nvidia.com/t4}
  mig:
  - {pattern: 1g.5gb, name: mig-small}
",
    )
    .naming;
    let names: Vec<&str> = naming.gpus.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["nvidia.com/h100", "nvidia.com/t4"]);
    assert_eq!(naming.mig[0].pattern.to_string(), "1g.5gb");
}

#[test]
fn everything_about_sharing_is_read() {
    let sharing = config(
        "sharing:
  timeSlicing:
    renameByDefault: true
    failRequestsGreaterThanOne: true
    resources:
    - name: nvidia.com/gpu
      replicas: 10
      devices: [0, '1:2', GPU-4d4d4d4d-0000-0000-0000-0123456789ab]
      rename: small
      failRequestsGreaterThanOne: false
      replicaPlacement: distinct-gpus
      allocationPolicy: packed
    - {name: gpu, replicas: 2, devices: 3}
    - {name: gpu, replicas: 1, devices: all}
",
    )
    .sharing;
    assert_eq!(sharing.mps, None);
    let [first, second, third] = &sharing.time_slicing[..] else {
        panic!("{sharing:?}");
    };
    assert_eq!(first.shared_name.as_str(), "nvidia.com/small");
    assert!(!first.fail_requests_greater_than_one && second.fail_requests_greater_than_one);
    assert_eq!(first.placement, ReplicaPlacement::DistinctGpus);
    assert_eq!(first.policy, Some(AllocationPolicy::Packed));
    let SharedDevices::These(devices) = &first.devices else {
        panic!("{first:?}");
    };
    assert_eq!(
        devices[..2],
        [DeviceRef::Index(0), DeviceRef::MigIndex(1, 2)]
    );
    assert_eq!(second.shared_name.as_str(), "nvidia.com/gpu.shared");
    assert_eq!(second.devices, SharedDevices::Count(3));
    assert_eq!((third.replicas, third.policy), (1, None));
    assert_eq!(third.devices, SharedDevices::All);
}

#[test]
fn everything_about_faults_is_read() {
    let health = config(
        "health:
  xids:
  - {xids: [13, 31-33], action: report}
  - {xids: 94, action: unhealthy, count: 3, within: 10m, holdDown: 5m}
  - {xids: application, action: unhealthy}
  - {xids: [all], action: ignore}
  ecc: {doubleBit: report, singleBit: {action: unhealthy, count: 100, within: 1h}}
  rowRemap: {failure: unhealthy, pending: report}
  recoveryActions: {drain-p2p: ignore, gpu-reset: unhealthy}
",
    )
    .health_rules;
    let xids: Vec<_> = health.xids.iter().map(|rule| rule.xids.clone()).collect();
    let range = |first, last| XidSet::Range(Xid(first), Xid(last));
    assert_eq!(
        xids,
        [
            vec![range(13, 13), range(31, 33)],
            vec![range(94, 94)],
            vec![XidSet::Application],
            vec![XidSet::All]
        ]
    );
    let counted = |count, minutes| FaultRule {
        action: FaultAction::Unhealthy,
        count,
        within: Some(Duration::from_mins(minutes)),
        hold_down: None,
    };
    let slow = FaultRule {
        hold_down: Some(Duration::from_mins(5)),
        ..counted(3, 10)
    };
    assert_eq!(health.xids[1].rule, slow);
    assert_eq!(health.double_bit_ecc, FaultRule::each(FaultAction::Report));
    assert_eq!(health.single_bit_ecc, counted(100, 60));
    assert_eq!(
        health.row_remap_failure,
        FaultRule::each(FaultAction::Unhealthy)
    );
    assert_eq!(
        health.recovery_actions[&RecoveryAction::DrainP2p],
        FaultAction::Ignore
    );
    assert_eq!(Config::default().health_rules, HealthRules::default());
}

#[test]
fn the_documented_rules_of_health_are_read() {
    let docs = include_str!("../../../docs/agent.md");
    let (_, example) = docs.split_once("```yaml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let config = config(example);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.health_rules.xids.len(), 3);
    assert_ne!(config.health_rules, HealthRules::default());
}

#[test]
fn a_hold_down_needs_something_to_recover_from() {
    let errors = failures("health:\n  rowRemap: {pending: {action: report, holdDown: 1m}}\n");
    let [error] = &errors[..] else {
        panic!("{errors:?}");
    };
    assert!(error.contains("line 2") && error.contains("the action unhealthy"));
}

#[test]
fn every_mistake_is_told_at_once_with_its_place_and_the_nearest_right_word() {
    let errors = failures(
        "version: v1
flags:
  migStrategie: single
  gdsEnabled: perhaps
  plugin: {deviceListStrategy: [envvar, cdi-crii]}
resources:
  gpus:
  - {pattern: '*', nam: h100}
sharing:
  timeSlicing:
    resources:
    - {name: Bad_Name, replicas: 0, devices: some, replicaPlacement: distinct}
    - replicas: 2
health:
  xids: [{xids: 9-3, action: restart}]
  rowRemap: failure
colour: red
",
    );
    for (place, words) in [
        (
            "line 3 column 3",
            &[
                "\"migStrategie\"",
                "in flags",
                "did you mean \"migStrategy\"",
            ][..],
        ),
        (
            "line 4 column 15",
            &["flags.gdsEnabled", "\"perhaps\"", "true or false"],
        ),
        (
            "line 5 column 41",
            &[
                "flags.plugin.deviceListStrategy[1]",
                "did you mean \"cdi-cri\"",
            ],
        ),
        ("line 8 column 5", &["resources.gpus[0].name must be given"]),
        ("line 8 column 20", &["\"nam\"", "did you mean \"name\""]),
        ("line 12 column 14", &["Bad_Name", "lower-case"]),
        (
            "line 12 column 34",
            &["replicas", "a whole number from 1 to 10000"],
        ),
        ("line 12 column 46", &["devices", "\"some\"", "all"]),
        ("line 12 column 70", &["did you mean \"distinct-gpus\""]),
        (
            "line 13 column 7",
            &["sharing.timeSlicing.resources[1].name must be given"],
        ),
        ("line 15 column 17", &["9-3", "a range"]),
        (
            "line 15 column 30",
            &["restart", "ignore, report, unhealthy"],
        ),
        ("line 16 column 13", &["health.rowRemap", "mapping"]),
        (
            "line 17 column 1",
            &["\"colour\"", "at the top of the file", "sharing"],
        ),
    ] {
        let found = errors.iter().find(|error| {
            error.contains(&format!("{place}:")) && words.iter().all(|word| error.contains(word))
        });
        assert!(found.is_some(), "{place} {words:?} in {errors:#?}");
    }
    assert_eq!(errors.len(), 14, "{errors:#?}");
}

#[test]
fn mistakes_in_the_file_do_not_hide_those_in_flags() {
    let mut flags = RawConfig::default();
    flags.set_flag(Setting::DeviceIdStrategy, ["uid".to_owned()]);
    let raw = flags.or(file::parse("colour: red\nflags: {migStrategy: some}\n"));
    let errors = raw.validate().unwrap_err();
    assert_eq!(errors.len(), 3, "{errors:#?}");
}

#[test]
fn a_key_that_must_be_given_must_have_a_value() {
    let errors = failures("sharing: {timeSlicing: {resources: [{name: , replicas: 2}]}}");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("resources[0].name must be given"));
}

#[test]
fn another_version_is_refused() {
    let errors = failures("version: v2\n");
    assert!(
        errors[0].contains("\"v2\"") && errors[0].contains("v1"),
        "{errors:?}"
    );
}

#[test]
fn keys_that_are_there_twice_and_wrong_types_are_refused_with_their_place() {
    for (text, place) in [
        ("flags: {}\nflags: {}\n", "line 2"),
        ("flags: [a]\n", "line 1 column 8"),
        ("flags: {plugin: {}\n", "line"),
        ("- a\n", "line 1"),
        ("flags: {migStrategy: [single]}", "line 1 column 22"),
        (
            "sharing: {timeSlicing: {resources: {}}}",
            "line 1 column 36",
        ),
        ("sharing: {timeSlicing: {resources: [~]}}", "line 1"),
    ] {
        let errors = failures(text);
        assert!(errors[0].contains(place), "{text:?}: {errors:?}");
    }
}

/// The reference's reader matches keys without regard to case, so files with such keys work
/// there and must here.
#[test]
fn a_key_in_another_case_is_read_with_a_warning() {
    let text = "flags: {MigStrategy: none, gdsenabled: true}";
    assert!(config(text).gds_enabled);
    let warnings = warnings(text);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[1].contains("line 1 column 28") && warnings[1].contains("flags.gdsEnabled"),
        "{warnings:?}"
    );
}

#[test]
fn mps_is_accepted_as_the_reference_accepts_it_and_a_warning_says_what_becomes_of_it() {
    let mps = "sharing: {mps: {resources: [{name: gpu, replicas: 4}]}}\n";
    let text = format!("flags: {{mpsRoot: /mps}}\n{mps}");
    let shared = config(&text).sharing.mps.unwrap();
    assert!(shared[0].fail_requests_greater_than_one, "MPS's default");
    assert!(warnings(&text)[0].contains("offered whole"));

    let errors = failures(&format!("flags: {{migStrategy: mixed}}\n{mps}"));
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("MIG"), "{errors:?}");
    assert!(errors[1].contains("--mps-root"), "{errors:?}");
}

#[test]
fn entries_that_can_never_count_are_warned_of() {
    let warnings = warnings(
        "resources: {gpus: [{pattern: '*', name: a}, {pattern: T4, name: b}]}
sharing: {timeSlicing: {resources: [{name: a, replicas: 2}, {name: a, replicas: 3, devices: 1}]}}
",
    );
    let never: Vec<_> = warnings
        .iter()
        .filter(|warning| warning.contains("it never counts"))
        .collect();
    assert_eq!(never.len(), 2, "{warnings:?}");
    assert!(never[0].contains("resources.gpus[1]"), "{warnings:?}");
    assert!(
        never[1].contains("sharing.timeSlicing.resources[1]"),
        "{warnings:?}"
    );
}

/// What the reference reads and passes over would change a node silently.
#[test]
fn what_the_reference_passes_over_and_mizzen_does_not_is_warned_of() {
    let shared = |entry: &str| format!("sharing: {{timeSlicing: {{resources: [{entry}]}}}}");
    for (text, words) in [
        (
            "resources: {gpus: [{pattern: '*', name: a}]}".to_owned(),
            "these names hold",
        ),
        (
            "resources: {mig: [{pattern: '*', name: a}]}".to_owned(),
            "these names hold",
        ),
        (
            shared("{name: gpu, replicas: 2, rename: b}"),
            "rename holds; the reference passes it over",
        ),
        (
            shared("{name: gpu, replicas: 2, devices: 2000}"),
            "devices holds; the reference passes it over",
        ),
        (
            shared("{name: gpu, replicas: 2, devices: []}"),
            "nothing is shared",
        ),
    ] {
        let warnings = warnings(&text);
        assert_eq!(warnings.len(), 1, "{text}: {warnings:?}");
        assert!(warnings[0].contains(words), "{text}: {warnings:?}");
    }
    assert_eq!(warnings(&shared("{name: gpu, replicas: 2}")), [""; 0]);
}

#[test]
fn a_key_in_the_wrong_place_is_told_its_right_one() {
    for (text, place) in [
        (
            "flags: {passDeviceSpecs: true}",
            "flags.plugin.passDeviceSpecs",
        ),
        ("replicas: 2", "sharing.timeSlicing.resources[].replicas"),
        (
            "sharing: {resources: []}",
            "did you mean \"sharing.timeSlicing.resources\"?",
        ),
    ] {
        let errors = failures(text);
        assert!(errors[0].contains(place), "{errors:?}");
    }
}

#[test]
fn of_very_many_mistakes_the_first_are_told_and_the_rest_counted() {
    let keys: Vec<String> = (0..5000).map(|number| format!("k{number}: 1\n")).collect();
    let errors = failures(&keys.concat());
    assert_eq!(errors.len(), 101);
    assert!(errors[100].contains("4900 more"), "{}", errors[100]);
}

#[test]
fn a_placement_of_single_replicas_is_warned_of() {
    let entry =
        "{name: gpu, replicas: 2, replicaPlacement: one-gpu, failRequestsGreaterThanOne: true}";
    let warnings = warnings(&format!(
        "sharing: {{timeSlicing: {{resources: [{entry}]}}}}"
    ));
    assert!(warnings[0].contains("replicaPlacement does nothing here"));
}

#[test]
fn a_name_too_long_to_be_renamed_by_default_is_refused() {
    let name = "a".repeat(50);
    let text = format!(
        "sharing: {{timeSlicing: {{renameByDefault: true, resources: [{{name: {name}, replicas: 2}}]}}}}"
    );
    let errors = failures(&text);
    assert!(errors[0].contains("rename"), "{errors:?}");
}

#[test]
fn a_rule_for_xids_that_others_have_named_is_warned_of() {
    let rule = |xids: &str| format!("{{xids: {xids}, action: report}}");
    for (first, second, hidden) in [
        ("60-65", "62", true),
        ("60-65", "[61, 64-65]", true),
        ("all", "application", true),
        ("60-65", "65-66", false),
        ("79", "[79, 94]", false),
    ] {
        let text = format!("health: {{xids: [{}, {}]}}", rule(first), rule(second));
        let warnings = warnings(&text);
        let told = warnings.iter().any(|text| text.contains("health.xids[1]"));
        assert_eq!(told, hidden, "{first} {second}: {warnings:?}");
    }
}

#[test]
fn a_window_needs_a_count() {
    let errors = failures("health: {xids: [{xids: 94, action: report, within: 10m}]}");
    assert!(errors[0].contains("count of 2 or more"), "{errors:?}");
}

#[test]
fn the_place_of_a_key_is_that_of_its_value() {
    let raw = file::parse("imex:\n  required: true\n");
    let Origin::File { location, .. } = raw.get(Setting::ImexRequired).unwrap().origin.clone()
    else {
        panic!("not from the file");
    };
    assert_eq!(
        location,
        Some(Location {
            line: 2,
            column: 13
        })
    );
}

/// Whatever an editor, a template or a half-written file may leave behind.
mod any_text {
    use proptest::prelude::*;

    use super::{EVERY_SETTING, file};

    proptest! {
        #[test]
        fn no_text_is_too_much_for_the_reader(text in "[ -~\\n\\t\u{e9}]{0,120}") {
            drop(file::parse(&text).validate());
        }

        #[test]
        fn a_file_with_a_piece_cut_out_or_doubled_is_read_or_refused(
            from in 0..EVERY_SETTING.len(),
            length in 1_usize..40,
            doubled in any::<bool>(),
        ) {
            let to = (from + length).min(EVERY_SETTING.len());
            let (head, piece, tail) =
                (&EVERY_SETTING[..from], &EVERY_SETTING[from..to], &EVERY_SETTING[to..]);
            let text = if doubled {
                format!("{head}{piece}{piece}{tail}")
            } else {
                format!("{head}{tail}")
            };
            if let Err(errors) = file::parse(&text).validate() {
                prop_assert!(!errors.is_empty());
            }
        }
    }
}
