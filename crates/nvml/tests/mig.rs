//! Partitioned GPUs: what the session says of them, and how it changes them.
#![allow(
    clippy::unwrap_used,
    reason = "tests fail by panicking, in their helpers too"
)]

mod support;

use std::time::{Duration, Instant};

use mizzen_core::driver::{DriverError, DriverEvent, DriverEventKind, GpuDriver, Questions};
use mizzen_core::gpu::Gpu;
use mizzen_core::mig::{Capabilities, GpuMig, MigMode, MigStep, Placement};
use mizzen_nvml::{HostRoot, NvmlDriver};
use mizzen_nvml_sim::control::{Fault, GpuRef, Gpus};

use support::node::{Node, on_node};

/// A deadline that calls on a busy test machine do not pass by accident.
const DEADLINE: Duration = Duration::from_secs(2);

const ON: MigMode = MigMode {
    current: true,
    pending: true,
};
const OFF: MigMode = MigMode {
    current: false,
    pending: false,
};

fn session() -> NvmlDriver {
    let loader = Node::loader().deadline(DEADLINE).build();
    loader.session().unwrap()
}

fn gpus(driver: &NvmlDriver) -> Vec<Gpu> {
    driver.snapshot().unwrap().gpus
}

fn partition(driver: &NvmlDriver, gpu: &Gpu) -> GpuMig {
    let mut answers = driver.partitions(std::slice::from_ref(&gpu.uuid));
    answers.pop().unwrap().unwrap().unwrap()
}

/// The profiles of the MIG devices, by index.
fn profiles(mig: &GpuMig) -> Vec<String> {
    let devices = mig.devices.iter();
    devices.map(|device| device.profile.to_string()).collect()
}

/// Whether the tests run as somebody who may change GPUs; who may not is told so.
fn may_change(driver: &NvmlDriver, gpu: &Gpu) -> bool {
    let mode = gpu.mig.as_ref().unwrap().mode.pending;
    match driver.change_mig(&gpu.uuid, &MigStep::SetMode(mode)) {
        Ok(()) => true,
        refused => {
            assert_eq!(refused, Err(DriverError::NoPermission));
            false
        }
    }
}

fn gpu_instance(profile: &str, start: u32, size: u32, slices: &[u32]) -> MigStep {
    MigStep::CreateGpuInstance {
        profile: profile.parse().unwrap(),
        placement: Placement { start, size },
        slices: slices.to_vec(),
    }
}

/// Every MIG device as the simulator knows it: UUID, GPU instance, compute instance, name,
/// multiprocessors, memory.
fn agrees_with_the_simulator(node: &Node, gpus: &[Gpu]) {
    let status = node.simulator.status().unwrap();
    for (gpu, told) in status.gpus.iter().zip(gpus) {
        let expected = gpu.mig.iter().flat_map(|mig| &mig.gpu_instances);
        let mut expected: Vec<_> = expected
            .flat_map(|instance| instance.devices.iter().map(move |one| (instance, one)))
            .collect();
        expected.sort_by_key(|(_, device)| device.index);
        let devices = told.mig.iter().flat_map(|mig| &mig.devices);
        let devices: Vec<_> = devices.collect();
        assert_eq!(devices.len(), expected.len());
        for (device, (instance, one)) in devices.into_iter().zip(expected) {
            assert_eq!(device.index, one.index);
            assert_eq!(device.uuid.to_string(), one.uuid.to_string());
            assert_eq!(device.gpu_instance, instance.id);
            assert_eq!(device.compute_instance, one.compute_instance);
            assert_eq!(device.profile.to_string(), one.profile);
            assert_eq!(device.multiprocessors, one.multiprocessors);
            assert_eq!(device.memory_mib, instance.memory_mib);
            let placement = device.placement.unwrap().to_string();
            assert_eq!(placement, instance.placement.to_string());
        }
    }
}

#[test]
fn mig_devices_of_every_kind_are_described_as_they_are() {
    on_node(
        "gpus:
           - {model: a100-40gb, mig: {instances: [3g.20gb, 2g.10gb, 1g.5gb+me]}}
           - {model: h100-80gb, mig: {instances: [1g.10gb, 1g.10gb, 1g.10gb, 1g.10gb, 1g.10gb, 1g.10gb, 1g.10gb]}}
           - {model: h200-141gb, mig: {instances: [4g.71gb, 1g.35gb]}}
           - {model: b200, mig: {instances: [7g.180gb]}}
           - {model: a30, mig: {instances: [2g.12gb+me, 1g.6gb]}}
           - {model: rtx-pro-6000, mig: {instances: [1g.24gb+me.all, 1g.24gb-me, 2g.48gb-me]}}
           - {model: rtx-pro-6000, mig: {instances: [2g.48gb+gfx, 1g.24gb+gfx, 1g.24gb]}}
           - {model: h100-80gb}
           - {model: t4}",
        |node| {
            let gpus = gpus(&session());
            agrees_with_the_simulator(node, &gpus);
            let modes: Vec<_> = gpus.iter().map(|gpu| gpu.mig.as_ref()).collect();
            assert!(modes[..7].iter().all(|mig| mig.unwrap().mode == ON));
            assert_eq!(modes[7].unwrap().mode, OFF);
            assert_eq!(modes[8], None);
            assert_eq!(gpus[1].device_id, 0x2330_10de);
        },
    );
}

#[test]
fn a_gpu_that_cannot_be_partitioned_is_neither_read_nor_changed_so() {
    on_node("gpus: [{model: t4, count: 2}]", |_| {
        let driver = session();
        let gpus = gpus(&driver);
        let uuids: Vec<_> = gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
        assert_eq!(driver.partitions(&uuids), [Ok(None), Ok(None)]);
        let refused = Err(DriverError::NotSupported);
        assert_eq!(driver.mig_layout(&uuids[0]).map(|_| ()), refused);
        assert_eq!(
            driver.change_mig(&uuids[0], &MigStep::SetMode(true)),
            refused
        );
        let unknown = "GPU-00000000-0000-0000-0000-000000000000".parse().unwrap();
        assert_eq!(
            driver.partitions(std::slice::from_ref(&unknown)),
            [Err(DriverError::UnknownGpu(unknown))]
        );
    });
}

#[test]
fn a_mig_device_knows_the_nodes_that_it_needs() {
    on_node(
        "gpus: [{model: l4}, {model: h100-80gb, mig: {instances: [7g.80gb]}}]",
        |node| {
            let host = HostRoot::new(node.directory().join("host"));
            let caps = host.join("proc/driver/nvidia-caps");
            std::fs::create_dir_all(&caps).unwrap();
            let driver = Node::loader().host_root(host).build().session().unwrap();
            let told = || gpus(&driver)[1].mig.as_ref().unwrap().devices[0].capabilities;
            assert_eq!(told(), Capabilities::default());
            let table = "config 1\nmonitor 2\ngpu1/gi0/access 138\ngpu1/gi0/ci0/access 139\n";
            std::fs::write(caps.join("mig-minors"), table).unwrap();
            let expected = Capabilities {
                gpu_instance: Some(138),
                compute_instance: Some(139),
            };
            assert_eq!(told(), expected);
            // Read with the others once a second, too.
            node.simulator
                .destroy_gpu_instances(&Gpus::All, None)
                .unwrap_err();
            let gpu = Gpus::from(GpuRef::Index(1));
            node.simulator.destroy_gpu_instances(&gpu, None).unwrap();
            node.simulator
                .create_mig_devices(&gpu, &["7g.80gb"])
                .unwrap();
            let mig = partition(&driver, &gpus(&driver)[1]);
            assert_eq!(mig.devices[0].capabilities, expected);
        },
    );
}

#[test]
fn changes_that_others_make_are_seen_at_the_next_look() {
    on_node("gpus: [{model: h100-80gb, count: 2}]", |node| {
        let driver = session();
        let gpus = gpus(&driver);
        let first = Gpus::from(GpuRef::Index(0));
        assert_eq!(partition(&driver, &gpus[0]).mode, OFF);
        node.simulator.set_mig_mode(&first, true).unwrap();
        let empty = GpuMig {
            mode: ON,
            devices: Vec::new(),
        };
        assert_eq!(partition(&driver, &gpus[0]), empty);
        assert_eq!(partition(&driver, &gpus[1]).mode, OFF);
        let create = |names: &[&str]| node.simulator.create_mig_devices(&first, names).unwrap();
        create(&["3g.40gb", "1g.10gb"]);
        let seen = partition(&driver, &gpus[0]);
        assert_eq!(profiles(&seen), ["3g.40gb", "1g.10gb"]);
        // The same answer from memory, and the same as all of it asked anew.
        assert_eq!(partition(&driver, &gpus[0]), seen);
        assert_eq!(self::gpus(&driver)[0].mig.as_ref(), Some(&seen));
        let one = Some(seen.devices[0].gpu_instance);
        node.simulator.destroy_gpu_instances(&first, one).unwrap();
        assert_eq!(profiles(&partition(&driver, &gpus[0])), ["1g.10gb"]);
        node.simulator.destroy_gpu_instances(&first, None).unwrap();
        assert_eq!(partition(&driver, &gpus[0]), empty);
        // Another kind in the place of the one before, with its ids.
        create(&["1g.10gb"]);
        assert_eq!(profiles(&partition(&driver, &gpus[0])), ["1g.10gb"]);
        node.simulator.destroy_gpu_instances(&first, None).unwrap();
        create(&["1g.10gb+me"]);
        assert_eq!(profiles(&partition(&driver, &gpus[0])), ["1g.10gb+me"]);
    });
}

#[test]
fn a_hanging_gpu_keeps_the_partitions_of_the_others_from_nobody() {
    on_node(
        "gpus: [{model: h100-80gb, count: 3, mig: {instances: [1g.10gb]}}]",
        |node| {
            let driver = session();
            let gpus = gpus(&driver);
            let uuids: Vec<_> = gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
            node.inject(1, &Fault::Hang);
            let before = Instant::now();
            let answers = driver.partitions(&uuids);
            assert!(before.elapsed() < DEADLINE * 3);
            assert_eq!(answers[1], Err(DriverError::Hung { after: DEADLINE }));
            for other in [0, 2] {
                assert_eq!(answers[other], Ok(gpus[other].mig.clone()));
            }
            node.heal();
        },
    );
}

#[test]
fn the_layout_is_that_of_the_gpu_with_its_empty_instances() {
    on_node(
        "gpus: [{model: a100-40gb, mig: {instances: [3g.20gb]}}]",
        |_| {
            let driver = session();
            let gpu = &gpus(&driver)[0];
            if !may_change(&driver, gpu) {
                return;
            }
            let gpu = &gpu.uuid;
            driver
                .change_mig(gpu, &gpu_instance("2g.10gb", 0, 2, &[]))
                .unwrap();
            driver
                .change_mig(gpu, &gpu_instance("1g.5gb", 2, 1, &[1]))
                .unwrap();
            let (table, layout) = driver.mig_layout(gpu).unwrap();
            let listed: Vec<_> = table
                .profiles
                .iter()
                .map(|info| format!("{} {} {}", info.profile, info.id, info.most))
                .collect();
            let expected = [
                "1g.5gb 19 7",
                "1g.5gb+me 20 1",
                "1g.10gb 15 4",
                "2g.10gb 14 3",
                "3g.20gb 9 2",
                "4g.20gb 5 1",
                "7g.40gb 0 1",
            ];
            assert_eq!(listed, expected);
            let media = &table.profiles[1];
            assert_eq!(
                (media.number, media.engines.ofa, media.memory_mib),
                (7, 1, 4864)
            );
            let starts: Vec<_> = table.profiles[3]
                .placements
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(starts, ["0:2", "2:2", "4:2"]);

            assert_eq!(layout.mode, ON);
            let instances = layout.instances.iter().map(|instance| {
                let compute = instance
                    .compute
                    .iter()
                    .map(|compute| compute.placement.to_string());
                let compute: Vec<_> = compute.collect();
                (
                    instance.id,
                    instance.profile.to_string(),
                    instance.placement.to_string(),
                    compute,
                )
            });
            let row = |id, profile: &str, placement: &str, compute: &[&str]| {
                let compute = compute.iter().map(ToString::to_string).collect::<Vec<_>>();
                (id, profile.to_owned(), placement.to_owned(), compute)
            };
            assert_eq!(
                instances.collect::<Vec<_>>(),
                [
                    row(2, "3g.20gb", "4:4", &["0:3"]),
                    row(3, "2g.10gb", "0:2", &[]),
                    row(9, "1g.5gb", "2:1", &["0:1"]),
                ]
            );
        },
    );
}

#[test]
fn a_gpu_is_cut_up_and_put_together_again() {
    on_node("gpus: [{model: h100-80gb}]", |_| {
        let driver = session();
        let gpu = &gpus(&driver)[0];
        if !may_change(&driver, gpu) {
            return;
        }
        let change = |step: &MigStep| driver.change_mig(&gpu.uuid, step);
        let now = || profiles(&partition(&driver, gpu));
        change(&MigStep::SetMode(true)).unwrap();
        change(&gpu_instance("3g.40gb", 4, 4, &[2, 1])).unwrap();
        assert_eq!(now(), ["2c.3g.40gb", "1c.3g.40gb"]);
        let (_, layout) = driver.mig_layout(&gpu.uuid).unwrap();
        let slices = layout.instances[0].compute.iter().map(|one| one.slices);
        assert_eq!(slices.collect::<Vec<_>>(), [2, 1]);
        let gpu_instance = layout.instances[0].id;
        for id in [0, 1] {
            change(&MigStep::DestroyComputeInstance { gpu_instance, id }).unwrap();
        }
        assert!(now().is_empty());
        let slices = vec![1, 1, 1];
        change(&MigStep::CreateComputeInstances {
            gpu_instance,
            slices,
        })
        .unwrap();
        assert_eq!(now(), ["1c.3g.40gb"; 3]);
        for id in 0..3 {
            change(&MigStep::DestroyComputeInstance { gpu_instance, id }).unwrap();
        }
        change(&MigStep::DestroyGpuInstance { id: gpu_instance }).unwrap();
        let (_, layout) = driver.mig_layout(&gpu.uuid).unwrap();
        assert!(layout.instances.is_empty());
        change(&MigStep::SetMode(false)).unwrap();
        assert_eq!(partition(&driver, gpu).mode, OFF);
    });
}

#[test]
fn what_is_in_the_way_of_a_change_is_told() {
    on_node(
        "gpus: [{model: h100-80gb, mig: {instances: [3g.40gb]}}]",
        |_| {
            let driver = session();
            let gpu = &gpus(&driver)[0];
            if !may_change(&driver, gpu) {
                return;
            }
            let change = |step: &MigStep| driver.change_mig(&gpu.uuid, step);
            let id = gpu.mig.as_ref().unwrap().devices[0].gpu_instance;
            assert_eq!(change(&MigStep::SetMode(false)), Err(DriverError::InUse));
            assert_eq!(
                change(&MigStep::DestroyGpuInstance { id }),
                Err(DriverError::InUse)
            );
            let full = Err(DriverError::InsufficientResources);
            assert_eq!(change(&gpu_instance("7g.80gb", 0, 8, &[7])), full);
            let slices = vec![1];
            let inside = MigStep::CreateComputeInstances {
                gpu_instance: id,
                slices,
            };
            assert_eq!(change(&inside), full);
            let unknown = gpu_instance("1g.5gb", 0, 1, &[1]);
            assert_eq!(change(&unknown), Err(DriverError::NotSupported));
            // What the first compute instance leaves no room for stays undone; the rest stands.
            assert_eq!(change(&gpu_instance("3g.40gb", 0, 4, &[2, 2])), full);
            let (_, layout) = driver.mig_layout(&gpu.uuid).unwrap();
            let whole = layout.instances.iter().find(|one| one.placement.start == 0);
            assert_eq!(whole.unwrap().compute.len(), 1);
            let gone = MigStep::DestroyGpuInstance { id: 14 };
            let Err(DriverError::Nvml { code: 6, .. }) = change(&gone) else {
                panic!("what is not there cannot be taken away");
            };
        },
    );
}

#[test]
fn a_mode_that_waits_for_a_reset_is_pending() {
    on_node("gpus: [{model: a100-80gb}]", |node| {
        let driver = session();
        let gpu = &gpus(&driver)[0];
        if !may_change(&driver, gpu) {
            return;
        }
        driver
            .change_mig(&gpu.uuid, &MigStep::SetMode(true))
            .unwrap();
        let pending = MigMode {
            current: false,
            pending: true,
        };
        assert_eq!(partition(&driver, gpu).mode, pending);
        let (_, layout) = driver.mig_layout(&gpu.uuid).unwrap();
        assert_eq!(layout.mode, pending);
        node.heal();
        assert_eq!(partition(&driver, gpu).mode, ON);
    });
}

#[test]
fn a_gpu_that_hangs_in_a_change_is_hung_and_the_others_answer_meanwhile() {
    on_node("gpus: [{model: h100-80gb, count: 2}]", |node| {
        let loader = Node::loader()
            .deadline(DEADLINE)
            .change_deadline(DEADLINE * 2);
        let driver = loader.build().session().unwrap();
        let gpus = gpus(&driver);
        let uuids: Vec<_> = gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
        node.inject(0, &Fault::Hang);
        std::thread::scope(|scope| {
            let change = || driver.change_mig(&uuids[0], &MigStep::SetMode(true));
            let changing = scope.spawn(change);
            while !changing.is_finished() {
                let condition = driver.check(&uuids[1], Questions::default());
                assert!(condition.is_ok());
            }
            let hung = DriverError::Hung {
                after: DEADLINE * 2,
            };
            assert_eq!(changing.join().unwrap(), Err(hung));
        });
        let still = Err(DriverError::Hung { after: DEADLINE });
        assert_eq!(driver.partitions(&uuids)[0], still);
        node.heal();
    });
}

#[test]
fn changes_of_partitions_and_faults_of_instances_are_told() {
    on_node("gpus: [{model: h100-80gb, count: 2}]", |node| {
        let driver = session();
        let gpus = gpus(&driver);
        let uuids: Vec<_> = gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
        assert_eq!(driver.watch_events(&uuids), Ok(Vec::new()));
        let second = Gpus::from(GpuRef::Index(1));
        let next = || driver.next_event(Duration::from_secs(30)).unwrap().unwrap();
        let changed = DriverEvent {
            gpu: Some(uuids[1].clone()),
            kind: DriverEventKind::MigConfigChange,
            gpu_instance: None,
            compute_instance: None,
        };
        node.simulator.set_mig_mode(&second, true).unwrap();
        assert_eq!(next(), changed);
        node.simulator
            .create_mig_devices(&second, &["1g.10gb"])
            .unwrap();
        assert_eq!(next(), changed);
        let device = &partition(&driver, &gpus[1]).devices[0];
        let (gpu_instance, compute_instance) =
            (Some(device.gpu_instance), Some(device.compute_instance));
        let fault = Fault::Xid {
            xid: 31,
            gpu_instance,
            compute_instance,
            consequences: false,
        };
        node.inject(1, &fault);
        let expected = DriverEvent {
            kind: DriverEventKind::Xid(31),
            gpu_instance,
            compute_instance,
            ..changed
        };
        assert_eq!(next(), expected);
    });
}

#[test]
fn devices_of_old_drivers_have_the_uuids_of_their_places() {
    on_node(
        "{driver_version: 450.80.02, gpus: [{model: a100-40gb, mig: {instances: [2g.10gb, 1g.5gb]}}]}",
        |node| {
            let driver = session();
            let gpus = gpus(&driver);
            agrees_with_the_simulator(node, &gpus);
            let uuid = gpus[0].mig.as_ref().unwrap().devices[0].uuid.to_string();
            assert!(
                uuid.starts_with(&format!("MIG-{}/", gpus[0].uuid)),
                "{uuid}"
            );
        },
    );
}
