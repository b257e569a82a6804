//! What a session tells of a node's GPUs is what the scenario says of them.
#![allow(
    clippy::unwrap_used,
    reason = "tests fail by panicking, in their helpers too"
)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use mizzen_core::driver::{DriverError, GpuDriver};
use mizzen_core::gpu::PciBusId;
use mizzen_core::inventory::Inventory;
use mizzen_core::topology::PcieRelation;
use mizzen_nvml::{HostRoot, NvmlLoader};
use mizzen_nvml_sim::control::{Fault, GpuRef, Gpus};
use mizzen_nvml_sim::node::{Ancestor, LinkPeer, Node as Plan};
use mizzen_nvml_sim::scenario::GpuGroup;

use support::node::{Node, on_node};

const EIGHT_H100: &str = "gpus: [{model: h100-80gb, count: 8}]";

fn snapshot() -> Inventory {
    Node::loader()
        .build()
        .session()
        .unwrap()
        .snapshot()
        .unwrap()
}

/// Everything told of each GPU and each pair, held against the plan of the node.
fn agrees_with_the_plan(node: &Node) {
    let inventory = snapshot();
    let plan = node.simulator.node().unwrap();
    assert_eq!(inventory.broken, []);
    assert_eq!(inventory.driver.driver, plan.driver_version);
    let (cuda, _) = plan.cuda_version;
    let nvml = format!("{cuda}.{}", plan.driver_version);
    assert_eq!(inventory.driver.nvml, nvml);
    assert_eq!(inventory.driver.cuda, plan.cuda_version);
    assert_eq!(inventory.gpus.len(), plan.gpus.len());
    assert_eq!(inventory.links.size(), plan.gpus.len());
    for ((gpu, planned), index) in inventory.gpus.iter().zip(&plan.gpus).zip(0..) {
        assert_eq!(gpu.index, index);
        assert_eq!(gpu.minor, planned.minor);
        assert_eq!(gpu.uuid.to_string(), planned.uuid.to_string());
        let pci: PciBusId = planned.pci.to_string().parse().unwrap();
        assert_eq!(gpu.pci, pci);
        assert_eq!(gpu.name, planned.name);
        assert_eq!(gpu.memory_mib, planned.memory_mib);
        assert_eq!(gpu.compute_capability, planned.compute_capability);
    }
    links_agree(&inventory, &plan);
}

fn links_agree(inventory: &Inventory, plan: &Plan) {
    for a in 0..plan.gpus.len() {
        for b in 0..plan.gpus.len() {
            if a == b {
                continue;
            }
            let (one, other) = (&plan.gpus[a], &plan.gpus[b]);
            let pcie = match one.common_ancestor(other) {
                Ancestor::Switch => PcieRelation::SingleSwitch,
                Ancestor::Switches => PcieRelation::MultiSwitch,
                Ancestor::HostBridge => PcieRelation::HostBridge,
                Ancestor::NumaNode => PcieRelation::SameCpu,
                Ancestor::System => PcieRelation::CrossCpu,
            };
            let ends = |links: &[LinkPeer], end| links.iter().filter(|&&it| it == end).count();
            let switched =
                ends(&one.links, LinkPeer::Switch).min(ends(&other.links, LinkPeer::Switch));
            let direct = ends(&one.links, LinkPeer::Gpu(u8::try_from(b).unwrap()));
            let link = inventory.links.get(a, b);
            assert_eq!(link.pcie, pcie, "{a} and {b}");
            assert_eq!(usize::from(link.nvlinks), switched + direct, "{a} and {b}");
        }
    }
}

#[test]
fn eight_gpus_on_nvswitch_are_described_as_planned() {
    on_node(EIGHT_H100, |node| {
        agrees_with_the_plan(node);
        assert_eq!(snapshot().links.get(0, 7).nvlinks, 18);
    });
}

#[test]
fn gpus_with_direct_nvlinks_are_described_as_planned() {
    on_node("gpus: [{model: v100-sxm2, count: 8}]", |node| {
        agrees_with_the_plan(node);
        let links = snapshot().links;
        let counts: BTreeSet<u8> = (1..8).map(|b| links.get(0, b).nvlinks).collect();
        assert!(counts.len() > 1, "all pairs are alike: {counts:?}");
    });
}

#[test]
fn gpus_without_nvlinks_are_described_as_planned() {
    on_node("gpus: [{model: t4, count: 4}]", |node| {
        agrees_with_the_plan(node);
    });
}

#[test]
fn sixteen_gpus_of_several_models_are_described_as_planned() {
    let scenario =
        "gpus: [{model: a10, count: 6}, {model: a100-80gb, count: 8}, {model: l4, count: 2}]";
    on_node(scenario, |node| {
        agrees_with_the_plan(node);
    });
}

#[test]
fn every_built_in_model_is_described_as_planned() {
    let scenario = "gpus: [{model: t4}, {model: l4}, {model: a10}, {model: l40s}, \
        {model: v100-sxm2}, {model: a30}, {model: a100-40gb}, {model: a100-80gb}, \
        {model: h100-80gb}, {model: h100-nvl}, {model: h200-141gb}, {model: b200}, \
        {model: gb200}, {model: rtx-pro-6000}]";
    on_node(scenario, |node| {
        agrees_with_the_plan(node);
    });
}

#[test]
fn a_node_without_gpus_is_an_empty_inventory() {
    on_node("gpus: [{model: t4, count: 1}]", |node| {
        node.simulator.remove(&Gpus::All).unwrap();
        let inventory = snapshot();
        assert!(inventory.gpus.is_empty() && inventory.broken.is_empty());
        assert!(!inventory.driver.driver.is_empty());
    });
}

#[test]
fn the_numa_node_comes_from_the_hosts_files() {
    on_node("gpus: [{model: l4, count: 2}]", |node| {
        let root = node.directory().join("host");
        let write = |path: String, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let gpus = snapshot().gpus;
        write(
            format!("sys/bus/pci/devices/{}/numa_node", gpus[0].pci),
            "1\n",
        );
        write("sys/devices/system/node/node1/cpulist".to_owned(), "8-15\n");
        let loader = Node::loader().host_root(HostRoot::new(&root)).build();
        let gpus = loader.session().unwrap().snapshot().unwrap().gpus;
        assert_eq!(gpus[0].numa_node, Some(1));
        assert_eq!(gpus[1].numa_node, None);
    });
}

#[test]
fn gpus_that_come_and_go_are_seen_by_the_next_session_and_not_by_this_one() {
    on_node("gpus: [{model: l4, count: 3}]", |node| {
        let loader = Node::loader().build();
        let before = loader.session().unwrap();
        let known = before.snapshot().unwrap().gpus;
        node.simulator
            .remove(&Gpus::from(GpuRef::Index(0)))
            .unwrap();
        let more = GpuGroup::new("t4".parse().unwrap(), 2);
        node.simulator.add(&more).unwrap();

        let still = before.snapshot().unwrap();
        assert_eq!(still.gpus, known[1..]);
        assert_eq!(still.broken.len(), 1);
        assert_eq!(still.broken[0].uuid.as_ref(), Some(&known[0].uuid));
        assert_eq!(still.broken[0].error, DriverError::GpuLost);
        drop(before);

        let after = loader.session().unwrap().snapshot().unwrap();
        assert_eq!(after.broken, []);
        let names: Vec<&str> = after.gpus.iter().map(|gpu| gpu.name.as_str()).collect();
        assert_eq!(names.iter().filter(|name| name.contains("T4")).count(), 2);
        assert_eq!(names.len(), 4);
        assert!(after.gpus.iter().all(|gpu| gpu.uuid != known[0].uuid));
    });
}

#[test]
fn a_session_beside_one_that_waits_for_events_sees_what_was_added() {
    on_node("gpus: [{model: l4, count: 2}]", |node| {
        let loader = Node::loader().build();
        let former = loader.session().unwrap();
        let known = former.snapshot().unwrap().gpus;
        let uuids: Vec<_> = known.iter().map(|gpu| gpu.uuid.clone()).collect();
        assert_eq!(former.watch_events(&uuids), Ok(Vec::new()));
        std::thread::scope(|scope| {
            let long = Duration::from_secs(30);
            let waiting = scope.spawn(move || {
                let event = former.next_event(long);
                (event, former.snapshot().unwrap().gpus.len())
            });
            let more = GpuGroup::new("t4".parse().unwrap(), 1);
            node.simulator.add(&more).unwrap();
            for _ in 0..2 {
                let session = loader.session().unwrap();
                let gpus = session.snapshot().unwrap().gpus;
                assert_eq!(gpus.len(), 3);
                assert!(session.check(&gpus[2].uuid).is_ok());
                assert!(!waiting.is_finished(), "the other one goes on waiting");
            }
            let gpu = Gpus::from(GpuRef::Index(0));
            node.simulator.inject(&gpu, &Fault::xid(94), None).unwrap();
            let (event, gpus) = waiting.join().unwrap();
            assert_eq!(event.unwrap().unwrap().gpu, Some(uuids[0].clone()));
            assert_eq!(gpus, 2, "and sees what it always saw");
        });
        // With nobody else there, the library itself serves again.
        let after = loader.session().unwrap().snapshot().unwrap();
        assert_eq!(after.gpus.len(), 3);
    });
}

#[test]
fn where_no_second_library_can_be_had_a_session_waits_for_the_end_of_the_first() {
    on_node("gpus: [{model: l4, count: 2}]", |node| {
        let place = node.directory().join("libnvidia-ml.so.1");
        std::fs::copy(Node::library(), &place).unwrap();
        let loader = NvmlLoader::builder().library(&place).build();
        let former = loader.session().unwrap();
        let uuid = former.snapshot().unwrap().gpus[0].uuid.clone();
        former.watch_events(&[uuid]).unwrap();
        // The file is gone, as when a driver is being replaced.
        std::fs::remove_file(&place).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let time = Duration::from_millis(300);
                assert_eq!(former.next_event(time), Ok(None));
                std::fs::copy(Node::library(), &place).unwrap();
            });
            let session = loader.session().unwrap();
            assert_eq!(session.snapshot().unwrap().gpus.len(), 2);
        });
    });
}

#[test]
fn a_gpu_lost_before_the_session_is_broken_and_the_others_are_whole() {
    on_node(EIGHT_H100, |node| {
        let healthy = snapshot();
        node.inject(3, &Fault::Lost);
        let inventory = snapshot();
        assert_eq!(inventory.gpus.len(), 7);
        assert!(inventory.gpus.iter().all(|gpu| healthy.gpus.contains(gpu)));
        assert_eq!(inventory.broken.len(), 1);
        assert_eq!(inventory.broken[0].index, 3);
        assert_eq!(inventory.broken[0].error, DriverError::GpuLost);
        assert_eq!(inventory.links.size(), 7);
        assert_eq!(inventory.links.get(2, 3).nvlinks, 18);
    });
}

#[test]
fn a_gpu_lost_before_the_session_is_named_by_the_kernel_drivers_list() {
    on_node("gpus: [{model: l4, count: 3}]", |node| {
        let root = node.directory().join("host");
        let healthy = snapshot().gpus;
        for gpu in &healthy {
            let place = root.join(format!("proc/driver/nvidia/gpus/{}", gpu.pci));
            std::fs::create_dir_all(&place).unwrap();
            let text = format!(
                "GPU UUID: \t {}\nDevice Minor: \t {}\n",
                gpu.uuid, gpu.minor
            );
            std::fs::write(place.join("information"), text).unwrap();
        }
        node.inject(1, &Fault::Lost);
        let loader = Node::loader().host_root(HostRoot::new(&root)).build();
        let inventory = loader.session().unwrap().snapshot().unwrap();
        assert_eq!(inventory.broken.len(), 1);
        assert_eq!(inventory.broken[0].uuid.as_ref(), Some(&healthy[1].uuid));
        assert_eq!(inventory.broken[0].pci, Some(healthy[1].pci));
    });
}
