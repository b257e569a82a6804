//! The live state between processes: seen by all, and valid whoever dies when.
//!
//! The other processes are this program again, told by a variable what to do.
#![allow(clippy::unwrap_used, reason = "the tests' helpers may panic")]
#![allow(
    clippy::print_stdout,
    reason = "children tell their parent what they see"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a child is told what to do by its environment"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mizzen_nvml_sim::Program;
use mizzen_nvml_sim::control::{Fault, GpuRef, Gpus, LoadChange, ProcessLoad, Simulator};
use mizzen_nvml_sim::engine::{EventSet, Session};
use mizzen_nvml_sim::environment::Place;
use mizzen_nvml_sim::scenario::{GpuGroup, MigSetup, Model, Scenario};

const ROLE: &str = "MIZZEN_SHARING_ROLE";
const STATE: &str = "MIZZEN_SHARING_STATE";
const XID: u64 = 0x8;

fn place(state: &Path) -> Place {
    Place::new(None, Some(state.to_owned()), None)
}

fn event(xid: u64) -> Fault {
    Fault::Xid {
        xid,
        gpu_instance: None,
        compute_instance: None,
        consequences: false,
    }
}

/// Starts this program as a child with a role.
fn child(role: &str, state: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process", "--ignored", "--nocapture"])
        .env(ROLE, role)
        .env(STATE, state)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Not a test: what the children do.
#[test]
#[ignore = "runs in the children of the other tests"]
fn child_process() {
    let Some(role) = std::env::var_os(ROLE) else {
        return;
    };
    let state = PathBuf::from(std::env::var_os(STATE).unwrap());
    match role.to_str().unwrap() {
        "writer" => write_for_ever(&state),
        "partitioner" => partition_for_ever(&state),
        "listener" => listen(&state),
        "starter" => {
            let session = Session::open(&place(&state)).unwrap();
            println!("count={}", session.count());
        }
        role => panic!("no such role: {role}"),
    }
}

/// Changes everything that can be changed, until it is killed.
fn write_for_ever(state: &Path) {
    let simulator = Simulator::open(&place(state)).unwrap();
    let first: Gpus = GpuRef::Index(0).into();
    for round in 1.. {
        simulator
            .inject(&first, &event(round % 500 + 1), None)
            .unwrap();
        let change = LoadChange {
            utilization: Some(Program::Constant(f64::from(
                u32::try_from(round % 100).unwrap(),
            ))),
            processes: vec![ProcessLoad {
                pid: 7,
                memory_mib: 100,
                utilization: 1,
                graphics: false,
                ..ProcessLoad::default()
            }],
            ..LoadChange::default()
        };
        simulator.load(&Gpus::All, &change).unwrap();
        let added = simulator.add(&GpuGroup::new(Model::default(), 1)).unwrap();
        let last = GpuRef::Uuid(added[0].uuid);
        simulator.inject(&last.into(), &Fault::Hang, None).unwrap();
        simulator.heal(&Gpus::All).unwrap();
        simulator.remove(&last.into()).unwrap();
    }
}

/// Creates and destroys instances until it is killed.
fn partition_for_ever(state: &Path) {
    let simulator = Simulator::open(&place(state)).unwrap();
    println!("partitioning");
    loop {
        // Others partition the same GPU: what does not fit, or is gone, is refused.
        let _ = simulator.create_mig_devices(&Gpus::All, &["1g.10gb", "3g.40gb"]);
        let _ = simulator.destroy_gpu_instances(&Gpus::All, None);
        let _ = simulator.create_mig_devices(&Gpus::All, &["2g.20gb"; 3]);
        let _ = simulator.destroy_gpu_instances(&Gpus::All, None);
    }
}

/// Tells what it hears until Xid 999.
fn listen(state: &Path) {
    let session = Arc::new(Session::open(&place(state)).unwrap());
    let set = EventSet::new(Arc::clone(&session));
    for gpu in 0..session.count() {
        set.register(gpu, XID).unwrap();
    }
    println!("listening");
    loop {
        let event = set.wait(20_000).unwrap();
        println!("heard={}", event.data);
        if event.data == 999 {
            return;
        }
    }
}

#[test]
fn a_writer_killed_at_any_moment_leaves_a_valid_state() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path();
    let scenario = Scenario::short("2xt4").unwrap();
    let simulator = Simulator::create(state, &scenario).unwrap();
    let session = Arc::new(Session::open(&place(state)).unwrap());
    let original: Vec<_> = simulator
        .status()
        .unwrap()
        .gpus
        .iter()
        .map(|gpu| gpu.uuid)
        .collect();
    for round in 0..25_u64 {
        let set = EventSet::new(Arc::clone(&session));
        set.register(0, XID).unwrap();
        let mut writer = child("writer", state);
        // The writer is at work once it is heard; then it dies at one moment or another.
        set.wait(20_000).unwrap();
        let wait = Duration::from_micros(137 * round);
        let start = Instant::now();
        while start.elapsed() < wait {
            std::hint::spin_loop();
        }
        writer.kill().unwrap();
        writer.wait().unwrap();

        let after = Simulator::open(&place(state)).unwrap();
        let status = after.status().unwrap();
        let left: Vec<_> = status.gpus.iter().map(|gpu| gpu.uuid).collect();
        assert!(
            original.iter().all(|uuid| left.contains(uuid)),
            "round {round}: {left:?}"
        );
        assert!(status.gpus.len() <= 3 + usize::try_from(round).unwrap());
        assert!(
            status
                .gpus
                .iter()
                .all(|gpu| gpu.utilization < 100 && gpu.processes.len() <= 1)
        );
        after.heal(&Gpus::All).unwrap();
        for gpu in left.iter().filter(|uuid| !original.contains(uuid)) {
            after.remove(&GpuRef::Uuid(*gpu).into()).unwrap();
        }
        let fresh = Arc::new(Session::open(&place(state)).unwrap());
        let set = EventSet::new(Arc::clone(&fresh));
        set.register(1, XID).unwrap();
        after
            .inject(&GpuRef::Index(1).into(), &event(13), None)
            .unwrap();
        assert_eq!(set.wait(0).unwrap().data, 13);
    }
}

#[test]
fn processes_that_partition_one_gpu_and_die_leave_instances_that_do_not_overlap() {
    use std::io::{BufRead as _, BufReader};

    let directory = tempfile::tempdir().unwrap();
    let state = directory.path();
    let mut scenario = Scenario::short("1xh100-80gb").unwrap();
    scenario.gpus[0].mig = Some(MigSetup {
        enabled: true,
        instances: Vec::new(),
    });
    let simulator = Simulator::create(state, &scenario).unwrap();
    for round in 0..10_u64 {
        let mut children = [child("partitioner", state), child("partitioner", state)];
        for child in &mut children {
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().contains("partitioning")));
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(2000 + 311 * round) {
            std::hint::spin_loop();
        }
        for mut child in children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let (_, partitions) = simulator.partitions().unwrap();
        let partition = partitions[0].as_ref().unwrap();
        let instances = &partition.gpu_instances;
        for (position, one) in instances.iter().enumerate() {
            for other in &instances[position + 1..] {
                assert!(!one.place.overlaps(other.place) && one.id != other.id);
            }
            // A process may have died before the compute instance was there.
            assert!(partition.inside(one.id).count() <= 1);
        }
        simulator.destroy_gpu_instances(&Gpus::All, None).unwrap();
        let whole = simulator.create_mig_devices(&Gpus::All, &["7g.80gb"]);
        assert!(whole.is_ok(), "round {round}: {whole:?}");
        simulator.destroy_gpu_instances(&Gpus::All, None).unwrap();
    }
}

#[test]
fn every_process_hears_every_event_once_and_in_order() {
    use std::io::{BufRead as _, BufReader};

    let directory = tempfile::tempdir().unwrap();
    let scenario = Scenario::short("2xh100-80gb").unwrap();
    let simulator = Simulator::create(directory.path(), &scenario).unwrap();
    let mut children: Vec<Child> = (0..3)
        .map(|_| child("listener", directory.path()))
        .collect();
    let mut outputs: Vec<_> = children
        .iter_mut()
        .map(|child| BufReader::new(child.stdout.take().unwrap()).lines())
        .collect();
    for lines in &mut outputs {
        assert!(lines.any(|line| line.unwrap().contains("listening")));
    }
    for xid in (1..=60).chain([999]) {
        simulator
            .inject(
                &GpuRef::Index(u32::try_from(xid % 2).unwrap()).into(),
                &event(xid),
                None,
            )
            .unwrap();
    }
    for lines in outputs {
        let heard: Vec<u64> = lines
            .map_while(Result::ok)
            .filter_map(|line| line.split("heard=").nth(1)?.trim().parse().ok())
            .collect();
        assert_eq!(heard, (1..=60).chain([999]).collect::<Vec<_>>());
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn processes_that_start_together_make_one_state() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let children: Vec<Child> = (0..6).map(|_| child("starter", &state)).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("count=8"));
    }
    assert_eq!(Simulator::open(&place(&state)).unwrap().generation(), 1);
}

#[test]
fn a_process_that_may_only_look_sees_the_node_and_hears_its_events() {
    let directory = tempfile::tempdir().unwrap();
    let scenario = Scenario::short("1xt4").unwrap();
    let simulator = Simulator::create(directory.path(), &scenario).unwrap();
    let readable = tempfile::tempdir().unwrap();
    // A hard link to the live file in a directory without the lock: what a read-only mount of
    // the directory shows, which takes privileges to make.
    std::fs::hard_link(directory.path().join("live"), readable.path().join("live")).unwrap();
    let session = Arc::new(Session::open(&place(readable.path())).unwrap());
    let set = EventSet::new(Arc::clone(&session));
    set.register(0, XID).unwrap();
    simulator.inject(&Gpus::All, &event(31), None).unwrap();
    assert_eq!(set.wait(1000).unwrap().data, 31);
}
