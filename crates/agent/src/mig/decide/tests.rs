use std::iter;

use mizzen_core::driver::DriverLoader as _;
use mizzen_core::mig::Placement;
use mizzen_kubelet_api::podresources::{ContainerDevices, ContainerResources, PodResources};
use mizzen_testkit::{FakeDriver, gpus, h100_table};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::mig::holders::Holdings;

fn uuid() -> GpuUuid {
    gpus(1).remove(0).uuid
}

/// A GPU after these steps.
fn gpu(steps: &[MigStep]) -> Look {
    let driver = FakeDriver::new(gpus(1));
    driver.make_partitionable(&uuid(), h100_table());
    driver.meddle(&uuid(), steps);
    look(&driver)
}

fn look(driver: &FakeDriver) -> Look {
    let session = driver.open().unwrap();
    let (table, layout) = session.mig_layout(&uuid()).unwrap();
    let partitions = session.partitions(&[uuid()]).remove(0);
    Look {
        uuid: uuid(),
        index: 0,
        table,
        layout,
        devices: partitions.unwrap().unwrap().devices,
    }
}

/// Cut into the two halves, of which the second one has a 3g.40gb, too.
fn halves() -> Look {
    let half = |start| MigStep::CreateGpuInstance {
        profile: "3g.40gb".parse().unwrap(),
        placement: Placement { start, size: 4 },
        slices: vec![3],
    };
    gpu(&[MigStep::SetMode(true), half(0), half(4)])
}

fn target(text: &str) -> MigTarget {
    text.parse().unwrap()
}

/// Pods of these names that hold one device each.
fn held(gpu: &Look, pods: &[(&str, String)]) -> Holders {
    let pod = |(name, id): &(&str, String)| PodResources {
        name: (*name).to_owned(),
        namespace: "ns".to_owned(),
        containers: vec![ContainerResources {
            devices: vec![ContainerDevices {
                device_ids: vec![id.clone()],
                ..Default::default()
            }],
            ..Default::default()
        }],
    };
    Holdings::of(pods.iter().map(pod).collect()).on(gpu)
}

fn device(gpu: &Look, at: usize) -> String {
    gpu.devices[at].uuid.to_string()
}

fn names(pods: &BTreeSet<PodName>) -> Vec<&str> {
    pods.iter().map(|pod| pod.name.as_str()).collect()
}

#[test]
fn a_gpu_that_is_as_it_shall_be_is_left_alone_whoever_holds_it() {
    let gpu = halves();
    let decided = next(&gpu, &target("3g.40gb x2"), &Holders::unknown());
    assert_eq!(decided, Next::Nothing);
}

#[test]
fn a_change_of_the_mode_takes_the_whole_gpu() {
    let whole = gpu(&[]);
    let nobody = held(&whole, &[]);
    let Next::Change(change) = next(&whole, &target("3g.40gb"), &nobody) else {
        panic!("it can be done");
    };
    assert_eq!(change.withheld, Some(Withheld::Whole));
    assert_eq!(change.gone, [uuid().to_string()].into());
    // Where instances can be is not known before.
    assert_eq!(change.steps, [MigStep::SetMode(true)]);

    let replica = format!("{}::3", uuid());
    let somebody = held(&whole, &[("train", replica)]);
    let Next::Blocked(pods, _) = next(&whole, &target("3g.40gb"), &somebody) else {
        panic!("a pod holds it");
    };
    assert_eq!(names(&pods), ["train"]);

    let halves = halves();
    let somebody = held(&halves, &[("serve", device(&halves, 0))]);
    let Next::Blocked(pods, change) = next(&halves, &target("MIG off"), &somebody) else {
        panic!("a pod holds half of it");
    };
    assert_eq!(names(&pods), ["serve"]);
    assert_eq!(change.gone.len(), 3, "the GPU and its two halves");
}

#[test]
fn what_no_mode_makes_possible_does_not_change_the_mode() {
    let whole = gpu(&[]);
    for impossible in ["3g.40gb x3", "1g.5gb", "4g.40gb, 4g.40gb"] {
        let decided = next(&whole, &target(impossible), &held(&whole, &[]));
        assert!(matches!(decided, Next::Impossible(_)), "{decided:?}");
    }
}

#[test]
fn what_is_held_stays_and_what_is_free_goes() {
    let gpu = halves();
    for kept in [0, 1] {
        let holders = held(&gpu, &[("serve", device(&gpu, kept))]);
        let Next::Change(change) = next(&gpu, &target("3g.40gb, 1g.10gb x2"), &holders) else {
            panic!("the other one is free");
        };
        let goes = device(&gpu, 1 - kept);
        assert_eq!(change.gone, [goes.clone()].into());
        let withheld = Withheld::Devices([goes.parse().unwrap()].into());
        assert_eq!(change.withheld, Some(withheld));
    }
}

#[test]
fn an_instance_without_a_name_may_be_anybodys_and_is_not_destroyed() {
    let mut gpu = halves();
    let lost = gpu.devices.remove(0);
    let Next::Change(change) = next(&gpu, &target("3g.40gb, 1g.10gb x2"), &held(&gpu, &[])) else {
        panic!("the other half is free");
    };
    assert_eq!(change.gone, [device(&gpu, 0)].into());
    let place = lost.gpu_instance;
    for wanted in ["1g.10gb x7", "MIG off"] {
        let decided = next(&gpu, &target(wanted), &held(&gpu, &[]));
        let Next::Unclear(why) = decided else {
            panic!("{wanted}: {decided:?}");
        };
        let named = format!("compute instance 0 of GPU instance {place} must go");
        assert!(why.contains(&named), "{why}");
    }
}

#[test]
fn no_more_pods_are_in_the_way_than_must_be() {
    let gpu = halves();
    let both = [("one", device(&gpu, 0)), ("two", device(&gpu, 1))];
    let holders = held(&gpu, &both);
    let Next::Blocked(pods, change) = next(&gpu, &target("3g.40gb, 1g.10gb x2"), &holders) else {
        panic!("both are held");
    };
    assert_eq!(pods.len(), 1);
    assert_eq!(change.gone.len(), 1);
    let Next::Blocked(pods, _) = next(&gpu, &target("1g.10gb x7"), &holders) else {
        panic!("both are held");
    };
    assert_eq!(names(&pods), ["one", "two"]);
}

/// Cut into pieces of one seventh at these places.
fn sevenths(starts: &[u32]) -> Look {
    let piece = |start: &u32| MigStep::CreateGpuInstance {
        profile: "1g.10gb".parse().unwrap(),
        placement: Placement {
            start: *start,
            size: 1,
        },
        slices: vec![1],
    };
    let pieces = starts.iter().map(piece);
    let steps: Vec<MigStep> = iter::once(MigStep::SetMode(true)).chain(pieces).collect();
    gpu(&steps)
}

#[test]
fn one_pod_goes_where_one_is_enough() {
    let gpu = sevenths(&[0, 1, 4]);
    let pods = [
        ("a", device(&gpu, 0)),
        ("b", device(&gpu, 1)),
        ("c", device(&gpu, 2)),
    ];
    let holders = held(&gpu, &pods);
    let decided = next(&gpu, &target("3g.40gb, 1g.10gb x2"), &holders);
    let Next::Blocked(pods, change) = decided else {
        panic!("{decided:?}");
    };
    assert_eq!(names(&pods), ["c"]);
    assert_eq!(change.gone, [device(&gpu, 2)].into());
}

#[test]
fn two_instances_of_one_pod_go_rather_than_those_of_two_pods() {
    let gpu = sevenths(&[0, 1, 2, 4, 5]);
    let pods = [
        ("one", device(&gpu, 0)),
        ("one", device(&gpu, 1)),
        ("one", device(&gpu, 2)),
        ("two", device(&gpu, 3)),
        ("three", device(&gpu, 4)),
    ];
    let decided = next(&gpu, &target("3g.40gb, 1g.10gb x2"), &held(&gpu, &pods));
    let Next::Blocked(pods, change) = decided else {
        panic!("{decided:?}");
    };
    assert_eq!(names(&pods), ["one"]);
    assert_eq!(change.gone.len(), 3);
}

const TARGETS: [&str; 7] = [
    "3g.40gb, 1g.10gb x2",
    "3g.40gb x2",
    "2g.20gb x2, 1g.10gb",
    "4g.40gb, 1g.10gb",
    "1g.10gb x4",
    "7g.80gb",
    "1g.20gb x2, 1g.10gb x2",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whoever has to let go are as few as can be: no smaller number of pods, held against the
    /// planner itself, would do.
    #[test]
    fn no_fewer_pods_would_do(
        places in subsequence(vec![0_u32, 1, 2, 3, 4, 5, 6], 1..=6),
        owners in vec(0_usize..4, 7),
        wanted in 0..TARGETS.len(),
    ) {
        let names = ["a", "b", "c", "d"];
        let gpu = sevenths(&places);
        let target = target(TARGETS[wanted]);
        let all = 0..gpu.devices.len();
        let pods: Vec<_> = all.map(|at| (names[owners[at]], device(&gpu, at))).collect();
        let gone = match next(&gpu, &target, &held(&gpu, &pods)) {
            Next::Blocked(gone, _) => gone.len(),
            Next::Change(_) | Next::Nothing => 0,
            other => panic!("{other:?}"),
        };
        let possible = |stay: u32| {
            let stays = |at: &usize| stay >> owners[*at] & 1 == 1;
            let kept = (0..gpu.devices.len()).filter(stays);
            let kept = kept.map(|at| {
                let one = &gpu.devices[at];
                (one.gpu_instance, one.compute_instance)
            });
            plan_mig(&gpu.table, &gpu.layout, &target, &kept.collect()).is_ok()
        };
        let all: BTreeSet<usize> = owners[..gpu.devices.len()].iter().copied().collect();
        let fewest = (0..16_u32).filter(|stay| possible(*stay)).map(|stay| {
            all.iter().filter(|owner| stay >> **owner & 1 == 0).count()
        });
        prop_assert_eq!(Some(gone), fewest.min());
    }
}

#[test]
fn who_takes_nothing_away_asks_nobody() {
    let half = MigStep::CreateGpuInstance {
        profile: "3g.40gb".parse().unwrap(),
        placement: Placement { start: 0, size: 4 },
        slices: vec![3],
    };
    let gpu = gpu(&[MigStep::SetMode(true), half]);
    let Next::Change(change) = next(&gpu, &target("3g.40gb x2"), &Holders::unknown()) else {
        panic!("there is room");
    };
    assert_eq!(change.withheld, None);
    assert_eq!(change.steps.len(), 1);
    assert_eq!(change.clone().of_whole(&gpu), change);
    let decided = next(&gpu, &target("1g.10gb x7"), &Holders::unknown());
    assert!(matches!(decided, Next::Blocked(..)), "{decided:?}");
}

#[test]
fn a_mode_that_waits_for_a_reset_is_waited_for_and_an_impossible_layout_is_not() {
    let driver = FakeDriver::new(gpus(1));
    driver.make_partitionable(&uuid(), h100_table());
    driver.wait_for_resets(&uuid());
    driver.meddle(&uuid(), &[MigStep::SetMode(true)]);
    let gpu = look(&driver);
    let holders = held(&gpu, &[]);
    assert_eq!(next(&gpu, &target("3g.40gb"), &holders), Next::AwaitReset);
    let Next::Change(change) = next(&halves(), &target("MIG off"), &holders) else {
        panic!("it can be done");
    };
    assert_eq!(change.steps.last(), Some(&MigStep::SetMode(false)));

    // Who wants the mode no more takes it back, and nobody has to go for that.
    let Next::Change(change) = next(&gpu, &target("MIG off"), &Holders::unknown()) else {
        panic!("it can be done");
    };
    assert_eq!(change.withheld, None);
    assert_eq!(change.steps, [MigStep::SetMode(false)]);

    let decided = next(&gpu, &target("3g.40gb x3"), &holders);
    let Next::Impossible(why) = decided else {
        panic!("{decided:?}");
    };
    assert!(why.contains("at most 2"), "{why}");
}
