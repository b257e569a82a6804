use super::MigConfigFile;

fn errors(text: &str) -> Vec<String> {
    let errors = MigConfigFile::parse(text).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

/// A file with one item.
fn item(item: &str) -> String {
    format!("version: v1\nmig-configs:\n  a:\n  - {item}\n")
}

#[test]
fn a_file_has_names_in_its_order() {
    let file = MigConfigFile::parse(
        "
version: v1
mig-configs:
  z: [{devices: all, mig-enabled: false}]
  a:
  - devices: [0, 1]
    mig-enabled: true
    mig-devices:
      \"1g.10gb\": 7
      \"1g.10gb+me\": 0
",
    );
    assert_eq!(file.unwrap().names().collect::<Vec<_>>(), ["z", "a"]);
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let text = "
version: v2
mig-configs:
  a:
  - devices: some
    mig-enabled: maybe
    mig-devises: {}
  - device-filter: 0x2330
    mig-enabled: false
    mig-devices:
      1g.10gb: 1
      1g.20GB: 1
      2g.20gb: -1
      3g.40gb:
  b: []
mig-config: {}
";
    let expected = [
        "line 2 column 10: version: \"v2\" is not valid: expected v1; did you mean \"v1\"?",
        "line 5 column 14: mig-configs.a[0].devices: \"some\" is not valid: expected all, or a list, \
         each item a whole number of at least 0",
        "line 6 column 18: mig-configs.a[0].mig-enabled: \"maybe\" is not valid: expected true or \
         false",
        "line 7 column 5: there is no key \"mig-devises\" in mig-configs.a[0]; did you mean \
         \"mig-devices\"? known are device-filter, devices, mig-enabled, mig-devices",
        "line 8 column 5: mig-configs.a[1].devices must be given: the GPUs that are meant, all or a \
         list of indices",
        "line 8 column 20: mig-configs.a[1].device-filter: \"0x2330\" is not valid: expected a PCI \
         device id and vendor id such as 0x233010DE, or a list, each item a PCI device id and \
         vendor id such as 0x233010DE",
        "line 11 column 7: mig-configs.a[1].mig-devices.1g.10gb: there are no MIG devices where \
         mig-enabled is false",
        "line 12 column 7: mig-configs.a[1].mig-devices: \"1g.20GB\" is not a MIG profile: expected \
         a form such as 1g.10gb, 1g.10gb+me or 1c.3g.40gb; did you mean \"1g.20gb\"?",
        "line 13 column 16: mig-configs.a[1].mig-devices.2g.20gb: \"-1\" is not valid: expected a \
         whole number of at least 0",
        "line 14 column 7: mig-configs.a[1].mig-devices.3g.40gb: expected a whole number of at \
         least 0, not nothing",
        "line 15 column 6: mig-configs.b: expected at least one item",
        "line 16 column 1: there is no key \"mig-config\" at the top of the file; did you mean \
         \"mig-configs\"? known are version, mig-configs",
    ];
    let expected = expected.map(|error| format!("config file, {error}"));
    assert_eq!(errors(text), expected);
}

#[test]
fn what_belongs_together_must_be_together() {
    for (text, words) in [
        ("devices: all", "mig-enabled must be given"),
        ("mig-enabled: false", "devices must be given"),
        (
            "{devices: all, mig-enabled: true}",
            "mig-devices must be given where MIG is on",
        ),
        (
            "{devices: all, mig-enabled: true, mig-devices: }",
            "mig-devices must be given where MIG is on",
        ),
        (
            "{devices: all, mig-enabled: false, mig-devices: {1g.5gb: 1}}",
            "there are no MIG devices where mig-enabled is false",
        ),
        (
            "{devices: all, mig-enabled: false, device-filter: []}",
            "an empty list matches no GPU",
        ),
        (
            "{devices: all, mig-enabled: false, mig-devices: [1g.5gb]}",
            "expected a mapping",
        ),
        (
            "{devices: [-1], mig-enabled: false}",
            "expected a whole number",
        ),
        (
            "{Devices: all, mig-enabled: false}",
            "mig-configs.a[0].devices is written in other letters; did you mean \"devices\"?",
        ),
        (
            "{devices: all, mig-enabled: true, mig-devices: {1g.5gb.me: 1}}",
            "did you mean \"1g.5gb+me\"?",
        ),
    ] {
        let found = errors(&item(text));
        assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
    }
}

#[test]
fn a_file_without_configs_is_refused() {
    for (text, words) in [
        ("", "the file is empty"),
        ("version: v1", "mig-configs must be given"),
        ("version: v1\nmig-configs: {}", "expected at least one name"),
        (
            "version: v1\nmig-configs: {a: }",
            "expected at least one item",
        ),
        (
            "mig-configs: {a: []}\nversion: v1",
            "expected at least one item",
        ),
        ("version: v1\nmig-configs: [a]", "expected a mapping"),
        ("[", "not YAML"),
    ] {
        let found = errors(text);
        assert!(found.iter().any(|error| error.contains(words)), "{found:?}");
    }
    let two = format!(
        "{}---\n{}",
        item("{devices: all, mig-enabled: false}"),
        "a: b"
    );
    assert!(errors(&two)[0].contains("only one document"));
}
