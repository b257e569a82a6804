//! MIG devices before the kubelet's eyes: what is offered, and what happens when others partition
//! GPUs, or instances are sick.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::config::MigStrategy;
use mizzen_core::driver::{DriverEvent, DriverEventKind};
use mizzen_core::gpu::GpuUuid;
use mizzen_core::mig::{Capabilities, Engines, GpuMig, MigDevice, MigMode};
use mizzen_kubelet_sim::{Happening, Snapshot};
use mizzen_testkit::gpus;
use support::{GPU, Node, within};

const SMALL: &str = "nvidia.com/mig-1g.10gb";
const MEDIUM: &str = "nvidia.com/mig-3g.40gb";

/// A partition of these devices: GPU instance and profile.
fn cut(gpu: u32, devices: &[(u32, &str)]) -> GpuMig {
    let device = |(index, (instance, profile)): (u32, &(u32, &str))| MigDevice {
        index,
        uuid: mig(gpu, *instance).parse().unwrap(),
        gpu_instance: *instance,
        compute_instance: 0,
        profile: profile.parse().unwrap(),
        memory_mib: 9_984,
        multiprocessors: 16,
        engines: Engines::default(),
        placement: None,
        capabilities: Capabilities {
            gpu_instance: Some(100 * gpu + 10 * instance),
            compute_instance: Some(100 * gpu + 10 * instance + 1),
        },
    };
    GpuMig {
        mode: MigMode {
            current: true,
            pending: true,
        },
        devices: (0..).zip(devices).map(device).collect(),
    }
}

fn mig(gpu: u32, instance: u32) -> String {
    format!("MIG-4d697a7a-656e-4000-8000-{:012x}", 100 * gpu + instance)
}

fn uuid(gpu: u32) -> GpuUuid {
    gpus(gpu + 1).pop().unwrap().uuid
}

/// A node of two GPUs, the first one cut into a 3g.40gb and two 1g.10gb, with an agent that offers
/// them.
async fn mig_node() -> Node {
    let mut node = Node::new(2).await;
    node.config.mig_strategy = MigStrategy::Mixed;
    node.driver.partition(
        &uuid(0),
        Some(cut(0, &[(1, "3g.40gb"), (9, "1g.10gb"), (10, "1g.10gb")])),
    );
    node.start_agent();
    offered(&node, &[(GPU, 1), (MEDIUM, 1), (SMALL, 2)]).await;
    node
}

/// Waits until these resources, and no others, have so many healthy devices.
async fn offered(node: &Node, expected: &[(&str, i64)]) -> Arc<Snapshot> {
    let expected: BTreeMap<&str, i64> = expected.iter().copied().collect();
    let as_expected = |snapshot: &Snapshot| {
        let resources = snapshot.resources.iter();
        let healthy = resources.filter(|(_, view)| view.allocatable > 0);
        let seen = healthy.map(|(name, view)| (name.as_str(), view.allocatable));
        seen.collect::<BTreeMap<_, _>>() == expected
    };
    node.kubelet_sees(as_expected).await
}

#[tokio::test]
async fn a_partition_made_by_others_is_followed_and_other_resources_are_left_alone() {
    let node = mig_node().await;
    let mut happenings = node.kubelet.events();
    node.driver
        .partition(&uuid(0), Some(cut(0, &[(1, "3g.40gb"), (5, "2g.20gb")])));
    offered(
        &node,
        &[(GPU, 1), (MEDIUM, 1), ("nvidia.com/mig-2g.20gb", 1)],
    )
    .await;
    while let Ok(event) = happenings.try_recv() {
        if let Happening::PluginRegistered { resource, .. } = &event.what {
            assert_eq!(
                resource, "nvidia.com/mig-2g.20gb",
                "only what is new registers"
            );
        }
    }
    // The last instance goes: nothing of the GPU is offered any more, and then all of it again.
    node.driver.partition(&uuid(0), Some(cut(0, &[])));
    offered(&node, &[(GPU, 1)]).await;
    node.driver.partition(&uuid(0), Some(GpuMig::default()));
    offered(&node, &[(GPU, 2)]).await;
}

#[tokio::test]
async fn a_change_that_the_driver_reports_is_seen_at_once() {
    let mut node = Node::new(1).await;
    // With this strategy nobody looks unasked.
    node.config.mig_strategy = MigStrategy::None;
    node.driver.partition(&uuid(0), Some(GpuMig::default()));
    node.start_agent();
    node.allocatable(1).await;
    node.driver
        .partition(&uuid(0), Some(cut(0, &[(1, "3g.40gb")])));
    node.driver
        .event(Some(&uuid(0)), DriverEventKind::MigConfigChange);
    // What is known of GPUs is written down.
    let record = node.config.state_dir.join("health.json");
    let written = || std::fs::read_to_string(&record).is_ok_and(|text| text.contains("3g.40gb"));
    within(async {
        while !written() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_is_sick_is_marked_alone_and_a_sick_gpu_marks_all() {
    let node = mig_node().await;
    node.driver.event_of(DriverEvent {
        gpu: Some(uuid(0)),
        kind: DriverEventKind::Xid(94),
        gpu_instance: Some(9),
        compute_instance: Some(0),
    });
    let snapshot = offered(&node, &[(GPU, 1), (MEDIUM, 1), (SMALL, 1)]).await;
    assert!(!snapshot.resources[SMALL].devices[&mig(0, 9)].healthy);
    offered(&node, &[(GPU, 1), (MEDIUM, 1), (SMALL, 2)]).await;

    node.driver.xid(Some(&uuid(0)), 79);
    offered(&node, &[(GPU, 1)]).await;
    offered(&node, &[(GPU, 1), (MEDIUM, 1), (SMALL, 2)]).await;
}

#[tokio::test]
async fn a_container_gets_the_nodes_of_its_instance() {
    let mut node = Node::new(2).await;
    node.config.mig_strategy = MigStrategy::Mixed;
    node.config.pass_device_specs = true;
    node.driver
        .partition(&uuid(1), Some(cut(1, &[(9, "1g.10gb")])));
    node.start_agent();
    offered(&node, &[(GPU, 1), (SMALL, 1)]).await;
    let mut plugin = node.plugin_at("nvidia-mig-1g.10gb.sock").await;
    let answer = plugin.allocate(&[&mig(1, 9)]).await.unwrap();
    let paths: Vec<&str> = answer
        .devices
        .iter()
        .map(|device| device.host_path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "/dev/nvidiactl",
            "/dev/nvidia1",
            "/dev/nvidia-caps/nvidia-cap190",
            "/dev/nvidia-caps/nvidia-cap191",
        ]
    );
    assert_eq!(answer.envs["NVIDIA_VISIBLE_DEVICES"], mig(1, 9));
}
