//! A picture for tests: three GPUs, one of them sick; a pod that runs, one that waits.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    Agent, Container, Devices, FORM, Gpu, Health, Mig, MigDevice, Node, Phase, Picture, Pod,
    ResourceCount,
};
use crate::simulate::agent_process::Figures;
use crate::simulate::timeline::{Entry, Source, Tone};

fn uuid(index: u32) -> String {
    format!("GPU-{index:08x}-1111-2222-3333-444444444444")
}

fn gpu(index: u32, health: Health, held_by: &[&str]) -> Gpu {
    Gpu {
        index,
        uuid: uuid(index),
        name: "NVIDIA L4".into(),
        memory_mib: 23_034,
        pci_bus_id: format!("0000:{index:02x}:00.0"),
        numa_node: Some(0),
        health,
        faults: if health == Health::Unhealthy {
            vec!["Xid 79".into()]
        } else {
            vec![]
        },
        offered_as: BTreeMap::from([(
            "nvidia.com/gpu".into(),
            Devices {
                devices: 1,
                held_by: held_by.iter().map(|by| (by.to_string(), 1)).collect(),
            },
        )]),
        held_by: held_by.iter().map(ToString::to_string).collect(),
        was_held_by: Vec::new(),
        mig: None,
    }
}

/// Partitions a GPU: healthy devices of these profiles, each offered under the usual name.
pub(crate) fn cut(gpu: &mut Gpu, profiles: &[&str]) {
    let device = |(index, profile): (u32, &&str)| MigDevice {
        name: format!("{}:{index}", gpu.index),
        index,
        uuid: format!("MIG-{index:08x}-1111-2222-3333-{:012x}", gpu.index),
        profile: (*profile).to_owned(),
        memory_mib: 9_984,
        gpu_instance: index + 7,
        compute_instance: 0,
        gone: false,
        health: Health::Healthy,
        offered_as: BTreeMap::from([(
            format!("nvidia.com/mig-{}", profile.replace('+', ".")),
            Devices {
                devices: 1,
                held_by: BTreeMap::new(),
            },
        )]),
        held_by: Vec::new(),
        was_held_by: Vec::new(),
    };
    gpu.mig = Some(Mig {
        enabled: true,
        pending: true,
        devices: (0..).zip(profiles).map(device).collect(),
    });
}

fn pod(name: &str, phase: Phase, gpus: &[u32]) -> Pod {
    let ids: Vec<_> = gpus.iter().map(|index| uuid(*index)).collect();
    Pod {
        namespace: "default".into(),
        name: name.into(),
        file: format!("{name}.yaml"),
        phase,
        reason: String::new(),
        message: String::new(),
        fits_node: true,
        long_running: false,
        containers: vec![Container {
            name: "main".into(),
            env: BTreeMap::from([("NVIDIA_VISIBLE_DEVICES".into(), ids.join(","))]),
            devices: BTreeMap::from([("nvidia.com/gpu".into(), ids)]),
            ..Container::default()
        }],
    }
}

pub(crate) fn sample() -> Picture {
    let mut waiting = pod("too-many", Phase::Pending, &[]);
    waiting.message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.".into();
    waiting.containers.clear();
    Picture {
        version: FORM,
        elapsed: Duration::from_millis(3204),
        outcome: None,
        node: Node {
            name: "simulated".into(),
            driver_version: "580.82.07".into(),
            cuda_version: "13.0".into(),
            resources: BTreeMap::from([(
                "nvidia.com/gpu".into(),
                ResourceCount {
                    capacity: 3,
                    allocatable: 2,
                },
            )]),
        },
        gpus: vec![
            gpu(0, Health::Healthy, &["training/main"]),
            gpu(1, Health::Healthy, &["training/main"]),
            gpu(2, Health::Unhealthy, &[]),
        ],
        pods: vec![pod("training", Phase::Running, &[1, 0]), waiting],
        timeline: (0..30)
            .map(|step| Entry {
                at: Duration::from_millis(step * 100),
                source: Source::Kubelet,
                tone: Tone::Neutral,
                message: format!("step {step}"),
            })
            .collect(),
        agent: Agent {
            pid: 7,
            ready: Some(Duration::from_micros(3870)),
            figures: Figures {
                resident_kib: 4710,
                anonymous_kib: 922,
                cpu: Duration::from_micros(2100),
                threads: 3,
            },
        },
    }
}
