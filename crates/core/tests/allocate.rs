//! What a container is given, strategy by strategy, as NVIDIA's device plugin gives it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers may fail it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mizzen_core::allocate::{
    Allocation, AllocationError, AllocationRequest, AnnotationId, CONTROL_NODES, HostNodes,
};
use mizzen_core::config::{
    Config, DeviceIdStrategy, DeviceListStrategies, DeviceListStrategy, ImexConfig,
};
use mizzen_core::gpu::Gpu;
use mizzen_core::health::DeviceHealth;
use mizzen_core::pool::{DevicePool, PreferRequest, pools};
use mizzen_core::resource::ResourceName;
use mizzen_core::topology::{Link, LinkMatrix, PcieRelation};

/// Four GPUs whose UUIDs sort against their indices.
fn gpus() -> Vec<Gpu> {
    let gpu = |index: u32| Gpu {
        index,
        minor: index + 4,
        uuid: uuid(index).parse().unwrap(),
        pci: format!("0000:{:02x}:00.0", 0x10 + index).parse().unwrap(),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        memory_mib: 81_559,
        compute_capability: (9, 0),
        numa_node: Some(index / 2),
        device_id: 0,
        mig: None,
    };
    (0..4).map(gpu).collect()
}

fn uuid(index: u32) -> String {
    format!("GPU-0000000{}-0000-0000-0000-000000000000", 9 - index)
}

fn pool(config: &Config) -> DevicePool {
    let links = LinkMatrix::from_fn(4, |a, b| Link {
        pcie: PcieRelation::CrossCpu,
        nvlinks: if a / 2 == b / 2 { 4 } else { 0 },
    });
    pools(&gpus(), &links, config)
        .remove(&ResourceName::gpu())
        .unwrap()
}

fn all_nodes() -> HostNodes {
    HostNodes {
        control: BTreeSet::from(CONTROL_NODES),
        imex_channels: BTreeSet::from([0]),
        unresolved: BTreeSet::new(),
    }
}

fn allocate(config: &Config, nodes: &HostNodes) -> Result<Allocation, AllocationError> {
    // As a kubelet sends them: in no order.
    let ids = [uuid(1), uuid(0)];
    let request = AllocationRequest::parse(ids.iter().map(String::as_str))?;
    pool(config).allocate(&request, nodes, AnnotationId::from_random([0xff; 16]))
}

fn with(strategies: &[DeviceListStrategy]) -> Config {
    Config {
        device_list_strategies: DeviceListStrategies::new(strategies.iter().copied()),
        ..Config::default()
    }
}

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn mounts(allocation: &Allocation) -> Vec<&str> {
    let paths = allocation.mounts.iter().map(|mount| {
        assert_eq!(mount.host_path, Path::new("/dev/null"));
        mount.container_path.to_str().unwrap()
    });
    paths.collect()
}

const ANNOTATION: &str = "cdi.k8s.io/nvidia-device-plugin_ffffffff-ffff-4fff-bfff-ffffffffffff";
const CDI_GPUS: [&str; 2] = [
    "k8s.device-plugin.nvidia.com/gpu=GPU-00000009-0000-0000-0000-000000000000",
    "k8s.device-plugin.nvidia.com/gpu=GPU-00000008-0000-0000-0000-000000000000",
];

#[test]
fn envvar_names_the_uuids_in_order_of_index_and_nothing_else() {
    let list = format!("{},{}", uuid(0), uuid(1));
    assert_eq!(
        allocate(&Config::default(), &all_nodes()).unwrap(),
        Allocation {
            env: env(&[("NVIDIA_VISIBLE_DEVICES", &list)]),
            ..Allocation::default()
        }
    );
}

#[test]
fn the_index_strategy_names_indices_in_ascending_order() {
    let config = Config {
        device_id_strategy: DeviceIdStrategy::Index,
        ..with(&[DeviceListStrategy::Envvar, DeviceListStrategy::CdiCri])
    };
    let allocation = allocate(&config, &all_nodes()).unwrap();
    assert_eq!(allocation.env["NVIDIA_VISIBLE_DEVICES"], "0,1");
    assert_eq!(
        allocation.cdi_devices,
        [
            "k8s.device-plugin.nvidia.com/gpu=0",
            "k8s.device-plugin.nvidia.com/gpu=1"
        ]
    );
}

#[test]
fn volume_mounts_point_the_variable_at_one_mount_for_each_gpu() {
    let allocation = allocate(&with(&[DeviceListStrategy::VolumeMounts]), &all_nodes()).unwrap();
    assert_eq!(
        allocation.env,
        env(&[(
            "NVIDIA_VISIBLE_DEVICES",
            "/var/run/nvidia-container-devices"
        )])
    );
    assert_eq!(
        mounts(&allocation),
        [
            format!("/var/run/nvidia-container-devices/{}", uuid(0)),
            format!("/var/run/nvidia-container-devices/{}", uuid(1)),
        ]
    );
}

#[test]
fn cdi_annotations_carry_the_cdi_names_under_a_key_of_their_own() {
    let allocation = allocate(&with(&[DeviceListStrategy::CdiAnnotations]), &all_nodes()).unwrap();
    assert_eq!(
        allocation,
        Allocation {
            annotations: env(&[(ANNOTATION, &CDI_GPUS.join(","))]),
            ..Allocation::default()
        }
    );
}

#[test]
fn the_annotations_prefix_can_be_set() {
    let config = Config {
        cdi_annotation_prefix: "cdi.example.com/".to_owned(),
        ..with(&[DeviceListStrategy::CdiAnnotations])
    };
    let allocation = allocate(&config, &all_nodes()).unwrap();
    let key = allocation.annotations.keys().next().unwrap();
    assert!(
        key.starts_with("cdi.example.com/nvidia-device-plugin_"),
        "{key}"
    );
}

#[test]
fn cdi_cri_carries_the_cdi_names_in_the_cris_own_field() {
    let allocation = allocate(&with(&[DeviceListStrategy::CdiCri]), &all_nodes()).unwrap();
    assert_eq!(
        allocation,
        Allocation {
            cdi_devices: CDI_GPUS.map(str::to_owned).to_vec(),
            ..Allocation::default()
        }
    );
}

#[test]
fn several_strategies_are_answered_at_once_and_mounts_outrank_the_list() {
    let allocation = allocate(
        &with(&[
            DeviceListStrategy::Envvar,
            DeviceListStrategy::VolumeMounts,
            DeviceListStrategy::CdiAnnotations,
            DeviceListStrategy::CdiCri,
        ]),
        &all_nodes(),
    )
    .unwrap();
    assert_eq!(
        allocation.env["NVIDIA_VISIBLE_DEVICES"],
        "/var/run/nvidia-container-devices"
    );
    assert_eq!(allocation.mounts.len(), 2);
    assert_eq!(allocation.annotations.len(), 1);
    assert_eq!(allocation.cdi_devices, CDI_GPUS);
}

#[test]
fn device_specs_list_the_control_nodes_that_exist_and_then_the_gpus() {
    let config = Config {
        pass_device_specs: true,
        dev_root: "/run/nvidia/driver".into(),
        ..Config::default()
    };
    let nodes = HostNodes {
        control: BTreeSet::from(["/dev/nvidia-uvm", "/dev/nvidiactl"]),
        ..HostNodes::default()
    };
    let allocation = allocate(&config, &nodes).unwrap();
    let paths: Vec<_> = allocation
        .device_nodes
        .iter()
        .map(|node| {
            assert_eq!(node.permissions, "rw");
            (
                node.host_path.to_str().unwrap(),
                node.container_path.to_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        paths,
        [
            ("/run/nvidia/driver/dev/nvidiactl", "/dev/nvidiactl"),
            ("/run/nvidia/driver/dev/nvidia-uvm", "/dev/nvidia-uvm"),
            ("/run/nvidia/driver/dev/nvidia4", "/dev/nvidia4"),
            ("/run/nvidia/driver/dev/nvidia5", "/dev/nvidia5"),
        ]
    );
}

#[test]
fn device_specs_are_left_out_where_every_strategy_is_cdi() {
    for (strategies, nodes) in [
        (
            &[
                DeviceListStrategy::CdiCri,
                DeviceListStrategy::CdiAnnotations,
            ][..],
            0,
        ),
        (
            &[DeviceListStrategy::CdiCri, DeviceListStrategy::Envvar][..],
            6,
        ),
    ] {
        let config = Config {
            pass_device_specs: true,
            ..with(strategies)
        };
        let allocation = allocate(&config, &all_nodes()).unwrap();
        assert_eq!(allocation.device_nodes.len(), nodes, "{strategies:?}");
    }
}

#[test]
fn gds_mofed_and_gdrcopy_are_set_in_every_mode_and_named_last_in_cdi() {
    for strategy in [DeviceListStrategy::Envvar, DeviceListStrategy::CdiCri] {
        let config = Config {
            gds_enabled: true,
            mofed_enabled: true,
            gdrcopy_enabled: true,
            ..with(&[strategy])
        };
        let allocation = allocate(&config, &all_nodes()).unwrap();
        for variable in ["NVIDIA_GDS", "NVIDIA_MOFED", "NVIDIA_GDRCOPY"] {
            assert_eq!(allocation.env[variable], "enabled", "{strategy:?}");
        }
        if strategy.is_cdi() {
            assert_eq!(
                allocation.cdi_devices[2..],
                [
                    "k8s.device-plugin.nvidia.com/gdrcopy=all",
                    "k8s.device-plugin.nvidia.com/gds=all",
                    "k8s.device-plugin.nvidia.com/mofed=all",
                ]
            );
        }
    }
}

fn imex(strategies: &[DeviceListStrategy], required: bool) -> Config {
    Config {
        imex: ImexConfig {
            channel_ids: vec![0],
            required,
        },
        pass_device_specs: true,
        ..with(strategies)
    }
}

#[test]
fn an_imex_channel_is_given_in_each_strategys_own_way() {
    let list = allocate(&imex(&[DeviceListStrategy::Envvar], true), &all_nodes()).unwrap();
    assert_eq!(list.env["NVIDIA_IMEX_CHANNELS"], "0");
    assert_eq!(
        list.device_nodes.last().unwrap().container_path,
        Path::new("/dev/nvidia-caps-imex-channels/channel0")
    );

    let mounted = allocate(
        &imex(&[DeviceListStrategy::VolumeMounts], true),
        &all_nodes(),
    )
    .unwrap();
    assert_eq!(mounted.env.get("NVIDIA_IMEX_CHANNELS"), None);
    assert_eq!(
        mounts(&mounted).last(),
        Some(&"/var/run/nvidia-container-devices/imex/0")
    );

    let cdi = allocate(&imex(&[DeviceListStrategy::CdiCri], true), &all_nodes()).unwrap();
    assert_eq!(
        cdi.cdi_devices.last().unwrap(),
        "k8s.device-plugin.nvidia.com/imex-channel=0"
    );
}

#[test]
fn an_imex_channel_that_does_not_exist_is_left_out_unless_it_is_required() {
    let optional = imex(&[DeviceListStrategy::Envvar], false);
    let allocation = allocate(&optional, &HostNodes::default()).unwrap();
    assert_eq!(allocation.env.get("NVIDIA_IMEX_CHANNELS"), None);

    let required = imex(&[DeviceListStrategy::Envvar], true);
    let error = allocate(&required, &HostNodes::default()).unwrap_err();
    assert_eq!(error, AllocationError::ImexChannelMissing { channel: 0 });
    let text = error.to_string();
    assert!(
        text.contains("/dev/nvidia-caps-imex-channels/channel0"),
        "{text}"
    );
}

#[test]
fn the_hosts_nodes_are_looked_for_by_their_paths_in_a_container() {
    let config = imex(&[DeviceListStrategy::Envvar], false);
    let nodes = HostNodes::discover(&config, |path| path != Path::new("/dev/nvidia-modeset"));
    assert_eq!(nodes.imex_channels, BTreeSet::from([0]));
    assert_eq!(
        nodes.control,
        BTreeSet::from(["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"])
    );
}

#[test]
fn what_is_no_device_is_refused_by_name_with_what_to_do() {
    let error = AllocationRequest::parse(["GPU-7"]).unwrap_err().to_string();
    assert!(error.contains("\"GPU-7\""), "{error}");

    let stranger = "GPU-ffffffff-0000-0000-0000-000000000000";
    for id in [stranger.to_owned(), format!("{}::0", uuid(0))] {
        let request = AllocationRequest::parse([uuid(0).as_str(), &id]).unwrap();
        let nodes = HostNodes::default();
        let annotation = AnnotationId::from_random([0; 16]);
        let error = pool(&Config::default()).allocate(&request, &nodes, annotation);
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains(&id) && text.contains("nvidia.com/gpu"),
            "{text}"
        );
        assert!(text.contains("delete the pod"), "{text}");
    }
}

#[test]
fn an_id_that_is_asked_for_twice_is_given_once() {
    let id = uuid(2);
    let request = AllocationRequest::parse([id.as_str(), &id]).unwrap();
    let annotation = AnnotationId::from_random([0; 16]);
    let allocation = pool(&Config::default())
        .allocate(&request, &HostNodes::default(), annotation)
        .unwrap();
    assert_eq!(allocation.env["NVIDIA_VISIBLE_DEVICES"], id);
}

#[test]
fn an_annotation_id_is_a_uuid_of_version_4() {
    let id = AnnotationId::from_random(
        *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff",
    );
    assert_eq!(id.to_string(), "00112233-4455-4677-8899-aabbccddeeff");
    assert_eq!(
        AnnotationId::from_random([0; 16]).to_string(),
        "00000000-0000-4000-8000-000000000000"
    );
}

#[test]
fn a_node_without_gpus_has_no_resource() {
    assert!(pools(&[], &LinkMatrix::default(), &Config::default()).is_empty());
}

#[test]
fn whole_gpus_are_offered_in_order_of_index_with_their_numa_nodes() {
    let pool = pool(&Config::default());
    assert_eq!(pool.resource(), &ResourceName::gpu());
    let devices: Vec<_> = pool
        .list(|_| DeviceHealth::Healthy)
        .iter()
        .map(|listed| {
            let ids: Vec<String> = listed.ids().collect();
            (ids, listed.numa_node)
        })
        .collect();
    let expected: Vec<_> = (0..4).map(|at| (vec![uuid(at)], Some(at / 2))).collect();
    assert_eq!(devices, expected);
    assert_eq!(pool.gpu_of(&uuid(3)), Some(3));
    assert_eq!(pool.gpu_of("GPU-"), None);
    assert_eq!(pool.gpu_of(&format!("{}::0", uuid(3))), None);
}

fn prefer(available: &[u32], must_include: &[String], size: usize) -> Vec<String> {
    let available: Vec<String> = available.iter().map(|index| uuid(*index)).collect();
    pool(&Config::default()).prefer(&PreferRequest {
        available: &available,
        must_include,
        size,
    })
}

#[test]
fn a_preference_is_the_best_connected_set_in_order_of_index() {
    assert_eq!(prefer(&[3, 2, 1], &[], 2), [uuid(2), uuid(3)]);
    assert_eq!(prefer(&[3, 2, 1, 0], &[uuid(1)], 2), [uuid(0), uuid(1)]);
    assert_eq!(prefer(&[3, 2, 1], &[], 1), [uuid(1)]);
}

#[test]
fn a_preference_never_picks_an_unknown_device_but_keeps_one_the_container_holds() {
    let stranger = "GPU-ffffffff-0000-0000-0000-000000000000".to_owned();
    let pool = pool(&Config::default());
    let request = PreferRequest {
        available: &[stranger.clone(), "nonsense".to_owned(), uuid(0)],
        must_include: &[],
        size: 3,
    };
    assert_eq!(pool.prefer(&request), [uuid(0)]);
    assert_eq!(
        prefer(&[0, 1, 2], std::slice::from_ref(&stranger), 3),
        [stranger, uuid(0), uuid(1)]
    );
}
