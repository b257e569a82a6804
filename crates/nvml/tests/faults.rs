//! Faults of one GPU: what the session says of it, and that the others never notice.
#![allow(
    clippy::unwrap_used,
    reason = "tests fail by panicking, in their helpers too"
)]

mod support;

use std::time::{Duration, Instant};

use mizzen_core::driver::{
    DriverError, DriverEvent, DriverEventKind, GpuCondition, GpuDriver, Questions, RecoveryAction,
    RowRemap,
};
use mizzen_core::gpu::GpuUuid;
use mizzen_nvml::NvmlDriver;
use mizzen_nvml_sim::control::RecoveryAction as Asked;
use mizzen_nvml_sim::control::{EccKind, EventCall, Fault, RowRemap as Faulty};

use support::node::{Node, on_node};

const FOUR_H100: &str = "gpus: [{model: h100-80gb, count: 4}]";
/// A deadline that calls on a busy test machine do not pass by accident.
const DEADLINE: Duration = Duration::from_secs(2);
/// Far longer than any event takes.
const LONG: Duration = Duration::from_secs(30);

/// A session with these deadlines, and the GPUs' UUIDs.
fn session() -> (NvmlDriver, Vec<GpuUuid>) {
    let loader = Node::loader().deadline(DEADLINE).build();
    let driver = loader.session().unwrap();
    let gpus = driver.snapshot().unwrap().gpus;
    (driver, gpus.into_iter().map(|gpu| gpu.uuid).collect())
}

/// A session that watches all GPUs.
fn watching() -> (NvmlDriver, Vec<GpuUuid>) {
    let (driver, gpus) = session();
    assert_eq!(driver.watch_events(&gpus), Ok(Vec::new()));
    (driver, gpus)
}

fn event(gpu: &GpuUuid, kind: DriverEventKind) -> DriverEvent {
    DriverEvent {
        gpu: Some(gpu.clone()),
        kind,
        gpu_instance: None,
        compute_instance: None,
    }
}

#[test]
fn a_healthy_gpu_needs_nothing() {
    on_node(FOUR_H100, |_| {
        let (driver, gpus) = session();
        let condition = driver.check(&gpus[0], Questions::default()).unwrap();
        assert_eq!(condition.recovery_action, Some(RecoveryAction::None));
        assert_eq!(condition.double_bit_ecc, Some(0));
        let all = driver.check_all(&gpus, Questions::default());
        assert_eq!(all, vec![Ok(condition); 4]);
    });
}

#[test]
fn a_gpu_the_session_does_not_have_is_unknown() {
    on_node(FOUR_H100, |_| {
        let (driver, _) = session();
        let unknown: GpuUuid = "GPU-00000000-0000-0000-0000-000000000000".parse().unwrap();
        let expected = DriverError::UnknownGpu(unknown.clone());
        assert_eq!(
            driver.check(&unknown, Questions::default()),
            Err(expected.clone())
        );
        let refused = driver.watch_events(std::slice::from_ref(&unknown)).unwrap();
        assert_eq!(refused, [(unknown, expected)]);
    });
}

#[test]
fn a_check_needs_no_snapshot_before_it() {
    on_node(FOUR_H100, |_| {
        let (_, gpus) = session();
        let driver = Node::loader().build().session().unwrap();
        assert!(driver.check(&gpus[2], Questions::default()).is_ok());
    });
}

#[test]
fn a_lost_gpu_fails_its_check_alone_and_passes_it_when_healed() {
    on_node(FOUR_H100, |node| {
        let (driver, gpus) = session();
        node.inject(1, &Fault::Lost);
        let all = driver.check_all(&gpus, Questions::default());
        assert_eq!(all[1], Err(DriverError::GpuLost));
        assert!([0, 2, 3].iter().all(|&gpu: &usize| all[gpu].is_ok()));
        // What it told before it was lost is still known of it.
        let broken = driver.snapshot().unwrap().broken;
        assert_eq!(broken.len(), 1);
        assert_eq!(broken[0].uuid.as_ref(), Some(&gpus[1]));
        assert!(broken[0].pci.is_some());
        node.heal();
        assert!(driver.check(&gpus[1], Questions::default()).is_ok());
        assert!(driver.snapshot().unwrap().broken.is_empty());
    });
}

#[test]
fn what_the_driver_asks_for_and_ecc_errors_are_told() {
    on_node(FOUR_H100, |node| {
        let (driver, gpus) = session();
        let cases = [
            (Asked::GpuReset, RecoveryAction::GpuReset),
            (Asked::NodeReboot, RecoveryAction::NodeReboot),
            (Asked::DrainP2p, RecoveryAction::DrainP2p),
            (Asked::DrainAndReset, RecoveryAction::DrainAndReset),
            (Asked::RecoverImexDomain, RecoveryAction::RecoverImexDomain),
        ];
        for (asked, expected) in cases {
            node.inject(0, &Fault::RecoveryAction(asked));
            let condition = driver.check(&gpus[0], Questions::default()).unwrap();
            assert_eq!(condition.recovery_action, Some(expected));
        }
        node.heal();
        let double = Fault::Ecc {
            kind: EccKind::Double,
            count: 3,
        };
        node.inject(0, &double);
        let condition = driver.check(&gpus[0], Questions::default()).unwrap();
        assert_eq!(condition.double_bit_ecc, Some(3));
    });
}

#[test]
fn corrected_errors_and_remapped_rows_are_told_to_those_who_ask() {
    on_node(
        "gpus: [{model: a100-80gb, count: 2}, {model: t4, pci: '0000:fe:00.0'}]",
        |node| {
            let (driver, gpus) = session();
            let everything = Questions {
                single_bit_ecc: true,
                row_remap: true,
            };
            let told = || -> Vec<_> {
                let answers = driver.check_all(&gpus, everything).into_iter();
                let told = |answer: Result<GpuCondition, _>| {
                    let condition = answer.unwrap();
                    (condition.single_bit_ecc, condition.row_remap)
                };
                answers.map(told).collect()
            };
            let rows = |pending, failure| Some(RowRemap { pending, failure });
            let well = (Some(0), rows(false, false));
            let t4 = (Some(0), None);
            assert_eq!(told(), [well, well, t4], "none before Ampere");
            let single = Fault::Ecc {
                kind: EccKind::Single,
                count: 12,
            };
            node.inject(0, &single);
            node.inject(0, &Fault::RowRemap(Faulty::Pending));
            node.inject(1, &Fault::RowRemap(Faulty::Failure));
            let sick = [(Some(12), rows(true, false)), (Some(0), rows(false, true))];
            assert_eq!(told(), [sick[0], sick[1], t4]);
            let unasked = driver.check(&gpus[0], Questions::default()).unwrap();
            assert_eq!((unasked.single_bit_ecc, unasked.row_remap), (None, None));
            node.heal();
            assert_eq!(told(), [well, well, t4]);
        },
    );
}

#[test]
fn a_hung_gpu_costs_its_deadline_and_the_others_answer() {
    on_node(FOUR_H100, |node| {
        let loader = Node::loader().deadline(DEADLINE).build();
        let driver = loader.session().unwrap();
        let gpus = driver.snapshot().unwrap().gpus;
        let hung = Err(DriverError::Hung { after: DEADLINE });
        node.inject(2, &Fault::Hang);

        let before = Instant::now();
        assert_eq!(driver.check(&gpus[2].uuid, Questions::default()), hung);
        assert!(before.elapsed() < DEADLINE * 4, "{:?}", before.elapsed());
        assert_eq!(loader.stuck_calls(), 1);

        // From now on it costs nothing at all, and no more threads.
        let before = Instant::now();
        for _ in 0..100 {
            assert_eq!(driver.check(&gpus[2].uuid, Questions::default()), hung);
        }
        assert!(before.elapsed() < DEADLINE, "{:?}", before.elapsed());
        assert_eq!(loader.stuck_calls(), 1);
        for other in [0, 1, 3] {
            assert!(
                driver
                    .check(&gpus[other].uuid, Questions::default())
                    .is_ok(),
                "GPU {other}"
            );
        }
        let inventory = driver.snapshot().unwrap();
        assert_eq!(inventory.gpus.len(), 3);
        assert_eq!(inventory.broken[0].uuid.as_ref(), Some(&gpus[2].uuid));

        node.heal();
        until(|| driver.check(&gpus[2].uuid, Questions::default()).is_ok());
        assert_eq!(loader.stuck_calls(), 0);
    });
}

/// Asks again until it is so.
fn until(mut so: impl FnMut() -> bool) {
    let due = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < due, "it never came to be");
        std::thread::yield_now();
    }
}

#[test]
fn a_gpu_that_hangs_at_the_start_is_named_broken_and_reloading_sends_no_thread_after_it() {
    on_node(FOUR_H100, |node| {
        let loader = Node::loader()
            .deadline(DEADLINE)
            .first_deadline(DEADLINE)
            .build();
        let healthy = loader.session().unwrap().snapshot().unwrap().gpus;
        node.inject(0, &Fault::Hang);
        for reload in 0..20 {
            let driver = loader.session().unwrap();
            let inventory = driver.snapshot().unwrap();
            assert_eq!(inventory.gpus, healthy[1..], "reload {reload}");
            assert_eq!(inventory.broken.len(), 1);
            assert_eq!(inventory.broken[0].uuid.as_ref(), Some(&healthy[0].uuid));
            assert_eq!(
                inventory.broken[0].error,
                DriverError::Hung { after: DEADLINE }
            );
            assert_eq!(loader.stuck_calls(), 1, "reload {reload}");
        }
        node.heal();
        until(|| loader.stuck_calls() == 0);
        let inventory = loader.session().unwrap().snapshot().unwrap();
        assert_eq!(inventory.gpus, healthy);
    });
}

#[test]
fn an_xid_arrives_with_its_gpu_even_when_the_gpu_is_lost_with_it() {
    on_node(FOUR_H100, |node| {
        let (driver, gpus) = watching();
        assert_eq!(driver.next_event(Duration::ZERO), Ok(None));
        for (gpu, xid) in [(1, 79), (2, 48)] {
            node.inject(gpu, &Fault::xid(xid));
            let index = usize::try_from(gpu).unwrap();
            let expected = event(&gpus[index], DriverEventKind::Xid(xid));
            // An Xid may come with ECC events of its own.
            let mut seen = Vec::new();
            while !seen.contains(&Some(expected.clone())) {
                let next = driver.next_event(LONG).unwrap();
                assert!(next.is_some(), "only {seen:?}");
                seen.push(next);
            }
        }
        assert_eq!(
            driver.check(&gpus[1], Questions::default()),
            Err(DriverError::GpuLost)
        );
    });
}

#[test]
fn ecc_events_and_mig_instances_are_told_apart() {
    let partitioned = "gpus: [{model: h100-80gb, count: 4, mig: {instances: [3g.40gb]}}]";
    on_node(partitioned, |node| {
        let (driver, gpus) = watching();
        for (kind, expected) in [
            (EccKind::Single, DriverEventKind::SingleBitEcc),
            (EccKind::Double, DriverEventKind::DoubleBitEcc),
        ] {
            node.inject(3, &Fault::Ecc { kind, count: 1 });
            let told = driver.next_event(LONG).unwrap();
            assert_eq!(told, Some(event(&gpus[3], expected)));
        }
        let instance = Fault::Xid {
            xid: 94,
            gpu_instance: Some(2),
            compute_instance: Some(0),
            consequences: false,
        };
        node.inject(0, &instance);
        let expected = DriverEvent {
            gpu_instance: Some(2),
            compute_instance: Some(0),
            ..event(&gpus[0], DriverEventKind::Xid(94))
        };
        assert_eq!(driver.next_event(LONG), Ok(Some(expected)));
    });
}

#[test]
fn an_event_wakes_the_waiting_thread_within_milliseconds() {
    on_node(FOUR_H100, |node| {
        let (driver, gpus) = watching();
        let mut waits = Vec::new();
        std::thread::scope(|scope| {
            let (seen, arrivals) = std::sync::mpsc::channel();
            let driver = &driver;
            scope.spawn(move || {
                for _ in 0..20 {
                    let event = driver.next_event(LONG);
                    seen.send((event, Instant::now())).unwrap();
                }
            });
            for _ in 0..20 {
                let sent = Instant::now();
                let quiet = Fault::Xid {
                    xid: 13,
                    gpu_instance: None,
                    compute_instance: None,
                    consequences: false,
                };
                node.inject(0, &quiet);
                let (event_seen, arrived) = arrivals.recv_timeout(LONG).unwrap();
                assert_eq!(
                    event_seen,
                    Ok(Some(event(&gpus[0], DriverEventKind::Xid(13))))
                );
                waits.push(arrived - sent);
            }
        });
        waits.sort();
        // The machine may be busy, but a wait that polls could not be this quick even once.
        assert!(
            waits[0] < Duration::from_millis(5),
            "at best {:?}",
            waits[0]
        );
        assert!(
            waits[10] < Duration::from_millis(250),
            "median {:?}",
            waits[10]
        );
    });
}

#[test]
fn a_wait_without_events_ends_after_its_time() {
    on_node(FOUR_H100, |_| {
        let (driver, _) = watching();
        let before = Instant::now();
        let time = Duration::from_millis(50);
        assert_eq!(driver.next_event(time), Ok(None));
        assert!(before.elapsed() >= time, "{:?}", before.elapsed());
    });
}

#[test]
fn gpus_that_refuse_to_be_watched_are_named_and_the_others_are_watched() {
    on_node(FOUR_H100, |node| {
        // 999 spoils the set by NVML's own word, 3 does not.
        for code in [999, 3] {
            let (driver, gpus) = session();
            for gpu in [0, 2] {
                let fault = Fault::Events {
                    call: EventCall::Register,
                    code,
                };
                node.inject(gpu, &fault);
            }
            let refused = driver.watch_events(&gpus).unwrap();
            let names: Vec<_> = refused.iter().map(|(gpu, _)| gpu.clone()).collect();
            assert_eq!(names, [gpus[0].clone(), gpus[2].clone()]);
            for (_, error) in refused {
                match code {
                    3 => assert_eq!(error, DriverError::NotSupported),
                    _ => assert!(matches!(error, DriverError::Nvml { code: 999, .. })),
                }
            }
            node.inject(3, &Fault::xid(94));
            let told = driver.next_event(LONG).unwrap();
            assert_eq!(told, Some(event(&gpus[3], DriverEventKind::Xid(94))));
            node.heal();
        }
    });
}

#[test]
fn a_gpu_that_hangs_when_it_is_to_be_watched_leaves_the_others_watched() {
    on_node(FOUR_H100, |node| {
        let (driver, gpus) = session();
        node.inject(1, &Fault::Hang);
        let refused = driver.watch_events(&gpus).unwrap();
        let hung = DriverError::Hung { after: DEADLINE };
        assert_eq!(refused, [(gpus[1].clone(), hung)]);
        node.inject(2, &Fault::xid(94));
        let told = driver.next_event(LONG).unwrap();
        assert_eq!(told, Some(event(&gpus[2], DriverEventKind::Xid(94))));
        node.heal();
    });
}

#[test]
fn watching_nobody_is_refused_and_a_new_watch_replaces_the_old_one() {
    on_node(FOUR_H100, |node| {
        let (driver, gpus) = session();
        assert_eq!(driver.next_event(LONG), Err(DriverError::NotSupported));
        assert_eq!(driver.watch_events(&gpus[..1]), Ok(Vec::new()));
        assert_eq!(driver.watch_events(&gpus[1..]), Ok(Vec::new()));
        node.inject(0, &Fault::xid(94));
        node.inject(1, &Fault::xid(94));
        let told = driver.next_event(LONG).unwrap();
        assert_eq!(told, Some(event(&gpus[1], DriverEventKind::Xid(94))));
        assert_eq!(driver.watch_events(&[]), Ok(Vec::new()));
        assert_eq!(driver.next_event(LONG), Err(DriverError::NotSupported));
    });
}

#[test]
fn no_event_is_lost_when_the_watch_is_renewed() {
    const EVENTS: u64 = 100;
    on_node(FOUR_H100, |node| {
        let (driver, gpus) = watching();
        let mut told = std::collections::HashSet::new();
        std::thread::scope(|scope| {
            let injecting = scope.spawn(|| {
                for xid in 0..EVENTS {
                    let quiet = Fault::Xid {
                        xid,
                        gpu_instance: None,
                        compute_instance: None,
                        consequences: false,
                    };
                    node.inject(0, &quiet);
                }
            });
            // Nobody takes anything meanwhile: all that comes is in one set or the other.
            let mut renewed = 0;
            while renewed < 3 || !injecting.is_finished() {
                assert_eq!(driver.watch_events(&gpus), Ok(Vec::new()));
                renewed += 1;
            }
        });
        while let Some(event) = driver.next_event(Duration::ZERO).unwrap() {
            assert_eq!(event.gpu.as_ref(), Some(&gpus[0]));
            told.insert(event.kind);
        }
        let missing: Vec<_> = (0..EVENTS)
            .map(DriverEventKind::Xid)
            .filter(|kind| !told.contains(kind))
            .collect();
        assert!(missing.is_empty(), "lost: {missing:?}");
    });
}

#[test]
fn a_wait_that_fails_says_so_and_works_again_when_healed() {
    on_node(FOUR_H100, |node| {
        let (driver, gpus) = watching();
        let fault = Fault::Events {
            call: EventCall::Wait,
            code: 999,
        };
        node.inject(0, &fault);
        for _ in 0..3 {
            let answer = driver.next_event(LONG);
            assert!(
                matches!(answer, Err(DriverError::Nvml { code: 999, .. })),
                "{answer:?}"
            );
        }
        node.heal();
        node.inject(2, &Fault::xid(94));
        let told = driver.next_event(LONG).unwrap();
        assert_eq!(told, Some(event(&gpus[2], DriverEventKind::Xid(94))));
    });
}
