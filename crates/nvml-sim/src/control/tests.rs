//! Driving the node, and what is seen of it.

use super::*;
use crate::scenario::{GpuGroup, Model};
use crate::state::load::Program;

fn simulator(short: &str) -> (tempfile::TempDir, Simulator) {
    let directory = tempfile::tempdir().unwrap();
    let scenario = Scenario::short(short).unwrap();
    let simulator = Simulator::create(directory.path(), &scenario).unwrap();
    (directory, simulator)
}

fn gpu(index: u32) -> Gpus {
    GpuRef::Index(index).into()
}

#[test]
fn a_new_node_is_healthy_and_idle() {
    let (_directory, simulator) = simulator("8xh100-80gb");
    let status = simulator.status().unwrap();
    assert_eq!(status.gpus.len(), 8);
    assert!(status.gpus.iter().all(GpuStatus::is_healthy));
    assert!(
        status
            .gpus
            .iter()
            .all(|gpu| gpu.utilization == 0 && gpu.memory_used_mib == 0)
    );
}

#[test]
fn xid_79_loses_the_gpu_and_healing_brings_it_back() {
    let (_directory, simulator) = simulator("2xt4");
    simulator.inject(&gpu(1), &Fault::xid(79), None).unwrap();
    let status = simulator.status().unwrap();
    assert!(status.gpus[0].is_healthy());
    assert!(status.gpus[1].lost);
    assert_eq!(status.gpus[1].last_xid, Some(79));
    simulator.heal(&Gpus::All).unwrap();
    assert!(
        simulator
            .status()
            .unwrap()
            .gpus
            .iter()
            .all(GpuStatus::is_healthy)
    );
}

#[test]
fn a_fault_with_an_end_ends_by_itself() {
    let (_directory, simulator) = simulator("1xt4");
    simulator
        .inject(&gpu(0), &Fault::Lost, Some(std::time::Duration::ZERO))
        .unwrap();
    assert!(!simulator.status().unwrap().gpus[0].lost);
}

#[test]
fn counters_for_ever_survive_healing() {
    let (_directory, simulator) = simulator("1xa100-40gb");
    let double = Fault::Ecc {
        kind: EccKind::Double,
        count: 3,
    };
    simulator.inject(&gpu(0), &double, None).unwrap();
    simulator.heal(&gpu(0)).unwrap();
    let ecc = simulator.status().unwrap().gpus[0].ecc;
    assert_eq!(
        (ecc.volatile_uncorrected, ecc.aggregate_uncorrected),
        (0, 3)
    );
}

#[test]
fn a_faulty_row_is_told_until_it_is_healed_and_asks_for_nothing() {
    let (_directory, simulator) = simulator("2xa100-40gb");
    let inject = |index, state| {
        let fault = Fault::RowRemap(state);
        simulator.inject(&gpu(index), &fault, None).unwrap();
    };
    let told = || {
        let status = simulator.status().unwrap();
        let told = |gpu: &GpuStatus| (gpu.repairs.pending, gpu.repairs.failed, gpu.is_healthy());
        status.gpus.iter().map(told).collect::<Vec<_>>()
    };
    inject(0, RowRemap::Pending);
    inject(1, RowRemap::Failure);
    assert_eq!(told(), [(true, false, false), (false, true, false)]);
    let status = simulator.status().unwrap();
    assert_eq!(status.gpus[1].recovery_action, RecoveryAction::None);
    simulator.heal(&Gpus::All).unwrap();
    assert_eq!(told(), [(false, false, true); 2]);
}

#[test]
fn a_gpu_that_remaps_no_rows_is_named() {
    let (_directory, simulator) = simulator("1xa100-40gb,1xt4");
    let fault = Fault::RowRemap(RowRemap::Failure);
    let status = simulator.status().unwrap();
    let t4 = status.gpus.iter().find(|gpu| gpu.model == "t4").unwrap();
    let error = simulator.inject(&Gpus::All, &fault, None).unwrap_err();
    let expected = format!("GPU {} is a Tesla T4, which", t4.index);
    assert!(error.to_string().starts_with(&expected), "{error}");
    let status = simulator.status().unwrap();
    assert!(status.gpus.iter().all(GpuStatus::is_healthy), "all or none");
}

#[test]
fn a_load_shows_in_utilisation_memory_power_and_processes() {
    let (_directory, simulator) = simulator("2xh100-80gb");
    let change = LoadChange {
        utilization: Some(Program::Constant(80.0)),
        processes: vec![ProcessLoad {
            pid: 42,
            memory_mib: 1000,
            utilization: 80,
            graphics: false,
            ..ProcessLoad::default()
        }],
        ..LoadChange::default()
    };
    simulator.load(&gpu(0), &change).unwrap();
    let gpus = simulator.status().unwrap().gpus;
    assert_eq!((gpus[0].utilization, gpus[0].memory_used_mib), (80, 1000));
    assert!(gpus[0].power > gpus[1].power);
    assert_eq!(gpus[0].processes[0].pid, 42);
    let end = LoadChange {
        end_processes: vec![42],
        ..LoadChange::default()
    };
    simulator.load(&gpu(0), &end).unwrap();
    let gpus = simulator.status().unwrap().gpus;
    assert_eq!((gpus[0].utilization, gpus[0].processes.len()), (0, 0));
}

#[test]
fn a_gpu_holds_so_many_processes_and_no_more() {
    let (_directory, simulator) = simulator("1xt4");
    let change = |count: u32| LoadChange {
        processes: (1..=count)
            .map(|pid| ProcessLoad {
                pid,
                memory_mib: 1,
                utilization: 0,
                graphics: false,
                ..ProcessLoad::default()
            })
            .collect(),
        ..LoadChange::default()
    };
    simulator.load(&gpu(0), &change(56)).unwrap();
    let error = simulator.load(&gpu(0), &change(57)).unwrap_err();
    assert!(matches!(error, ControlError::TooManyProcesses { index: 0 }));
}

#[test]
fn gpus_come_and_go_and_others_keep_their_state() {
    let (_directory, simulator) = simulator("3xh100-80gb");
    simulator.inject(&gpu(2), &Fault::xid(94), None).unwrap();
    let removed = simulator.remove(&gpu(0)).unwrap();
    let added = simulator.add(&GpuGroup::new(Model::default(), 2)).unwrap();
    assert_eq!(added.len(), 2);
    let status = simulator.status().unwrap();
    assert_eq!(status.gpus.len(), 4);
    assert!(status.gpus.iter().all(|gpu| gpu.uuid != removed[0].uuid));
    let sick: Vec<_> = status.gpus.iter().filter(|gpu| !gpu.is_healthy()).collect();
    assert_eq!(sick.len(), 1);
    assert_eq!(sick[0].last_xid, Some(94));
}

#[test]
fn a_reset_restores_the_scenario() {
    let (_directory, mut simulator) = simulator("3xt4");
    let before = simulator.status().unwrap();
    simulator.remove(&gpu(0)).unwrap();
    simulator.add(&GpuGroup::new(Model::default(), 1)).unwrap();
    simulator.inject(&Gpus::All, &Fault::Lost, None).unwrap();
    simulator.reset().unwrap();
    let after = simulator.status().unwrap();
    assert!(after.generation > before.generation);
    assert_eq!(after.gpus, before.gpus);
}

#[test]
fn gpus_that_do_not_exist_are_refused_with_those_that_do() {
    let (_directory, simulator) = simulator("2xt4");
    for name in [
        "2",
        "GPU-4d4d4d4d-0000-0000-0000-0123456789ab",
        "0000:ff:00.0",
    ] {
        let error = simulator
            .heal(&name.parse::<GpuRef>().unwrap().into())
            .unwrap_err();
        assert!(error.to_string().contains("GPUs 0 to 1"), "{error}");
    }
    assert!("two".parse::<GpuRef>().is_err());
}

#[test]
fn sixty_four_gpus_are_the_most() {
    let (_directory, simulator) = simulator("64xt4");
    let error = simulator
        .add(&GpuGroup::new(Model::default(), 1))
        .unwrap_err();
    assert!(error.to_string().contains("at most 64"), "{error}");
}

#[test]
fn an_edited_scenario_file_is_followed_and_unchanged_gpus_keep_their_state() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.yaml");
    std::fs::write(&file, "gpus: [{model: t4, count: 2}]\n").unwrap();
    let place = Place::new(
        Some(file.clone()),
        Some(directory.path().join("state")),
        None,
    );
    let first = Simulator::open(&place).unwrap();
    first.inject(&gpu(1), &Fault::xid(94), None).unwrap();
    std::fs::write(
        &file,
        "gpus: [{model: t4, count: 4}]\ndriver_version: 550.54.15\n",
    )
    .unwrap();
    let second = Simulator::open(&place).unwrap();
    let status = second.status().unwrap();
    assert_eq!(
        (status.gpus.len(), status.driver_version.as_str()),
        (4, "550.54.15")
    );
    assert_eq!(first.generation(), second.generation());
}

#[test]
fn a_state_that_is_garbage_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    for garbage in [Vec::new(), vec![0; 100], vec![0xff; 300_000]] {
        std::fs::write(directory.path().join("live"), garbage).unwrap();
        let place = Place::new(None, Some(directory.path().to_owned()), None);
        assert_eq!(
            Simulator::open(&place)
                .unwrap()
                .status()
                .unwrap()
                .gpus
                .len(),
            8
        );
    }
}

#[test]
fn a_partition_is_made_whole_or_not_at_all() {
    let (_directory, simulator) = simulator("2xh100-80gb");
    let names = |index: usize| -> Vec<&str> {
        let status = simulator.status().unwrap();
        let mig = status.gpus[index].mig.clone().unwrap();
        mig.gpu_instances.iter().map(|one| one.profile).collect()
    };
    simulator.set_mig_mode(&Gpus::All, true).unwrap();
    simulator.create_mig_devices(&gpu(1), &["4g.40gb"]).unwrap();
    // It fits on GPU 0 alone.
    let both = simulator.create_mig_devices(&Gpus::All, &["1g.10gb", "4g.40gb"]);
    let message = both.unwrap_err().to_string();
    assert!(message.starts_with("GPU 1 (NVIDIA H100 80GB HBM3): there is no room for 4g.40gb"));
    assert_eq!((names(0), names(1)), (vec![], vec!["4g.40gb"]));
    // GPU 1 has instances, so neither is switched off.
    assert!(simulator.set_mig_mode(&Gpus::All, false).is_err());
    let status = simulator.status().unwrap();
    assert!(
        status
            .gpus
            .iter()
            .all(|gpu| gpu.mig.as_ref().unwrap().enabled)
    );
}

#[test]
fn healing_keeps_the_instances_and_a_reset_of_the_node_brings_back_the_scenarios() {
    let directory = tempfile::tempdir().unwrap();
    let yaml = "gpus: [{model: a30, mig: {instances: [2g.12gb]}}]";
    let scenario = Scenario::parse(yaml, "test").unwrap();
    let mut simulator = Simulator::create(directory.path(), &scenario).unwrap();
    let devices = |simulator: &Simulator| -> Vec<String> {
        let mig = simulator.status().unwrap().gpus[0].mig.clone().unwrap();
        let all = mig.gpu_instances.iter().flat_map(|one| &one.devices);
        all.map(|device| device.uuid.to_string()).collect()
    };
    let first = devices(&simulator);
    simulator
        .create_mig_devices(&Gpus::All, &["1g.6gb"])
        .unwrap();
    simulator.heal(&Gpus::All).unwrap();
    assert_eq!(devices(&simulator).len(), 2);
    simulator.reset().unwrap();
    assert_eq!(devices(&simulator), first);
    // On Ampere a reset of the GPU ends what was pending, and MIG with it.
    simulator.destroy_gpu_instances(&Gpus::All, None).unwrap();
    assert!(!simulator.set_mig_mode(&Gpus::All, false).unwrap()[0].active);
    simulator
        .create_mig_devices(&Gpus::All, &["1g.6gb"])
        .unwrap();
    simulator.heal(&Gpus::All).unwrap();
    let mig = simulator.status().unwrap().gpus[0].mig.clone().unwrap();
    assert_eq!((mig.enabled, mig.pending), (false, false));
    assert!(mig.gpu_instances.is_empty());
}
