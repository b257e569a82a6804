//! What a node's health makes of its condition, its Events and its taint.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::driver::{DriverError, DriverEvent, DriverEventKind, GpuCondition, RecoveryAction};
use crate::gpu::Gpu;
use crate::health::Moment;
use crate::inventory::{DriverVersions, Inventory};
use crate::state::{Discovery, Event};
use crate::topology::{Link, LinkMatrix};
use crate::xid::Xid;

const BEGIN: u64 = 1_764_073_800;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

fn at(time: Duration) -> Moment {
    Moment {
        monotonic: time,
        wall: BEGIN + time.as_secs(),
    }
}

fn pci(index: u32) -> PciBusId {
    PciBusId {
        domain: 0,
        bus: u8::try_from(index).unwrap() + 1,
        device: 0,
        function: 0,
    }
}

fn uuid(index: u32) -> GpuUuid {
    let text = format!("GPU-4d697a7a-656e-4000-8000-{index:012x}");
    text.parse().unwrap()
}

fn sight(index: u32, reasons: &[Reason]) -> GpuSight {
    let trouble = |reason: &Reason| Trouble {
        part: None,
        reason: reason.clone(),
        since: BEGIN,
    };
    GpuSight {
        index,
        uuid: uuid(index),
        pci: pci(index),
        model: "NVIDIA H100 80GB HBM3".to_owned(),
        troubles: reasons.iter().map(trouble).collect(),
    }
}

fn node(gpus: impl IntoIterator<Item = GpuSight>) -> NodeHealth {
    NodeHealth {
        driver: DriverSight::Running {
            version: "580.95.05".to_owned(),
        },
        gpus: gpus.into_iter().collect(),
        left_out: Vec::new(),
    }
}

fn away(gpus: u32) -> NodeHealth {
    NodeHealth {
        driver: DriverSight::Away {
            error: "it is not there".to_owned(),
            advice: "install it",
        },
        ..well(gpus)
    }
}

fn well(gpus: u32) -> NodeHealth {
    node((0..gpus).map(|index| sight(index, &[])))
}

/// A node on which these GPUs have these troubles.
fn sick(gpus: u32, troubles: &[(u32, Reason)]) -> NodeHealth {
    let of = |index| {
        let own = troubles.iter().filter(|(gpu, _)| *gpu == index);
        own.map(|(_, reason)| reason.clone()).collect::<Vec<_>>()
    };
    node((0..gpus).map(|index| sight(index, &of(index))))
}

fn xid(number: u64) -> Reason {
    Reason::Xid(Xid(number))
}

fn condition(health: &NodeHealth) -> NodeCondition {
    match health.condition(true) {
        Verdict::Is(condition) => condition,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_condition_tells_which_gpu_since_when_why_and_what_helps() {
    let health = sick(
        8,
        &[
            (2, xid(79)),
            (2, Reason::RecoveryAction(RecoveryAction::NodeReboot)),
        ],
    );
    let said = condition(&health);
    assert_eq!(
        (said.status, said.reason),
        (ConditionStatus::False, "GPULost")
    );
    assert_eq!(
        said.message,
        "1 of 8 GPUs is not well. GPU 2 (GPU-4d697a7a-656e-4000-8000-000000000002 at \
         0000:03:00.0) is lost since 2025-11-25T12:30:00Z: Xid 79: GPU has fallen off the bus; the \
         driver asks for a reboot of the node; to do: drain the node and reboot it"
    );
}

#[test]
fn gpus_that_are_sick_for_the_same_reason_are_one_sentence() {
    let sick = sick(16, &[0, 1, 2, 3, 7].map(|gpu| (gpu, xid(48))));
    let said = condition(&sick);
    assert_eq!(said.reason, "GPUUnhealthy");
    let begin = "5 of 16 GPUs are not well. GPUs 0-3, 7 are unhealthy since 2025-";
    assert!(said.message.starts_with(begin), "{}", said.message);
}

#[test]
fn many_stories_are_told_as_far_as_they_fit_and_the_rest_is_counted() {
    let each = (0..16).map(|gpu| (gpu, Reason::Broken(format!("error {gpu} of the driver"))));
    let said = condition(&sick(16, &each.collect::<Vec<_>>()));
    assert!(said.message.len() <= 1024 && said.message.len() > 800);
    assert!(
        said.message.ends_with("12 GPUs more are not well"),
        "{}",
        said.message
    );
}

#[test]
fn all_well_is_true_and_what_the_settings_leave_out_is_nobodys_concern() {
    assert_eq!(condition(&well(1)).message, "1 GPU is healthy");
    let mut health = well(6);
    health.left_out = vec![uuid(6), uuid(7)];
    let said = condition(&health);
    assert_eq!(said.status, ConditionStatus::True);
    assert_eq!(said.message, "6 GPUs are healthy; the settings leave 2 out");
}

#[test]
fn a_node_without_gpus_has_no_condition_and_one_that_waits_for_its_driver_is_unknown() {
    let of = |health: &NodeHealth, on_bus| match health.condition(on_bus) {
        Verdict::Is(said) => Some((said.status, said.reason)),
        _ => None,
    };
    for health in [away(0), well(0)] {
        assert_eq!(health.condition(false), Verdict::NoGpus);
    }
    let unknown = ConditionStatus::Unknown;
    assert_eq!(of(&away(0), true), Some((unknown, "DriverMissing")));
    assert_eq!(of(&well(0), true), Some((unknown, "NoGPUs")));
    for on_bus in [true, false] {
        let gone = Some((ConditionStatus::False, "DriverGone"));
        assert_eq!(of(&away(8), on_bus), gone);
    }
    let mut health = well(0);
    health.left_out = vec![uuid(0)];
    assert_eq!(health.condition(true), Verdict::NoGpus);
    health.driver = DriverSight::NotAsked;
    assert_eq!(health.condition(true), Verdict::NotYet);
}

/// A state of two GPUs, of which events are told.
fn state(config: Config) -> NodeState {
    let gpus: Vec<Gpu> = (0..2)
        .map(|index| Gpu {
            index,
            minor: index,
            uuid: uuid(index),
            pci: pci(index),
            name: "NVIDIA H100 80GB HBM3".to_owned(),
            memory_mib: 81_559,
            compute_capability: (9, 0),
            numa_node: None,
            device_id: 0,
            mig: None,
        })
        .collect();
    let mut state = NodeState::new(Arc::new(config), Vec::new(), at(Duration::ZERO));
    let inventory = Inventory {
        driver: DriverVersions {
            driver: "580.95.05".to_owned(),
            nvml: "13.580.95.05".to_owned(),
            cuda: (13, 0),
        },
        links: LinkMatrix::from_fn(2, |_, _| Link::UNKNOWN),
        gpus,
        broken: Vec::new(),
    };
    let discovery = Discovery {
        inventory,
        ..Discovery::default()
    };
    state.apply(Event::Discovered(Box::new(discovery)), at(Duration::ZERO));
    state
}

#[test]
fn a_fault_its_cure_and_a_driver_that_goes_are_what_the_picture_shows() {
    let mut state = state(Config::default());
    assert_eq!(condition(&NodeHealth::of(&state)).reason, "GPUsHealthy");
    let fault = DriverEvent {
        gpu: Some(uuid(1)),
        kind: DriverEventKind::Xid(48),
        gpu_instance: None,
        compute_instance: None,
    };
    state.apply(Event::Driver(fault), at(SECOND));
    let health = NodeHealth::of(&state);
    assert_eq!(health.gpus[1].troubles[0].reason, xid(48));
    assert_eq!(health.gpus[1].troubles[0].since, BEGIN + 1);
    assert_eq!(condition(&health).reason, "GPUUnhealthy");

    let answer = GpuCondition {
        recovery_action: Some(RecoveryAction::None),
        ..GpuCondition::default()
    };
    state.apply(Event::Checked(uuid(1), Ok(answer)), at(MINUTE));
    assert!(NodeHealth::of(&state).gpus[1].is_well());
    let gone = DriverError::NotRunning("no module".to_owned());
    state.apply(Event::DriverAbsent(gone), at(MINUTE));
    let said = condition(&NodeHealth::of(&state));
    assert_eq!(said.reason, "DriverGone");
    assert!(said.message.contains("modprobe nvidia"), "{}", said.message);
}

#[test]
fn a_gpu_that_the_settings_leave_out_is_not_among_those_that_count() {
    let raw = crate::config::file::parse("gpus: {exclude: [1]}");
    let health = NodeHealth::of(&state(raw.validate().unwrap()));
    assert_eq!(health.gpus.len(), 1);
    assert_eq!(health.left_out, [uuid(1)]);
}

/// A chronicle with a clock, whose Events are all sent.
struct Teller {
    chronicle: Chronicle,
    now: Duration,
}

impl Teller {
    fn of(health: NodeHealth) -> Self {
        let mut chronicle = Chronicle::new(Told::default());
        chronicle.see(health, MINUTE);
        Self {
            chronicle,
            now: MINUTE,
        }
    }

    fn see(&mut self, health: NodeHealth) {
        self.chronicle.see(health, self.now);
    }

    /// The Events of so much time.
    fn events(&mut self, time: Duration) -> Vec<HealthEvent> {
        let end = self.now + time;
        let mut events = Vec::new();
        while let Some(due) = self.chronicle.due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let telling = self.chronicle.next(at(self.now)).unwrap();
            events.push(telling.event.clone());
            self.chronicle.told(telling, self.now);
        }
        self.now = end;
        events
    }

    fn reasons(&mut self, time: Duration) -> Vec<&'static str> {
        self.events(time).iter().map(|event| event.reason).collect()
    }
}

#[test]
fn a_fault_with_its_signs_is_one_event_and_so_is_its_cure() {
    let mut teller = Teller::of(well(8));
    assert!(teller.events(MINUTE).is_empty(), "well is no news");
    teller.see(sick(8, &[(2, xid(79))]));
    let reboot = Reason::RecoveryAction(RecoveryAction::NodeReboot);
    teller.see(sick(8, &[(2, xid(79)), (2, reboot)]));
    let events = teller.events(MINUTE);
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].is_warning && events[0].reason == "GPULost");
    assert!(events[0].message.starts_with("GPU 2 (GPU-"), "{events:?}");
    assert!(events[0].message.ends_with("drain the node and reboot it"));
    teller.see(well(8));
    let events = teller.events(MINUTE);
    assert_eq!(events.len(), 1);
    assert!(!events[0].is_warning && events[0].reason == "GPUHealthy");
    let words = "is healthy again after 181 s (Xid 79";
    assert!(events[0].message.contains(words), "{events:?}");
}

#[test]
fn gpus_that_fall_together_are_one_event_and_a_new_reason_is_another() {
    let mut teller = Teller::of(well(8));
    teller.see(sick(8, &[(1, xid(48))]));
    teller.see(sick(8, &[(1, xid(48)), (3, xid(48)), (5, xid(94))]));
    let events = teller.events(MINUTE);
    assert_eq!(events.len(), 1);
    let message = &events[0].message;
    assert!(message.starts_with("GPUs 1, 3 are unhealthy"), "{message}");
    assert!(message.contains(". GPU 5 (GPU-"), "{message}");
    teller.see(sick(
        8,
        &[(1, xid(48)), (3, xid(48)), (5, xid(94)), (5, xid(79))],
    ));
    assert_eq!(teller.reasons(MINUTE), ["GPULost"]);
    teller.see(sick(8, &[(1, xid(48)), (3, xid(48)), (5, xid(79))]));
    assert!(
        teller.events(MINUTE).is_empty(),
        "one reason less, and still lost"
    );
}

#[test]
fn a_driver_that_goes_and_comes_and_gpus_that_come_and_go_are_events() {
    let mut teller = Teller::of(well(2));
    teller.see(away(2));
    assert_eq!(teller.reasons(MINUTE), ["GPUDriverGone"]);
    teller.see(well(3));
    assert_eq!(teller.reasons(MINUTE), ["GPUDriverBack", "GPUAdded"]);
    teller.see(well(1));
    let events = teller.events(MINUTE);
    assert_eq!(events[0].reason, "GPURemoved");
    assert_eq!(events[0].message, "GPUs 1, 2 are not there any more");
    let mut bare = Teller::of(away(0));
    bare.see(well(8));
    assert!(
        bare.events(MINUTE).is_empty(),
        "a driver that was installed"
    );
}

#[test]
fn another_process_tells_what_has_changed_meanwhile_and_nothing_again() {
    let mut teller = Teller::of(well(4));
    teller.see(sick(4, &[(1, xid(48)), (2, xid(48))]));
    teller.events(MINUTE);
    let mut next = Teller {
        chronicle: Chronicle::new(teller.chronicle.what_was_told().clone()),
        now: teller.now,
    };
    next.see(NodeHealth {
        driver: DriverSight::NotAsked,
        ..well(0)
    });
    next.see(sick(4, &[(1, xid(48)), (2, xid(48))]));
    assert!(next.events(MINUTE).is_empty());
    next.see(sick(3, &[(1, xid(48))]));
    assert_eq!(next.reasons(MINUTE), ["GPURemoved", "GPUHealthy"]);
}

#[test]
fn what_the_settings_leave_out_is_told_neither_as_gone_nor_as_new() {
    let mut teller = Teller::of(well(4));
    let mut fewer = well(3);
    fewer.left_out = vec![uuid(3)];
    teller.see(fewer);
    assert!(teller.events(MINUTE).is_empty());
    teller.see(well(4));
    assert!(teller.events(MINUTE).is_empty());
}

#[test]
fn a_gpu_that_flaps_is_told_now_and_then_with_the_count_and_at_last_as_it_is() {
    let mut teller = Teller::of(well(2));
    let mut events = Vec::new();
    for _ in 0..100 {
        teller.see(sick(2, &[(0, xid(48))]));
        events.extend(teller.events(SECOND * 2));
        teller.see(well(2));
        events.extend(teller.events(SECOND * 2));
    }
    assert_eq!(events.len(), 4, "{events:#?}");
    let rest = teller.events(MINUTE * 20);
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].reason, "GPUHealthy");
    assert!(rest[0].message.contains("Sick 98 times more"), "{rest:?}");
    assert_eq!(teller.chronicle.due(), None);
}

#[test]
fn an_event_that_could_not_be_sent_is_made_anew_as_it_is_then() {
    let mut teller = Teller::of(well(2));
    teller.see(sick(2, &[(0, xid(48))]));
    let lost = teller.chronicle.next(at(teller.now + SECOND)).unwrap();
    assert_eq!(lost.event.reason, "GPUUnhealthy");
    teller.see(sick(2, &[(0, xid(48)), (1, xid(79))]));
    assert_eq!(teller.reasons(MINUTE), ["GPULost", "GPUUnhealthy"]);
}

#[test]
fn a_taint_waits_until_a_loss_has_lasted_and_goes_when_a_gpu_is_well() {
    let all_lost = sick(2, &[(0, xid(79)), (1, Reason::Hung)]);
    let mut watch = LossWatch::default();
    let begin = MINUTE;
    assert_eq!(watch.see(&all_lost, begin), Lost::Unclear);
    assert_eq!(watch.next(begin), Some(begin + SECOND * 30));
    assert_eq!(watch.see(&all_lost, begin + SECOND * 30), Lost::All);
    assert_eq!(watch.next(begin + SECOND * 30), None);
    // A reset would do; that brings no pods back before it is done.
    let one_better = sick(2, &[(0, xid(79)), (1, xid(48))]);
    assert_eq!(watch.see(&one_better, begin + MINUTE), Lost::Unclear);
    assert_eq!(watch.see(&away(2), begin + MINUTE), Lost::Unclear);
    let one_well = sick(2, &[(0, xid(79))]);
    assert_eq!(watch.see(&one_well, begin + MINUTE), Lost::NotAll);
    assert_eq!(watch.see(&well(0), begin + MINUTE), Lost::NotAll);
}

#[test]
fn days_are_counted_by_the_calendar() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_709_251_199, "2024-02-29T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(words::Utc(seconds).to_string(), text);
    }
}

fn reason() -> impl Strategy<Value = Reason> {
    prop_oneof![
        Just(xid(48)),
        Just(xid(79)),
        Just(Reason::Hung),
        Just(Reason::RecoveryAction(RecoveryAction::GpuReset)),
        "[a-zü]{0,80}".prop_map(Reason::Broken),
    ]
}

fn health() -> impl Strategy<Value = NodeHealth> {
    let gpu = prop::option::weighted(0.9, prop::collection::vec(reason(), 0..3));
    let gpus = prop::collection::vec(gpu, 0..5);
    (gpus, prop::bool::weighted(0.2)).prop_map(|(gpus, is_away)| {
        let sights = (0..).zip(gpus);
        let sights = sights.filter_map(|(index, reasons)| Some(sight(index, &reasons?)));
        let health = node(sights);
        let driver = if is_away { away(0) } else { well(0) }.driver;
        NodeHealth { driver, ..health }
    })
}

proptest! {
    #[test]
    fn a_condition_is_true_only_if_every_gpu_is_well_and_never_too_long(
        health in health(), on_bus in any::<bool>()
    ) {
        let running = matches!(health.driver, DriverSight::Running { .. });
        let all_well = health.gpus.iter().all(GpuSight::is_well);
        match health.condition(on_bus) {
            Verdict::Is(said) => {
                let is_true = running && all_well && !health.gpus.is_empty();
                prop_assert_eq!(said.status == ConditionStatus::True, is_true);
                prop_assert!(said.message.len() <= 1024 && !said.message.is_empty());
                prop_assert_eq!(Verdict::Is(said), health.condition(on_bus));
            }
            verdict => {
                prop_assert_eq!(verdict, Verdict::NoGpus);
                prop_assert!(health.gpus.is_empty());
            }
        }
    }

    #[test]
    fn events_are_bounded_and_at_last_everything_is_told(
        steps in prop::collection::vec((health(), 0_u64..40, any::<bool>()), 1..60)
    ) {
        let mut chronicle = Chronicle::new(Told::default());
        let mut now = MINUTE * 10;
        let mut sent = Vec::new();
        for (health, wait, works) in steps {
            chronicle.see(health, now);
            now += SECOND * u32::try_from(wait).unwrap();
            while let Some(telling) = chronicle.next(at(now)) {
                prop_assert!(telling.event.message.len() <= 1024);
                if !works {
                    break;
                }
                sent.push(now);
                chronicle.told(telling, now);
            }
        }
        for (first, begin) in sent.iter().enumerate() {
            let later = sent[first..].iter().filter(|time| **time < *begin + MINUTE * 5);
            prop_assert!(later.count() <= 10 + 10);
        }
        // In the end it is as it is for long enough.
        for _ in 0..1000 {
            let Some(due) = chronicle.due() else { break };
            now = now.max(due);
            let telling = chronicle.next(at(now));
            prop_assert!(telling.is_some(), "what is due can be told");
            chronicle.told(telling.unwrap(), now);
        }
        prop_assert_eq!(chronicle.due(), None);
        let told = chronicle.what_was_told().gpus_by_standing();
        prop_assert_eq!(told, chronicle.seen_by_standing());
    }
}
