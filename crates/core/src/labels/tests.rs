use proptest::prelude::*;

use super::*;
use crate::config::file;
use crate::dns::{is_label_key, is_label_value};
use crate::gpu::{GpuUuid, PciBusId};
use crate::mig::{Capabilities, Engines, GpuMig, MigDevice, MigMode, MigProfile, ProfileExtra};

fn gpu(index: u32, name: &str) -> Gpu {
    let pci = PciBusId {
        domain: 0,
        bus: u8::try_from(index + 1).unwrap(),
        device: 0,
        function: 0,
    };
    Gpu {
        index,
        minor: index,
        uuid: GpuUuid::placeholder(index, None),
        pci,
        name: name.to_owned(),
        memory_mib: 40_960,
        compute_capability: (8, 0),
        numa_node: None,
        device_id: 0,
        mig: None,
    }
}

fn device(index: u32, profile: MigProfile) -> MigDevice {
    MigDevice {
        index,
        uuid: format!("MIG-4d697a7a-656e-4000-8000-{index:012x}")
            .parse()
            .unwrap(),
        gpu_instance: index,
        compute_instance: 0,
        profile,
        memory_mib: 4_864,
        multiprocessors: 14,
        engines: Engines {
            copy: 1,
            ..Engines::default()
        },
        placement: None,
        capabilities: Capabilities::default(),
    }
}

fn cut(gpu: Gpu, profiles: &[&str]) -> Gpu {
    let on = MigMode {
        current: true,
        pending: true,
    };
    let profiles = (0..).zip(profiles);
    let devices = profiles.map(|(index, profile)| device(index, profile.parse().unwrap()));
    Gpu {
        mig: Some(GpuMig {
            mode: on,
            devices: devices.collect(),
        }),
        ..gpu
    }
}

fn facts<'a>(gpus: &'a [Gpu], host: &'a HostFacts) -> NodeFacts<'a> {
    NodeFacts {
        driver: None,
        gpus,
        fabric: &[],
        host,
        timestamp: None,
    }
}

fn labels_of(gpus: &[Gpu], settings: &str) -> Labels {
    let config = file::parse(settings).validate().unwrap();
    feature_labels(&facts(gpus, &HostFacts::default()), &config)
}

fn value<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    labels.get(&key.parse().unwrap()).map(LabelValue::as_str)
}

#[test]
fn a_node_without_gpus_says_what_its_bus_says() {
    let host = HostFacts {
        vgpu: Vgpu::Absent,
        ..HostFacts::default()
    };
    let config = Config::default();
    let labels = feature_labels(&facts(&[], &host), &config);
    assert_eq!(features_file(&labels), "nvidia.com/vgpu.present=false\n");
    // The driver is not there yet, but there is something for it.
    let host = HostFacts {
        display: vec![DisplayController {
            place: "0000:3b:00.0".parse().unwrap(),
            class: 0x0302,
        }],
        ..HostFacts::default()
    };
    let labels = feature_labels(&facts(&[], &host), &config);
    assert_eq!(features_file(&labels), "nvidia.com/gpu.present=true\n");
}

#[test]
fn of_several_models_the_one_of_which_there_are_the_most_is_told() {
    let gpus = [
        gpu(0, "NVIDIA A30"),
        gpu(1, "NVIDIA L4"),
        gpu(2, "NVIDIA L4"),
    ];
    let labels = labels_of(&gpus, "");
    assert_eq!(value(&labels, "nvidia.com/gpu.product"), Some("NVIDIA-L4"));
    assert_eq!(value(&labels, "nvidia.com/gpu.count"), Some("2"));
    assert_eq!(value(&labels, "gpu.mizzen.dev/NVIDIA-A30"), Some("1"));
    assert_eq!(value(&labels, "gpu.mizzen.dev/NVIDIA-L4"), Some("2"));
}

#[test]
fn of_equally_many_the_one_with_the_most_memory_is_told_and_then_the_first_by_name() {
    let product = |gpus: &[Gpu]| {
        let labels = labels_of(gpus, "");
        value(&labels, "nvidia.com/gpu.product").unwrap().to_owned()
    };
    let large = Gpu {
        memory_mib: 81_559,
        ..gpu(1, "NVIDIA H100")
    };
    assert_eq!(product(&[gpu(0, "NVIDIA A30"), large]), "NVIDIA-H100");
    let alike = [gpu(0, "NVIDIA L4"), gpu(1, "NVIDIA A30")];
    assert_eq!(product(&alike), "NVIDIA-A30");
}

#[test]
fn a_model_with_whole_gpus_goes_before_one_that_is_cut() {
    let gpus = [
        cut(gpu(0, "NVIDIA A30"), &["1g.6gb"]),
        cut(gpu(1, "NVIDIA A30"), &["1g.6gb"]),
        gpu(2, "NVIDIA L4"),
    ];
    let labels = labels_of(&gpus, "flags: {migStrategy: mixed}");
    assert_eq!(value(&labels, "nvidia.com/gpu.product"), Some("NVIDIA-L4"));
    assert_eq!(value(&labels, "nvidia.com/mig-1g.6gb.count"), Some("2"));
    assert_eq!(value(&labels, "nvidia.com/mig.capable"), Some("true"));
}

#[test]
fn parts_of_a_gpu_instance_have_labels_of_their_own() {
    let gpus = [cut(
        gpu(0, "NVIDIA A100-SXM4-40GB"),
        &["1c.3g.20gb", "2c.3g.20gb", "1g.5gb+me"],
    )];
    let labels = labels_of(&gpus, "flags: {migStrategy: mixed}");
    for (key, expected) in [
        ("mig-1c.3g.20gb.slices.gi", "3"),
        ("mig-1c.3g.20gb.slices.ci", "1"),
        ("mig-2c.3g.20gb.slices.ci", "2"),
        (
            "mig-1g.5gb.me.product",
            "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb.me",
        ),
        ("mig-1g.5gb.me.engines.copy", "1"),
    ] {
        let key = format!("nvidia.com/{key}");
        assert_eq!(value(&labels, &key), Some(expected), "{key}");
    }
}

#[test]
fn gpus_that_the_config_leaves_out_count_nowhere() {
    let gpus = [gpu(0, "NVIDIA L4"), gpu(1, "NVIDIA A30")];
    let labels = labels_of(&gpus, "gpus: {exclude: ['*A30*']}");
    assert_eq!(value(&labels, "nvidia.com/gpu.product"), Some("NVIDIA-L4"));
    assert_eq!(value(&labels, "gpu.mizzen.dev/NVIDIA-A30"), None);
    let labels = labels_of(&gpus, "gpus: {exclude: [all]}");
    assert_eq!(features_file(&labels), "nvidia.com/gpu.present=true\n");
}

#[test]
fn a_name_of_the_configs_own_changes_no_label_but_finds_its_sharing() {
    let labels = labels_of(
        &[gpu(0, "NVIDIA L4")],
        "resources: {gpus: [{pattern: '*L4*', name: l4}]}\n\
         sharing: {timeSlicing: {resources: [{name: l4, replicas: 3}]}}",
    );
    assert_eq!(value(&labels, "nvidia.com/gpu.replicas"), Some("3"));
    assert_eq!(
        value(&labels, "nvidia.com/gpu.product"),
        Some("NVIDIA-L4-SHARED")
    );
}

#[test]
fn mps_is_possible_where_it_is_configured_and_no_gpu_is_cut() {
    let settings = "flags: {mpsRoot: /run/nvidia/mps}\n\
                    sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 2}]}}";
    let capable = |gpus: &[Gpu]| {
        let labels = labels_of(gpus, settings);
        value(&labels, "nvidia.com/mps.capable").unwrap().to_owned()
    };
    let whole = gpu(0, "NVIDIA A30");
    assert_eq!(capable(std::slice::from_ref(&whole)), "true");
    // The reference then has no labels at all.
    assert_eq!(capable(&[whole, cut(gpu(1, "NVIDIA A30"), &[])]), "false");
}

#[test]
fn gpus_of_two_cliques_are_in_none_that_could_be_told() {
    let gpus = [gpu(0, "NVIDIA GB200"), gpu(1, "NVIDIA GB200")];
    let host = HostFacts::default();
    let clique = |fabric: &[FabricClique]| {
        let node = NodeFacts {
            fabric,
            ..facts(&gpus, &host)
        };
        let labels = feature_labels(&node, &Config::default());
        value(&labels, "nvidia.com/gpu.clique").map(str::to_owned)
    };
    let one = FabricClique {
        cluster: [0xab; 16],
        clique: 7,
    };
    let text = "abababab-abab-abab-abab-abababababab.7";
    assert_eq!(clique(&[one, one]).as_deref(), Some(text));
    assert_eq!(clique(&[one, FabricClique { clique: 8, ..one }]), None);
    assert_eq!(clique(&[]), None);
}

#[test]
fn the_mode_is_that_of_all_gpus() {
    let gpus = [gpu(0, "a"), gpu(1, "a")];
    let mode = |classes: &[u16]| {
        let display = gpus
            .iter()
            .zip(classes)
            .map(|(gpu, class)| DisplayController {
                place: gpu.pci,
                class: *class,
            });
        let host = HostFacts {
            display: display.collect(),
            ..HostFacts::default()
        };
        let labels = feature_labels(&facts(&gpus, &host), &Config::default());
        value(&labels, "nvidia.com/gpu.mode").unwrap().to_owned()
    };
    assert_eq!(mode(&[0x0300, 0x0300]), "graphics");
    assert_eq!(mode(&[0x0302, 0x0302]), "compute");
    for classes in [&[0x0300, 0x0302][..], &[0x0302], &[0x0380, 0x0380], &[]] {
        assert_eq!(mode(classes), "unknown", "{classes:?}");
    }
}

#[test]
fn versions_that_look_like_no_version_are_told_as_far_as_they_go() {
    for (version, full, revision) in [
        ("550.107.02", "550.107.02", "02"),
        ("450.80", "450.80", ""),
        ("550", "550", ""),
        ("550.1.2.3", "550.1.2.3", "2.3"),
        ("", "", ""),
    ] {
        let driver = DriverVersions {
            driver: version.to_owned(),
            ..DriverVersions::default()
        };
        let (gpus, host) = ([gpu(0, "a")], HostFacts::default());
        let node = NodeFacts {
            driver: Some(&driver),
            ..facts(&gpus, &host)
        };
        let labels = feature_labels(&node, &Config::default());
        let told = |name: &str| value(&labels, &format!("nvidia.com/cuda.driver{name}"));
        assert_eq!(told("-version.full"), Some(full));
        assert_eq!(told("-version.revision"), Some(revision));
        assert_eq!(told(".rev"), Some(revision));
        // Nobody knows CUDA 0.
        assert_eq!(value(&labels, "nvidia.com/cuda.runtime-version.full"), None);
    }
}

#[test]
fn a_vgpus_host_is_told() {
    let host = HostFacts {
        vgpu: Vgpu::Present(Some(VgpuHost {
            driver_version: "550.54.16".to_owned(),
            driver_branch: "r550_40".to_owned(),
        })),
        ..HostFacts::default()
    };
    let labels = feature_labels(&facts(&[], &host), &Config::default());
    assert_eq!(
        features_file(&labels),
        "nvidia.com/vgpu.host-driver-branch=r550_40\n\
         nvidia.com/vgpu.host-driver-version=550.54.16\n\
         nvidia.com/vgpu.present=true\n"
    );
}

/// Any name, and those that are hard to fit.
fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[A-Za-z0-9 ._-]{0,90}",
        Just("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition".to_owned()),
        Just("NVIDIA L4".to_owned()),
    ]
}

fn profiles() -> impl Strategy<Value = MigProfile> {
    let extras = prop_oneof![
        Just(ProfileExtra::None),
        Just(ProfileExtra::AllMedia),
        Just(ProfileExtra::NoMedia),
    ];
    let numbers = prop_oneof![1..8_u32, any::<u32>()];
    (numbers.clone(), numbers.clone(), numbers, extras).prop_map(|(gi, ci, memory_gb, extra)| {
        MigProfile {
            gpu_slices: gi,
            compute_slices: ci,
            memory_gb,
            extra,
        }
    })
}

prop_compose! {
    fn some_gpus()(
        described in prop::collection::vec(
            (names(), any::<u32>(), (0..15_u32, any::<u32>()),
             prop::option::of((any::<bool>(), prop::collection::vec(profiles(), 0..4)))),
            0..6,
        ),
    ) -> Vec<Gpu> {
        let gpus = (0..).zip(described);
        gpus.map(|(index, (name, memory, compute_capability, mig))| Gpu {
            memory_mib: u64::from(memory),
            compute_capability,
            mig: mig.map(|(current, profiles)| GpuMig {
                mode: MigMode { current, pending: current },
                devices: (0..).zip(profiles).map(|(at, profile)| device(at, profile)).collect(),
            }),
            ..gpu(index, &name)
        }).collect()
    }
}

fn settings() -> impl Strategy<Value = String> {
    let strategy = prop_oneof![Just("none"), Just("single"), Just("mixed")];
    (strategy, 1..5_u32).prop_map(|(strategy, replicas)| {
        format!(
            "flags: {{migStrategy: {strategy}}}\n\
             sharing: {{timeSlicing: {{resources: [{{name: gpu, replicas: {replicas}}}]}}}}"
        )
    })
}

#[test]
fn the_time_of_the_start_is_told_anew_with_something_else_alone() {
    let with = |pairs: &[(&str, &str)]| -> Labels {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| (key.parse().unwrap(), value.parse().unwrap()))
            .collect()
    };
    let (old, new) = ((TIMESTAMP, "1"), (TIMESTAMP, "2"));
    let (one, two) = (("a/count", "1"), ("a/count", "2"));
    assert_eq!(
        keep_time(with(&[new, one]), &with(&[old, one])),
        with(&[old, one])
    );
    assert_eq!(
        keep_time(with(&[new, two]), &with(&[old, one])),
        with(&[new, two])
    );
    assert_eq!(
        keep_time(with(&[new, one]), &with(&[one])),
        with(&[new, one])
    );
    assert_eq!(keep_time(with(&[one]), &with(&[old, one])), with(&[one]));
    assert_eq!(keep_time(with(&[new]), &with(&[])), with(&[new]));
}

proptest! {
    #[test]
    fn labels_are_always_such_that_kubernetes_takes_them(
        gpus in some_gpus(),
        settings in settings(),
        version in any::<String>(),
        machine in prop::option::of(any::<String>()),
    ) {
        let driver = DriverVersions { driver: version.clone(), nvml: String::new(), cuda: (13, 0) };
        let host = HostFacts {
            machine,
            vgpu: Vgpu::Present(Some(VgpuHost {
                driver_version: version.clone(),
                driver_branch: version,
            })),
            ..HostFacts::default()
        };
        let node = NodeFacts {
            driver: Some(&driver),
            timestamp: Some(u64::MAX),
            ..facts(&gpus, &host)
        };
        let config = file::parse(&settings).validate().unwrap();
        let labels = feature_labels(&node, &config);
        for (key, value) in &labels {
            prop_assert!(is_label_key(key.as_str()), "{key}");
            prop_assert!(is_label_value(value.as_str()), "{key}={value}");
        }
        let text = features_file(&labels);
        let mut keys: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        prop_assert_eq!(keys.len(), text.lines().count());
        keys.dedup();
        prop_assert_eq!(keys.len(), labels.len());
        prop_assert_eq!(parse_features_file(&text), labels);
    }

    #[test]
    fn the_order_in_which_gpus_are_told_changes_nothing(
        (gpus, shuffled) in some_gpus().prop_flat_map(|gpus| (Just(gpus.clone()), Just(gpus).prop_shuffle())),
        settings in settings(),
    ) {
        prop_assert_eq!(labels_of(&gpus, &settings), labels_of(&shuffled, &settings));
    }

    #[test]
    fn every_gpu_is_counted_once_among_the_models(gpus in some_gpus()) {
        let labels = labels_of(&gpus, "");
        let counts = labels.iter().filter(|(key, _)| key.as_str().starts_with(MODEL_PREFIX));
        let sum: usize = counts.map(|(_, count)| count.as_str().parse::<usize>().unwrap()).sum();
        prop_assert_eq!(sum, gpus.len());
    }

    #[test]
    fn two_names_that_differ_in_what_labels_may_have_are_two_models(
        a in "[A-Za-z0-9]{1,90}",
        b in "[A-Za-z0-9]{1,90}",
    ) {
        prop_assume!(a != b);
        let labels = labels_of(&[gpu(0, &a), gpu(1, &b)], "");
        let models = labels.keys().filter(|key| key.as_str().starts_with(MODEL_PREFIX));
        prop_assert_eq!(models.count(), 2);
    }
}
