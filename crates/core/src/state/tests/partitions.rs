//! MIG devices: their coming and going, their faults, and what is kept back.

use super::*;
use crate::config::MigStrategy;
use crate::health::Sign;
use crate::mig::{Capabilities, Engines, GpuMig, MigDevice, MigMode, MigUuid};

fn mig_uuid(gpu: u32, gpu_instance: u32, compute_instance: u32) -> MigUuid {
    let number = gpu * 100 + gpu_instance * 10 + compute_instance;
    format!("MIG-4d697a7a-656e-4000-8000-{number:012x}")
        .parse()
        .unwrap()
}

/// A partition of these devices: GPU instance, compute instance, profile.
fn cut(gpu: u32, devices: &[(u32, u32, &str)]) -> GpuMig {
    let device = |(index, (gi, ci, profile)): (u32, &(u32, u32, &str))| MigDevice {
        index,
        uuid: mig_uuid(gpu, *gi, *ci),
        gpu_instance: *gi,
        compute_instance: *ci,
        profile: profile.parse().unwrap(),
        memory_mib: 9_984,
        multiprocessors: 16,
        engines: Engines::default(),
        placement: None,
        capabilities: Capabilities::default(),
    };
    GpuMig {
        mode: MigMode {
            current: true,
            pending: true,
        },
        devices: (0..).zip(devices).map(device).collect(),
    }
}

const CUT: [(u32, u32, &str); 3] = [
    (1, 0, "1c.3g.40gb"),
    (1, 1, "1c.3g.40gb"),
    (7, 0, "1g.10gb"),
];

/// Two GPUs, the first one cut into [`CUT`].
fn mig_inventory() -> Inventory {
    let mut inventory = inventory(0..2);
    inventory.gpus[0].mig = Some(cut(0, &CUT));
    inventory
}

fn mig_node(mig_strategy: MigStrategy) -> NodeState {
    let mut state = state_with(Config {
        mig_strategy,
        ..Config::default()
    });
    state.apply(discovered(mig_inventory()), at(0));
    state
}

/// Somebody has cut GPU 0 into these.
fn partitioned(devices: &[(u32, u32, &str)]) -> Event {
    Event::Partitioned(uuid(0), Some(cut(0, devices)))
}

/// The resources with the ids of their devices and whether these are healthy.
fn offered(state: &NodeState) -> Vec<(String, Vec<(String, bool)>)> {
    let pools = state.pools().iter();
    pools
        .map(|(name, pool)| {
            let list = pool.list(|share| state.health(share));
            let devices = list.iter().flat_map(|listed| {
                let healthy = listed.health == DeviceHealth::Healthy;
                listed.ids().map(move |id| (id, healthy))
            });
            (name.short().to_owned(), devices.collect())
        })
        .collect()
}

/// The devices, of all resources, that are listed as unhealthy.
fn sick(state: &NodeState) -> Vec<String> {
    let all = offered(state).into_iter().flat_map(|(_, devices)| devices);
    all.filter(|(_, healthy)| !healthy)
        .map(|(id, _)| id)
        .collect()
}

fn event(gpu: u32, instance: (Option<u32>, Option<u32>), kind: DriverEventKind) -> Event {
    Event::Driver(DriverEvent {
        gpu: Some(uuid(gpu)),
        kind,
        gpu_instance: instance.0,
        compute_instance: instance.1,
    })
}

fn xid_of(gpu_instance: Option<u32>, compute_instance: Option<u32>) -> Event {
    let kind = DriverEventKind::Xid(94);
    event(0, (gpu_instance, compute_instance), kind)
}

fn ids(devices: &[(u32, u32)]) -> Vec<String> {
    let ids = devices.iter().map(|(gi, ci)| mig_uuid(0, *gi, *ci));
    ids.map(|uuid| uuid.to_string()).collect()
}

#[test]
fn a_fault_of_the_gpu_marks_every_instance_and_they_recover_with_it() {
    let mut state = mig_node(MigStrategy::Mixed);
    state.apply(xid_of(None, None), at(0));
    assert_eq!(sick(&state), ids(&[(1, 0), (1, 1), (7, 0)]));
    state.apply(well(0), at(31));
    assert_eq!(sick(&state), ids(&[]));
}

#[test]
fn an_event_that_names_an_instance_marks_that_one() {
    for (gpu_instance, compute_instance, marked) in [
        (7, None, &[(7, 0)][..]),
        (1, Some(1), &[(1, 1)]),
        (1, None, &[(1, 0), (1, 1)]),
    ] {
        let mut state = mig_node(MigStrategy::Mixed);
        let effects = state.apply(xid_of(Some(gpu_instance), compute_instance), at(0));
        assert_eq!(sick(&state), ids(marked));
        assert!(effects.contains(&Effect::Check(vec![uuid(0)])));
        assert_eq!(lines(&effects).len(), marked.len());
        let line = lines(&effects)[0];
        let (gi, ci) = marked[0];
        assert_eq!(line.mig, Some(mig_uuid(0, gi, ci)));
        assert!(line.message.starts_with("MIG device 1"), "{line}");

        // The GPU itself is well all the time; the instance is after its hold-down.
        state.apply(well(0), at(10));
        assert_eq!(sick(&state), ids(marked));
        let effects = state.apply(well(0), at(31));
        assert_eq!(sick(&state), ids(&[]));
        assert_eq!(lines(&effects)[0].event, "gpu-healthy");
        assert_eq!(
            state.next_check(at(31).monotonic),
            state.next_check(at(99).monotonic)
        );
    }
}

#[test]
fn an_event_of_an_instance_that_nobody_knows_is_the_gpus() {
    let mut state = mig_node(MigStrategy::Mixed);
    state.apply(xid_of(Some(5), Some(0)), at(0));
    assert_eq!(sick(&state).len(), CUT.len());

    let mut whole = mig_node(MigStrategy::None);
    whole.apply(xid_of(Some(7), Some(0)), at(0));
    assert_eq!(sick(&whole), [uuid(0).to_string()]);
}

#[test]
fn an_instance_that_is_made_anew_has_no_past() {
    let mut state = mig_node(MigStrategy::Mixed);
    state.apply(xid_of(Some(7), None), at(0));
    state.apply(partitioned(&CUT[..2]), at(1));
    assert_eq!(sick(&state), ids(&[]));
    state.apply(partitioned(&CUT), at(2));
    assert_eq!(sick(&state), ids(&[]));
}

#[test]
fn the_sickness_of_an_instance_survives_a_restart() {
    let mut state = mig_node(MigStrategy::Mixed);
    state.apply(xid_of(Some(7), None), at(0));
    let record = state.record("boot");
    let Sign { reason, .. } = record.gpus[0].mig[0].signs[0].clone();
    assert_eq!(reason.to_string(), xid_text());

    let config = Config {
        mig_strategy: MigStrategy::Mixed,
        ..Config::default()
    };
    let mut next = NodeState::new(Arc::new(config), record.gpus, at(0));
    next.apply(discovered(mig_inventory()), at(0));
    assert_eq!(sick(&next), ids(&[(7, 0)]));
    next.apply(well(0), at(31));
    assert_eq!(sick(&next), ids(&[]));
}

fn xid_text() -> String {
    crate::health::Reason::Xid(crate::xid::Xid(94)).to_string()
}

#[test]
fn instances_come_and_go_without_touching_other_resources() {
    let mut state = mig_node(MigStrategy::Mixed);
    let names = |state: &NodeState| -> Vec<String> {
        offered(state).into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(&state), ["gpu", "mig-1c.3g.40gb", "mig-1g.10gb"]);
    let before = offered(&state);
    let effects = state.apply(
        partitioned(&[
            (1, 0, "1c.3g.40gb"),
            (1, 1, "1c.3g.40gb"),
            (3, 0, "2g.20gb"),
        ]),
        at(1),
    );
    assert!(effects.contains(&Effect::Publish) && effects.contains(&Effect::Persist));
    assert_eq!(
        lines(&effects)[0].message,
        "MIG is on, 1 x 2g.20gb, 2 x 1c.3g.40gb"
    );
    assert_eq!(names(&state), ["gpu", "mig-1c.3g.40gb", "mig-2g.20gb"]);
    assert_eq!(offered(&state)[..2], before[..2]);

    let same = state.gpus()[0].gpu.mig.clone();
    assert!(
        state
            .apply(Event::Partitioned(uuid(0), same), at(2))
            .is_empty()
    );
}

#[test]
fn a_change_that_the_driver_reports_is_looked_at() {
    let mut state = mig_node(MigStrategy::Mixed);
    let kind = DriverEventKind::MigConfigChange;
    let effects = state.apply(event(0, (None, None), kind), at(0));
    assert_eq!(effects, [Effect::LookAtPartitions(vec![uuid(0)])]);
    // The second GPU cannot be partitioned.
    assert!(state.apply(event(1, (None, None), kind), at(0)).is_empty());
}

#[test]
fn partitions_are_watched_where_they_decide_what_is_offered() {
    assert!(mig_node(MigStrategy::None).partitions_to_watch().is_empty());
    let mut state = mig_node(MigStrategy::Single);
    assert_eq!(state.partitions_to_watch(), [uuid(0)]);
    let gone = DriverError::NotRunning("unloaded".to_owned());
    state.apply(Event::DriverAbsent(gone), at(0));
    assert!(state.partitions_to_watch().is_empty());
    state.apply(discovered(mig_inventory()), at(0));
    state.apply(lost(0), at(0));
    assert!(state.partitions_to_watch().is_empty());
}

#[test]
fn what_is_withheld_is_unhealthy_until_it_is_let_go() {
    let mut state = mig_node(MigStrategy::Mixed);
    let one = BTreeSet::from([mig_uuid(0, 7, 0)]);
    let withheld = BTreeMap::from([(uuid(0), Withheld::Devices(one))]);
    let effects = state.apply(Event::Withhold(withheld.clone()), at(0));
    assert_eq!(effects, [Effect::Publish]);
    assert_eq!(sick(&state), ids(&[(7, 0)]));
    assert!(state.partitions_to_watch().is_empty());
    let change = event(0, (None, None), DriverEventKind::MigConfigChange);
    assert!(state.apply(change, at(0)).is_empty(), "its changer tells");
    assert!(state.apply(Event::Withhold(withheld), at(0)).is_empty());

    let among = |state: &NodeState, instance: u32, name: &str| {
        let id = mig_uuid(0, instance, 0).to_string();
        let pool = &state.pools()[&name.parse().unwrap()];
        state
            .withheld_among(pool, [id.as_str()].into_iter())
            .map(str::to_owned)
    };
    assert_eq!(
        among(&state, 7, "mig-1g.10gb"),
        Some(mig_uuid(0, 7, 0).to_string())
    );
    assert_eq!(among(&state, 1, "mig-1c.3g.40gb"), None);

    let whole = BTreeMap::from([(uuid(0), Withheld::Whole), (uuid(1), Withheld::Whole)]);
    state.apply(Event::Withhold(whole), at(0));
    assert_eq!(sick(&state).len(), CUT.len() + 1);
    state.apply(Event::Withhold(BTreeMap::new()), at(0));
    assert_eq!(sick(&state), ids(&[]));
}

#[test]
fn a_gpu_that_is_looked_at_while_it_is_partitioned_is_as_it_was() {
    let mut state = mig_node(MigStrategy::Mixed);
    let before = offered(&state);
    let mut inventory = mig_inventory();
    inventory.gpus.remove(0);
    inventory.links = LinkMatrix::unknown(1);
    inventory.broken.push(BrokenGpu {
        index: 0,
        uuid: Some(uuid(0)),
        pci: Some(pci(0)),
        error: DriverError::InUse,
    });
    state.apply(discovered(inventory), at(1));
    assert_eq!(offered(&state), before);
    assert_eq!(sick(&state), ids(&[]));
}
