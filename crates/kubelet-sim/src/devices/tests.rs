//! What holds for the device manager whatever is asked of it.

use std::collections::{BTreeMap, BTreeSet};

use mizzen_kubelet_api::deviceplugin::{
    ContainerAllocateResponse, Device, HEALTHY, NumaNode, TopologyInfo, UNHEALTHY,
};
use proptest::prelude::*;
use tokio::time::Instant;

use super::{Begun, Demand, DeviceManager, Endpoint, Ids};
use crate::arbitrary::Arbitrary;
use crate::topology::TopologyPolicy;

const GPU: &str = "nvidia.com/gpu";
const DEVICES: usize = 8;

/// Something that happens to a node.
#[derive(Debug, Clone)]
enum Op {
    /// A pod asks for devices, and the plugin prefers these.
    Ask { count: usize, prefers: Vec<usize> },
    /// The oldest pod but this many ends.
    End { which: usize },
    /// A device becomes sick or well.
    Health { device: usize, healthy: bool },
    /// The plugin goes and comes back.
    Blink,
    /// The kubelet restarts from its checkpoint, and the plugin registers again.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let device = 0..DEVICES;
    prop_oneof![
        4 => (1..=4_usize, prop::collection::vec(device.clone(), 0..5))
            .prop_map(|(count, prefers)| Op::Ask { count, prefers }),
        2 => (0..4_usize).prop_map(|which| Op::End { which }),
        2 => (device, any::<bool>()).prop_map(|(device, healthy)| Op::Health { device, healthy }),
        1 => Just(Op::Blink),
        1 => Just(Op::Restart),
    ]
}

fn id(device: usize) -> String {
    format!("gpu-{device}")
}

fn list(health: &[bool]) -> Vec<Device> {
    let device = |(index, healthy): (usize, &bool)| Device {
        id: id(index),
        health: if *healthy { HEALTHY } else { UNHEALTHY }.to_owned(),
        topology: Some(TopologyInfo {
            nodes: vec![NumaNode {
                id: i64::from(index >= 4),
            }],
        }),
    };
    health.iter().enumerate().map(device).collect()
}

/// A node and what is expected of it.
struct World {
    manager: DeviceManager,
    arbitrary: Arbitrary,
    health: [bool; DEVICES],
    /// Devices of each running pod.
    pods: BTreeMap<String, Ids>,
    created: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            manager: DeviceManager::default(),
            arbitrary: Arbitrary::new(seed),
            health: [true; DEVICES],
            pods: BTreeMap::new(),
            created: 0,
        };
        world.register();
        world
    }

    fn register(&mut self) {
        self.manager.connected(GPU, Endpoint::default());
        self.manager.reported(GPU, &list(&self.health));
    }

    fn free(&self) -> Ids {
        let held: BTreeSet<&String> = self.pods.values().flatten().collect();
        (0..DEVICES)
            .filter(|n| self.health[*n])
            .map(id)
            .filter(|id| !held.contains(id))
            .collect()
    }

    fn apply(&mut self, op: Op, policy: TopologyPolicy) {
        match op {
            Op::Ask { count, prefers } => self.ask(count, &prefers, policy),
            Op::End { which } => {
                let uid = self.pods.keys().nth(which).cloned();
                uid.map(|uid| self.pods.remove(&uid));
                let active = self.pods.keys().map(String::as_str).collect();
                self.manager.release_inactive(&active);
            }
            Op::Health { device, healthy } => {
                self.health[device] = healthy;
                self.manager.reported(GPU, &list(&self.health));
            }
            Op::Blink => {
                self.manager.disconnected(GPU, Instant::now());
                assert_eq!(self.manager.capacity(Instant::now()).allocatable[GPU], 0);
                self.register();
            }
            Op::Restart => {
                let checkpoint = self.manager.checkpoint();
                self.manager = DeviceManager::restored(checkpoint, Instant::now());
                self.register();
            }
        }
    }

    fn ask(&mut self, count: usize, prefers: &[usize], policy: TopologyPolicy) {
        let uid = format!("pod-{:04}", self.created);
        self.created += 1;
        let free = self.free();
        let Ok(affinity) = policy.affinity(&self.manager, &[(GPU.to_owned(), count)]) else {
            return;
        };
        let demand = Demand {
            pod_uid: uid.clone(),
            container: "main".to_owned(),
            resource: GPU.to_owned(),
            count,
            affinity,
        };
        let begun = self
            .manager
            .begin_selection(&demand, &Ids::new(), &mut self.arbitrary);
        let chosen = match begun {
            Err(_) => {
                assert!(free.len() < count, "refused {count} of {free:?}");
                return;
            }
            Ok(Begun::Settled(chosen)) => chosen,
            Ok(Begun::Open(selection)) => {
                let question = selection.question.clone();
                assert!(question.must_include.is_subset(&question.available));
                assert!(question.available.is_subset(&free));
                assert!(question.size == count && question.available.len() >= count);
                let preferred: Ids = prefers.iter().map(|device| id(*device)).collect();
                let chosen = self
                    .manager
                    .finish_selection(&demand, selection, &preferred, &mut self.arbitrary)
                    .unwrap();
                let good = preferred.intersection(&question.available).count();
                let followed = chosen.intersection(&preferred).count();
                let must = question.must_include.difference(&preferred).count();
                assert!(
                    followed >= good.min(count - must),
                    "{chosen:?} of {preferred:?}"
                );
                assert!(question.must_include.is_subset(&chosen));
                chosen
            }
        };
        assert_eq!(chosen.len(), count);
        assert!(
            chosen.is_subset(&free),
            "{chosen:?} are not all of {free:?}"
        );
        self.manager
            .hold(&demand, &chosen, ContainerAllocateResponse::default());
        self.pods.insert(uid, chosen);
    }

    fn check(&mut self) {
        for (uid, ids) in &self.pods {
            assert_eq!(
                self.manager.holders().ids(uid, "main", GPU).as_ref(),
                Some(ids)
            );
        }
        assert_eq!(self.manager.free(GPU), self.free());
        let offer = self.manager.capacity(Instant::now());
        let healthy = self.health.iter().filter(|healthy| **healthy).count();
        assert_eq!(offer.capacity[GPU], i64::try_from(DEVICES).unwrap());
        assert_eq!(offer.allocatable[GPU], i64::try_from(healthy).unwrap());
    }
}

proptest! {
    #[test]
    fn no_device_is_held_twice_or_lost_whatever_happens(
        ops in prop::collection::vec(op(), 1..40),
        seed in any::<u64>(),
        policy in prop_oneof![
            Just(TopologyPolicy::None),
            Just(TopologyPolicy::BestEffort),
            Just(TopologyPolicy::Restricted),
            Just(TopologyPolicy::SingleNumaNode),
        ],
    ) {
        let mut world = World::new(seed);
        for op in ops {
            world.apply(op, policy);
            world.check();
        }
    }

    #[test]
    fn a_single_numa_node_policy_never_mixes_nodes(
        asks in prop::collection::vec(1..=4_usize, 1..6),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(seed);
        for count in asks {
            world.apply(Op::Ask { count, prefers: Vec::new() }, TopologyPolicy::SingleNumaNode);
        }
        for ids in world.pods.values() {
            let nodes: BTreeSet<bool> = ids.iter().map(|id| id.as_str() >= "gpu-4").collect();
            prop_assert_eq!(nodes.len(), 1);
        }
    }
}

#[test]
fn a_restricted_policy_refuses_what_an_empty_machine_could_do_on_fewer_nodes() {
    let mut world = World::new(0);
    for _ in 0..2 {
        world.apply(
            Op::Ask {
                count: 3,
                prefers: Vec::new(),
            },
            TopologyPolicy::SingleNumaNode,
        );
    }
    let two = [(GPU.to_owned(), 2)];
    assert!(
        TopologyPolicy::BestEffort
            .affinity(&world.manager, &two)
            .unwrap()
            .is_some()
    );
    assert!(
        TopologyPolicy::Restricted
            .affinity(&world.manager, &two)
            .is_err()
    );
    let empty = World::new(0);
    let five = [(GPU.to_owned(), 5)];
    assert!(
        TopologyPolicy::Restricted
            .affinity(&empty.manager, &five)
            .is_ok()
    );
    assert!(
        TopologyPolicy::SingleNumaNode
            .affinity(&empty.manager, &five)
            .is_err()
    );
}
