//! What each piece of news does to the picture.

mod cdi;
mod partitions;
mod rules;
mod xids;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::{Config, HealthTuning};
use crate::driver::{DriverEventKind, RecoveryAction};
use crate::inventory::BrokenGpu;
use crate::topology::{Link, LinkMatrix, PcieRelation};
use crate::xid::XidPolicy;

const HOLD_DOWN: Duration = Duration::from_secs(30);

fn at(seconds: u64) -> Moment {
    Moment {
        monotonic: Duration::from_secs(seconds),
        wall: 1_700_000_000 + seconds,
    }
}

fn gpu(index: u32) -> Gpu {
    Gpu {
        index,
        minor: index,
        uuid: uuid(index),
        pci: pci(index),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        memory_mib: 81_559,
        compute_capability: (9, 0),
        numa_node: Some(0),
        device_id: 0,
        mig: None,
    }
}

fn uuid(index: u32) -> GpuUuid {
    format!("GPU-4d697a7a-656e-4000-8000-{index:012x}")
        .parse()
        .unwrap()
}

fn pci(index: u32) -> PciBusId {
    PciBusId {
        domain: 0,
        bus: u8::try_from(index).unwrap() + 1,
        device: 0,
        function: 0,
    }
}

fn link(nvlinks: u8) -> Link {
    Link {
        pcie: PcieRelation::CrossCpu,
        nvlinks,
    }
}

fn inventory(indices: impl IntoIterator<Item = u32>) -> Inventory {
    let gpus: Vec<Gpu> = indices.into_iter().map(gpu).collect();
    Inventory {
        driver: DriverVersions {
            driver: "580.65.06".to_owned(),
            nvml: "13.580.65.06".to_owned(),
            cuda: (13, 0),
        },
        links: LinkMatrix::from_fn(gpus.len(), |_, _| link(18)),
        gpus,
        broken: Vec::new(),
    }
}

fn discovered(inventory: Inventory) -> Event {
    Event::Discovered(Box::new(Discovery {
        inventory,
        ..Discovery::default()
    }))
}

fn on_bus(inventory: Inventory, bus: impl IntoIterator<Item = u32>) -> Event {
    let on_bus: BTreeSet<PciBusId> = bus.into_iter().map(pci).collect();
    Event::Discovered(Box::new(Discovery {
        inventory,
        on_bus: Some(on_bus),
        ..Discovery::default()
    }))
}

fn xid(gpu: Option<GpuUuid>, number: u64) -> Event {
    let kind = DriverEventKind::Xid(number);
    Event::Driver(DriverEvent {
        gpu,
        kind,
        gpu_instance: None,
        compute_instance: None,
    })
}

fn well(index: u32) -> Event {
    let condition = GpuCondition {
        recovery_action: Some(RecoveryAction::None),
        double_bit_ecc: Some(0),
        ..GpuCondition::default()
    };
    Event::Checked(uuid(index), Ok(condition))
}

fn lost(index: u32) -> Event {
    Event::Checked(uuid(index), Err(DriverError::GpuLost))
}

fn state_with(config: Config) -> NodeState {
    NodeState::new(Arc::new(config), Vec::new(), at(0))
}

/// A node with four GPUs, all well.
fn node() -> NodeState {
    let mut state = state_with(Config::default());
    state.apply(discovered(inventory(0..4)), at(0));
    state
}

fn health(state: &NodeState) -> Vec<bool> {
    let gpus = 0..state.gpus().len();
    gpus.map(|position| health_of(state, position) == DeviceHealth::Healthy)
        .collect()
}

fn health_of(state: &NodeState, gpu: usize) -> DeviceHealth {
    state.health(&Share {
        gpu,
        mig: None,
        replicas: None,
    })
}

fn lines(effects: &[Effect]) -> Vec<&Line> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Log(line) => Some(&**line),
            _ => None,
        })
        .collect()
}

fn events(effects: &[Effect]) -> Vec<&'static str> {
    lines(effects).into_iter().map(|line| line.event).collect()
}

#[test]
fn before_anybody_has_looked_nothing_is_offered() {
    let state = state_with(Config::default());
    assert!(state.pools().is_empty());
    assert_eq!(state.next_check(Duration::ZERO), None);
}

#[test]
fn the_first_look_offers_every_gpu_and_is_one_line() {
    let mut state = state_with(Config::default());
    let effects = state.apply(discovered(inventory(0..4)), at(0));
    assert_eq!(events(&effects), ["driver-running"]);
    assert!(effects.contains(&Effect::Publish) && effects.contains(&Effect::Persist));
    assert_eq!(state.pools()[&ResourceName::gpu()].device_count(), 4);
    assert_eq!(health(&state), [true; 4]);
}

#[test]
fn a_look_that_finds_the_same_says_and_writes_nothing() {
    let mut state = node();
    let effects = state.apply(discovered(inventory(0..4)), at(1));
    assert_eq!(effects, [Effect::Publish]);
}

#[test]
fn a_fault_is_published_before_it_is_logged_or_written() {
    let mut state = node();
    let effects = state.apply(xid(Some(uuid(2)), 79), at(1));
    let [
        Effect::Publish,
        Effect::Log(line),
        Effect::Persist,
        Effect::Check(gpus),
    ] = &effects[..]
    else {
        panic!("{effects:?}");
    };
    assert_eq!(gpus, &[uuid(2)]);
    assert_eq!(health(&state), [true, true, false, true]);
    let name = GpuName {
        index: 2,
        uuid: uuid(2),
        pci: pci(2),
    };
    assert_eq!(
        (line.severity, line.gpu.as_ref()),
        (Severity::Error, Some(&name))
    );
    assert!(line.message.contains("Xid 79"), "{line}");
    assert!(line.meaning.is_some() && line.advice.is_some());
}

#[test]
fn the_same_fault_again_is_no_news() {
    let mut state = node();
    state.apply(xid(Some(uuid(2)), 79), at(1));
    assert_eq!(
        state.apply(xid(Some(uuid(2)), 79), at(2)),
        [Effect::Publish, Effect::Check(vec![uuid(2)])],
        "it is counted"
    );
}

#[test]
fn an_ignored_xid_is_mentioned_once_a_minute() {
    let mut state = node();
    assert_eq!(
        events(&state.apply(xid(Some(uuid(0)), 31), at(1))),
        ["xid-ignored"]
    );
    let again = state.apply(xid(Some(uuid(0)), 31), at(30));
    assert_eq!(again, [Effect::Publish], "it is counted");
    assert_eq!(
        events(&state.apply(xid(Some(uuid(1)), 31), at(30))),
        ["xid-ignored"]
    );
    assert_eq!(
        events(&state.apply(xid(Some(uuid(0)), 31), at(95))),
        ["xid-ignored"]
    );
    assert_eq!(health(&state), [true; 4]);
}

#[test]
fn a_corrected_memory_error_is_no_news() {
    let mut state = node();
    let event = DriverEvent {
        gpu: Some(uuid(0)),
        kind: DriverEventKind::SingleBitEcc,
        gpu_instance: None,
        compute_instance: None,
    };
    assert!(state.apply(Event::Driver(event), at(1)).is_empty());
}

#[test]
fn a_fault_of_nobody_asks_everybody_and_marks_nobody_yet() {
    let mut state = node();
    let effects = state.apply(xid(None, 119), at(1));
    assert_eq!(events(&effects), ["fault-of-unknown-gpu"]);
    assert!(effects.contains(&Effect::Check((0..4).map(uuid).collect())));
    assert_eq!(health(&state), [true; 4]);
    state.apply(well(0), at(1));
    state.apply(lost(1), at(1));
    let unknown = GpuCondition {
        recovery_action: None,
        double_bit_ecc: None,
        ..GpuCondition::default()
    };
    state.apply(Event::Checked(uuid(2), Ok(unknown)), at(1));
    assert_eq!(health(&state), [true, false, false, true]);
}

#[test]
fn recovery_is_told_with_its_reasons_and_how_long_it_took() {
    let mut state = node();
    state.apply(xid(Some(uuid(1)), 48), at(10));
    state.apply(lost(1), at(12));
    assert!(state.apply(well(1), at(20)).is_empty());
    let effects = state.apply(well(1), at(42));
    let told = lines(&effects);
    assert_eq!(told.len(), 1);
    assert!(told[0].message.contains("after 32 s"), "{}", told[0]);
    assert!(
        told[0].message.contains("Xid 48") && told[0].message.contains("lost"),
        "{}",
        told[0]
    );
    assert!(
        effects.contains(&Effect::Watch),
        "its events are wanted again"
    );
    assert_eq!(health(&state), [true; 4]);
}

#[test]
fn without_a_driver_every_gpu_is_unhealthy_and_the_line_says_what_to_do_once() {
    let mut state = node();
    let absent = Event::DriverAbsent(DriverError::NotRunning("Driver Not Loaded".to_owned()));
    let effects = state.apply(absent.clone(), at(1));
    assert_eq!(events(&effects), ["no-driver"]);
    assert!(
        lines(&effects)[0]
            .advice
            .as_deref()
            .unwrap()
            .contains("modprobe")
    );
    assert_eq!(health(&state), [false; 4]);
    assert_eq!(state.pools()[&ResourceName::gpu()].device_count(), 4);
    assert!(state.apply(absent, at(2)).is_empty());
    assert_eq!(state.next_check(Duration::ZERO), None);

    state.apply(discovered(inventory(0..4)), at(3));
    assert_eq!(health(&state), [true; 4]);
}

#[test]
fn a_driver_that_was_loaded_anew_has_reset_its_gpus() {
    let mut state = node();
    state.apply(xid(Some(uuid(0)), 79), at(0));
    let old_driver = GpuCondition {
        recovery_action: None,
        double_bit_ecc: None,
        ..GpuCondition::default()
    };
    let answer = |state: &mut NodeState, seconds| {
        state.apply(Event::Checked(uuid(0), Ok(old_driver)), at(seconds));
        health_of(state, 0)
    };
    assert_eq!(answer(&mut state, 100), DeviceHealth::Unhealthy);
    state.apply(
        Event::DriverAbsent(DriverError::NotRunning("unloaded".to_owned())),
        at(101),
    );
    state.apply(discovered(inventory(0..4)), at(102));
    assert_eq!(answer(&mut state, 103), DeviceHealth::Healthy);
}

#[test]
fn no_gpus_at_all_is_one_line_that_says_where_to_look() {
    let mut state = state_with(Config::default());
    let effects = state.apply(discovered(inventory([])), at(0));
    assert_eq!(events(&effects), ["no-gpus"]);
    assert!(state.pools().is_empty());
    assert!(events(&state.apply(discovered(inventory([])), at(30))).is_empty());
}

#[test]
fn a_gpu_that_leaves_the_bus_is_forgotten_and_one_that_stays_is_unhealthy() {
    let mut state = node();
    let effects = state.apply(on_bus(inventory(0..2), 0..3), at(1));
    assert_eq!(
        health(&state),
        [true, true, false],
        "the third is there, the fourth is gone"
    );
    assert_eq!(events(&effects), ["gpu-removed", "gpu-unhealthy"]);
}

#[test]
fn where_the_bus_cannot_be_told_only_a_sick_gpu_is_kept() {
    for bus in [None, Some(BTreeSet::from([pci(9)]))] {
        let mut state = node();
        state.apply(lost(3), at(1));
        let inventory = inventory(0..2);
        let discovery = Discovery {
            inventory,
            on_bus: bus,
            ..Discovery::default()
        };
        state.apply(Event::Discovered(Box::new(discovery)), at(2));
        let left: Vec<u32> = state.gpus().iter().map(|known| known.gpu.index).collect();
        assert_eq!(left, [0, 1, 3]);
    }
}

#[test]
fn another_board_in_the_same_place_replaces_a_sick_one() {
    let mut state = node();
    state.apply(lost(3), at(1));
    let mut inventory = inventory(0..4);
    inventory.gpus[3].uuid = uuid(77);
    let effects = state.apply(discovered(inventory), at(2));
    assert_eq!(events(&effects), ["gpu-added", "gpu-removed"]);
    assert_eq!(health(&state), [true; 4]);
}

#[test]
fn links_of_a_gpu_that_cannot_be_asked_are_those_it_had() {
    let mut state = node();
    let mut now = inventory([0, 1, 3]);
    now.broken.push(BrokenGpu {
        index: 2,
        uuid: None,
        pci: Some(pci(2)),
        error: DriverError::GpuLost,
    });
    now.links = LinkMatrix::from_fn(3, |_, _| link(17));
    state.apply(discovered(now), at(1));
    assert_eq!(health(&state), [true, true, false, true]);
    assert_eq!(state.roster.links.get(0, 2), link(18));
    assert_eq!(state.roster.links.get(0, 3), link(17));
    assert_eq!(state.gpus()[2].gpu, gpu(2), "with its last description");
}

#[test]
fn a_gpu_that_never_told_its_name_is_counted_and_unhealthy() {
    let mut state = state_with(Config::default());
    let mut now = inventory([0]);
    let error = DriverError::GpuLost;
    now.broken.push(BrokenGpu {
        index: 1,
        uuid: None,
        pci: Some(pci(1)),
        error,
    });
    state.apply(discovered(now), at(0));
    assert_eq!(health(&state), [true, false]);
    state.apply(discovered(inventory(0..2)), at(1));
    assert_eq!(
        health(&state),
        [true, true],
        "under its own name, in its place"
    );
}

#[test]
fn what_was_written_is_what_is_known_after_a_restart() {
    let mut state = node();
    state.apply(xid(Some(uuid(3)), 79), at(5));
    let record = state.record("boot");
    let remembered = record.clone().of_boot("boot").unwrap();
    let mut next = NodeState::new(Arc::new(Config::default()), remembered, at(1000));
    assert!(
        next.pools().is_empty(),
        "nothing is offered before the driver was asked"
    );
    next.apply(discovered(inventory(0..4)), at(1000));
    assert_eq!(health(&next), [true, true, true, false]);
    assert_eq!(next.record("boot"), record);
    // The hold-down begins anew, since nobody watched in between.
    next.apply(well(3), at(1029));
    assert_eq!(health(&next), [true, true, true, false]);
    next.apply(well(3), at(1030));
    assert_eq!(health(&next), [true; 4]);
}

#[test]
fn the_record_of_another_boot_or_version_says_nothing() {
    let mut state = node();
    state.apply(xid(Some(uuid(3)), 79), at(5));
    let record = state.record("boot");
    assert_eq!(record.clone().of_boot("another"), Ok(Vec::new()));
    let newer = HealthRecord {
        version: RECORD_VERSION + 1,
        ..record
    };
    assert!(newer.of_boot("boot").is_err());
}

#[test]
fn gpus_are_asked_at_intervals_and_a_sick_one_when_its_hold_down_ends() {
    let mut state = node();
    let interval = Config::default().health.check_interval;
    assert_eq!(state.next_check(at(0).monotonic), Some(interval));
    state.apply(xid(Some(uuid(0)), 79), at(100));
    state.apply(well(0), at(101));
    let due = |state: &NodeState, seconds| state.next_check(at(seconds).monotonic);
    assert_eq!(
        due(&state, 101),
        Some(interval),
        "29 s are left, an interval is sooner"
    );
    assert_eq!(due(&state, 125), Some(Duration::from_secs(5)));
    // With an old driver it may be over and the GPU unhealthy all the same: no spinning.
    assert_eq!(due(&state, 130), Some(interval));
}

#[test]
fn a_short_hold_down_makes_sick_gpus_be_asked_more_often() {
    let health = HealthTuning {
        hold_down: Duration::from_secs(2),
        check_interval: Duration::from_secs(15),
        nvml_call_timeout: Duration::from_secs(5),
    };
    let mut state = state_with(Config {
        health,
        ..Config::default()
    });
    state.apply(discovered(inventory(0..4)), at(0));
    state.apply(lost(0), at(1));
    assert_eq!(
        state.next_check(at(1).monotonic),
        Some(Duration::from_secs(2))
    );
}

#[test]
fn with_health_checks_disabled_only_what_cannot_be_used_is_unhealthy() {
    let xid_policy = XidPolicy::from_lists("all", "").0;
    let mut state = state_with(Config {
        xid_policy,
        ..Config::default()
    });
    state.apply(discovered(inventory(0..4)), at(0));
    let counted = state.apply(xid(Some(uuid(0)), 79), at(1));
    assert_eq!(counted, [Effect::Publish]);
    assert_eq!(state.next_check(Duration::ZERO), None);
    assert_eq!(health(&state), [true; 4]);
}

#[test]
fn a_failing_wait_is_told_once_and_so_is_its_end() {
    let mut state = node();
    let failed = || Event::WaitFailed(DriverError::GpuLost);
    let effects = state.apply(failed(), at(1));
    assert_eq!(events(&effects), ["events-failing"]);
    assert!(effects.contains(&Effect::Check((0..4).map(uuid).collect())));
    assert!(state.apply(failed(), at(2)).is_empty());
    assert!(state.wait_error().is_some());
    assert_eq!(
        events(&state.apply(Event::WaitWorks, at(3))),
        ["events-working"]
    );
    assert!(state.apply(Event::WaitWorks, at(4)).is_empty());
    assert_eq!(health(&state), [true; 4], "no GPU is blamed");
}

#[test]
fn gpus_without_events_are_said_to_be_polled() {
    let mut state = node();
    let watching = || Event::Watching {
        watched: (0..3).map(uuid).collect(),
        refused: vec![(uuid(3), DriverError::NotSupported)],
    };
    let effects = state.apply(watching(), at(0));
    assert_eq!(events(&effects), ["gpu-polled"]);
    assert_eq!(state.gpus()[0].watch, Watch::Events);
    assert_eq!(
        state.gpus()[3].watch,
        Watch::Polling(DriverError::NotSupported)
    );
    assert!(state.apply(watching(), at(1)).is_empty());
}

#[test]
fn new_settings_change_what_is_offered_and_the_same_settings_nothing() {
    let mut state = node();
    assert!(
        state
            .apply(Event::Configured(Arc::new(Config::default())), at(1))
            .is_empty()
    );
    let config = Config {
        pass_device_specs: true,
        ..Config::default()
    };
    assert_eq!(
        state.apply(Event::Configured(Arc::new(config)), at(1)),
        [Effect::Publish]
    );
}

#[test]
fn hold_down_is_the_settings() {
    let state = node();
    assert_eq!(state.config().health.hold_down, HOLD_DOWN);
}
