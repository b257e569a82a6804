//! Changes that people make, and what is said about those that cannot be made.

use std::collections::BTreeSet;

use mizzen_core::mig::{
    GpuInstance, Layout, MigMode, MigPlan, MigStep, MigTarget, Placement, Unreachable, plan_mig,
};

use crate::machine::{Machine, engines_of, keys, table};

const NONE: BTreeSet<(u32, u32)> = BTreeSet::new();

fn target(text: &str) -> MigTarget {
    text.parse().unwrap()
}

/// An H100 cut so, as a plan for an empty one says; `3g.40gb@4` says where.
fn h100(devices: &[&str]) -> Layout {
    let mut machine = Machine::new("h100-80gb");
    for device in devices {
        let (profile, start) = device.split_once('@').unwrap();
        let profile = profile.parse().unwrap();
        let table = table("h100-80gb");
        let mut places = table.find(profile).unwrap().placements.iter();
        let start: u32 = start.parse().unwrap();
        let place = places.find(|place| place.start == start).unwrap();
        let id = machine.create_gpu_instance(profile, *place).unwrap();
        machine
            .create_compute_instance(id, profile.gpu_slices)
            .unwrap();
    }
    machine.layout()
}

fn plan(layout: &Layout, wanted: &str, held: &[(u32, u32)]) -> Result<MigPlan, Unreachable> {
    let held = held.iter().copied().collect();
    plan_mig(&table("h100-80gb"), layout, &target(wanted), &held)
}

fn refused(key: &str, wanted: &str) -> String {
    let layout = Machine::new(key).layout();
    let refusal = plan_mig(&table(key), &layout, &target(wanted), &NONE).unwrap_err();
    assert!(!refusal.is_for_now());
    refusal.to_string()
}

fn with_mode(mut layout: Layout, current: bool, pending: bool) -> Layout {
    layout.mode = MigMode { current, pending };
    layout
}

#[test]
fn the_largest_profile_has_all_engines_of_every_model() {
    for key in keys() {
        let (table, all) = (table(key), engines_of(key));
        let each = || table.profiles.iter().map(|info| info.engines);
        assert_eq!(each().map(|has| has.decoders).max(), Some(all.decoders));
        assert_eq!(each().map(|has| has.encoders).max(), Some(all.encoders));
        assert_eq!(each().map(|has| has.jpeg).max(), Some(all.jpeg));
        assert_eq!(each().map(|has| has.ofa).max(), Some(all.ofa));
    }
}

#[test]
fn what_is_as_it_shall_be_is_left_alone() {
    let layout = h100(&["3g.40gb@4", "1g.10gb@0"]);
    let plan = plan(&layout, "1g.10gb,3g.40gb", &[]).unwrap();
    assert!(plan.is_empty());
    assert_eq!(plan.kept, [(2, 0), (7, 0)]);
    assert_eq!(plan.after, layout);
}

#[test]
fn a_device_more_costs_none_of_the_others_where_there_is_room() {
    let layout = h100(&["3g.40gb@4", "1g.10gb@0"]);
    let plan = plan(&layout, "1g.10gb*2,2g.20gb,3g.40gb", &[]).unwrap();
    assert_eq!(plan.destroyed, []);
    let steps: Vec<MigStep> = creations(&[("1g.10gb", (1, 1), 1), ("2g.20gb", (2, 2), 2)]);
    assert_eq!(plan.steps, steps);
}

fn creations(list: &[(&str, (u32, u32), u32)]) -> Vec<MigStep> {
    let step =
        |(profile, (start, size), slices): &(&str, (u32, u32), u32)| MigStep::CreateGpuInstance {
            profile: profile.parse().unwrap(),
            placement: Placement {
                start: *start,
                size: *size,
            },
            slices: vec![*slices],
        };
    list.iter().map(step).collect()
}

#[test]
fn of_seven_those_stay_beside_which_most_still_fits() {
    let all: Vec<String> = (0..7).map(|start| format!("1g.10gb@{start}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let plan = plan(&h100(&all), "1g.10gb*3", &[]).unwrap();
    let starts = plan.after.instances.iter();
    let starts: Vec<u32> = starts.map(|instance| instance.placement.start).collect();
    assert_eq!(starts, [4, 5, 6], "four slices fit at 0 only");
    assert_eq!(plan.destroyed.len(), 4);
}

#[test]
fn one_in_the_way_moves_and_only_that_one() {
    // Four slices fit at 0 only.
    let layout = h100(&["1g.10gb@1", "1g.10gb@4", "1g.10gb@5"]);
    let plan = plan(&layout, "1g.10gb*3,4g.40gb", &[]).unwrap();
    assert_eq!(plan.destroyed, [(8, 0)]);
    assert_eq!(plan.kept, [(11, 0), (12, 0)]);
    let kinds: Vec<bool> = plan
        .steps
        .iter()
        .map(|step| matches!(step, MigStep::CreateGpuInstance { .. }))
        .collect();
    assert_eq!(
        kinds,
        [false, false, true, true],
        "what goes, then what comes"
    );
}

#[test]
fn a_gpu_instance_stays_while_it_is_split() {
    let layout = h100(&["3g.40gb@4"]);
    let plan = plan(&layout, "1c.3g.40gb*2", &[]).unwrap();
    assert_eq!(
        plan.steps,
        [
            MigStep::DestroyComputeInstance {
                gpu_instance: 2,
                id: 0
            },
            MigStep::CreateComputeInstances {
                gpu_instance: 2,
                slices: vec![1, 1]
            },
        ]
    );
}

#[test]
fn another_gpu_instance_is_made_where_that_spares_a_device() {
    let mut machine = Machine::new("h100-80gb");
    let shared = "3g.40gb".parse().unwrap();
    let place = table("h100-80gb").find(shared).unwrap().placements[0];
    let id = machine.create_gpu_instance(shared, place).unwrap();
    machine.create_compute_instance(id, 1).unwrap();
    // Two slices begin at 0 only, where the one is.
    let plan = plan(&machine.layout(), "1c.3g.40gb,2c.3g.40gb", &[]).unwrap();
    assert_eq!(plan.destroyed, []);
    assert_eq!(plan.after.instances.len(), 2);
}

#[test]
fn parts_are_made_in_an_order_in_which_the_driver_finds_room_for_all() {
    let mut machine = Machine::new("h100-80gb");
    let plan = plan(&machine.layout(), "3c.7g.80gb,2c.7g.80gb*2", &[]).unwrap();
    // Three slices, which the driver would put at 0, leave room for two only once.
    assert_eq!(
        plan.steps,
        [MigStep::CreateGpuInstance {
            profile: "7g.80gb".parse().unwrap(),
            placement: Placement { start: 0, size: 8 },
            slices: vec![2, 3, 2],
        }]
    );
    machine.apply(&plan.steps[0]).unwrap();
    assert_eq!(machine.layout(), plan.after);
}

#[test]
fn what_is_held_stays_and_is_named_where_it_stands_in_the_way() {
    let layout = h100(&["1g.10gb@1", "1g.10gb@4"]);
    let kept = plan(&layout, "1g.10gb,3g.40gb", &[(8, 0)]).unwrap();
    assert_eq!(kept.kept, [(8, 0)]);
    let refusal = plan(&layout, "1g.10gb*2,4g.40gb", &[(8, 0), (11, 0)]).unwrap_err();
    assert!(refusal.is_for_now());
    assert_eq!(
        refusal.to_string(),
        "1g.10gb x2, 4g.40gb is not possible while these are in use: 1g.10gb at 1:1 (GPU \
         instance 8, compute instance 0)"
    );
    let off = plan(&layout, "MIG off", &[(11, 0)]).unwrap_err();
    assert_eq!(
        off.to_string(),
        "MIG off is not possible while these are in use: 1g.10gb at 4:1 (GPU instance 11, \
         compute instance 0)"
    );
    let gone = plan(&layout, "MIG off", &[(3, 0)]).unwrap();
    assert_eq!(gone.destroyed, [(8, 0), (11, 0)]);
}

#[test]
fn it_is_said_why_something_can_never_be() {
    for (key, wanted, words) in [
        (
            "a30",
            "3g.40gb",
            "the GPU has no profile 3g.40gb; it has 1g.6gb, 1g.6gb+me, 2g.12gb, 2g.12gb+me, \
             4g.24gb",
        ),
        (
            "h100-80gb",
            "3c.4g.40gb",
            "the GPU has no profile 3c.4g.40gb; it has 1c.4g.40gb, 2c.4g.40gb, 4g.40gb",
        ),
        (
            "h100-80gb",
            "1g.10gb*8",
            "8 × 1g.10gb do not fit, at most 7 do",
        ),
        (
            "h100-80gb",
            "1c.3g.40gb*4000000000",
            "4000000000 × 1c.3g.40gb do not fit, at most 6 do",
        ),
        (
            "h100-80gb",
            "4g.40gb,2g.20gb*2",
            "2g.20gb x2, 4g.40gb do not fit together: they take 8 compute slices and the GPU has 7",
        ),
        (
            "a100-40gb",
            "3g.20gb*2,1g.5gb",
            "1g.5gb, 3g.20gb x2 do not fit together: they take 9 memory slices and the GPU has 8",
        ),
        (
            "a30",
            "1g.6gb+me,2g.12gb+me",
            "1g.6gb+me, 2g.12gb+me do not fit together: they take 2 JPEG decoders and the GPU \
             has 1",
        ),
        (
            "rtx-pro-6000",
            "1g.24gb+me.all,1g.24gb",
            "1g.24gb, 1g.24gb+me.all do not fit together: they take 5 decoders (NVDEC) and the \
             GPU has 4",
        ),
        (
            "h100-80gb",
            "1g.20gb*2,4g.40gb,1g.10gb",
            "1g.10gb, 1g.20gb x2, 4g.40gb do not fit together: they take 9 memory slices and the \
             GPU has 8",
        ),
        (
            "h100-80gb",
            "2c.3g.40gb*2,1c.3g.40gb*3",
            "1c.3g.40gb x3, 2c.3g.40gb x2 do not fit together: they do not fit into 2 GPU \
             instances 3g.40gb, and no more can be",
        ),
    ] {
        assert_eq!(refused(key, wanted), words);
    }
    let mut impossible = target("1g.10gb");
    impossible.enabled = false;
    let layout = h100(&[]);
    let refusal = plan_mig(&table("h100-80gb"), &layout, &impossible, &NONE).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "with MIG off there can be no MIG devices, but 1g.10gb are wanted"
    );
}

#[test]
fn the_mode_is_set_before_anything_is_made_and_after_everything_is_gone() {
    let off = with_mode(h100(&[]), false, false);
    let on = plan(&off, "7g.80gb", &[]).unwrap();
    assert_eq!(on.changes_mode(), Some(true));
    assert_eq!(on.steps[0], MigStep::SetMode(true));
    assert_eq!(on.steps.len(), 2);
    assert!(target("7g.80gb").is_met_by(&on.after));

    let layout = h100(&["7g.80gb@0"]);
    let down = plan(&layout, "MIG off", &[]).unwrap();
    assert_eq!(down.changes_mode(), Some(false));
    assert_eq!(down.steps.len(), 3);
    assert_eq!(down.steps[2], MigStep::SetMode(false));
    assert!(plan(&off, "MIG off", &[]).unwrap().is_empty());
}

#[test]
fn where_the_mode_waits_for_a_reset_so_does_the_rest() {
    let waiting = with_mode(h100(&[]), false, true);
    let on = plan(&waiting, "7g.80gb", &[]).unwrap();
    assert!(on.needs_reset && on.is_empty());
    assert_eq!(on.after, waiting);
    // Somebody has asked for the mode and thought better of it.
    let back = plan(&waiting, "MIG off", &[]).unwrap();
    assert!(!back.needs_reset);
    assert_eq!(back.steps, [MigStep::SetMode(false)]);

    let going = with_mode(h100(&["7g.80gb@0"]), true, false);
    let off = plan(&going, "MIG off", &[]).unwrap();
    assert!(off.needs_reset);
    assert_eq!(off.changes_mode(), None);
    assert_eq!(off.destroyed, [(0, 0)]);
    let stays = plan(&going, "7g.80gb", &[]).unwrap();
    assert!(!stays.needs_reset);
    assert_eq!(stays.steps, [MigStep::SetMode(true)]);
    assert_eq!(stays.kept, [(0, 0)]);
}

#[test]
fn a_layout_that_no_gpu_has_is_planned_for_all_the_same() {
    let mut layout = h100(&["1g.10gb@0"]);
    let one = layout.instances[0].clone();
    for id in 100..200 {
        layout.instances.push(GpuInstance { id, ..one.clone() });
    }
    let plan = plan(&layout, "1g.10gb*2", &[]).unwrap();
    assert_eq!(plan.kept.len(), 1);
    assert_eq!(plan.destroyed.len(), 100);
    let held = (0..200).map(|id| (id, 0)).collect();
    let refusal = plan_mig(&table("h100-80gb"), &layout, &target("1g.10gb*2"), &held);
    assert!(refusal.unwrap_err().is_for_now());
}
