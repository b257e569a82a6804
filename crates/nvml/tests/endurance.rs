//! What a thousand reloads leave behind: nothing.
#![allow(
    clippy::unwrap_used,
    reason = "tests fail by panicking, in their helpers too"
)]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use mizzen_core::driver::{GpuDriver, Questions};
use mizzen_core::metrics::Fields;
use mizzen_core::sample::Wanted;
use mizzen_nvml_sim::control::Fault;

use support::node::{Node, on_node};

const RELOADS: usize = 1000;

/// The entries of `/proc/self/<what>`.
fn count(what: &str) -> usize {
    fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}

/// Mapped memory areas and resident pages.
fn memory() -> (usize, usize) {
    let maps = fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count();
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let resident = statm.split(' ').nth(1).unwrap().parse().unwrap();
    (maps, resident)
}

/// The last workers may still be on their way out: one thread more stays, and is seen then.
fn threads_come_down_to(at_rest: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while count("task") > at_rest {
        assert!(Instant::now() < deadline, "{} threads", count("task"));
        std::thread::yield_now();
    }
}

#[test]
fn a_thousand_sessions_leave_no_thread_descriptor_or_memory_behind() {
    on_node("gpus: [{model: h100-80gb, count: 8}]", |_| {
        let loader = Node::loader().build();
        let reload = || {
            let driver = loader.session().unwrap();
            let gpus = driver.snapshot().unwrap().gpus;
            let gpus: Vec<_> = gpus.into_iter().map(|gpu| gpu.uuid).collect();
            assert_eq!(gpus.len(), 8);
            assert_eq!(driver.watch_events(&gpus), Ok(Vec::new()));
            assert!(
                driver
                    .check_all(&gpus, Questions::default())
                    .iter()
                    .all(Result::is_ok)
            );
            let wanted = Wanted {
                fields: Fields::all(),
                processes: true,
            };
            assert!(driver.sample(&gpus, wanted).iter().all(Result::is_ok));
        };
        // Whatever is made once is made by now.
        for _ in 0..RELOADS / 10 {
            reload();
        }
        let (descriptors, (maps, resident)) = (count("fd"), memory());
        for _ in 0..RELOADS {
            reload();
        }
        assert_eq!(count("fd"), descriptors);
        let (maps_after, resident_after) = memory();
        assert!(maps_after <= maps + 4, "{maps} areas, then {maps_after}");
        let pages = 256;
        assert!(
            resident_after <= resident + pages,
            "{resident} pages, then {resident_after}"
        );
        threads_come_down_to(4);
    });
}

#[test]
fn a_hung_gpu_costs_one_thread_however_often_the_session_is_reloaded() {
    on_node("gpus: [{model: h100-80gb, count: 8}]", |node| {
        let deadline = Duration::from_secs(2);
        let loader = Node::loader()
            .deadline(deadline)
            .first_deadline(deadline)
            .build();
        node.inject(5, &Fault::Hang);
        let reload = || {
            let driver = loader.session().unwrap();
            let gpus = driver.snapshot().unwrap().gpus;
            assert_eq!(gpus.len(), 7);
        };
        for _ in 0..10 {
            reload();
        }
        let descriptors = count("fd");
        for _ in 0..200 {
            reload();
        }
        assert_eq!(loader.stuck_calls(), 1);
        assert_eq!(count("fd"), descriptors);
        threads_come_down_to(5);
        node.heal();
    });
}
