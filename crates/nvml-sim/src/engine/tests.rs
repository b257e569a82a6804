//! Sessions and event sets, without C.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::control::{Fault, GpuRef, Gpus, LinkError, Simulator};
use crate::environment::Place;
use crate::node::NvLinkError;
use crate::scenario::Scenario;

struct Machine {
    simulator: Simulator,
    place: Place,
    _directory: tempfile::TempDir,
}

fn machine(short: &str) -> Machine {
    let directory = tempfile::tempdir().unwrap();
    let scenario = Scenario::short(short).unwrap();
    let simulator = Simulator::create(directory.path(), &scenario).unwrap();
    Machine {
        simulator,
        place: Place::new(None, Some(directory.path().to_owned()), None),
        _directory: directory,
    }
}

fn session(machine: &Machine) -> Arc<Session> {
    Arc::new(Session::open(&machine.place).unwrap())
}

fn event(xid: u64) -> Fault {
    Fault::Xid {
        xid,
        gpu_instance: None,
        compute_instance: None,
        consequences: false,
    }
}

#[test]
fn every_return_code_is_found_by_its_number_and_has_a_message() {
    for failure in Failure::ALL {
        assert_eq!(Failure::from_code(failure as u32), failure);
        assert!(!failure.message().is_empty());
    }
    assert_eq!(Failure::from_code(500), Failure::Unknown);
}

#[test]
fn errors_of_links_are_counted_until_a_reset() {
    let machine = machine("1xh100-80gb");
    let inject = |error, count| {
        let fault = Fault::Link { error, count };
        let all = machine.simulator.inject(&Gpus::All, &fault, None);
        all.unwrap();
    };
    inject(LinkError::PcieReplay, 3);
    inject(LinkError::NvLink(NvLinkError::CrcFlit), 4);
    inject(LinkError::NvLink(NvLinkError::Recovery), 5);
    inject(LinkError::NvLink(NvLinkError::Recovery), 1);
    let session = session(&machine);
    let counted = || {
        // PCIe replays; the first link and the sum of all, for each kind of NVLink error.
        [94, 32, 33, 38, 45, 52, 53, 59].map(|field| {
            match session.device(0).unwrap().field(field, 0).unwrap() {
                FieldValue::Small(count) => u64::from(count),
                FieldValue::Big(count) => count,
                FieldValue::Signed(count) => panic!("{count} errors"),
            }
        })
    };
    assert_eq!(counted(), [3, 4, 0, 4, 0, 0, 6, 6]);
    machine.simulator.heal(&Gpus::All).unwrap();
    assert_eq!(counted(), [0; 8]);
}

#[test]
fn a_gpu_without_nvlinks_makes_no_errors_on_them() {
    let machine = machine("1xt4");
    let fault = |error| Fault::Link { error, count: 1 };
    let nvlink = fault(LinkError::NvLink(NvLinkError::Replay));
    let refused = machine.simulator.inject(&Gpus::All, &nvlink, None);
    let words = refused.unwrap_err().to_string();
    assert!(
        words.starts_with("GPU 0 is a Tesla T4 without NVLinks"),
        "{words}"
    );
    let pcie = fault(LinkError::PcieReplay);
    machine.simulator.inject(&Gpus::All, &pcie, None).unwrap();
}

#[test]
fn a_session_orders_its_gpus_by_their_place_on_the_bus() {
    let machine = machine("8xh100-80gb,8xt4");
    let session = session(&machine);
    let places: Vec<_> = (0..session.count())
        .map(|index| session.device(index).unwrap().pci())
        .collect();
    assert!(places.is_sorted());
    assert_eq!(places.len(), 16);
}

#[test]
fn a_listener_that_falls_far_behind_goes_on_with_what_is_left() {
    let machine = machine("1xt4");
    let set = EventSet::new(session(&machine));
    set.register(0, 0x8).unwrap();
    for xid in 1..=1000 {
        machine
            .simulator
            .inject(&GpuRef::Index(0).into(), &event(xid), None)
            .unwrap();
    }
    let mut told = Vec::new();
    while let Ok(event) = set.wait(0) {
        told.push(event.data);
    }
    assert_eq!(told.last(), Some(&1000));
    assert!(told.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert!(told.len() >= 100, "{}", told.len());
}

#[test]
fn a_gpu_added_to_a_set_piece_by_piece_is_told_once() {
    let machine = machine("1xh100-80gb");
    let set = EventSet::new(session(&machine));
    for kinds in [0x8, 0x2, 0x8 | 0x2, 0x1] {
        set.register(0, kinds).unwrap();
    }
    machine
        .simulator
        .inject(&GpuRef::Index(0).into(), &Fault::xid(48), None)
        .unwrap();
    let kinds: Vec<u64> = std::iter::from_fn(|| set.wait(0).ok())
        .map(|event| event.kind)
        .collect();
    assert_eq!(kinds, [0x2, 0x8]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn each_set_is_told_exactly_what_it_asked_for(
        asked in proptest::collection::vec(proptest::collection::btree_set(0_usize..4, 0..4), 1..4),
        injected in proptest::collection::vec((0_u32..4, 1_u64..200), 0..100),
    ) {
        let machine = machine("4xt4");
        let sets: Vec<EventSet> = asked
            .iter()
            .map(|gpus| {
                let set = EventSet::new(session(&machine));
                for gpu in gpus {
 set.register(*gpu, 0x8).unwrap();
}
                set
            })
            .collect();
        for (gpu, xid) in &injected {
            machine.simulator.inject(&GpuRef::Index(*gpu).into(), &event(*xid), None).unwrap();
        }
        for (set, gpus) in sets.iter().zip(&asked) {
            let expected: Vec<(usize, u64)> = injected
                .iter()
                .map(|(gpu, xid)| (*gpu as usize, *xid))
                .filter(|(gpu, _)| gpus.contains(gpu))
                .collect();
            let told: Vec<(usize, u64)> = std::iter::from_fn(|| set.wait(0).ok())
                .map(|event| (event.device, event.data))
                .collect();
            prop_assert_eq!(told, expected);
        }
    }
}
