//! Edits, taken back and made again.

use proptest::prelude::*;

use super::super::places::KNOWN_PLACES;
use super::super::undo::{Undone, undo};
use super::*;

const V1_6: RuntimeVersion = RuntimeVersion::new(1, 6, 20);
const V1_7: RuntimeVersion = RuntimeVersion::new(1, 7, 24);
const V2_3: RuntimeVersion = RuntimeVersion::new(2, 3, 4);

fn place(name: &str) -> &'static KnownPlace {
    KNOWN_PLACES
        .iter()
        .find(|place| place.name == name)
        .unwrap()
}

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

fn main(text: &str) -> SourceFile {
    file("/etc/containerd/config.toml", text)
}

fn turn(
    place: &KnownPlace,
    files: &[SourceFile],
    template: Option<&SourceFile>,
    version: Option<RuntimeVersion>,
) -> Turn {
    turn_on(place, place.config, files, template, version)
}

/// The only change of the edit of a node's own containerd.
fn changed(files: &[SourceFile], version: Option<RuntimeVersion>) -> Change {
    match turn(place("containerd"), files, None, version) {
        Turn::Changes(mut changes) if changes.len() == 1 => changes.remove(0),
        other => panic!("{other:?}"),
    }
}

fn refused(turn: Turn) -> String {
    match turn {
        Turn::Refused(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_setting_that_is_there_is_changed_and_nothing_else() {
    let text = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\n  enable_cdi = false  # no\n  x = 1\n";
    let change = changed(&[main(text)], Some(V2_3));
    assert_eq!(
        change.after,
        text.replace("= false ", "= true # mizzen: was false ")
    );
    assert_eq!(
        undo(RuntimeKind::Containerd, &change.after, Some(text)),
        Undone::Restore(text.to_owned())
    );
}

#[test]
fn a_section_that_is_there_gets_one_line() {
    let text = "version = 2\n\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    sandbox_image = \"pause\"\n";
    let change = changed(&[main(text)], Some(V1_7));
    let line = "    enable_cdi = true # mizzen: turns CDI on\n";
    assert_eq!(
        change.after,
        text.replace("    sandbox", &format!("{line}    sandbox"))
    );
}

#[test]
fn a_section_that_only_its_parts_name_is_added_at_the_end() {
    let text = "[plugins.cri.containerd]\ndefault_runtime_name = \"runc\"";
    let change = changed(&[main(text)], Some(V1_7));
    let added =
        "\n\n[plugins.cri] # mizzen: turns CDI on\n  enable_cdi = true # mizzen: turns CDI on\n";
    assert_eq!(change.after, format!("{text}{added}"));
    assert_eq!(
        undo(RuntimeKind::Containerd, &change.after, Some(text)),
        Undone::Restore(text.to_owned())
    );
}

#[test]
fn where_a_directory_is_imported_a_drop_in_is_enough() {
    let text = "version = 3\nimports = [\"conf.d/*.toml\"]\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n";
    let change = changed(&[main(text)], Some(V2_3));
    assert_eq!(change.file, "/etc/containerd/conf.d/99-mizzen-cdi.toml");
    assert_eq!(change.before, None);
    assert_eq!(
        undo(RuntimeKind::Containerd, &change.after, None),
        Undone::Remove
    );
    // What would be read after it is changed itself.
    let last = file(
        "/etc/containerd/conf.d/zz.toml",
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n",
    );
    let change = changed(&[main(text), last], Some(V2_3));
    assert_eq!(change.file, "/etc/containerd/conf.d/zz.toml");
}

#[test]
fn a_drop_in_needs_a_directory_that_is_named() {
    let off = "[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n";
    let wild = format!("version = 3\nimports = [\"/etc/containerd/*/*.toml\"]\n{off}");
    assert_eq!(
        changed(&[main(&wild)], Some(V2_3)).file,
        "/etc/containerd/config.toml"
    );
    // A directory whose name only begins with the same letters is another.
    let text = "version = 3\nimports = [\"conf/a.toml\", \"conf/*.toml\", \"/etc/containerd/conf.d/x.toml\"]\n";
    let other = file(
        "/etc/containerd/conf.d/x.toml",
        &format!("version = 3\n{off}"),
    );
    assert_eq!(
        changed(&[main(text), other], Some(V2_3)).file,
        "/etc/containerd/conf.d/x.toml"
    );
}

#[test]
fn a_setting_in_an_inline_table_is_changed_and_restored() {
    let text = "version = 2\nplugins.\"io.containerd.grpc.v1.cri\" = {enable_cdi = false}\n";
    let change = changed(&[main(text)], Some(V1_7));
    assert_eq!(change.after, text.replace("false", "true"));
    assert_eq!(
        undo(RuntimeKind::Containerd, &change.after, Some(text)),
        Undone::Restore(text.to_owned())
    );
}

#[test]
fn containerd_1_gets_no_drop_in_which_would_replace_all_settings() {
    let text = "version = 2\nimports = [\"conf.d/*.toml\"]\n";
    let section = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"x\"\n";
    let change = changed(
        &[main(text), file("/etc/containerd/conf.d/a.toml", section)],
        Some(V1_7),
    );
    assert_eq!(change.file, "/etc/containerd/conf.d/a.toml");
    assert_eq!(
        changed(&[main(text)], Some(V1_7)).file,
        "/etc/containerd/config.toml"
    );
}

#[test]
fn where_there_is_no_config_one_is_made() {
    let change = changed(&[], Some(V1_7));
    assert_eq!(
        (change.file.as_str(), &change.before),
        ("/etc/containerd/config.toml", &None)
    );
    assert_eq!(
        undo(RuntimeKind::Containerd, &change.after, None),
        Undone::Remove
    );
    let edited = format!("{}[debug]\nlevel = \"info\"\n", change.after);
    assert!(matches!(
        undo(RuntimeKind::Containerd, &edited, None),
        Undone::Refused(_)
    ));
}

#[test]
fn what_is_on_stays_as_it_is_and_what_is_too_old_is_refused() {
    let containerd = place("containerd");
    assert_eq!(turn(containerd, &[], None, Some(V2_3)), Turn::AlreadyOn);
    let reason = refused(turn(containerd, &[], None, Some(V1_6)));
    assert!(reason.contains("upgrade containerd"), "{reason}");
    let switched_off = main("disabled_plugins = [\"cri\"]\n");
    let reason = refused(turn(containerd, &[switched_off], None, Some(V2_3)));
    assert!(reason.contains("out of that list"), "{reason}");
    let broken = turn(containerd, &[main("x = [")], None, Some(V1_7));
    assert!(refused(broken).contains("mend it first"));
    let dotted = "version = 2\nplugins.\"io.containerd.grpc.v1.cri\".sandbox_image = \"x\"\n";
    assert!(refused(turn(containerd, &[main(dotted)], None, Some(V1_7))).contains("by hand"));
}

#[test]
fn k3s_gets_a_drop_in_and_its_template_the_import() {
    let k3s = place("k3s");
    let off = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n";
    let generated = file(k3s.config, off);
    let directory = "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d";
    let Turn::Changes(changes) = turn(k3s, &[generated], None, Some(V2_3)) else {
        panic!();
    };
    assert_eq!(changes[0].file, format!("{directory}/99-mizzen-cdi.toml"));
    assert_eq!(changes[1].file, k3s.template.unwrap());
    assert!(changes[1].after.ends_with("{{ template \"base\" . }}\n"));
    assert_eq!(
        undo(RuntimeKind::Containerd, &changes[1].after, None),
        Undone::Remove
    );
    // Newer ones import the directory themselves.
    let imports = format!("imports = [\"{directory}/*.toml\"]\n{off}");
    let Turn::Changes(changes) = turn(k3s, &[file(k3s.config, &imports)], None, Some(V2_3)) else {
        panic!();
    };
    assert_eq!(changes.len(), 1);
    let own = file(k3s.template.unwrap(), "version = 3\n{{ .Own }}\n");
    assert!(
        refused(turn(k3s, &[file(k3s.config, off)], Some(&own), Some(V2_3)))
            .contains("of your own")
    );
    let old = file(k3s.config, "version = 2\n");
    assert!(refused(turn(k3s, &[old], None, Some(V1_7))).contains("upgrade k3s"));
}

#[test]
fn a_config_of_k3s_with_other_imports_gets_no_second_list_of_them() {
    let k3s = place("k3s");
    let off = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n";
    let with = |imports: &str| {
        let generated = file(k3s.config, &format!("imports = [{imports}]\n{off}"));
        turn(k3s, &[generated], None, Some(V2_3))
    };
    let Turn::Changes(changes) = with("\"/etc/k3s/containerd/*.toml\"") else {
        panic!();
    };
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].file, "/etc/k3s/containerd/99-mizzen-cdi.toml");
    for imports in ["\"/etc/one.toml\"", ""] {
        let reason = refused(with(imports));
        assert!(reason.contains("imports of its own"), "{reason}");
    }
}

#[test]
fn what_k3s_made_of_a_template_of_ours_is_no_import_of_its_own() {
    let k3s = place("k3s");
    let off = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n";
    let plain = file(k3s.config, off);
    let Turn::Changes(first) = turn(k3s, &[plain], None, Some(V2_3)) else {
        panic!();
    };
    // The config before the restart that follows an undo.
    let rendered = first[1].after.replace("{{ template \"base\" . }}\n", off);
    let Turn::Changes(again) = turn(k3s, &[file(k3s.config, &rendered)], None, Some(V2_3)) else {
        panic!();
    };
    assert_eq!(again, first);
}

#[test]
fn cri_o_gets_the_directory_that_is_missing() {
    let config = file(
        "/etc/crio/crio.conf",
        "[crio.runtime]\ncdi_spec_dirs = [\"/etc/cdi\"]\n",
    );
    let Turn::Changes(changes) = turn(place("CRI-O"), &[config], None, None) else {
        panic!();
    };
    assert_eq!(changes[0].file, "/etc/crio/crio.conf.d/99-mizzen-cdi.toml");
    assert!(
        changes[0]
            .after
            .contains("[\"/etc/cdi\", \"/var/run/cdi\"]")
    );
    assert_eq!(
        undo(RuntimeKind::Crio, &changes[0].after, None),
        Undone::Remove
    );
    assert_eq!(turn(place("CRI-O"), &[], None, None), Turn::AlreadyOn);
    // Somebody's directory is not removed along with ours.
    let list = changes[0].after.replace("cdi\"]", "cdi\", \"/opt/mine\"]");
    assert_ne!(list, changes[0].after);
    let undone = undo(RuntimeKind::Crio, &list, None);
    assert!(matches!(undone, Undone::Refused(_)), "{undone:?}");
}

#[test]
fn a_file_of_ours_that_was_edited_at_all_is_left_alone() {
    let made = changed(&[], Some(V1_7)).after;
    for (from, to) in [
        ("version = 2", "version = 3"),
        ("enable_cdi = true\n", "enable_cdi = true\n# mine\n"),
        ("enable_cdi = true", "enable_cdi = false"),
        ("\n\n", "\n"),
        ("io.containerd", "io.other"),
    ] {
        let edited = made.replace(from, to);
        assert_ne!(edited, made);
        let undone = undo(RuntimeKind::Containerd, &edited, None);
        assert!(matches!(undone, Undone::Refused(_)), "{from}: {undone:?}");
    }
}

#[test]
fn an_undo_keeps_what_was_edited_since() {
    let text = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  a = 1\n";
    let change = changed(&[main(text)], Some(V1_7));
    let edited = change.after.replace("a = 1", "a = 2");
    assert_eq!(
        undo(RuntimeKind::Containerd, &edited, Some(text)),
        Undone::Stripped(text.replace("a = 1", "a = 2"))
    );
    assert_eq!(
        undo(RuntimeKind::Containerd, text, Some(text)),
        Undone::Nothing
    );
    // Settings that were added to the section of ours keep their section.
    let appended = changed(&[main("version = 2\n")], Some(V1_7)).after + "  b = 1\n";
    let Undone::Stripped(kept) = undo(RuntimeKind::Containerd, &appended, Some("version = 2\n"))
    else {
        panic!();
    };
    assert_eq!(
        kept,
        "version = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  b = 1\n"
    );
}

#[test]
fn dockers_feature_is_put_in_and_taken_out() {
    for (text, after) in [
        ("{}", "{\"features\": {\"cdi\": true}}"),
        (
            "{\n    \"a\": 1\n}\n",
            "{\n    \"features\": {\n        \"cdi\": true\n    },\n    \"a\": 1\n}\n",
        ),
        (
            "{\n  \"features\": {\n    \"buildkit\": true\n  }\n}\n",
            "{\n  \"features\": {\n    \"cdi\": true,\n    \"buildkit\": true\n  }\n}\n",
        ),
        (
            "{\"features\": {\"cdi\": false}}",
            "{\"features\": {\"cdi\": true}}",
        ),
        ("{\"a\":1}", "{\"features\": {\"cdi\": true}, \"a\":1}"),
    ] {
        assert_eq!(with_feature(text).unwrap(), after);
        assert_eq!(
            undo(RuntimeKind::Docker, after, Some(text)),
            Undone::Restore(text.to_owned())
        );
    }
    assert!(with_feature("[1]").is_err());
    let made = with_feature("").unwrap();
    let undone = |backup| undo(RuntimeKind::Docker, &made, Some(backup));
    assert_eq!(undone(ABSENT), Undone::Remove);
    assert_eq!(undone(""), Undone::Restore(String::new()));
    assert_eq!(undo(RuntimeKind::Docker, &made, None), Undone::Nothing);
    // Edited since: only the feature goes.
    let before = "{\n  \"a\": 1\n}\n";
    let edited = with_feature(before).unwrap().replace('1', "2");
    assert_eq!(
        undo(RuntimeKind::Docker, &edited, Some(before)),
        Undone::Stripped(before.replace('1', "2"))
    );
}

#[test]
fn an_edit_in_an_inline_table_is_found_after_other_edits() {
    let text =
        "version = 2\nplugins = {\"io.containerd.grpc.v1.cri\" = {enable_cdi = false, x = 1}}\n";
    let edited = changed(&[main(text)], Some(V1_7)).after + "# mine\n";
    let undone = |current: &str| undo(RuntimeKind::Containerd, current, Some(text));
    assert_eq!(undone(&edited), Undone::Stripped(format!("{text}# mine\n")));
    let broken = undone(&format!("{edited}["));
    assert!(matches!(broken, Undone::Refused(_)), "{broken:?}");
    // Somebody has turned it off himself.
    assert_eq!(undone(&format!("{text}# mine\n")), Undone::Nothing);
}

#[test]
fn a_setting_whose_mark_is_gone_is_not_said_to_be_taken_back() {
    for text in [
        "version = 2\n",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi = false\n",
    ] {
        let after = changed(&[main(text)], Some(V1_7)).after;
        let unmarked = after.replace(&format!("true {ADDED}"), "true");
        let unmarked = unmarked.replace(CHANGED, "true") + "# mine\n";
        let undone = undo(RuntimeKind::Containerd, &unmarked, Some(text));
        assert!(matches!(undone, Undone::Refused(_)), "{undone:?}");
    }
}

#[test]
fn an_edit_that_somebody_turned_off_is_made_again_as_it_was() {
    for text in [
        "version = 2\n",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nx = 1\nenable_cdi = false # no\n",
    ] {
        let after = changed(&[main(text)], Some(V1_7)).after;
        let off = after.replace("= true", "= false");
        assert_eq!(changed(&[main(&off)], Some(V1_7)).after, after);
        for backup in [text, &off] {
            let undone = |current: &str| undo(RuntimeKind::Containerd, current, Some(backup));
            let Undone::Restore(restored) = undone(&after) else {
                panic!("{:?}", undone(&after));
            };
            assert_eq!(restored.trim_end(), text.trim_end());
        }
        let undone = undo(RuntimeKind::Containerd, &off, Some(text));
        assert_eq!(undone, Undone::Restore(text.to_owned()));
    }
    let made = changed(&[], Some(V1_7)).after;
    let off = made.replace("= true", "= false");
    assert_eq!(changed(&[main(&off)], Some(V1_7)).after, made);
}

/// Lines that may stand at the root of a config.
fn root_lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("# a comment"),
        Just(""),
        Just("oom_score = 0"),
        Just("root = \"/var/lib/containerd\" # here"),
    ];
    proptest::sample::subsequence(vec![0usize, 1, 2], 0..=3)
        .prop_flat_map(move |_| proptest::collection::vec(line.clone(), 0..4))
        .prop_map(|lines| {
            let mut seen = Vec::new();
            for line in lines {
                if line.starts_with(['#']) || line.is_empty() || !seen.contains(&line) {
                    seen.push(line);
                }
            }
            seen.iter().flat_map(|line| [*line, "\n"]).collect()
        })
}

/// Configs in which no mark of ours has room.
fn inline_configs() -> impl Strategy<Value = String> {
    let table = prop_oneof![
        Just("plugins = {\"io.containerd.grpc.v1.cri\" = {enable_cdi = false, x = 1}}"),
        Just("plugins.'io.containerd.grpc.v1.cri' = { enable_cdi=false }# a\n"),
    ];
    (root_lines(), table).prop_map(|(root, table)| format!("version = 2\n{root}{table}"))
}

/// What others may write at the end of a config.
fn foreign() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("# mine\n"),
        Just("\n[mine]\ny = true\n"),
        Just("  # enable_cdi = true\n"),
        Just("[mine.more] # here\n"),
        Just("\r\n# last"),
    ];
    proptest::collection::vec(line, 1..4).prop_map(|lines| lines.concat())
}

/// Configs of version 2 in many forms.
fn configs() -> impl Strategy<Value = String> {
    let section = prop_oneof![
        Just(String::new()),
        Just("[plugins.\"io.containerd.grpc.v1.cri\"]\n".to_owned()),
        Just("  [plugins.'io.containerd.grpc.v1.cri'] # cri\n\tsandbox_image = \"p\"\n".to_owned()),
        Just("[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi=false\n".to_owned()),
        Just(
            "[plugins.\"io.containerd.grpc.v1.cri\"]\na = 1\nenable_cdi = false # off\n".to_owned()
        ),
        Just(
            "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"overlayfs\"\n"
                .to_owned()
        ),
        Just("[plugins]\n[plugins.\"io.containerd.grpc.v1.cri\"]\n\n# end\n".to_owned()),
    ];
    let tail = prop_oneof![
        Just(String::new()),
        Just("[debug]\nlevel = \"info\"\n".to_owned()),
        Just("\n\n[metrics]\naddress = \"\"".to_owned()),
    ];
    (root_lines(), section, tail, any::<bool>(), any::<bool>()).prop_map(
        |(root, section, tail, windows, ends)| {
            let text = format!("version = 2\n{root}{section}{tail}");
            let text = if ends {
                text
            } else {
                text.trim_end().to_owned()
            };
            if windows {
                text.replace('\n', "\r\n")
            } else {
                text
            }
        },
    )
}

proptest! {
    #[test]
    fn an_edit_touches_its_lines_only_is_made_once_and_can_be_taken_back(text in configs()) {
        let files = [main(&text)];
        let change = changed(&files, Some(V1_7));
        // Without the lines that are ours, every byte is as it was.
        let kept: String = change.after.split_inclusive('\n')
            .filter(|line| !line.trim_end().ends_with(ADDED))
            .collect::<String>().replace(CHANGED, "false");
        prop_assert!(kept.trim_end() == text.trim_end());
        prop_assert!(kept.starts_with(text.trim_end()));
        // The second time there is nothing to do.
        let again = turn(place("containerd"), &[main(&change.after)], None, Some(V1_7));
        prop_assert_eq!(again, Turn::AlreadyOn);
        prop_assert_eq!(
            undo(RuntimeKind::Containerd, &change.after, Some(&text)),
            Undone::Restore(text.clone())
        );
    }

    #[test]
    fn an_undo_loses_nothing_of_others_and_leaves_nothing_of_ours(
        text in prop_oneof![4 => configs(), 1 => inline_configs()],
        foreign in foreign(),
        flips in any::<bool>(),
    ) {
        let mut current = changed(&[main(&text)], Some(V1_7)).after;
        if flips {
            let off = current.replace("enable_cdi = true", "enable_cdi = false");
            let again = turn(place("containerd"), &[main(&off)], None, Some(V1_7));
            prop_assert!(matches!(again, Turn::Changes(_) | Turn::AlreadyOn));
            current = match again {
                Turn::Changes(changes) => changes[0].after.clone(),
                _ => off,
            };
        }
        let current = current + &foreign;
        match undo(RuntimeKind::Containerd, &current, Some(&text)) {
            Undone::Stripped(left) => {
                prop_assert!(left.ends_with(&foreign), "{left}");
                let kept = left.strip_suffix(&foreign).unwrap_or_default();
                prop_assert_eq!(kept.trim_end(), text.trim_end());
            }
            Undone::Refused(_) => {
                // Two times the same table.
                let file = main(&current);
                prop_assert!(TomlFile::parse(&file).is_err(), "{current}");
            }
            other => prop_assert!(false, "{other:?} of {current}"),
        }
    }

    #[test]
    fn dockers_edit_keeps_every_other_member(
        names in proptest::collection::btree_set("[a-d]", 0..4),
        with_features in any::<bool>(),
        newline in any::<bool>(),
    ) {
        let space = if newline { "\n    " } else { " " };
        let mut members: Vec<String> = names.iter().map(|name| format!("{name:?}: [1, \"x\"]")).collect();
        if with_features {
            members.push("\"features\": {\"y\": false}".to_owned());
        }
        let text = format!("{{{space}{}\n}}\n", members.join(&format!(",{space}")));
        let after = with_feature(&text).unwrap();
        let mut parsed: serde_json::Value = serde_json::from_str(&after).unwrap();
        prop_assert_eq!(parsed["features"]["cdi"].take(), serde_json::Value::Bool(true));
        let object = parsed.as_object_mut().unwrap();
        let features = object["features"].as_object_mut().unwrap();
        features.remove("cdi");
        if !with_features {
            object.remove("features");
        }
        let before: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&parsed, &before);
        prop_assert_eq!(with_feature(&after).unwrap(), after.clone());
        prop_assert_eq!(undo(RuntimeKind::Docker, &after, Some(&text)), Undone::Restore(text.clone()));
    }
}
