//! What a node with MIG offers, by strategy, and what a container gets with it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;

use mizzen_core::allocate::{AllocationRequest, AnnotationId, HostNodes};
use mizzen_core::config::file;
use mizzen_core::gpu::Gpu;
use mizzen_core::health::DeviceHealth;
use mizzen_core::mig::{Capabilities, Engines, GpuMig, MigDevice, MigMode, Placement};
use mizzen_core::pool::{DevicePool, Listed, Offer, PreferRequest, offer};
use mizzen_core::topology::LinkMatrix;

/// A GPU that is whole, or cut into devices of these profiles, each in a GPU instance of its own.
fn gpu(index: u32, cut: Option<&[&str]>) -> Gpu {
    Gpu {
        index,
        minor: index + 4,
        uuid: format!("GPU-4d697a7a-656e-4000-8000-{index:012x}")
            .parse()
            .unwrap(),
        pci: format!("0000:{index:02x}:00.0").parse().unwrap(),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        memory_mib: 81_559,
        compute_capability: (9, 0),
        numa_node: Some(index / 2),
        device_id: 0x2330_10de,
        mig: Some(GpuMig {
            mode: MigMode {
                current: cut.is_some(),
                pending: cut.is_some(),
            },
            devices: (0..)
                .zip(cut.unwrap_or_default())
                .map(|(at, profile)| device(index, at, profile))
                .collect(),
        }),
    }
}

fn device(gpu: u32, at: u32, profile: &str) -> MigDevice {
    MigDevice {
        index: at,
        uuid: mig(gpu, at).parse().unwrap(),
        gpu_instance: 7 + at,
        compute_instance: 0,
        profile: profile.parse().unwrap(),
        memory_mib: 9_984,
        multiprocessors: 16,
        engines: Engines::default(),
        placement: Some(Placement { start: at, size: 1 }),
        capabilities: Capabilities {
            gpu_instance: Some(100 * gpu + 10 * at),
            compute_instance: Some(100 * gpu + 10 * at + 1),
        },
    }
}

fn mig(gpu: u32, at: u32) -> String {
    format!("MIG-4d697a7a-656e-4000-8000-{:012x}", 100 * gpu + at)
}

fn offer_of(gpus: &[Gpu], settings: &str) -> Offer {
    let config = file::parse(settings).validate().unwrap();
    offer(gpus, &LinkMatrix::unknown(gpus.len()), &config)
}

fn flags(strategy: &str) -> String {
    format!("flags: {{migStrategy: {strategy}, plugin: {{passDeviceSpecs: true}}}}\n")
}

/// The resources and the number of their devices.
fn counts(offer: &Offer) -> BTreeMap<&str, usize> {
    let pools = offer.pools.iter();
    pools
        .map(|(name, pool)| (name.short(), pool.device_count()))
        .collect()
}

fn remarks(offer: &Offer) -> Vec<String> {
    offer.remarks.iter().map(ToString::to_string).collect()
}

fn pool<'a>(offer: &'a Offer, name: &str) -> &'a DevicePool {
    &offer.pools[&name.parse().unwrap()]
}

fn ids(pool: &DevicePool) -> Vec<String> {
    let list = pool.list(|_| DeviceHealth::Healthy);
    list.iter().flat_map(Listed::ids).collect()
}

const SEVEN: [&str; 7] = ["1g.10gb"; 7];

#[test]
fn with_none_every_gpu_is_whole_and_it_is_said_which_is_cut() {
    let gpus = [gpu(0, Some(&SEVEN)), gpu(1, None), gpu(2, Some(&[]))];
    let offer = offer_of(&gpus, &flags("none"));
    assert_eq!(counts(&offer), BTreeMap::from([("gpu", 3)]));
    assert!(
        remarks(&offer)[0].contains("GPUs 0 and 2;"),
        "{:?}",
        offer.remarks
    );
}

#[test]
fn with_mixed_each_profile_is_a_resource_and_splits_are_their_own() {
    let cut = [
        "1c.3g.40gb",
        "2c.3g.40gb",
        "1g.10gb+me",
        "1g.24gb-me",
        "1g.10gb",
    ];
    let gpus = [gpu(0, Some(&cut)), gpu(1, None), gpu(2, Some(&["1g.10gb"]))];
    let offer = offer_of(&gpus, &flags("mixed"));
    let expected = [
        ("gpu", 1),
        ("mig-1c.3g.40gb", 1),
        ("mig-1g.10gb", 2),
        ("mig-1g.10gb.me", 1),
        ("mig-1g.24gb-me", 1),
        ("mig-2c.3g.40gb", 1),
    ];
    assert_eq!(counts(&offer), BTreeMap::from(expected));
    assert_eq!(remarks(&offer), [""; 0]);
    let small = pool(&offer, "mig-1g.10gb");
    assert_eq!(ids(small), [mig(0, 4), mig(2, 0)]);
    let nodes: Vec<_> = small.list(|_| DeviceHealth::Healthy);
    assert_eq!(nodes[1].numa_node, Some(1), "that of its GPU");
}

#[test]
fn a_gpu_with_mig_on_and_nothing_in_it_is_told_in_words() {
    let gpus = [
        gpu(0, Some(&[])),
        gpu(1, None),
        gpu(2, Some(&[])),
        gpu(3, Some(&[])),
    ];
    let offer = offer_of(&gpus, &flags("mixed"));
    assert_eq!(counts(&offer), BTreeMap::from([("gpu", 1)]));
    let remarks = remarks(&offer);
    assert!(
        remarks[0].contains("nothing is offered: GPUs 0, 2 and 3"),
        "{remarks:?}"
    );
}

#[test]
fn with_single_all_devices_of_one_profile_are_gpus() {
    let gpus = [gpu(0, Some(&SEVEN)), gpu(1, Some(&SEVEN[..2]))];
    let offer = offer_of(&gpus, &flags("single"));
    assert_eq!(counts(&offer), BTreeMap::from([("gpu", 9)]));
    assert!(offer.remarks.is_empty());
    let whole = offer_of(&[gpu(0, None), gpu(1, None)], &flags("single"));
    assert_eq!(counts(&whole), BTreeMap::from([("gpu", 2)]));
    assert!(whole.remarks.is_empty());
}

#[test]
fn with_single_it_is_said_which_gpu_differs_and_how() {
    for (odd, how) in [
        (gpu(2, None), "GPU 2 is whole"),
        (gpu(2, Some(&[])), "GPU 2 has MIG on and no MIG devices"),
        (gpu(2, Some(&["3g.40gb"])), "GPU 2 is cut into 3g.40gb"),
        (
            gpu(2, Some(&["1g.10gb", "3g.40gb"])),
            "GPU 2 is cut into 1g.10gb and 3g.40gb",
        ),
    ] {
        let gpus = [gpu(0, Some(&SEVEN)), gpu(1, Some(&SEVEN)), odd];
        let offer = offer_of(&gpus, &flags("single"));
        assert_eq!(counts(&offer), BTreeMap::from([("gpu", 14)]));
        let [remark] = &remarks(&offer)[..] else {
            panic!("{:?}", offer.remarks);
        };
        assert!(remark.starts_with(how), "{remark}");
        assert!(remark.contains("2 of 3 are cut into 1g.10gb"), "{remark}");
    }
    let tie = [gpu(0, Some(&SEVEN)), gpu(1, None)];
    let offer = offer_of(&tie, &flags("single"));
    assert_eq!(counts(&offer), BTreeMap::from([("gpu", 7)]));
    assert!(remarks(&offer)[0].contains("1 of 2 is cut into 1g.10gb"));

    let uneven = ["1g.10gb", "3g.40gb", "2g.20gb"];
    let offer = offer_of(&[gpu(0, Some(&uneven))], &flags("single"));
    assert!(remarks(&offer)[0].contains("1g.10gb, 2g.20gb and 3g.40gb"));
    assert_eq!(counts(&offer), BTreeMap::new());
    assert!(
        remarks(&offer)[0].contains("each GPU whole, or cut"),
        "{:?}",
        offer.remarks
    );
}

#[test]
fn names_can_be_given_by_profile() {
    let gpus = [gpu(0, Some(&["1g.10gb", "3g.40gb", "1g.10gb+me"]))];
    let names = "resources: {mig: [{pattern: 1g.10gb.me, name: tiny-media}, {pattern: '1g.*', name: tiny}]}";
    let offer = offer_of(&gpus, &format!("version: v1\n{}{names}", flags("mixed")));
    let expected = [("mig-3g.40gb", 1), ("tiny", 1), ("tiny-media", 1)];
    assert_eq!(counts(&offer), BTreeMap::from(expected));
}

#[test]
fn mig_devices_are_shared_by_resource_index_and_uuid() {
    let gpus = [gpu(0, Some(&SEVEN[..3])), gpu(1, None)];
    let sharing = |entries: &str| {
        let rest = format!("sharing: {{timeSlicing: {{resources: [{entries}]}}}}");
        offer_of(&gpus, &format!("version: v1\n{}{rest}", flags("mixed")))
    };
    let all = sharing("{name: nvidia.com/mig-1g.10gb, replicas: 4}");
    assert_eq!(
        counts(&all),
        BTreeMap::from([("gpu", 1), ("mig-1g.10gb", 12)])
    );
    let first = &ids(pool(&all, "mig-1g.10gb"))[..2];
    assert_eq!(
        first,
        [format!("{}::0", mig(0, 0)), format!("{}::1", mig(0, 0))]
    );

    let some = sharing(&format!(
        "{{name: mig-1g.10gb, replicas: 2, rename: mig-1g.10gb.two, devices: ['0:1', {}]}}",
        mig(0, 2)
    ));
    let expected = [("gpu", 1), ("mig-1g.10gb", 1), ("mig-1g.10gb.two", 4)];
    assert_eq!(counts(&some), BTreeMap::from(expected));
    assert!(some.remarks.is_empty(), "{:?}", some.remarks);

    let wrong = sharing("{name: mig-1g.10gb, replicas: 2, devices: ['0', '1:0', '1', '0:9']}");
    let words = remarks(&wrong).join("\n");
    for expected in [
        "GPU 0 is not offered as such with migStrategy mixed",
        "this node has no device 1:0",
        "GPU 1 is offered as nvidia.com/gpu, not as nvidia.com/mig-1g.10gb",
        "this node has no device 0:9",
    ] {
        assert!(words.contains(expected), "{expected}: {words}");
    }
}

/// What a container gets with these devices.
fn allocate(pool: &DevicePool, ids: &[String]) -> mizzen_core::allocate::Allocation {
    let request = AllocationRequest::parse(ids.iter().map(String::as_str)).unwrap();
    let nodes = HostNodes::default();
    let allocation = pool.allocate(&request, &nodes, AnnotationId::from_random([0; 16]));
    allocation.unwrap()
}

#[test]
fn a_container_gets_the_nodes_of_its_gpu_and_instances() {
    let gpus = [gpu(0, Some(&SEVEN)), gpu(1, Some(&SEVEN))];
    let offer = offer_of(&gpus, &flags("mixed"));
    let pool = pool(&offer, "mig-1g.10gb");
    let given = allocate(pool, &[mig(1, 2), mig(0, 0), mig(1, 1)]);
    let paths: Vec<String> = given
        .device_nodes
        .iter()
        .map(|node| node.host_path.display().to_string())
        .collect();
    assert_eq!(
        paths,
        [
            "/dev/nvidia4",
            "/dev/nvidia-caps/nvidia-cap0",
            "/dev/nvidia-caps/nvidia-cap1",
            "/dev/nvidia5",
            "/dev/nvidia-caps/nvidia-cap110",
            "/dev/nvidia-caps/nvidia-cap111",
            "/dev/nvidia-caps/nvidia-cap120",
            "/dev/nvidia-caps/nvidia-cap121",
        ]
    );
    let visible = &given.env["NVIDIA_VISIBLE_DEVICES"];
    assert_eq!(*visible, [mig(0, 0), mig(1, 1), mig(1, 2)].join(","));
}

#[test]
fn by_index_a_mig_device_is_named_after_its_gpu_and_itself() {
    let gpus = [gpu(0, None), gpu(1, Some(&SEVEN))];
    let flags = "flags: {migStrategy: mixed, plugin: {deviceIDStrategy: index, deviceListStrategy: [envvar, cdi-cri]}}";
    let offer = offer_of(&gpus, flags);
    let given = allocate(pool(&offer, "mig-1g.10gb"), &[mig(1, 2)]);
    assert_eq!(given.env["NVIDIA_VISIBLE_DEVICES"], "1:2");
    assert_eq!(given.cdi_devices, ["k8s.device-plugin.nvidia.com/gpu=1:2"]);
}

#[test]
fn unknown_capabilities_are_told_where_nodes_are_passed() {
    let mut cut = gpu(0, Some(&SEVEN[..1]));
    cut.mig.as_mut().unwrap().devices[0].capabilities = Capabilities::default();
    let offer = offer_of(&[cut.clone()], &flags("mixed"));
    assert!(
        remarks(&offer)[0].contains("mig-minors"),
        "{:?}",
        offer.remarks
    );
    let given = allocate(pool(&offer, "mig-1g.10gb"), &[mig(0, 0)]);
    assert_eq!(given.device_nodes.len(), 1, "the GPU's own");
    let without = offer_of(&[cut], "flags: {migStrategy: mixed}");
    assert!(without.remarks.is_empty());
}

/// The devices that are preferred when those at `taken` are not free.
fn preferred(offer: &Offer, taken: &[(u32, u32)], size: usize) -> Vec<String> {
    let pool = pool(offer, "mig-1g.10gb");
    let is_taken = |id: &String| taken.iter().any(|(gpu, at)| *id == mig(*gpu, *at));
    let available: Vec<String> = ids(pool).into_iter().filter(|id| !is_taken(id)).collect();
    pool.prefer(&PreferRequest {
        available: &available,
        must_include: &[],
        size,
    })
}

#[test]
fn mig_devices_are_spread_over_gpus_or_packed_as_shared_devices_are() {
    let gpus = [0, 1, 2].map(|index| gpu(index, Some(&SEVEN[..3])));
    let taken = [(0, 0), (1, 0), (1, 1)];
    let with = |policy: &str| {
        let plugin = format!("plugin: {{sharedDevicesAllocationPolicy: {policy}}}");
        offer_of(&gpus, &format!("flags: {{migStrategy: mixed, {plugin}}}"))
    };
    let spread = offer_of(&gpus, "flags: {migStrategy: mixed}");
    assert_eq!(preferred(&spread, &taken, 1), [mig(2, 0)]);
    assert_eq!(preferred(&spread, &[], 2), [mig(0, 0), mig(1, 0)]);
    for policy in ["packed", "aligned"] {
        let packed = with(policy);
        assert_eq!(preferred(&packed, &taken, 1), [mig(1, 2)]);
        assert_eq!(preferred(&packed, &taken, 2), [mig(0, 1), mig(1, 2)]);
        assert_eq!(preferred(&packed, &[], 2), [mig(0, 0), mig(0, 1)]);
        assert_eq!(preferred(&packed, &taken, 99).len(), 6);
    }
    // GPUs 0 and 1 are on one NUMA node.
    let node = with("numa-packed");
    assert_eq!(preferred(&node, &[(2, 0), (0, 0)], 3).len(), 3);
    assert!(!preferred(&node, &[(2, 0), (0, 0)], 3).contains(&mig(2, 1)));
}
