//! What holds for every change.

use std::collections::{BTreeMap, BTreeSet};

use mizzen_core::mig::{
    Layout, MigConfigFile, MigPlan, MigStep, MigTable, MigTarget, Placement, plan_mig,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::machine::{Machine, engines_of, keys, table};
use crate::oracle::least_cost;

/// One thing that somebody does to a GPU.
type Deed = (u8, Index, Index);

fn deed() -> impl Strategy<Value = Deed> {
    (0..8_u8, any::<Index>(), any::<Index>())
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    prop::collection::vec(deed(), 0..24)
}

/// What a GPU is to be cut into.
#[derive(Debug, Clone)]
enum Goal {
    /// What another GPU has to which all of this was done.
    Other(Vec<Deed>),
    /// What the same GPU would have after some more.
    Later(Vec<Deed>),
    /// A few devices of any profiles.
    Any(Vec<(Index, Index)>),
}

/// A GPU to which all of this was done, as far as it went.
fn after(key: &str, table: &MigTable, deeds: &[Deed]) -> Machine {
    let mut machine = Machine::new(key);
    for (kind, first, second) in deeds {
        let layout = machine.layout();
        let some = (!layout.instances.is_empty()).then(|| first.get(&layout.instances));
        match (kind, some) {
            (0..=3, _) => {
                let info = first.get(&table.profiles);
                let place = *second.get(&info.placements);
                let made = machine.create_gpu_instance(info.profile, place);
                if let (Ok(id), 0..=2) = (made, kind) {
                    let all = info.profile.gpu_slices;
                    machine.create_compute_instance(id, all).unwrap();
                }
            }
            (4 | 5, Some(instance)) => {
                let slices = second.index(instance.profile.gpu_slices as usize) + 1;
                let _ =
                    machine.create_compute_instance(instance.id, u32::try_from(slices).unwrap());
            }
            (6, Some(instance)) if !instance.compute.is_empty() => {
                let inside = second.get(&instance.compute);
                machine
                    .destroy_compute_instance(instance.id, inside.id)
                    .unwrap();
            }
            (7, Some(instance)) => {
                let _ = machine.destroy_gpu_instance(instance.id);
            }
            _ => {}
        }
    }
    machine
}

/// The devices that there are, as a target.
fn like(layout: &Layout) -> MigTarget {
    MigTarget::of(layout.instances.iter().flat_map(|instance| {
        let inside = instance.compute.iter();
        inside.map(|inside| (instance.profile.with_compute_slices(inside.slices), 1))
    }))
}

/// A few devices of any profiles, which may not fit.
fn any_target(table: &MigTable, picks: &[(Index, Index)]) -> MigTarget {
    MigTarget::of(picks.iter().map(|(profile, slices)| {
        let whole = profile.get(&table.profiles).profile;
        let slices = slices.index(2 * whole.gpu_slices as usize) + 1;
        let slices = u32::try_from(slices).unwrap().min(whole.gpu_slices);
        (whole.with_compute_slices(slices), 1)
    }))
}

fn pairs(layout: &Layout) -> BTreeMap<(u32, u32), (String, Placement, Placement)> {
    let all = layout.instances.iter().flat_map(|instance| {
        instance.compute.iter().map(|inside| {
            let profile = instance.profile.with_compute_slices(inside.slices);
            let what = (profile.to_string(), instance.placement, inside.placement);
            ((instance.id, inside.id), what)
        })
    });
    all.collect()
}

fn cost(plan: &MigPlan) -> (usize, usize, usize) {
    let gone = |step: &&MigStep| matches!(step, MigStep::DestroyGpuInstance { .. });
    let gone = plan.steps.iter().filter(gone).count();
    (plan.destroyed.len(), gone, plan.after.instances.len())
}

/// Carries a plan out and looks whether it does what it says.
fn check(
    machine: &Machine,
    target: &MigTarget,
    held: &BTreeSet<(u32, u32)>,
    plan: &MigPlan,
) -> Result<(), TestCaseError> {
    let before = machine.layout();
    prop_assert!(target.is_met_by(&plan.after), "{:?}", plan);
    prop_assert!(!plan.needs_reset);
    prop_assert_eq!(plan.changes_mode(), None);
    let mut machine = machine.clone();
    for step in &plan.steps {
        let done = machine.apply(step);
        prop_assert!(done.is_ok(), "{:?}: {:?} in {:?}", done, step, plan);
    }
    prop_assert_eq!(&machine.layout(), &plan.after);
    let (was, is) = (pairs(&before), pairs(&plan.after));
    for ids in &plan.kept {
        prop_assert_eq!(&was[ids], &is[ids]);
    }
    let all: BTreeSet<_> = plan.kept.iter().chain(&plan.destroyed).copied().collect();
    prop_assert_eq!(&all, &was.keys().copied().collect::<BTreeSet<_>>());
    prop_assert_eq!(plan.kept.len() + plan.destroyed.len(), was.len());
    prop_assert!(held.iter().all(|ids| plan.kept.contains(ids)));
    Ok(())
}

/// The MIG devices whose bits are set.
fn some_of(layout: &Layout, chosen: u32) -> BTreeSet<(u32, u32)> {
    let all = pairs(layout).into_keys().zip(0..u32::BITS);
    all.filter(|(_, at)| chosen >> at & 1 == 1)
        .map(|(ids, _)| ids)
        .collect()
}

/// Plans a change and holds it against the oracle.
fn judge(
    key: &str,
    machine: &Machine,
    target: &MigTarget,
    held: &BTreeSet<(u32, u32)>,
) -> Result<(), TestCaseError> {
    let (table, layout) = (table(key), machine.layout());
    let plan = plan_mig(&table, &layout, target, held);
    prop_assert_eq!(&plan, &plan_mig(&table, &layout, target, held));
    // A GPU instance of four slices has no compute instances of three.
    let valid = target.devices.keys().all(|device| {
        let (all, size) = (device.gpu_slices, device.compute_slices);
        size == all || [1, 2, 3, 4, 7].contains(&size) && (size, all) != (3, 4)
    });
    let least = |layout: &Layout, held: &BTreeSet<_>| {
        let found = || least_cost(&table, engines_of(key), layout, target, held);
        valid.then(found).flatten()
    };
    match (&plan, least(&layout, held)) {
        (Ok(plan), Some(least)) => {
            prop_assert_eq!(cost(plan), least);
            check(machine, target, held, plan)?;
            let again = plan_mig(&table, &plan.after, target, held).unwrap();
            prop_assert!(again.is_empty());
            prop_assert_eq!(&again.after, &plan.after);
        }
        (Err(refusal), None) => {
            let none = Layout {
                mode: layout.mode,
                instances: Vec::new(),
            };
            let ever = least(&none, &BTreeSet::new()).is_some();
            prop_assert_eq!(refusal.is_for_now(), ever, "{}", refusal);
            prop_assert!(!refusal.to_string().is_empty());
        }
        (plan, least) => prop_assert!(false, "{:?} but the oracle says {:?}", plan, least),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_change_destroys_no_more_than_the_oracle_and_is_refused_where_it_finds_none(
        key in select(keys()),
        deeds in deeds(),
        goal in prop_oneof![
            deeds().prop_map(Goal::Other),
            prop::collection::vec(deed(), 1..6).prop_map(Goal::Later),
            prop::collection::vec(any::<(Index, Index)>(), 0..5).prop_map(Goal::Any),
        ],
        holding in prop_oneof![Just(0_u32), any::<u32>()],
        rarely in any::<u32>(),
    ) {
        let table = table(key);
        let machine = after(key, &table, &deeds);
        let target = match &goal {
            Goal::Other(deeds) => like(&after(key, &table, deeds).layout()),
            Goal::Later(more) => like(&after(key, &table, &[&deeds[..], more].concat()).layout()),
            Goal::Any(picks) => any_target(&table, picks),
        };
        let held = some_of(&machine.layout(), holding & rarely);
        judge(key, &machine, &target, &held)?;
    }

    #[test]
    fn of_gpu_instances_that_are_shared_as_much_stays_as_can(
        key in select(keys()),
        kind in any::<Index>(),
        parts in prop::collection::vec((any::<Index>(), any::<Index>(), prop::bool::weighted(0.7)), 1..12),
        wanted in prop::collection::vec(any::<Index>(), 1..6),
        holding in prop_oneof![Just(0_u32), any::<u32>()],
    ) {
        let table = table(key);
        let shared = table.profiles.iter().filter(|info| info.profile.gpu_slices > 1);
        let info = *kind.get(&shared.collect::<Vec<_>>());
        let all = info.profile.gpu_slices as usize;
        let slices = |index: &Index| u32::try_from(index.index(all.min(4)) + 1).unwrap();
        let mut machine = Machine::new(key);
        for (first, second, stays) in &parts {
            let place = *first.get(&info.placements);
            let _ = machine.create_gpu_instance(info.profile, place);
            let layout = machine.layout();
            let mut instances = layout.instances.iter();
            let Some(instance) = instances.find(|found| found.placement == place) else {
                continue;
            };
            let _ = machine.create_compute_instance(instance.id, slices(second));
            if !stays && let Some(inside) = instance.compute.first() {
                machine.destroy_compute_instance(instance.id, inside.id).unwrap();
            }
        }
        let devices = wanted.iter().map(|index| (info.profile.with_compute_slices(slices(index)), 1));
        let held = some_of(&machine.layout(), holding);
        judge(key, &machine, &MigTarget::of(devices), &held)?;
    }

    #[test]
    fn whatever_is_there_it_can_be_taken_away_unless_it_is_held(
        key in select(keys()),
        deeds in deeds(),
    ) {
        let table = table(key);
        let mut machine = after(key, &table, &deeds);
        let layout = machine.layout();
        let plan = plan_mig(&table, &layout, &MigTarget::off(), &BTreeSet::new()).unwrap();
        let (last, steps) = plan.steps.split_last().unwrap();
        prop_assert_eq!(last, &MigStep::SetMode(false));
        for step in steps {
            machine.apply(step).unwrap();
        }
        prop_assert!(machine.layout().instances.is_empty());
        let held: BTreeSet<_> = pairs(&layout).into_keys().take(1).collect();
        let refused = plan_mig(&table, &layout, &MigTarget::off(), &held);
        prop_assert_eq!(refused.is_err_and(|refusal| refusal.is_for_now()), !held.is_empty());
    }

    #[test]
    fn no_text_brings_the_readers_down(text in ".{0,200}") {
        let _ = MigConfigFile::parse(&text);
        let _ = text.parse::<MigTarget>();
    }

    #[test]
    fn no_file_of_known_words_brings_the_reader_down(
        words in prop::collection::vec(select(vec![
            "version: v1\n", "mig-configs:\n", "  a:\n", "  - ", "    - ", "devices: all\n",
            "devices: [0, 1]\n", "      mig-enabled: true\n", "      mig-devices:\n",
            "        1g.10gb: 7\n", "        \"1g.5gb\": -1\n", "device-filter: 0x233010DE\n", "{", "}",
            "[", "]", "&a ", "*a", "\n", "  ", ": ", "null", "---\n", "<<: ",
        ]), 0..24),
    ) {
        let _ = MigConfigFile::parse(&words.concat());
    }
}
