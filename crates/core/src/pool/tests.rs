use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::config::file;
use crate::topology::{Link, PcieRelation};

fn uuid(index: usize) -> String {
    format!("GPU-{:08x}-0000-0000-0000-000000000000", 0xf - index)
}

fn replica(index: usize, number: u32) -> String {
    format!("{}::{number}", uuid(index))
}

/// GPUs of these models, four to a NUMA node.
fn gpus(models: &[&str]) -> Vec<Gpu> {
    let gpu = |(at, model): (usize, &&str)| Gpu {
        index: u32::try_from(at).unwrap(),
        minor: u32::try_from(at).unwrap(),
        uuid: uuid(at).parse().unwrap(),
        pci: format!("0000:{at:02x}:00.0").parse().unwrap(),
        name: (*model).to_owned(),
        memory_mib: 1024,
        compute_capability: (9, 0),
        numa_node: Some(u32::try_from(at / 4).unwrap()),
        device_id: 0,
        mig: None,
    };
    models.iter().enumerate().map(gpu).collect()
}

fn config(text: &str) -> Config {
    file::parse(text).validate().unwrap()
}

fn offer_of(models: &[&str], text: &str) -> Offer {
    // Neighbours are joined in pairs.
    let links = LinkMatrix::from_fn(models.len(), |a, b| Link {
        pcie: PcieRelation::SameCpu,
        nvlinks: if a / 2 == b / 2 { 4 } else { 0 },
    });
    offer(&gpus(models), &links, &config(text))
}

/// Each resource with the GPUs behind it and their replicas, 0 for whole ones.
fn summary(offer: &Offer) -> BTreeMap<&str, Vec<(usize, u32)>> {
    let shares = |pool: &DevicePool| {
        let each = pool.shares().iter();
        each.map(|share| (share.gpu, share.replicas.unwrap_or(0)))
            .collect()
    };
    let pools = offer.pools.iter();
    pools
        .map(|(name, pool)| (name.as_str(), shares(pool)))
        .collect()
}

fn remarks(offer: &Offer) -> Vec<String> {
    offer.remarks.iter().map(ToString::to_string).collect()
}

fn shared(entries: &str) -> String {
    format!("sharing: {{timeSlicing: {{resources: [{entries}]}}}}")
}

fn ids(pool: &DevicePool) -> Vec<String> {
    let listed = pool.list(|_| DeviceHealth::Healthy);
    listed.iter().flat_map(Listed::ids).collect()
}

const TWO: [&str; 2] = ["H100"; 2];
const FOUR: [&str; 4] = ["H100"; 4];
const EIGHT: [&str; 8] = ["H100"; 8];

#[test]
fn replicas_keep_the_name_of_their_resource_or_get_another() {
    let plain = offer_of(&TWO, &shared("{name: gpu, replicas: 3}"));
    assert_eq!(
        summary(&plain),
        [("nvidia.com/gpu", vec![(0, 3), (1, 3)])].into()
    );
    let pool = &plain.pools[&ResourceName::gpu()];
    assert_eq!(pool.device_count(), 6);
    assert_eq!(ids(pool)[..2], [replica(0, 0), replica(0, 1)]);

    let renamed = offer_of(
        &TWO,
        "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: gpu, replicas: 3}]}}",
    );
    assert_eq!(
        summary(&renamed),
        [("nvidia.com/gpu.shared", vec![(0, 3), (1, 3)])].into()
    );
    let other = offer_of(&TWO, &shared("{name: gpu, rename: slice, replicas: 1}"));
    assert_eq!(
        summary(&other),
        [("nvidia.com/slice", vec![(0, 1), (1, 1)])].into()
    );
    assert_eq!(
        ids(&other.pools[&"slice".parse().unwrap()]),
        [replica(0, 0), replica(1, 0)]
    );
}

#[test]
fn each_gpu_is_shared_as_the_first_entry_says_that_holds_it() {
    let uuid = uuid(2);
    let entries = format!(
        "{{name: gpu, replicas: 4, devices: [{uuid}, 0]}}, \
         {{name: gpu, replicas: 10, devices: 2, rename: tiny}}"
    );
    let offer = offer_of(&["H100"; 6], &shared(&entries));
    assert_eq!(
        summary(&offer),
        [
            ("nvidia.com/gpu", vec![(0, 4), (2, 4), (4, 0), (5, 0)]),
            ("nvidia.com/tiny", vec![(1, 10), (3, 10)]),
        ]
        .into()
    );
    let remarks = remarks(&offer);
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(remarks[0].contains("whole devices and shared ones"));
}

#[test]
fn models_have_names_of_their_own_which_sharing_goes_by() {
    let models = ["NVIDIA H100 NVL", "Tesla T4", "NVIDIA L4", "Tesla T4"];
    let text = format!(
        "resources: {{gpus: [{{pattern: '*H100*', name: h100}}, {{pattern: tesla-t4, name: t4}}]}}\n{}",
        shared("{name: nvidia.com/t4, replicas: 2, rename: t4.shared, devices: [3]}")
    );
    assert_eq!(
        summary(&offer_of(&models, &text)),
        [
            ("nvidia.com/gpu", vec![(2, 0)]),
            ("nvidia.com/h100", vec![(0, 0)]),
            ("nvidia.com/t4", vec![(1, 0)]),
            ("nvidia.com/t4.shared", vec![(3, 2)]),
        ]
        .into()
    );
}

#[test]
fn gpus_are_left_out_by_the_filter() {
    let offer = offer_of(
        &FOUR,
        "gpus: {include: ['0', '1', 0000:03:00.0], exclude: ['1']}",
    );
    assert_eq!(
        summary(&offer),
        [("nvidia.com/gpu", vec![(0, 0), (3, 0)])].into()
    );
    assert_eq!(offer.left_out, [1, 2]);

    let odd = offer_of(&FOUR, "gpus: {exclude: [99, 100]}");
    assert!(remarks(&odd)[0].contains("gpus.exclude: 99 is no GPU of this node"));
    let nearly = offer_of(
        &["NVIDIA H100 NVL"],
        "gpus: {include: ['*'], exclude: [h100]}",
    );
    assert!(remarks(&nearly)[0].contains("did you mean \"*h100*\""));

    let nothing = offer_of(&FOUR, "gpus: {exclude: ['*']}");
    assert!(nothing.pools.is_empty());
    assert!(remarks(&nothing)[0].contains("leave no GPU"));
}

#[test]
fn what_does_not_suit_the_node_is_remarked() {
    for (entries, words) in [
        (
            "{name: h200, replicas: 2}",
            "nothing on this node is offered as nvidia.com/h200",
        ),
        (
            "{name: gpu, replicas: 2, devices: 9}",
            "9 devices of nvidia.com/gpu are to be shared, and there are 4",
        ),
        ("{name: gpu, replicas: 2, devices: [7]}", "no device 7"),
        (
            "{name: gpu, replicas: 2, devices: ['0:1']}",
            "no device 0:1",
        ),
        (
            "{name: gpu, replicas: 2, devices: [1]}, {name: gpu, replicas: 3, devices: [1]}",
            "resources[1]: GPU 1 is shared by an entry before",
        ),
        (
            "{name: gpu, replicas: 2, devices: 1}, {name: gpu, replicas: 2, allocationPolicy: packed}",
            "on different terms",
        ),
    ] {
        let offer = offer_of(&FOUR, &shared(entries));
        let remarks = remarks(&offer);
        let found = remarks.iter().any(|remark| remark.contains(words));
        assert!(found, "{entries}: {remarks:?}");
    }
}

#[test]
fn gpus_that_mps_would_share_are_offered_whole_and_the_others_may_be_sliced() {
    for (devices, expected) in [("all", vec![(0, 0), (1, 0)]), ("[1]", vec![(0, 4), (1, 0)])] {
        let text = format!(
            "flags: {{mpsRoot: /mps}}
sharing:
  mps: {{resources: [{{name: gpu, replicas: 4, devices: {devices}}}]}}
  timeSlicing: {{resources: [{{name: gpu, replicas: 4}}]}}
"
        );
        assert_eq!(
            summary(&offer_of(&TWO, &text)),
            [("nvidia.com/gpu", expected)].into()
        );
    }
}

#[test]
fn no_list_is_longer_than_a_kubelet_takes() {
    let offer = offer_of(&["H100"; 16], &shared("{name: gpu, replicas: 10000}"));
    let pool = &offer.pools[&ResourceName::gpu()];
    let list = pool.list(|_| DeviceHealth::Unhealthy);
    // As protobuf: each text with its tag and length, the NUMA node, and the message around them.
    let bytes = |id: &String| id.len() + "Unhealthy".len() + 16;
    let size: usize = list.iter().flat_map(Listed::ids).map(|id| bytes(&id)).sum();
    assert!(size < 4 * 1024 * 1024, "{size}");
    assert!(pool.device_count() > 50_000, "{}", pool.device_count());
    assert!(remarks(&offer)[0].contains("no GPU of it has more than 3276 replicas"));
}

#[test]
fn a_thousand_replicas_on_each_of_sixteen_gpus_are_no_trouble() {
    let mut node = Node::new(&["H100"; 16], "{name: gpu, replicas: 1000}");
    assert_eq!(node.pool.device_count(), 16_000);
    let expected: Vec<usize> = (0..16).collect();
    for _ in 0..3 {
        assert_eq!(node.give(16), expected);
    }
}

#[test]
fn every_replica_of_a_sick_gpu_is_as_sick_as_it_is() {
    let offer = offer_of(&TWO, &shared("{name: gpu, replicas: 1000}"));
    let list = offer.pools[&ResourceName::gpu()].list(|share| match share.gpu {
        1 => DeviceHealth::Unhealthy,
        _ => DeviceHealth::Healthy,
    });
    let health: Vec<_> = list.iter().map(|listed| listed.health).collect();
    assert_eq!(health, [DeviceHealth::Healthy, DeviceHealth::Unhealthy]);
    assert_eq!(list[1].ids().count(), 1000);
}

fn allocate(pool: &DevicePool, ids: &[String]) -> Result<String, AllocationError> {
    let request = AllocationRequest::parse(ids.iter().map(String::as_str))?;
    let annotation = AnnotationId::from_random([0; 16]);
    let allocation = pool.allocate(&request, &HostNodes::default(), annotation)?;
    Ok(allocation.env["NVIDIA_VISIBLE_DEVICES"].clone())
}

fn only_pool(entries: &str, models: &[&str]) -> DevicePool {
    let pools = offer_of(models, &shared(entries)).pools;
    pools.into_values().next().unwrap()
}

#[test]
fn a_container_sees_each_gpu_once_however_many_of_its_replicas_it_has() {
    let pool = only_pool("{name: gpu, replicas: 3}", &TWO);
    let asked = [replica(1, 2), replica(0, 0), replica(1, 0)];
    assert_eq!(
        allocate(&pool, &asked).unwrap(),
        format!("{},{}", uuid(0), uuid(1))
    );
}

#[test]
fn a_device_that_the_pool_does_not_have_is_refused() {
    let pool = only_pool("{name: gpu, replicas: 3}", &TWO);
    for id in [replica(0, 3), uuid(0), replica(5, 0)] {
        let error = allocate(&pool, &[id]).unwrap_err();
        assert!(matches!(error, AllocationError::UnknownDevice { .. }));
    }
}

#[test]
fn more_than_one_replica_is_refused_where_the_config_says_so() {
    let pool = only_pool(
        "{name: gpu, replicas: 3, failRequestsGreaterThanOne: true}",
        &TWO,
    );
    let error = allocate(&pool, &[replica(0, 0), replica(1, 0)]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("maximum request size for shared resources is 1; found 2")
    );
    assert!(allocate(&pool, &[replica(0, 0)]).is_ok());
}

#[test]
fn replicas_that_do_not_lie_as_the_config_says_are_refused() {
    let distinct = only_pool(
        "{name: gpu, replicas: 3, replicaPlacement: distinct-gpus}",
        &TWO,
    );
    assert!(allocate(&distinct, &[replica(0, 0), replica(1, 0)]).is_ok());
    let error = allocate(&distinct, &[replica(0, 0), replica(0, 1)]).unwrap_err();
    assert!(error.to_string().contains("each on a GPU of its own"));

    let one = only_pool("{name: gpu, replicas: 3, replicaPlacement: one-gpu}", &TWO);
    assert!(allocate(&one, &[replica(0, 0), replica(0, 1)]).is_ok());
    let error = allocate(&one, &[replica(0, 0), replica(1, 1)]).unwrap_err();
    assert!(error.to_string().contains("all on one GPU"));
}

/// What a kubelet does: it asks for a preference among what is free and takes it.
struct Node {
    pool: DevicePool,
    free: Vec<String>,
}

impl Node {
    fn new(models: &[&str], entries: &str) -> Self {
        let pool = only_pool(entries, models);
        let free = ids(&pool);
        Self { pool, free }
    }

    /// Whole GPUs, chosen by a policy.
    fn whole(models: &[&str], policy: &str) -> Self {
        let text = format!("flags: {{plugin: {{gpuAllocationPolicy: {policy}}}}}");
        let pools = offer_of(models, &text).pools;
        let pool = pools.into_values().next().unwrap();
        let free = ids(&pool);
        Self { pool, free }
    }

    /// The GPUs that a container gets its devices from, in order.
    fn give(&mut self, size: usize) -> Vec<usize> {
        let chosen = self.pool.prefer(&PreferRequest {
            available: &self.free,
            must_include: &[],
            size,
        });
        self.free.retain(|id| !chosen.contains(id));
        chosen
            .iter()
            .map(|id| self.pool.gpu_of(id).unwrap())
            .collect()
    }
}

#[test]
fn distributed_spreads_containers_evenly() {
    let mut node = Node::new(&FOUR, "{name: gpu, replicas: 3}");
    let given: Vec<usize> = (0..8).flat_map(|_| node.give(1)).collect();
    assert_eq!(given, [0, 1, 2, 3, 0, 1, 2, 3]);
    assert_eq!(node.give(3), [0, 1, 2]);
}

#[test]
fn packed_fills_one_gpu_after_the_other() {
    let mut node = Node::new(&TWO, "{name: gpu, replicas: 3, allocationPolicy: packed}");
    let given: Vec<usize> = (0..5).flat_map(|_| node.give(1)).collect();
    assert_eq!(given, [0, 0, 0, 1, 1]);
}

#[test]
fn aligned_replicas_are_on_gpus_that_are_joined() {
    let mut node = Node::new(&FOUR, "{name: gpu, replicas: 2, allocationPolicy: aligned}");
    assert_eq!(node.give(1), [0]);
    assert_eq!(node.give(2), [0, 1]);
    assert_eq!(node.give(2), [2, 3]);
    assert_eq!(node.give(3), [1, 2, 3]);
}

#[test]
fn replicas_of_one_container_lie_as_its_placement_says() {
    let entries =
        "{name: gpu, replicas: 4, replicaPlacement: distinct-gpus, allocationPolicy: packed}";
    let mut distinct = Node::new(&FOUR, entries);
    assert_eq!(distinct.give(2), [0, 1]);
    assert_eq!(distinct.give(3), [0, 1, 2]);

    let mut one = Node::new(&FOUR, "{name: gpu, replicas: 4, replicaPlacement: one-gpu}");
    assert_eq!(one.give(3), [0, 0, 0]);
    assert_eq!(one.give(3), [1, 1, 1]);
    assert_eq!(one.give(4), [2, 2, 2, 2]);
    assert_eq!(one.give(1), [3]);
    assert_eq!(one.give(3), [3, 3, 3]);
}

#[test]
fn numa_policies_fill_nodes_or_spread_over_them() {
    let mut packed = Node::whole(&EIGHT, "numa-packed");
    assert_eq!(packed.give(1), [0]);
    assert_eq!(
        packed.give(2),
        [2, 3],
        "the fuller node, and there a joined pair"
    );
    assert_eq!(packed.give(2), [4, 5], "no split while a node has enough");
    assert_eq!(packed.give(1), [1]);

    let mut spread = Node::whole(&EIGHT, "numa-distributed");
    assert_eq!(spread.give(1), [0]);
    assert_eq!(spread.give(2), [1, 4]);
    assert_eq!(spread.give(3), [2, 6, 7]);
}

#[test]
fn one_node_goes_before_links_where_numa_counts_first() {
    // The pair 3-4 is joined across the sockets.
    let links = LinkMatrix::from_fn(8, |a, b| Link {
        pcie: PcieRelation::SameCpu,
        nvlinks: if (a, b) == (3, 4) { 4 } else { 0 },
    });
    for (policy, expected) in [("aligned", [3, 4]), ("numa", [0, 1])] {
        let text = format!("flags: {{plugin: {{gpuAllocationPolicy: {policy}}}}}");
        let pool = offer(&gpus(&EIGHT), &links, &config(&text)).pools;
        let pool = &pool[&ResourceName::gpu()];
        let chosen = pool.prefer(&PreferRequest {
            available: &ids(pool),
            must_include: &[],
            size: 2,
        });
        assert_eq!(chosen, expected.map(uuid), "{policy}");
    }
}

#[test]
fn what_the_container_holds_counts_and_comes_first() {
    let pool = only_pool("{name: gpu, replicas: 4, replicaPlacement: one-gpu}", &TWO);
    let stranger = "GPU-ffffffff-0000-0000-0000-000000000000".to_owned();
    let chosen = pool.prefer(&PreferRequest {
        available: &ids(&pool),
        must_include: &[replica(1, 2), stranger.clone()],
        size: 4,
    });
    assert_eq!(
        chosen,
        [stranger, replica(1, 2), replica(1, 0), replica(1, 1)]
    );
}

const POLICIES: [&str; 6] = [
    "distributed",
    "packed",
    "aligned",
    "numa",
    "numa-distributed",
    "numa-packed",
];

/// A node with up to eight GPUs, some of whose devices are free and some to be included.
fn questions() -> impl Strategy<Value = (DevicePool, Vec<String>, Vec<String>, usize)> {
    let placements = ["any", "distinct-gpus", "one-gpu"];
    (
        1_usize..=8,
        1_u32..=6,
        0..POLICIES.len(),
        0..placements.len(),
    )
        .prop_flat_map(move |(size, replicas, policy, placement)| {
            let entry = format!(
                "{{name: gpu, replicas: {replicas}, allocationPolicy: {}, replicaPlacement: {}}}",
                POLICIES[policy], placements[placement]
            );
            let pool = only_pool(&entry, &["H100"; 8][..size]);
            let all = ids(&pool);
            let states = prop::collection::vec(0_u8..6, all.len());
            let most = all.len() + 2;
            (Just(pool), Just(all), states, 0..=most)
        })
        .prop_map(|(pool, all, states, size)| {
            let with = |wanted: fn(u8) -> bool| {
                let both = all.iter().zip(&states);
                both.filter(|(_, state)| wanted(**state))
                    .map(|(id, _)| id.clone())
                    .collect::<Vec<_>>()
            };
            let held = with(|state| state == 5);
            (pool, with(|state| state > 1), held, size)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_preference_holds_what_must_be_and_is_as_large_as_can_be(
        (pool, available, held, size) in questions(),
        seed in any::<u64>(),
    ) {
        let request = PreferRequest { available: &available, must_include: &held, size };
        let chosen = pool.prefer(&request);
        let distinct: BTreeSet<&String> = chosen.iter().collect();
        prop_assert_eq!(distinct.len(), chosen.len());
        prop_assert!(held.iter().all(|id| chosen.contains(id)));
        prop_assert!(chosen.iter().all(|id| available.contains(id) || held.contains(id)));
        prop_assert_eq!(chosen.len(), size.clamp(held.len(), available.len().max(held.len())));

        let mut shuffled = available.clone();
        shuffled.sort_by_key(|id| {
            id.bytes().fold(seed | 1, |mixed, byte| mixed.wrapping_mul(31).wrapping_add(byte.into()))
        });
        let again = PreferRequest { available: &shuffled, ..request };
        prop_assert_eq!(pool.prefer(&again), chosen);
    }

    #[test]
    fn a_placement_that_can_be_had_is_had((pool, available, _, size) in questions()) {
        let request = PreferRequest { available: &available, must_include: &[], size };
        let counts = |ids: &[String]| {
            let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
            for id in ids {
                *counts.entry(pool.gpu_of(id).unwrap()).or_default() += 1;
            }
            counts
        };
        let (free, counts) = (counts(&available), counts(&pool.prefer(&request)));
        match pool.terms().placement {
            ReplicaPlacement::DistinctGpus if free.len() >= size => {
                prop_assert!(counts.values().all(|count| *count == 1));
            }
            ReplicaPlacement::OneGpu if free.values().any(|free| *free >= size) => {
                prop_assert!(counts.len() <= 1);
            }
            _ => {}
        }
    }

    /// Ever so many containers of any size: no GPU is more than one device ahead of another that
    /// still has one.
    #[test]
    fn distributed_stays_even(sizes in prop::collection::vec(1_usize..4, 1..12)) {
        let mut node = Node::new(&FOUR, "{name: gpu, replicas: 10}");
        let mut given = [0_usize; 4];
        for size in sizes {
            for gpu in node.give(size) {
                given[gpu] += 1;
            }
            let (least, most) = (given.iter().min().unwrap(), given.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{given:?}");
        }
    }

    /// However full the nodes are, `numa-packed` uses as few of them as can be.
    #[test]
    fn numa_packed_touches_the_fewest_nodes(
        free in prop::collection::vec(any::<bool>(), 12),
        size in 1_usize..=12,
    ) {
        let node = Node::whole(&["H100"; 12], "numa-packed");
        let all = node.free.iter().zip(&free);
        let available: Vec<String> =
            all.filter(|(_, free)| **free).map(|(id, _)| id.clone()).collect();
        prop_assume!(available.len() >= size);
        let chosen = node.pool.prefer(&PreferRequest {
            available: &available, must_include: &[], size,
        });
        let nodes_of = |ids: &[String]| -> BTreeMap<usize, usize> {
            let mut counts = BTreeMap::new();
            for id in ids {
                *counts.entry(node.pool.gpu_of(id).unwrap() / 4).or_default() += 1;
            }
            counts
        };
        let mut largest: Vec<usize> = nodes_of(&available).into_values().collect();
        largest.sort_unstable_by(|a, b| b.cmp(a));
        let mut left = size;
        let fewest = largest.iter().take_while(|free| {
            let needed = left > 0;
            left = left.saturating_sub(**free);
            needed
        }).count();
        prop_assert_eq!(nodes_of(&chosen).len(), fewest);
    }
}
