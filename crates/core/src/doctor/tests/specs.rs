//! What is proposed where CDI specs are wrong.

use super::*;
use crate::cdi::NameStrategy;

fn spec(path: &str, kind: &str) -> SpecFact {
    SpecFact {
        path: path.to_owned(),
        kind: Some(kind.parse().unwrap()),
        ..SpecFact::default()
    }
}

fn named(path: &str, kind: &str, names: &[&str]) -> SpecFact {
    SpecFact {
        names: names
            .iter()
            .filter_map(|name| NameStrategy::of_name(name))
            .collect(),
        ..spec(path, kind)
    }
}

/// The first finding of the CDI specs of a node that has these, all of an old driver.
fn stale(spec: SpecFact) -> Finding {
    let mut facts = well();
    facts.cdi.specs.push(SpecFact {
        driver_version: Some("550.1".to_owned()),
        ..spec
    });
    let report = examine(&facts);
    report.of(Area::Cdi).next().unwrap().clone()
}

#[test]
fn a_stale_spec_is_renewed_in_its_place_with_its_kind_and_its_names() {
    let management = spec("/etc/cdi/m.json", "management.nvidia.com/gpu");
    assert_eq!(
        stale(management).commands,
        ["sudo mizzen cdi generate --kind management.nvidia.com/gpu --output /etc/cdi/m.json"]
    );
    let names = ["0", "all", "gpu0", "mig1:0", "1:0"];
    assert_eq!(
        stale(named("/etc/cdi/my gpus.yaml", "nvidia.com/gpu", &names)).commands,
        [
            "sudo mizzen cdi generate --kind nvidia.com/gpu --name-strategy index,type-index \
             --format yaml --output '/etc/cdi/my gpus.yaml'"
        ]
    );
    let names = ["GPU-4d4d4d4d-0000-0000-0000-0123456789ab", "all"];
    assert_eq!(
        stale(named("/etc/cdi/a.json", "nvidia.com/gpu", &names)).commands,
        [
            "sudo mizzen cdi generate --kind nvidia.com/gpu --name-strategy uuid --output \
             /etc/cdi/a.json"
        ]
    );
    assert_eq!(
        stale(spec("/etc/cdi/a.json", "nvidia.com/other")).commands,
        ["mizzen cdi validate /etc/cdi/a.json"],
        "nobody here makes such a kind"
    );
}

#[test]
fn a_stale_spec_that_the_agent_keeps_is_the_agents_to_renew() {
    let kept = SpecFact {
        is_kept: true,
        ..spec("/run/cdi/nvidia.com-gpu.json", "nvidia.com/gpu")
    };
    let commands = stale(kept).commands;
    assert!(commands[0].contains("rollout restart"), "{commands:?}");
}

/// What is found where these files are in conflict, of which these are the agent's.
fn conflict(files: &[&str], kept: &[&str], root: &str) -> Finding {
    let mut facts = well();
    let config = &mut facts.settings.config;
    config.device_list_strategies = DeviceListStrategies::new([DeviceListStrategy::CdiCri]);
    config.host_root = root.into();
    let kind = "k8s.device-plugin.nvidia.com/gpu";
    facts.cdi.specs = files
        .iter()
        .map(|path| SpecFact {
            is_kept: kept.contains(path),
            ..spec(path, kind)
        })
        .collect();
    let files = files.iter().map(|path| (*path).to_owned()).collect();
    facts.cdi.names = vec![(format!("{kind}=0"), Resolved::Conflict(files))];
    let report = examine(&facts);
    let finding = report.of(Area::Cdi).next().unwrap().clone();
    assert_eq!(finding.id, "cdi-conflict");
    finding
}

#[test]
fn of_files_in_conflict_the_one_that_is_not_the_agents_is_to_go() {
    let (ours, copy) = ("/run/cdi/k8s.json", "/run/cdi/copy.json");
    for files in [[copy, ours], [ours, copy]] {
        let finding = conflict(&files, &[ours], "/");
        assert_eq!(finding.commands, [format!("sudo rm {copy}")]);
    }
    let finding = conflict(&[copy, ours], &[ours], "/mnt/node");
    assert_eq!(finding.commands, ["sudo rm /mnt/node/run/cdi/copy.json"]);
}

#[test]
fn of_files_in_conflict_that_are_all_others_none_is_named_as_the_one_to_go() {
    let finding = conflict(&["/run/cdi/a.json", "/run/cdi/b.json"], &[], "/");
    assert_eq!(finding.commands, [""; 0]);
    let advice = finding.advice.unwrap();
    assert!(
        advice.contains("/run/cdi/a.json or /run/cdi/b.json"),
        "{advice}"
    );
}

#[test]
fn commands_for_files_of_another_root_name_them_there() {
    let mut facts = well();
    facts.settings.config.host_root = "/mnt/node".into();
    facts.nodes.nodes[1].opened = Some(Looked::Seen(Err("EACCES".to_owned())));
    facts.nodes.nodes[0].link = LinkFact::Missing;
    let hook = HookFact {
        path: "/opt/hook".to_owned(),
        state: HookState::NotExecutable,
    };
    facts.cdi.specs.push(SpecFact {
        hooks: vec![hook],
        ..spec("/etc/cdi/a.json", "nvidia.com/gpu")
    });
    for (path, is_on_host) in [("/run/cdi", true), ("/var/lib/mizzen", false)] {
        facts.permissions.directories.push(DirectoryFact {
            path: path.to_owned(),
            is_on_host,
            purpose: "what it keeps",
            state: DirectoryState::NoDirectory,
        });
    }
    let report = examine(&facts);
    let commands: Vec<&str> = report
        .findings
        .iter()
        .flat_map(|finding| &finding.commands)
        .map(String::as_str)
        .collect();
    assert_eq!(
        commands,
        [
            "ls -l /mnt/node/dev/nvidia0; id",
            "sudo chmod 666 /mnt/node/dev/nvidia0",
            "sudo chmod 755 /mnt/node/opt/hook",
            "ls -ld /mnt/node/run/cdi",
            "sudo mkdir -p /mnt/node/run/cdi",
            "ls -ld /var/lib/mizzen",
            "sudo mkdir -p /var/lib/mizzen",
        ]
    );
    let mut findings = report.findings.iter();
    let links = findings.find(|finding| finding.id == "dev-char-links");
    let advice = links.unwrap().advice.clone().unwrap();
    assert!(advice.contains("not that below /mnt/node"), "{advice}");
}
