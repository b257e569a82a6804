use mizzen_core::mig::{ComputeInstance, MigMode, MigProfile, MigTarget, ProfileInfo, plan_mig};

use super::*;

/// An H100's, as far as it matters.
fn table() -> MigTable {
    let profile = |name: &str, starts: &[u32], size: u32| {
        let profile: MigProfile = name.parse().unwrap();
        ProfileInfo {
            profile,
            number: profile.gpu_slices,
            id: profile.gpu_slices,
            memory_mib: 10_000 * u64::from(size),
            multiprocessors: 16 * profile.gpu_slices,
            engines: mizzen_core::mig::Engines::default(),
            most: u32::try_from(starts.len()).unwrap(),
            placements: starts
                .iter()
                .map(|&start| Placement { start, size })
                .collect(),
        }
    };
    MigTable {
        profiles: vec![
            profile("1g.10gb", &[0, 1, 2, 3, 4, 5, 6], 1),
            profile("2g.20gb", &[0, 2, 4], 2),
            profile("3g.40gb", &[0, 4], 4),
            profile("7g.80gb", &[0], 8),
        ],
    }
}

fn instance(id: u32, profile: &str, place: (u32, u32), sizes: &[u32]) -> GpuInstance {
    let mut next = 0;
    let compute = (0..).zip(sizes).map(|(id, &size)| {
        let start = next;
        next += size;
        ComputeInstance {
            id,
            slices: size,
            placement: Placement { start, size },
        }
    });
    GpuInstance {
        id,
        profile: profile.parse().unwrap(),
        placement: Placement {
            start: place.0,
            size: place.1,
        },
        compute: compute.collect(),
    }
}

fn layout(instances: Vec<GpuInstance>) -> Layout {
    Layout {
        mode: MigMode {
            current: true,
            pending: true,
        },
        instances,
    }
}

#[track_caller]
fn drawn(scenes: &[Scene], columns: usize, expected: &str) {
    let lines = lines(Some(&table()), scenes, columns);
    let texts: Vec<String> = lines
        .iter()
        .map(|line| format!("{}\n", line.text().trim_end()))
        .collect();
    let text = texts.concat();
    assert!(text == expected, "drawn:\n{text}\nexpected:\n{expected}");
    for line in lines {
        assert!(line.width() <= columns.max(8 + 8 * NARROWEST));
    }
}

#[test]
fn instances_lie_over_their_slices_and_what_is_free_is_seen() {
    let now = layout(vec![
        instance(2, "3g.40gb", (4, 4), &[3]),
        instance(7, "1g.10gb", (0, 1), &[1]),
    ]);
    drawn(
        &[Scene::of("now", &now)],
        80,
        "            0        1        2        3        4        5        6        7
        ┏━━━━━━━┓╭╌╌╌╌╌╌╌╮╭╌╌╌╌╌╌╌╮╭╌╌╌╌╌╌╌╮┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓
  now   ┃1g.10gb┃╎ free  ╎╎ free  ╎╎ free  ╎┃ 3g.40gb                          ┃
        ┃ #7    ┃╎       ╎╎       ╎╎       ╎┃ #2                               ┃
        ┗━━━━━━━┛╰╌╌╌╌╌╌╌╯╰╌╌╌╌╌╌╌╯╰╌╌╌╌╌╌╌╯┗━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┛
",
    );
}

#[test]
fn a_slice_that_nothing_can_be_made_over_is_not_called_free() {
    let seven = (0..7).map(|at| instance(7 + at, "1g.10gb", (at, 1), &[1]));
    let now = layout(seven.collect());
    let lines = lines(Some(&table()), &[Scene::of("now", &now)], 80);
    let text = lines[2].text();
    assert!(
        text.ends_with("╎   –   ╎") && !text.contains("free"),
        "{text}"
    );
}

#[test]
fn a_plan_shows_what_stays_goes_and_comes_by_borders_and_words() {
    let now = layout(vec![
        instance(2, "3g.40gb", (4, 4), &[3]),
        instance(7, "1g.10gb", (0, 1), &[1]),
    ]);
    let target: MigTarget = "3g.40gb,2g.20gb*2".parse().unwrap();
    let plan = plan_mig(&table(), &now, &target, &std::collections::BTreeSet::new()).unwrap();
    let scenes = [Scene::before(&now, &plan), Scene::after(&now, &plan)];
    drawn(
        &scenes,
        80,
        "            0        1        2        3        4        5        6        7
        ┌───────┐╭╌╌╌╌╌╌╌╮╭╌╌╌╌╌╌╌╮╭╌╌╌╌╌╌╌╮┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓
  now   │1g.10gb│╎ free  ╎╎ free  ╎╎ free  ╎┃ 3g.40gb                          ┃
        │ ✖ #7  │╎       ╎╎       ╎╎       ╎┃ = #2 stays                       ┃
        └───────┘╰╌╌╌╌╌╌╌╯╰╌╌╌╌╌╌╌╯╰╌╌╌╌╌╌╌╯┗━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┛
        ╔════════════════╗╔════════════════╗┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓
  then  ║ 2g.20gb        ║║ 2g.20gb        ║┃ 3g.40gb                          ┃
        ║ + new          ║║ + new          ║┃ = #2 stays                       ┃
        ╚════════════════╝╚════════════════╝┗━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┛
",
    );
    assert_eq!(
        legend(&scenes).text().trim_start(),
        "━ = stays   ─ ✖ goes   ═ + new"
    );
}

#[test]
fn compute_instances_are_drawn_where_a_gpu_instance_is_split_or_empty() {
    let now = layout(vec![
        instance(1, "3g.40gb", (0, 4), &[1, 1]),
        instance(5, "2g.20gb", (4, 2), &[]),
        instance(13, "1g.10gb", (6, 1), &[1]),
    ]);
    let target: MigTarget = "1c.3g.40gb*3,1g.10gb".parse().unwrap();
    let plan = plan_mig(&table(), &now, &target, &std::collections::BTreeSet::new()).unwrap();
    drawn(
        &[Scene::before(&now, &plan), Scene::after(&now, &plan)],
        80,
        "            0        1        2        3        4        5        6        7
        ┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓┌────────────────┐┏━━━━━━━┓╭╌╌╌╌╌╌╌╮
  now   ┃ 3g.40gb                          ┃│ 2g.20gb        │┃1g.10gb┃╎   –   ╎
        ┃ = #1 stays                       ┃│ ✖ #5 goes      │┃ = #13 ┃╎       ╎
        ┃[1c = .0  ][1c = .1  ]            ┃│ empty          │┃       ┃╎       ╎
        ┗━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┛└────────────────┘┗━━━━━━━┛╰╌╌╌╌╌╌╌╯
        ┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓╭╌╌╌╌╌╌╌╮╭╌╌╌╌╌╌╌╮┏━━━━━━━┓╭╌╌╌╌╌╌╌╮
  then  ┃ 3g.40gb                          ┃╎ free  ╎╎ free  ╎┃1g.10gb┃╎   –   ╎
        ┃ = #1 stays                       ┃╎       ╎╎       ╎┃ = #13 ┃╎       ╎
        ┃[1c = .0  ][1c = .1  ][1c + new  ]┃╎       ╎╎       ╎┃       ┃╎       ╎
        ┗━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┛╰╌╌╌╌╌╌╌╯╰╌╌╌╌╌╌╌╯┗━━━━━━━┛╰╌╌╌╌╌╌╌╯
",
    );
}

#[test]
fn a_gpu_with_mig_off_is_one_box() {
    drawn(
        &[Scene::of("now", &Layout::default())],
        48,
        "          0    1    2    3    4    5    6    7
        ╭╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╮
  now   ╎ MIG off                              ╎
        ╎ one whole GPU                        ╎
        ╰╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╯
",
    );
}

#[test]
fn a_narrow_terminal_cuts_words_and_never_the_boxes() {
    let now = layout(vec![
        instance(2, "3g.40gb", (4, 4), &[3]),
        instance(7, "1g.10gb", (0, 1), &[1]),
    ]);
    drawn(
        &[Scene::of("now", &now)],
        40,
        "         0   1   2   3   4   5   6   7
        ┏━━┓╭╌╌╮╭╌╌╮╭╌╌╮┏━━━━━━━━━━━━━━┓
  now   ┃1…┃╎f…╎╎f…╎╎f…╎┃ 3g.40gb      ┃
        ┃#7┃╎  ╎╎  ╎╎  ╎┃ #2           ┃
        ┗━━┛╰╌╌╯╰╌╌╯╰╌╌╯┗━━━━━━━━━━━━━━┛
",
    );
}
