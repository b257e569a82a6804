//! Every finding occurs, and only where it belongs.

mod answering;
mod specs;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::cdi::Platform;
use crate::config::{
    Config, ConfigPlace, ConfigWarning, DeviceListStrategies, DeviceListStrategy, MigStrategy,
    Origin,
};
use crate::driver::{DriverError, GpuCondition, RecoveryAction};
use crate::gpu::{Gpu, GpuUuid, PciBusId};
use crate::inventory::{BrokenGpu, DriverVersions, Inventory};
use crate::mig::{GpuMig, MigMode};
use crate::runtime::{DefinedRuntime, SourceFile, read_containerd};

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
            file: None,
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
            assert_eq!(is_bad, finding.meaning.is_some(), "{finding:?}");
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
            facts.driver.libraries = Some("550.1.2".to_owned());
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
            fails(facts, DriverError::Hung { after: LIMIT });
        }),
        ("nvml-missing", |facts| {
            fails(
                facts,
                DriverError::LibraryNotFound {
                    searched: Vec::new(),
                },
            );
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
            );
        }),
        ("nvml-no-permission", |facts| {
            fails(facts, DriverError::NoPermission);
        }),
        ("nvml-failed", |facts| fails(facts, DriverError::InUse)),
        ("nvml-other-driver", |facts| {
            nvml(facts).inventory.driver.driver = "470.1".to_owned();
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
            nvml(facts).conditions[0] = Err(DriverError::Hung { after: LIMIT });
        }),
        ("gpu-broken", |facts| {
            nvml(facts).conditions[0] = Err(DriverError::GpuLost);
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
            facts.settings.config.mig_strategy = MigStrategy::Single;
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
            facts.nodes.nodes[1].state = NodeState::Missing;
        }),
        ("node-optional", |facts| {
            facts.nodes.nodes[1].state = NodeState::Missing;
            facts.nodes.nodes[1].is_needed = false;
        }),
        ("node-wrong", |facts| {
            facts.nodes.nodes[1].state = NodeState::NoDevice;
        }),
        ("node-wrong", |facts| {
            facts.nodes.nodes[1].state = NodeState::Device(1, 3);
        }),
        ("node-forbidden", |facts| opening(facts, "EPERM")),
        ("node-denied", |facts| opening(facts, "EACCES")),
        ("node-dead", |facts| opening(facts, "ENXIO")),
        ("node-hangs", |facts| {
            facts.nodes.nodes[1].opened = Some(Looked::Late(LIMIT));
        }),
        ("dev-char-links", |facts| {
            facts.nodes.nodes[0].link = LinkFact::Missing;
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
            spec(facts).mistake = Some("no kind".to_owned());
        }),
        ("cdi-old-driver", |facts| {
            spec(facts).driver_version = Some("550.1".to_owned());
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
            hook(facts, HookState::NotExecutable);
        }),
        ("cdi-hook-noexec", |facts| {
            facts.cdi.noexec.push("/var/lib/mizzen/bin".to_owned());
        }),
        ("cdi-unresolved", |facts| name(facts, Resolved::Unknown)),
        ("cdi-conflict", |facts| {
            name(facts, Resolved::Conflict(vec!["/a".to_owned()]));
        }),
    ]);
    let mut facts = well();
    hook(&mut facts, HookState::Runs);
    name(&mut facts, Resolved::Yes);
    assert_eq!(examine(&facts).of(Area::Cdi).next().unwrap().id, "cdi");
}

#[test]
fn what_becomes_of_names_that_resolve_nowhere_depends_on_who_has_chosen() {
    let meaning = |strategies: DeviceListStrategies, resolved: [Resolved; 2]| {
        let mut facts = well();
        facts.settings.config.device_list_strategies = strategies;
        let names = ["v.com/gpu=0".to_owned(), "v.com/gpu=1".to_owned()];
        facts.cdi.names = names.into_iter().zip(resolved).collect();
        let report = examine(&facts);
        let finding = report.of(Area::Cdi).next().unwrap();
        assert_eq!(finding.id, "cdi-unresolved");
        finding.meaning.clone().unwrap()
    };
    let none = || [Resolved::Unknown, Resolved::Unknown];
    let by_cdi = DeviceListStrategy::CdiCri;
    let auto = DeviceListStrategies::chosen(by_cdi, true);
    assert!(meaning(auto.clone(), none()).contains("offers these devices without CDI"));
    let some = [Resolved::Yes, Resolved::Unknown];
    assert!(meaning(auto, some).contains("marks these devices unhealthy"));
    let explicit = DeviceListStrategies::new([by_cdi]);
    assert!(meaning(explicit, none()).contains("marks these devices unhealthy"));
}

#[test]
fn permissions_clock_and_settings() {
    fn directory(facts: &mut Facts, state: DirectoryState) {
        facts.permissions.directories.push(DirectoryFact {
            path: "/var/lib/mizzen".to_owned(),
            is_on_host: true,
            purpose: "its state",
            state,
        });
    }
    check(&[
        ("settings-invalid", |facts| {
            facts.settings.mistakes.push("line 3".to_owned());
        }),
        ("settings-odd", |facts| {
            facts.settings.config.warnings.push(ConfigWarning {
                origin: Origin::CommandLine("--x".to_owned()),
                message: "it does nothing".to_owned(),
            });
        }),
        ("settings-by-node", |facts| {
            facts.settings.config.source.place = ConfigPlace::Directory("/configs".into());
        }),
        ("not-root", |facts| facts.permissions.user = 1000),
        ("no-sys-admin", |facts| {
            facts.settings.config.mig_manager.enabled = true;
        }),
        ("directory-missing", |facts| {
            directory(facts, DirectoryState::NoDirectory);
        }),
        ("directory-read-only", |facts| {
            directory(facts, DirectoryState::ReadOnly);
        }),
        ("directory-denied", |facts| {
            directory(facts, DirectoryState::Denied);
        }),
        ("selinux", |facts| facts.permissions.selinux = true),
        ("apparmor", |facts| {
            facts.permissions.apparmor = Some("docker-default".to_owned());
        }),
        ("clock-behind", |facts| facts.clock.now = 0),
        ("clock-hardware", |facts| facts.clock.hardware = Some(0)),
        ("clock-unsynchronised", |facts| {
            facts.clock.synchronised = Synchronised::NotYet;
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
