//! What is counted of Xids.

use super::*;
use crate::xid::Xid;

fn counts(state: &NodeState, gpu: u32) -> Vec<(Option<u64>, u64, u64)> {
    let xids = state.xids().of(&uuid(gpu)).into_iter();
    let each = xids.flat_map(GpuXids::counts);
    each.map(|(kind, count)| (kind.xid.map(|xid| xid.0), count.total, count.last))
        .collect()
}

#[test]
fn every_xid_is_counted_whatever_the_settings_make_of_it() {
    let xid_policy = XidPolicy::from_lists("all", "").0;
    for config in [
        Config::default(),
        Config {
            xid_policy,
            ..Config::default()
        },
    ] {
        let mut state = state_with(config);
        state.apply(discovered(inventory(0..2)), at(0));
        for (number, second) in [(31, 1), (79, 2), (31, 3)] {
            state.apply(xid(Some(uuid(0)), number), at(second));
        }
        let second = |seconds: u64| 1_700_000_000 + seconds;
        assert_eq!(
            counts(&state, 0),
            [(Some(31), 2, second(3)), (Some(79), 1, second(2))]
        );
        assert_eq!(counts(&state, 1), []);
        let xids = state.xids().of(&uuid(0)).unwrap();
        assert_eq!(xids.last(), Some(Xid(31)));
    }
}

#[test]
fn a_driver_that_is_opened_anew_ends_no_count_and_a_gpu_that_is_gone_does() {
    let mut state = node();
    state.apply(xid(Some(uuid(0)), 31), at(1));
    state.apply(xid(Some(uuid(3)), 31), at(1));
    let gone = DriverError::NotRunning("unloaded".to_owned());
    state.apply(Event::DriverAbsent(gone), at(2));
    state.apply(on_bus(inventory(0..3), 0..3), at(3));
    assert_eq!(counts(&state, 0).len(), 1);
    assert_eq!(counts(&state, 3), []);
}

#[test]
fn an_xid_of_nobody_is_counted_for_nobody_and_one_of_a_strange_gpu_not_at_all() {
    let mut state = node();
    state.apply(xid(None, 119), at(1));
    state.apply(xid(Some(uuid(9)), 119), at(1));
    assert_eq!(state.xids().of_nobody().counts().count(), 1);
    assert_eq!(counts(&state, 9), []);
}

#[test]
fn a_window_holds_the_xids_of_its_time() {
    let mut state = node();
    for second in [0, 10, 10, 300, 301] {
        state.apply(xid(Some(uuid(0)), 31), at(second));
    }
    state.apply(xid(Some(uuid(0)), 63), at(301));
    let xids = state.xids().of(&uuid(0)).unwrap();
    let within = |window, now| {
        let counts = xids.within(Duration::from_secs(window), Duration::from_secs(now));
        counts.into_values().collect::<Vec<_>>()
    };
    assert_eq!(within(300, 301), [4, 1]);
    assert_eq!(within(0, 301), [1, 1]);
    assert_eq!(within(300, 700), [0; 0]);
}

#[test]
fn a_driver_that_makes_numbers_up_costs_no_more_memory_than_one_that_does_not() {
    let mut state = node();
    for number in 0..10_000 {
        state.apply(xid(Some(uuid(0)), number), at(number));
    }
    let counts = counts(&state, 0);
    assert_eq!(counts.len(), 129);
    let total: u64 = counts.iter().map(|(_, total, _)| total).sum();
    assert_eq!(total, 10_000);
    assert_eq!(counts[0].0, None, "those that there was no room for");
    let xids = state.xids().of(&uuid(0)).unwrap();
    let kept: u64 = xids
        .within(Duration::MAX, Duration::from_secs(10_000))
        .into_values()
        .sum();
    assert_eq!(kept, 1024);
}
