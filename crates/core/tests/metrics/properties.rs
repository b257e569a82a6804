//! What holds of every page, whatever the node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mizzen_core::driver::DriverError;
use mizzen_core::metrics::{Container, Counters, Field, HostnameLabel, Source};
use mizzen_core::sample::ProcessSample;
use proptest::prelude::*;

use crate::format::{self, Family, Series};
use crate::nodes::{Node, START, at, cut, gpu, mig_sample, mig_uuid, sample, uuid};

/// Counters of every kind.
const COUNTERS: &str = "\
DCGM_FI_DEV_GPU_UTIL, gauge, \"with \\ and \"\"quotes\"\"\"
DCGM_FI_DEV_FB_USED, gauge, Framebuffer
DCGM_FI_PROF_DRAM_ACTIVE, summary, odd
DCGM_FI_DEV_XID_ERRORS, gauge, Xid
DCGM_FI_DEV_NOT_HEARD_OF, gauge, unknown
DCGM_EXP_CLOCK_EVENTS_COUNT, counter, events
DCGM_EXP_XID_ERRORS_COUNT, counter, Xids
DCGM_EXP_GPU_HEALTH_STATUS, gauge, health
DCGM_EXP_P2P_STATUS, gauge, links
DCGM_FI_DEV_PSTATE, label, state
DCGM_FI_DEV_SERIAL, label, serial
";

/// How a GPU is cut, by GPU instance and compute instance.
fn cuts() -> impl Strategy<Value = Vec<(u32, u32, &'static str)>> {
    prop::sample::select(vec![
        vec![],
        vec![(1, 0, "3g.40gb"), (2, 0, "3g.40gb")],
        vec![
            (1, 0, "1c.3g.40gb"),
            (1, 1, "2c.3g.40gb"),
            (7, 0, "1g.10gb"),
        ],
    ])
}

/// What came of sampling it.
#[derive(Debug, Clone, Copy)]
enum Luck {
    Never,
    Good { gpm: bool },
    Old,
    Lost,
    LostLater,
}

fn lucks() -> impl Strategy<Value = Luck> {
    prop_oneof![
        Just(Luck::Never),
        any::<bool>().prop_map(|gpm| Luck::Good { gpm }),
        Just(Luck::Old),
        Just(Luck::Lost),
        Just(Luck::LostLater),
    ]
}

type Cut = Vec<(u32, u32, &'static str)>;

/// Id, GPU, which of its instances, MiB, pod.
type Process = (u32, usize, usize, Option<u64>, Option<String>);

#[derive(Debug, Clone)]
struct Scene {
    gpus: Vec<(Cut, Luck, String)>,
    /// Pod, GPU, which of its devices, replica.
    holdings: Vec<(String, usize, usize, Option<u32>)>,
    processes: Vec<Process>,
    xids: Vec<(usize, u64)>,
    options: (bool, bool, bool, bool),
    own_counters: bool,
}

fn scenes() -> impl Strategy<Value = Scene> {
    let name = "[a-z\"\\\\\n ü{}=,]{0,8}";
    let gpus = prop::collection::vec((cuts(), lucks(), name), 0..4);
    let pod = "[ab\"\\\\\n]{1,2}";
    let replica = prop::option::of(0_u32..3);
    let holdings = prop::collection::vec((pod, 0_usize..4, 0_usize..4, replica), 0..6);
    let memory = prop::option::of(0_u64..30_000);
    let owner = prop::option::of(pod);
    let process = (1_u32..9, 0_usize..4, 0_usize..4, memory, owner);
    let processes = prop::collection::vec(process, 0..8);
    let xids = prop::collection::vec((0_usize..4, 0_u64..200), 0..6);
    let parts = (
        gpus,
        holdings,
        processes,
        xids,
        any::<(bool, bool, bool, bool)>(),
    );
    (parts, any::<bool>()).prop_map(|(parts, own_counters)| {
        let (gpus, holdings, processes, xids, options) = parts;
        Scene {
            gpus,
            holdings,
            processes,
            xids,
            options,
            own_counters,
        }
    })
}

fn node(scene: &Scene) -> Node {
    let gpus = scene
        .gpus
        .iter()
        .enumerate()
        .map(|(at, (devices, _, name))| {
            let gpu = gpu(u32::try_from(at).unwrap(), name);
            if devices.is_empty() {
                gpu
            } else {
                cut(gpu, devices)
            }
        });
    let mut node = Node::new("flags: {migStrategy: mixed}", gpus.collect());
    let (old, uid, blanks, lower) = scene.options;
    node.options.old_namespace = old;
    node.options.pod_uid = uid;
    node.options.model_name_without_blanks = blanks;
    if lower {
        node.options.hostname_label = HostnameLabel::Lower;
    }
    if scene.own_counters {
        node.options.counters = Counters::parse(COUNTERS).unwrap();
    }
    hold(&mut node, scene);
    for (at, (devices, luck, _)) in scene.gpus.iter().enumerate() {
        sampled(&mut node, scene, at, devices, *luck);
    }
    for (second, (gpu, number)) in scene.xids.iter().enumerate() {
        node.xid(u32::try_from(*gpu).unwrap(), *number, 50 + second as u64);
    }
    node
}

fn container(pod: &str) -> Container {
    Container {
        namespace: "name\"space".to_owned(),
        pod: pod.to_owned(),
        pod_uid: None,
        container: "main".to_owned(),
    }
}

fn hold(node: &mut Node, scene: &Scene) {
    for (pod, gpu, device, replica) in &scene.holdings {
        let Some((devices, ..)) = scene.gpus.get(*gpu) else {
            continue;
        };
        let index = u32::try_from(*gpu).unwrap();
        let id = match devices.get(*device) {
            Some((instance, compute, _)) => mig_uuid(index, *instance, *compute),
            None => uuid(index).to_string(),
        };
        let id = match replica {
            Some(number) => format!("{id}::{number}"),
            None => id,
        };
        let key = node.holders.container(container(pod));
        let since = replica.is_none().then_some(START + 3);
        node.holders.hold(key, &id, since);
    }
    for (pid, .., owner) in &scene.processes {
        if let Some(pod) = owner {
            let key = node.holders.container(container(pod));
            node.holders.process(*pid, key);
        }
    }
}

fn sampled(node: &mut Node, scene: &Scene, place: usize, devices: &Cut, luck: Luck) {
    let gpm = matches!(luck, Luck::Good { gpm: true });
    let instances: Vec<(u32, u32)> = devices.iter().map(|(gi, ci, _)| (*gi, *ci)).collect();
    let mut taken = if devices.is_empty() {
        sample(3, gpm)
    } else {
        mig_sample(3, &instances)
    };
    let own = scene.processes.iter().filter(|(_, gpu, ..)| *gpu == place);
    taken.processes = own
        .map(|(pid, _, instance, memory, _)| ProcessSample {
            pid: *pid,
            instance: instances.get(*instance % instances.len().max(1)).copied(),
            memory: memory.map(|mib| mib * 1024 * 1024),
            sm_util: instances.is_empty().then_some(7),
            mem_util: None,
        })
        .collect();
    let index = u32::try_from(place).unwrap();
    match luck {
        Luck::Never => {}
        Luck::Good { .. } => node.sampled(index, taken, 95),
        Luck::Old => node.sampled(index, taken, 20),
        Luck::Lost => node.failed(index, DriverError::GpuLost, 95),
        Luck::LostLater => {
            node.sampled(index, taken, 94);
            let after = Duration::from_secs(1);
            node.failed(index, DriverError::Hung { after }, 95);
        }
    }
}

fn find<'a>(families: &'a [Family], name: &str) -> &'a [Series] {
    let family = families.iter().find(|family| family.name == name);
    family.map_or(&[], |family| &family.series)
}

/// Where a series is of.
fn unit(series: &Series) -> (String, Option<String>) {
    let gpu = series.label("gpu").unwrap_or_default().to_owned();
    (gpu, series.label("GPU_I_ID").map(str::to_owned))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The page keeps to the format, whatever the names in it.
    #[test]
    fn a_page_can_be_read(scene in scenes()) {
        let page = node(&scene).page();
        prop_assert!(format::read(&page).is_ok(), "{:?}\n{page}", format::read(&page));
    }

    /// Each counter of each GPU is told, or it is told that it is not; never both, never neither.
    #[test]
    fn nothing_is_missing_in_silence(scene in scenes()) {
        let node = node(&scene);
        let families = format::read(&node.page()).unwrap();
        let missing = find(&families, "mizzen_metric_supported");
        for counter in node.options.counters.counters() {
            for index in 0..scene.gpus.len() {
                let gpu = index.to_string();
                let is_of = |series: &&Series| series.label("gpu") == Some(&gpu);
                let told = find(&families, &counter.name).iter().any(|it| is_of(&it));
                let named = missing
                    .iter()
                    .filter(is_of)
                    .any(|it| it.label("field") == Some(&counter.name));
                // One GPU alone has no peer to tell of.
                let is_alone = counter.name == "DCGM_EXP_P2P_STATUS" && scene.gpus.len() == 1;
                prop_assert!(told != named || is_alone, "{} of GPU {gpu}", counter.name);
            }
        }
    }

    /// A number of the driver has one series for each GPU or GPU instance, and none of a GPU
    /// beside those of its instances.
    #[test]
    fn device_series_are_there_once(scene in scenes()) {
        let node = node(&scene);
        let families = format::read(&node.page()).unwrap();
        for counter in node.options.counters.counters() {
            if !matches!(counter.source, Source::Field(_)) {
                continue;
            }
            let units: Vec<_> = find(&families, &counter.name).iter().map(unit).collect();
            let distinct: BTreeSet<_> = units.iter().collect();
            prop_assert_eq!(distinct.len(), units.len());
            for (gpu, _) in units.iter().filter(|(_, instance)| instance.is_none()) {
                prop_assert_eq!(units.iter().filter(|(other, _)| other == gpu).count(), 1);
            }
        }
    }

    /// The memory of all pods and of nobody together is the device's.
    #[test]
    fn the_memory_of_pods_adds_up_to_the_devices(scene in scenes()) {
        let node = node(&scene);
        let families = format::read(&node.page()).unwrap();
        let mut pods: BTreeMap<_, (f64, f64)> = BTreeMap::new();
        for series in find(&families, "mizzen_pod_gpu_memory_used_bytes") {
            let (known, nobody) = pods.entry(unit(series)).or_default();
            let part = if series.label("pod").is_some() { known } else { nobody };
            *part += series.value;
        }
        for series in find(&families, Field::FbUsed.name()) {
            let used = series.value * 1024.0 * 1024.0;
            let (known, nobody) = pods[&unit(series)];
            let expected = used.max(known);
            prop_assert!((known + nobody - expected).abs() < 1.0, "{used} {known} {nobody}");
        }
    }

    /// A series names a pod only if one container alone holds what it is of, and no replica.
    #[test]
    fn device_series_name_the_only_holder(scene in scenes()) {
        let mut scene = scene;
        scene.options.0 = false;
        let node = node(&scene);
        let families = format::read(&node.page()).unwrap();
        let mut holders: BTreeMap<String, BTreeSet<(String, bool)>> = BTreeMap::new();
        for (pod, gpu, device, replica) in &scene.holdings {
            let Some((devices, ..)) = scene.gpus.get(*gpu) else { continue };
            if devices.get(*device).is_none() {
                let all = holders.entry(gpu.to_string()).or_default();
                all.insert((pod.clone(), replica.is_some()));
            }
        }
        for series in find(&families, "DCGM_FI_DEV_XID_ERRORS") {
            let of = holders.get(series.label("gpu").unwrap()).cloned().unwrap_or_default();
            let pods: BTreeSet<_> = of.iter().map(|(pod, _)| pod.as_str()).collect();
            let is_shared = pods.len() > 1 || of.iter().any(|(_, is_replica)| *is_replica);
            let expected = pods.first().copied().filter(|_| !is_shared);
            prop_assert_eq!(series.label("pod"), expected);
        }
    }

    /// Numbers that only go up do, whatever is sampled in between.
    #[test]
    fn counted_xids_only_grow(numbers in prop::collection::vec(0_u64..300, 1..300)) {
        let mut node = Node::new("{}", vec![gpu(0, "GPU")]);
        let mut before = 0;
        for (second, number) in numbers.iter().enumerate() {
            node.xid(0, *number, second as u64);
            if second % 50 == 0 || second + 1 == numbers.len() {
                node.now = at(second as u64);
                let families = format::read(&node.page()).unwrap();
                let xids = find(&families, "mizzen_gpu_xid_errors_total");
                let total: usize = xids.iter().map(|it| it.text.parse::<usize>().unwrap()).sum();
                prop_assert!(total >= before);
                prop_assert_eq!(total, second + 1);
                before = total;
            }
        }
        let last = numbers.last().copied();
        let families = format::read(&node.page()).unwrap();
        let told = find(&families, "DCGM_FI_DEV_XID_ERRORS")[0].text.parse().ok();
        prop_assert_eq!(told, last);
    }
}
