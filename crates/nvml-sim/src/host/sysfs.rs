//! What sysfs says besides the PCI devices: processors, memory nodes, the product, DRM.

use crate::node::{CpuList, Node};

use super::bus::Layout;
use super::device_nodes::{DRM_MAJOR, drm_indices};
use super::files::{all_cpus, cpu_mask};
use super::plan::Plan;

/// What the firmware calls the machine. Not a real product: nobody shall take the simulated
/// machine for one, and a GPU that goes must not change it.
const PRODUCT: &str = "Mizzen Simulated GPU Node";
/// Distance of a NUMA node to itself and to any other, as ACPI gives them for two sockets.
const DISTANCE: (u32, u32) = (10, 21);

/// `/sys/devices/system/{cpu,node}`.
pub(super) fn processors(plan: &mut Plan, node: &Node) {
    let cpus = all_cpus(node);
    for set in ["possible", "present", "online"] {
        plan.line(&format!("sys/devices/system/cpu/{set}"), &cpus);
    }
    let numbers = |wanted: fn(&CpuList) -> bool| {
        let mut mask = [0_u64; 1];
        for (number, _) in node
            .numa_nodes
            .iter()
            .enumerate()
            .filter(|(_, cpus)| wanted(cpus))
        {
            mask[0] |= 1 << number;
        }
        CpuList::from_mask(&mask)
    };
    let nodes = "sys/devices/system/node";
    for set in ["possible", "online", "has_memory", "has_normal_memory"] {
        plan.line(&format!("{nodes}/{set}"), numbers(|_| true));
    }
    let with_cpus = numbers(|cpus| *cpus != CpuList::default());
    plan.line(&format!("{nodes}/has_cpu"), with_cpus);
    for (number, cpus) in node.numa_nodes.iter().enumerate() {
        let distance = |other: usize| {
            if other == number {
                DISTANCE.0
            } else {
                DISTANCE.1
            }
        };
        let distances: Vec<String> = (0..node.numa_nodes.len())
            .map(|other| distance(other).to_string())
            .collect();
        plan.line(&format!("{nodes}/node{number}/cpulist"), cpus);
        plan.line(&format!("{nodes}/node{number}/cpumap"), cpu_mask(cpus));
        plan.line(
            &format!("{nodes}/node{number}/distance"),
            distances.join(" "),
        );
    }
}

/// `/sys/class/dmi/id`, `/sys/module/nvidia*`.
pub(super) fn machine(plan: &mut Plan, node: &Node) {
    let id = "sys/devices/virtual/dmi/id";
    plan.line(&format!("{id}/product_name"), PRODUCT);
    plan.line(&format!("{id}/sys_vendor"), "Mizzen");
    plan.link("sys/class/dmi/id", id);
    for module in ["nvidia", "nvidia_modeset", "nvidia_drm", "nvidia_uvm"] {
        plan.line(
            &format!("sys/module/{module}/version"),
            &node.driver_version,
        );
        plan.line(&format!("sys/module/{module}/initstate"), "live");
    }
    plan.line("sys/module/nvidia_drm/parameters/modeset", "Y");
}

/// A card and a render node of the DRM for each GPU.
pub(super) fn drm(plan: &mut Plan, node: &Node, layout: &Layout) {
    for (position, index) in drm_indices(&node.gpus).into_iter().enumerate() {
        let Some(gpu) = layout.gpu_directory(position) else {
            continue;
        };
        let names = [
            (format!("card{index}"), index),
            (format!("renderD{}", index + 128), index + 128),
        ];
        for (name, minor) in names {
            let directory = format!("{gpu}/drm/{name}");
            let numbers = format!("{DRM_MAJOR}:{minor}");
            plan.line(&format!("{directory}/dev"), &numbers);
            plan.file(
                &format!("{directory}/uevent"),
                format!(
                    "MAJOR={DRM_MAJOR}\nMINOR={minor}\nDEVNAME=dri/{name}\nDEVTYPE=drm_minor\n"
                ),
            );
            plan.link(&format!("{directory}/device"), gpu);
            plan.directory("sys/class/drm");
            plan.link(&format!("{directory}/subsystem"), "sys/class/drm");
            plan.link(&format!("sys/class/drm/{name}"), &directory);
            plan.link(&format!("sys/dev/char/{numbers}"), &directory);
        }
    }
}
