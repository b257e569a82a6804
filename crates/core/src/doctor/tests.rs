//! Every finding occurs, and only where it belongs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::cdi::{CdiSpec, ContainerEdits, Mount, Platform};
use crate::config::{Config, DeviceListStrategies, DeviceListStrategy, MigStrategy};
use crate::driver::{DriverError, GpuCondition, RecoveryAction};
use crate::gpu::{Gpu, GpuUuid, PciBusId};
use crate::inventory::{BrokenGpu, DriverVersions, Inventory};
use crate::mig::{GpuMig, MigMode};
use crate::runtime::{
    CdiState, DefinedRuntime, PrivacyRisk, Remark, RiskLevel, RuntimeVersion, SourceFile,
    SpecDirectories, read_containerd,
};

const VERSION: &str = "580.95.05";
const LIMIT: Duration = Duration::from_secs(5);

fn pci(device: u8) -> PciBusId {
    PciBusId {
        domain: 0,
        bus: 0x1b,
        device,
        function: 0,
    }
}

fn gpu(index: u32) -> Gpu {
    let place = pci(u8::try_from(index).unwrap());
    Gpu {
        index,
        minor: index,
        uuid: GpuUuid::placeholder(index, Some(place)),
        pci: place,
        name: "NVIDIA H100".to_owned(),
        memory_mib: 81_559,
        compute_capability: (9, 0),
        numa_node: None,
        device_id: 0,
        mig: None,
    }
}

/// A node with two GPUs on which nothing is wrong.
fn well() -> Facts {
    let gpus = vec![gpu(0), gpu(1)];
    let bus = |gpu: &Gpu| BusGpu {
        pci: gpu.pci,
        driver: Some("nvidia".to_owned()),
    };
    let node = |path: &str, minor| NodeFact {
        path: path.to_owned(),
        is_needed: true,
        expected: Some((195, minor)),
        state: NodeState::Device(195, minor),
        opened: Some(Looked::Seen(Ok(()))),
        link: LinkFact::There,
    };
    Facts {
        settings: SettingsFacts {
            config: Config::default(),
            source: "flags and environment".to_owned(),
            mistakes: Vec::new(),
        },
        driver: DriverFacts {
            platform: Platform::Linux,
            bus: gpus.iter().map(bus).collect(),
            module: Some(VERSION.to_owned()),
            libraries: Some(VERSION.to_owned()),
            root: "/".to_owned(),
            ..DriverFacts::default()
        },
        nvml: Looked::Seen(Ok(NvmlFacts {
            library: None,
            inventory: Inventory {
                driver: DriverVersions {
                    driver: VERSION.to_owned(),
                    nvml: format!("13.{VERSION}"),
                    cuda: (13, 0),
                },
                gpus,
                ..Inventory::default()
            },
            conditions: vec![Ok(GpuCondition::default()); 2],
        })),
        nodes: NodesFacts {
            are_simulated: false,
            has_systemd: true,
            nodes: vec![node("/dev/nvidiactl", 255), node("/dev/nvidia0", 0)],
        },
        cdi: CdiFacts::default(),
        runtime: Some(runtime("version = 3\n", "nvidia")),
        kubelet: KubeletFacts {
            socket: Some("/k/kubelet.sock".to_owned()),
            reach: Reach::Answered,
            elsewhere: Vec::new(),
        },
        registration: RegistrationFacts {
            plugins: vec![PluginFact {
                socket: "/k/nvidia-gpu.sock".to_owned(),
                reach: Reach::Answered,
                program: Some("mizzen".to_owned()),
            }],
            pod_resources: "/p/kubelet.sock".to_owned(),
            allocatable: Ok(BTreeMap::from([("nvidia.com/gpu".to_owned(), 2)])),
        },
        agent: AgentFacts {
            address: "127.0.0.1:8080".parse().ok(),
            answer: Ok((true, "ok".to_owned())),
        },
        permissions: PermissionFacts::default(),
        clock: ClockFacts {
            now: 1_000_000,
            newest: Some(("/bin/mizzen".to_owned(), 999_000)),
            hardware: Some(1_000_010),
            synchronised: Synchronised::Yes,
        },
    }
}

/// A containerd with this config and one more runtime; no risks.
fn runtime(text: &str, name: &str) -> RuntimeFacts {
    let file = SourceFile {
        path: "/etc/containerd/config.toml".to_owned(),
        text: text.to_owned(),
    };
    let mut report = read_containerd(&[file], None);
    report.runtimes.push(DefinedRuntime {
        name: name.to_owned(),
        program: None,
        place: None,
    });
    RuntimeFacts {
        name: "containerd".to_owned(),
        why: "its config is there".to_owned(),
        report,
        risks: Vec::new(),
        accepts_variable: true,
        unasked: None,
    }
}

fn nvml(facts: &mut Facts) -> &mut NvmlFacts {
    match &mut facts.nvml {
        Looked::Seen(Ok(nvml)) => nvml,
        other => panic!("{other:?}"),
    }
}

/// How a node is broken, and the finding that this leads to.
type Break = (&'static str, fn(&mut Facts));

/// The name of the finding that must come first of all bad ones.
fn check(breaks: &[Break]) {
    for (id, make) in breaks {
        let mut facts = well();
        make(&mut facts);
        let report = examine(&facts);
        let mut bad = report
            .findings
            .iter()
            .filter(|finding| !matches!(finding.severity, Severity::Ok | Severity::Skipped));
        let first = bad.next().map(|finding| finding.id);
        assert_eq!(first, Some(*id), "{:#?}", report.findings);
        for finding in &report.findings {
            let is_bad = !matches!(finding.severity, Severity::Ok | Severity::Skipped);
            assert_eq!(
                is_bad && finding.id != "settings-count",
                finding.meaning.is_some(),
                "{finding:?}"
            );
            assert!(!finding.found.is_empty());
        }
    }
}

#[test]
fn a_node_that_is_well_has_no_finding_but_good_ones() {
    let report = examine(&well());
    let good = |finding: &Finding| finding.severity == Severity::Ok;
    assert!(report.findings.iter().all(good), "{:#?}", report.findings);
    let areas: BTreeSet<Area> = report.findings.iter().map(|finding| finding.area).collect();
    assert_eq!(areas.into_iter().collect::<Vec<_>>(), Area::ALL);
}

#[test]
fn the_driver() {
    check(&[
        ("no-gpu", |facts| facts.driver = DriverFacts::default()),
        ("no-gpu-on-bus", |facts| facts.driver.bus.clear()),
        ("nouveau", |facts| {
            facts.driver.module = None;
            facts.driver.rival = Some("nouveau".to_owned());
        }),
        ("driver-not-installed", |facts| {
            facts.driver.module = None;
            facts.driver.bus[0].driver = None;
            facts.driver.is_built = Some(false);
        }),
        ("driver-unsigned", |facts| {
            facts.driver.module = None;
            facts.driver.is_built = Some(true);
            facts.driver.secure_boot = Some(true);
        }),
        ("driver-not-loaded", |facts| {
            facts.driver.module = None;
            facts.driver.is_built = Some(true);
        }),
        ("gpus-bound-elsewhere", |facts| {
            facts.driver.module = None;
            for gpu in &mut facts.driver.bus {
                gpu.driver = Some("vfio-pci".to_owned());
            }
        }),
        ("gpus-unbound", |facts| facts.driver.bus[1].driver = None),
        ("driver-versions-differ", |facts| {
            facts.driver.libraries = Some("550.1.2".to_owned())
        }),
    ]);
}

#[test]
fn nvml_and_gpus() {
    fn fails(facts: &mut Facts, error: DriverError) {
        facts.nvml = Looked::Seen(Err(error));
    }
    fn mig(facts: &mut Facts, current: bool, pending: bool) {
        let mode = MigMode { current, pending };
        let devices = Vec::new();
        nvml(facts).inventory.gpus[1].mig = Some(GpuMig { mode, devices });
    }
    check(&[
        ("nvml-hung", |facts| facts.nvml = Looked::Late(LIMIT)),
        ("nvml-hung", |facts| {
            fails(facts, DriverError::Hung { after: LIMIT })
        }),
        ("nvml-missing", |facts| {
            fails(
                facts,
                DriverError::LibraryNotFound {
                    searched: Vec::new(),
                },
            )
        }),
        ("nvml-unusable", |facts| {
            let (path, reason) = ("/l".to_owned(), "no ELF".to_owned());
            fails(facts, DriverError::LibraryUnusable { path, reason });
        }),
        ("driver-versions-differ", |facts| {
            fails(
                facts,
                DriverError::NotRunning("Driver/library version mismatch".to_owned()),
            );
        }),
        ("nvml-no-driver", |facts| {
            fails(
                facts,
                DriverError::NotRunning("Driver Not Loaded".to_owned()),
            )
        }),
        ("nvml-no-permission", |facts| {
            fails(facts, DriverError::NoPermission)
        }),
        ("nvml-failed", |facts| fails(facts, DriverError::InUse)),
        ("nvml-other-driver", |facts| {
            nvml(facts).inventory.driver.driver = "470.1".to_owned()
        }),
        ("gpu-lost", |facts| drop(nvml(facts).inventory.gpus.pop())),
        ("gpu-not-on-bus", |facts| drop(facts.driver.bus.pop())),
        ("gpu-broken", |facts| {
            nvml(facts).inventory.gpus.pop();
            nvml(facts).inventory.broken.push(BrokenGpu {
                index: 1,
                uuid: None,
                pci: None,
                error: DriverError::GpuLost,
            });
        }),
        ("gpu-hung", |facts| {
            nvml(facts).conditions[0] = Err(DriverError::Hung { after: LIMIT })
        }),
        ("gpu-broken", |facts| {
            nvml(facts).conditions[0] = Err(DriverError::GpuLost)
        }),
        ("gpu-needs-recovery", |facts| {
            nvml(facts).conditions[0] = Ok(GpuCondition {
                recovery_action: Some(RecoveryAction::NodeReboot),
                ..GpuCondition::default()
            });
        }),
        ("mig-pending", |facts| mig(facts, false, true)),
        ("mig-strategy-none", |facts| mig(facts, true, true)),
        ("mig-empty", |facts| {
            mig(facts, true, true);
            facts.settings.config.mig_strategy = MigStrategy::Mixed;
        }),
        ("mig-strategy-idle", |facts| {
            facts.settings.config.mig_strategy = MigStrategy::Single
        }),
        ("nothing-offered", |facts| {
            nvml(facts).inventory.gpus.clear();
            facts.driver.bus.clear();
            facts.driver.platform = Platform::Wsl;
        }),
    ]);
}

#[test]
fn device_nodes_and_their_links() {
    fn opening(facts: &mut Facts, error: &str) {
        facts.nodes.nodes[1].opened = Some(Looked::Seen(Err(error.to_owned())));
    }
    check(&[
        ("node-missing", |facts| {
            facts.nodes.nodes[1].state = NodeState::Missing
        }),
        ("node-optional", |facts| {
            facts.nodes.nodes[1].state = NodeState::Missing;
            facts.nodes.nodes[1].is_needed = false;
        }),
        ("node-wrong", |facts| {
            facts.nodes.nodes[1].state = NodeState::NoDevice
        }),
        ("node-wrong", |facts| {
            facts.nodes.nodes[1].state = NodeState::Device(1, 3)
        }),
        ("node-forbidden", |facts| opening(facts, "EPERM")),
        ("node-denied", |facts| opening(facts, "EACCES")),
        ("node-dead", |facts| opening(facts, "ENXIO")),
        ("node-hangs", |facts| {
            facts.nodes.nodes[1].opened = Some(Looked::Late(LIMIT))
        }),
        ("dev-char-links", |facts| {
            facts.nodes.nodes[0].link = LinkFact::Missing
        }),
    ]);
    let mut facts = well();
    facts.nodes.nodes[0].link = LinkFact::Missing;
    facts.nodes.has_systemd = false;
    assert_eq!(
        examine(&facts).count(Severity::Warning),
        0,
        "nobody else looks them up"
    );
}

#[test]
fn cdi_specs() {
    fn spec(facts: &mut Facts) -> &mut SpecFact {
        facts.cdi.specs.push(SpecFact {
            path: "/etc/cdi/nvidia.yaml".to_owned(),
            ..SpecFact::default()
        });
        facts.cdi.specs.last_mut().unwrap()
    }
    fn hook(facts: &mut Facts, state: HookState) {
        let path = "/usr/bin/nvidia-ctk".to_owned();
        spec(facts).hooks.push(HookFact { path, state });
    }
    fn name(facts: &mut Facts, resolved: Resolved) {
        facts.settings.config.device_list_strategies =
            DeviceListStrategies::new([DeviceListStrategy::CdiCri]);
        facts.cdi.names.push(("v.com/gpu=0".to_owned(), resolved));
    }
    check(&[
        ("cdi-invalid", |facts| {
            spec(facts).mistake = Some("no kind".to_owned())
        }),
        ("cdi-old-driver", |facts| {
            spec(facts).driver_version = Some("550.1".to_owned())
        }),
        ("cdi-stale", |facts| {
            let path = "/usr/lib/libcuda.so".to_owned();
            spec(facts).missing.push(MissingFile {
                path,
                is_node: false,
            });
        }),
        ("cdi-hook-missing", |facts| hook(facts, HookState::Missing)),
        ("cdi-hook-not-executable", |facts| {
            hook(facts, HookState::NotExecutable)
        }),
        ("cdi-unresolved", |facts| name(facts, Resolved::Unknown)),
        ("cdi-conflict", |facts| {
            name(facts, Resolved::Conflict(vec!["/a".to_owned()]))
        }),
    ]);
    let mut facts = well();
    hook(&mut facts, HookState::Runs);
    name(&mut facts, Resolved::Yes);
    assert_eq!(examine(&facts).of(Area::Cdi).next().unwrap().id, "cdi");
}

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
            of_cdi(facts).report.cdi.state = CdiState::Off
        }),
        ("runtime-cdi-unsupported", |facts| {
            of_cdi(facts).report.cdi.state = CdiState::Unsupported;
        }),
        ("runtime-cdi-unknown", |facts| {
            of_cdi(facts).report.cdi.state = CdiState::Unknown
        }),
        ("runtime-no-cri-field", |facts| {
            of_cdi(facts).report.version = Some(RuntimeVersion::new(1, 7, 0));
        }),
        ("runtime-spec-directories", |facts| {
            of_cdi(facts).report.spec_directories = SpecDirectories {
                directories: vec!["/etc/cdi".to_owned()],
                place: None,
            };
        }),
        ("runtime-gives-nothing", |facts| {
            facts.runtime = Some(runtime("version = 3\n", "runc"))
        }),
        ("runtime-refuses-variable", |facts| {
            facts.runtime.as_mut().unwrap().accepts_variable = false;
        }),
        ("runtime-remark", |facts| {
            let text = "not TOML".to_owned();
            let remark = Remark { text, place: None };
            facts.runtime.as_mut().unwrap().report.remarks.push(remark);
        }),
        ("runtime-not-asked", |facts| {
            facts.runtime.as_mut().unwrap().unasked = Some("nobody listens".to_owned());
        }),
        ("pods-may-take-gpus", |facts| {
            risk(facts, RiskLevel::Warning)
        }),
        ("pods-may-ask-for-gpus", |facts| {
            risk(facts, RiskLevel::Note)
        }),
    ]);
}

#[test]
fn kubelet_registration_and_agent() {
    fn plugin(facts: &mut Facts) -> &mut PluginFact {
        &mut facts.registration.plugins[0]
    }
    fn counts(count: usize) -> Result<BTreeMap<String, usize>, Reach> {
        Ok(BTreeMap::from([("nvidia.com/gpu".to_owned(), count)]))
    }
    check(&[
        ("kubelet-not-asked", |facts| facts.kubelet.socket = None),
        ("kubelet-missing", |facts| {
            facts.kubelet.reach = Reach::Missing
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
            facts.kubelet.reach = Reach::NoSocket
        }),
        ("kubelet-refused", |facts| {
            facts.kubelet.reach = Reach::Refused
        }),
        ("kubelet-denied", |facts| {
            facts.kubelet.reach = Reach::Denied
        }),
        ("kubelet-silent", |facts| {
            facts.kubelet.reach = Reach::Late(LIMIT)
        }),
        ("kubelet-failed", |facts| {
            facts.kubelet.reach = Reach::Failed("?".to_owned())
        }),
        ("no-plugin", |facts| facts.registration.plugins.clear()),
        ("plugin-stranger", |facts| {
            plugin(facts).program = Some("nvidia-device-p".to_owned());
        }),
        ("plugin-socket-stale", |facts| {
            plugin(facts).reach = Reach::Refused
        }),
        ("plugin-silent", |facts| {
            plugin(facts).reach = Reach::Late(LIMIT)
        }),
        ("plugin-failed", |facts| plugin(facts).reach = Reach::Denied),
        ("not-registered", |facts| {
            facts.registration.allocatable = Ok(BTreeMap::new())
        }),
        ("registered-differently", |facts| {
            facts.registration.allocatable = counts(1)
        }),
        ("registration-unknown", |facts| {
            facts.registration.allocatable = Err(Reach::Missing)
        }),
        ("agent-not-ready", |facts| {
            facts.agent.answer = Ok((false, "the driver".to_owned()))
        }),
        ("agent-absent", |facts| {
            facts.agent.answer = Err(Reach::Refused)
        }),
        ("agent-silent", |facts| {
            facts.agent.answer = Err(Reach::Late(LIMIT))
        }),
        ("agent-unreachable", |facts| {
            facts.agent.answer = Err(Reach::Denied)
        }),
    ]);
}

#[test]
fn permissions_clock_and_settings() {
    fn directory(facts: &mut Facts, state: DirectoryState) {
        facts.permissions.directories.push(DirectoryFact {
            path: "/var/lib/mizzen".to_owned(),
            purpose: "its state",
            state,
        });
    }
    check(&[
        ("settings-invalid", |facts| {
            facts.settings.mistakes.push("line 3".to_owned())
        }),
        ("not-root", |facts| facts.permissions.user = 1000),
        ("no-sys-admin", |facts| {
            facts.settings.config.mig_manager.enabled = true
        }),
        ("directory-missing", |facts| {
            directory(facts, DirectoryState::NoDirectory)
        }),
        ("directory-read-only", |facts| {
            directory(facts, DirectoryState::ReadOnly)
        }),
        ("directory-denied", |facts| {
            directory(facts, DirectoryState::Denied)
        }),
        ("selinux", |facts| facts.permissions.selinux = true),
        ("apparmor", |facts| {
            facts.permissions.apparmor = Some("docker-default".to_owned())
        }),
        ("clock-behind", |facts| facts.clock.now = 0),
        ("clock-hardware", |facts| facts.clock.hardware = Some(0)),
        ("clock-unsynchronised", |facts| {
            facts.clock.synchronised = Synchronised::NotYet
        }),
    ]);
}

#[test]
fn what_depends_on_something_broken_is_skipped_and_not_judged() {
    let mut facts = well();
    facts.driver.module = None;
    facts.nvml = Looked::Late(LIMIT);
    facts.nodes.nodes[0].state = NodeState::Missing;
    facts.kubelet.reach = Reach::Refused;
    facts.registration.plugins.clear();
    let report = examine(&facts);
    let of = |area| {
        report
            .of(area)
            .map(|finding| finding.id)
            .collect::<Vec<_>>()
    };
    for area in [
        Area::Nvml,
        Area::Gpus,
        Area::Nodes,
        Area::Cdi,
        Area::Registration,
    ] {
        assert_eq!(of(area), ["not-looked-at"], "{area:?}");
    }
    assert_eq!(report.count(Severity::Error), 2);
    assert_eq!(of(Area::Clock), ["clock"]);
}

#[test]
fn the_nodes_that_are_expected_have_the_numbers_of_the_kernels_list() {
    let majors = |names: &[(&str, u32)]| -> BTreeMap<String, u32> {
        names
            .iter()
            .map(|(name, major)| ((*name).to_owned(), *major))
            .collect()
    };
    let new = majors(&[
        ("nvidia", 195),
        ("nvidiactl", 195),
        ("nvidia-uvm", 505),
        ("nvidia-caps", 503),
    ]);
    let nodes = expected_nodes(&new, &BTreeSet::from([0, 3]), &BTreeSet::from([12]));
    let numbers = |path: &str| nodes.iter().find(|node| node.path == path).unwrap().numbers;
    assert_eq!(numbers("/dev/nvidiactl"), Some((195, 255)));
    assert_eq!(numbers("/dev/nvidia3"), Some((195, 3)));
    assert_eq!(numbers("/dev/nvidia-uvm-tools"), Some((505, 1)));
    assert_eq!(numbers("/dev/nvidia-caps/nvidia-cap12"), Some((503, 12)));
    let old = majors(&[("nvidia-frontend", 195)]);
    let nodes = expected_nodes(&old, &BTreeSet::from([0]), &BTreeSet::new());
    let known: Vec<_> = nodes
        .iter()
        .map(|node| node.numbers.map(|(major, _)| major))
        .collect();
    assert_eq!(known, [Some(195), None, None, Some(195), Some(195)]);
}

#[test]
fn the_driver_of_a_spec_is_told_by_its_libraries() {
    let spec = |path: &str| CdiSpec {
        container_edits: ContainerEdits {
            mounts: vec![Mount {
                host_path: path.to_owned(),
                ..Mount::default()
            }],
            ..ContainerEdits::default()
        },
        ..CdiSpec::default()
    };
    let of = |path: &str| driver_version(&spec(path)).map(str::to_owned);
    assert_eq!(
        of("/usr/lib64/libcuda.so.550.54.15").as_deref(),
        Some("550.54.15")
    );
    assert_eq!(of("/usr/lib64/libcuda.so.1"), None);
    assert_eq!(of("/usr/lib64/libcudadebugger.so.550.54.15"), None);
}
