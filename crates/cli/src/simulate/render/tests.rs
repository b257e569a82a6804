//! What people see.

use super::*;
use crate::simulate::picture::sample::cut;
use crate::simulate::picture::{DeviceNode, Devices, Mount, Outcome, sample};

fn text(lines: &[Line]) -> String {
    lines
        .iter()
        .map(|line| line.text().trim_end().to_owned() + "\n")
        .collect()
}

#[test]
fn a_frame_shows_the_node_its_gpus_and_who_has_which() {
    let shown = text(&state(&sample(), Detail::Terminal));
    assert_eq!(
        shown,
        "\
simulated, a simulated node  3.2 s
  3 × NVIDIA L4 · driver 580.82.07, CUDA 13.0 · nvidia.com/gpu: 2 allocatable of 3

GPUS
  GPU  HEALTH       HELD BY        NUMA  UUID                                      FAULT
  0    ● healthy    training/main  0     GPU-00000000-1111-2222-3333-444444444444
  1    ● healthy    training/main  0     GPU-00000001-1111-2222-3333-444444444444
  2    ✖ unhealthy  –              0     GPU-00000002-1111-2222-3333-444444444444  Xid 79

PODS
  ● training              Running
      main                GPU 0,1    NVIDIA_VISIBLE_DEVICES=GPU-00000001…,GPU-00000000…
  ◌ too-many              Pending  0/1 nodes are available: 1 Insufficient nvidia.com/gpu.
"
    );
}

#[test]
fn shared_gpus_show_what_they_are_offered_as_and_who_has_how_many() {
    let mut picture = sample();
    let offer = |held: &[(&str, u64)]| {
        let held_by = held
            .iter()
            .map(|(holder, count)| ((*holder).into(), *count));
        let here = Devices {
            devices: 1000,
            held_by: held_by.collect(),
        };
        [("nvidia.com/gpu.shared".to_owned(), here)].into()
    };
    let many: Vec<String> = (0..900).map(|pod| format!("pod-{pod}/main")).collect();
    let counts: Vec<(&str, u64)> = many.iter().map(|holder| (holder.as_str(), 1)).collect();
    picture.gpus[0].offered_as = offer(&[("a/main", 3), ("b/main", 1)]);
    picture.gpus[0].held_by = vec!["a/main".into(), "b/main".into()];
    picture.gpus[1].offered_as = offer(&counts);
    picture.gpus[1].held_by = many;
    picture.pods.clear();
    let shown = text(&state(&picture, Detail::Terminal));
    let rows: Vec<&str> = shown.lines().skip(4).collect();
    for (row, expected) in rows.iter().zip([
        "  GPU  HEALTH       OFFERED AS                   IN USE       HELD BY ",
        "  0    ● healthy    nvidia.com/gpu.shared ×1000  4 of 1000    a/main ×3, b/main ",
        "  1    ● healthy    nvidia.com/gpu.shared ×1000  900 of 1000  \
         pod-0/main, pod-1/main, pod-2/main, 897 more ",
        "  2    ✖ unhealthy  nvidia.com/gpu                            –",
    ]) {
        assert!(row.starts_with(expected), "{shown}");
    }
}

#[test]
fn mig_devices_stand_below_their_gpu_with_their_own_health_and_holders() {
    let mut picture = sample();
    cut(&mut picture.gpus[1], &["3g.40gb", "1g.10gb", "1g.10gb"]);
    let mig = picture.gpus[1].mig.as_mut().unwrap();
    mig.devices[0].held_by = vec!["training/main".into()];
    mig.devices[1].health = Health::Unhealthy;
    mig.devices[2].gone = true;
    mig.devices[2].offered_as.clear();
    mig.devices[2].was_held_by = vec!["old/main".into()];
    picture.gpus[1].offered_as = BTreeMap::from([(
        "nvidia.com/mig-1g.10gb".to_owned(),
        Devices {
            devices: 2,
            held_by: BTreeMap::from([("training/main".into(), 1)]),
        },
    )]);
    picture.pods.clear();
    let shown = text(&state(&picture, Detail::Terminal));
    let rows: Vec<&str> = shown.lines().skip(4).collect();
    for (row, expected) in rows.iter().zip([
        "  GPU  HEALTH       OFFERED AS              IN USE  HELD BY        NUMA  UUID ",
        "  0    ● healthy    nvidia.com/gpu                  training/main  0     GPU-00000000",
        "  1    ● healthy    2 MIG devices           1 of 2                 0     GPU-00000001",
        "  1:0  ● healthy    nvidia.com/mig-3g.40gb          training/main        MIG-00000000",
        "  1:1  ✖ unhealthy  nvidia.com/mig-1g.10gb          –                    MIG-00000001",
        "  1:2  ○ gone                                       old (ended)          MIG-00000002",
        "  2    ✖ unhealthy  nvidia.com/gpu                  –              0     GPU-00000002",
    ]) {
        assert!(row.starts_with(expected), "{expected}\n{shown}");
    }
    assert!(rows[3].ends_with("  MIG 3g.40gb"), "{shown}");
}

#[test]
fn several_resources_have_a_line_each() {
    let mut picture = sample();
    let count = picture.node.resources["nvidia.com/gpu"];
    picture.node.resources.insert("nvidia.com/l4".into(), count);
    let shown = text(&state(&picture, Detail::Terminal));
    let expected = "
  nvidia.com/gpu: 2 allocatable of 3
  nvidia.com/l4: 2 allocatable of 3

GPUS";
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn the_timeline_fills_the_rows_that_are_left_with_the_latest() {
    let lines = frame(&sample(), Detail::Rows(24));
    assert_eq!(lines.len(), 23);
    assert!(text(&lines).ends_with("kubelet    step 29\n"));
    let tiny = frame(&sample(), Detail::Rows(5));
    assert!(
        text(&tiny).contains("step 27"),
        "the last three are always there"
    );
    assert!(text(&frame(&sample(), Detail::Terminal)).contains("step 0\n"));
}

#[test]
fn everything_a_container_was_given_is_listed_in_full_where_there_is_room() {
    let mut picture = sample();
    let container = &mut picture.pods[0].containers[0];
    container.device_nodes = ["/dev/nvidia0", "/dev/nvidiactl"]
        .map(|path| DeviceNode {
            host_path: path.into(),
            container_path: path.into(),
            permissions: "rw".into(),
        })
        .into();
    container.mounts = vec![Mount {
        host_path: "/dev/null".into(),
        container_path: "/var/run/x".into(),
        read_only: true,
    }];
    container.cdi_devices = vec!["nvidia.com/gpu=0".into()];
    let shown = text(&state(&picture, Detail::Full));
    for expected in [
        format!(
            "NVIDIA_VISIBLE_DEVICES={},{}\n",
            picture.gpus[1].uuid, picture.gpus[0].uuid
        ),
        "devices /dev/nvidia0 /dev/nvidiactl\n".into(),
        "mount /dev/null → /var/run/x (read-only)\n".into(),
        "CDI nvidia.com/gpu=0\n".into(),
    ] {
        assert!(
            shown.contains(&expected),
            "{expected:?} is missing in\n{shown}"
        );
    }
}

#[test]
fn the_end_says_how_it_went_and_what_the_agent_cost() {
    let mut picture = sample();
    assert!(ending(&picture).is_empty());
    picture.outcome = Some(Outcome {
        exit_code: 0,
        summary: "All ran.".into(),
    });
    assert_eq!(
        text(&ending(&picture)),
        "\n✔ All ran.\n  agent: first device list after 3.87 ms · 4.6 MiB resident (0.9 MiB its own) · \
         2.10 ms of CPU · 3 threads\n"
    );
}
