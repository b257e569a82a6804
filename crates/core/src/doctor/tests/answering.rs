//! Those who are asked: the container runtime, the kubelet, plugins, the agent.

use super::*;
use crate::doctor::Finding;
use crate::runtime::{
    AutoInputs, CdiState, PrivacyRisk, Remark, RiskLevel, RuntimeReport, RuntimeVersion,
    SpecDirectories, choose, read_docker,
};

/// A Docker that has CDI on.
const DOCKER: RuntimeVersion = RuntimeVersion::new(28, 3, 0);

#[test]
fn the_container_runtime_and_privacy() {
    fn of_cdi(facts: &mut Facts) -> &mut RuntimeFacts {
        facts.settings.config.device_list_strategies =
            DeviceListStrategies::new([DeviceListStrategy::CdiCri]);
        facts.runtime.as_mut().unwrap()
    }
    fn risk(facts: &mut Facts, level: RiskLevel) {
        facts.runtime.as_mut().unwrap().risks.push(PrivacyRisk {
            level,
            what: "it is the default".to_owned(),
            place: None,
            fix: "change it".to_owned(),
        });
    }
    check(&[
        ("runtime-unknown", |facts| facts.runtime = None),
        ("runtime-cdi-off", |facts| {
            of_cdi(facts).report.cdi.state = CdiState::Off;
        }),
        ("runtime-cdi-unsupported", |facts| {
            of_cdi(facts).report.cdi.state = CdiState::Unsupported;
        }),
        ("runtime-cdi-unknown", |facts| {
            of_cdi(facts).report.cdi.state = CdiState::Unknown;
        }),
        ("runtime-no-cri-field", |facts| {
            of_cdi(facts).report.version = Some(RuntimeVersion::new(1, 7, 0));
        }),
        ("runtime-no-annotations", |facts| {
            of_cdi(facts).report = read_docker(None, Some(DOCKER));
            facts.settings.config.device_list_strategies =
                DeviceListStrategies::new([DeviceListStrategy::CdiAnnotations]);
        }),
        ("runtime-cri-dockerd", |facts| {
            of_cdi(facts).report = read_docker(None, Some(DOCKER));
        }),
        ("runtime-spec-directories", |facts| {
            of_cdi(facts).report.spec_directories = SpecDirectories {
                directories: vec!["/etc/cdi".to_owned()],
                place: None,
            };
        }),
        ("runtime-gives-nothing", |facts| {
            facts.runtime = Some(runtime("version = 3\n", "runc"));
        }),
        ("runtime-refuses-variable", |facts| {
            facts.runtime.as_mut().unwrap().accepts_variable = false;
        }),
        ("runtime-remark", |facts| {
            let remark = Remark::unread("not TOML", None);
            facts.runtime.as_mut().unwrap().report.remarks.push(remark);
        }),
        ("runtime-not-asked", |facts| {
            facts.runtime.as_mut().unwrap().unasked = Some("nobody listens".to_owned());
        }),
        ("pods-may-take-gpus", |facts| {
            risk(facts, RiskLevel::Warning);
        }),
        ("pods-may-ask-for-gpus", |facts| {
            risk(facts, RiskLevel::Note);
        }),
    ]);
}

/// What is said of the runtime with this strategy, or what `auto` makes of it.
fn said(report: RuntimeReport, strategy: Option<DeviceListStrategy>) -> Vec<Finding> {
    let mut facts = well();
    let choice = choose(AutoInputs {
        report: Some(&report),
        pass_device_specs: false,
    });
    facts.settings.config.device_list_strategies = strategy.map_or_else(
        || choice.strategies(true),
        |strategy| DeviceListStrategies::new([strategy]),
    );
    facts.runtime.as_mut().unwrap().report = report;
    examine(&facts).of(Area::Runtime).cloned().collect()
}

#[test]
fn what_is_said_of_docker_does_not_contradict_itself() {
    let strategies = [
        None,
        Some(DeviceListStrategy::CdiCri),
        Some(DeviceListStrategy::CdiAnnotations),
        Some(DeviceListStrategy::Envvar),
    ];
    for version in [None, Some(DOCKER), Some(RuntimeVersion::new(27, 0, 0))] {
        for strategy in strategies {
            let findings = said(read_docker(None, version), strategy);
            let words = format!("{findings:?}");
            assert!(!words.contains("annotations alone"), "{words}");
            let is_cdi = matches!(
                strategy,
                Some(DeviceListStrategy::CdiCri | DeviceListStrategy::CdiAnnotations)
            );
            if is_cdi {
                assert!(!words.contains("not needed"), "{strategy:?}: {words}");
            } else {
                assert!(
                    !words.contains("leave the device-list strategy at auto"),
                    "{words}"
                );
            }
        }
    }
}

#[test]
fn a_state_that_is_not_known_is_said_once() {
    let report = read_containerd(&[], None);
    let findings = said(report, Some(DeviceListStrategy::CdiCri));
    let ids: Vec<&str> = findings.iter().map(|finding| finding.id).collect();
    assert_eq!(ids, ["runtime-cdi-unknown"]);
}

#[test]
fn kubelet_registration_and_agent() {
    fn plugin(facts: &mut Facts) -> &mut PluginFact {
        &mut facts.registration.plugins[0]
    }
    fn counts(count: usize) -> BTreeMap<String, usize> {
        BTreeMap::from([("nvidia.com/gpu".to_owned(), count)])
    }
    check(&[
        ("kubelet-not-asked", |facts| facts.kubelet.socket = None),
        ("kubelet-missing", |facts| {
            facts.kubelet.reach = Reach::Missing;
        }),
        ("kubelet-elsewhere", |facts| {
            facts.kubelet.reach = Reach::Missing;
            facts
                .kubelet
                .elsewhere
                .push("/other/kubelet.sock".to_owned());
        }),
        ("kubelet-also-elsewhere", |facts| {
            facts
                .kubelet
                .elsewhere
                .push("/other/kubelet.sock".to_owned());
        }),
        ("kubelet-no-socket", |facts| {
            facts.kubelet.reach = Reach::NoSocket;
        }),
        ("kubelet-refused", |facts| {
            facts.kubelet.reach = Reach::Refused;
        }),
        ("kubelet-denied", |facts| {
            facts.kubelet.reach = Reach::Denied;
        }),
        ("kubelet-silent", |facts| {
            facts.kubelet.reach = Reach::Late(LIMIT);
        }),
        ("kubelet-failed", |facts| {
            facts.kubelet.reach = Reach::Failed("?".to_owned());
        }),
        ("no-plugin", |facts| facts.registration.plugins.clear()),
        ("plugin-stranger", |facts| {
            plugin(facts).program = Some("nvidia-device-p".to_owned());
        }),
        ("plugin-socket-stale", |facts| {
            plugin(facts).reach = Reach::Refused;
        }),
        ("plugin-silent", |facts| {
            plugin(facts).reach = Reach::Late(LIMIT);
        }),
        ("plugin-failed", |facts| plugin(facts).reach = Reach::Denied),
        ("not-registered", |facts| {
            facts.registration.allocatable = Ok(BTreeMap::new());
        }),
        ("registered-differently", |facts| {
            facts.registration.allocatable = Ok(counts(1));
        }),
        ("registration-unknown", |facts| {
            facts.registration.allocatable = Err(Reach::Missing);
        }),
        ("agent-not-ready", |facts| {
            facts.agent.answer = Ok((false, "the driver".to_owned()));
        }),
        ("agent-absent", |facts| {
            facts.agent.answer = Err(Reach::Refused);
        }),
        ("agent-silent", |facts| {
            facts.agent.answer = Err(Reach::Late(LIMIT));
        }),
        ("agent-unreachable", |facts| {
            facts.agent.answer = Err(Reach::Denied);
        }),
    ]);
}

#[test]
fn an_agent_that_hangs_is_there_and_should_have_written_its_specs() {
    let mut facts = well();
    facts.settings.config.device_list_strategies =
        DeviceListStrategies::chosen(DeviceListStrategy::CdiCri, true);
    facts.cdi.specs.clear();
    facts.cdi.names = [("v.com/gpu=0".to_owned(), Resolved::Unknown)].into();
    let plugin = facts.registration.plugins.first_mut().unwrap();
    plugin.reach = Reach::Late(LIMIT);
    let report = examine(&facts);
    let errors = |area| {
        let findings = report.of(area);
        let errors = findings.filter(|finding| finding.severity == Severity::Error);
        errors.map(|finding| finding.id).collect::<Vec<_>>()
    };
    assert_eq!(errors(Area::Cdi), ["cdi-unresolved"]);
    assert_eq!(errors(Area::Registration), ["plugin-silent"]);
}
