//! The nodes in `/dev`.

use crate::node::{Gpu, Node};

use super::Capability;
use super::plan::{NodeNumbers, Plan};

/// Of `/dev/nvidia*`, assigned to NVIDIA for good.
pub(super) const NVIDIA_MAJOR: u32 = 195;
/// Of `/dev/dri/*`, assigned to the DRM.
pub(super) const DRM_MAJOR: u32 = 226;
/// Majors that a kernel hands out when the driver is loaded. These are from the end of the range
/// for such that is used last, so that no driver of this machine answers to them.
pub(super) const UVM_MAJOR: u32 = 505;
/// See [`UVM_MAJOR`].
pub(super) const CAPS_MAJOR: u32 = 503;

/// Minor number and mode of the capability to configure MIG.
pub(super) const CONFIG_CAP: (u32, u32) = (1, 0o400);
/// Minor number and mode of the capability to watch MIG.
pub(super) const MONITOR_CAP: (u32, u32) = (2, 0o444);

/// Mode of the capability to use an instance.
pub(super) const INSTANCE_MODE: u32 = 0o444;

/// Cards have the DRM's minors below 64, render nodes those from 128.
const CARDS: u32 = 64;

/// The nodes that belong to no GPU.
pub(super) fn control(plan: &mut Plan) {
    for (name, major, (minor, mode)) in [
        ("nvidia-caps/nvidia-cap1", CAPS_MAJOR, CONFIG_CAP),
        ("nvidia-caps/nvidia-cap2", CAPS_MAJOR, MONITOR_CAP),
        ("nvidia-uvm", UVM_MAJOR, (0, 0o666)),
        ("nvidia-uvm-tools", UVM_MAJOR, (1, 0o666)),
        ("nvidia-modeset", NVIDIA_MAJOR, (254, 0o666)),
        ("nvidiactl", NVIDIA_MAJOR, (255, 0o666)),
    ] {
        let numbers = NodeNumbers { major, minor, mode };
        plan.node(&format!("dev/{name}"), numbers);
    }
}

/// The nodes of the capabilities to use instances.
pub(super) fn instances(plan: &mut Plan, capabilities: &[Capability]) {
    for capability in capabilities {
        let numbers = NodeNumbers {
            major: CAPS_MAJOR,
            minor: capability.minor,
            mode: INSTANCE_MODE,
        };
        let path = format!("dev/nvidia-caps/nvidia-cap{}", capability.minor);
        plan.node(&path, numbers);
    }
}

/// The nodes of the GPUs, `/dev/nvidia<minor>` last: it is what programs wait for.
pub(super) fn gpus(plan: &mut Plan, node: &Node) {
    for (gpu, index) in node.gpus.iter().zip(drm_indices(&node.gpus)) {
        // A card drives displays, which is not for everybody; rendering is.
        for (name, kind, minor, mode) in [
            (format!("card{index}"), "card", index, 0o660),
            (
                format!("renderD{}", index + 128),
                "render",
                index + 128,
                0o666,
            ),
        ] {
            let numbers = NodeNumbers {
                major: DRM_MAJOR,
                minor,
                mode,
            };
            let path = format!("dev/dri/{name}");
            plan.node(&path, numbers);
            plan.link(&format!("dev/dri/by-path/pci-{}-{kind}", gpu.pci), &path);
        }
    }
    for gpu in &node.gpus {
        let numbers = NodeNumbers {
            major: NVIDIA_MAJOR,
            minor: gpu.minor,
            mode: 0o666,
        };
        plan.node(&format!("dev/nvidia{}", gpu.minor), numbers);
    }
}

/// The `<n>` of each GPU's `/dev/dri/card<n>`: its minor number, or the highest free number for
/// a GPU whose minor is beyond the DRM's.
pub(super) fn drm_indices(gpus: &[Gpu]) -> Vec<u32> {
    let usual = gpus
        .iter()
        .map(|gpu| gpu.minor)
        .filter(|minor| *minor < CARDS);
    let usual: Vec<u32> = usual.collect();
    let mut others = (0..CARDS).rev().filter(|index| !usual.contains(index));
    gpus.iter()
        .map(|gpu| match gpu.minor {
            minor if minor < CARDS => minor,
            _ => others.next().unwrap_or(0),
        })
        .collect()
}
