//! What procfs says of the driver.

use std::fmt::Write as _;

use crate::mig::{CAPABILITIES, capability};
use crate::node::Node;

use super::Capability;
use super::device_nodes::{
    CAPS_MAJOR, CONFIG_CAP, DRM_MAJOR, INSTANCE_MODE, MONITOR_CAP, NVIDIA_MAJOR, UVM_MAJOR,
};
use super::plan::Plan;

/// The driver's parameters with their defaults, as release 580 lists them.
const PARAMS: &str = "\
ResmanDebugLevel: 4294967295
RmLogonRC: 1
ModifyDeviceFiles: 1
DeviceFileUID: 0
DeviceFileGID: 0
DeviceFileMode: 438
InitializeSystemMemoryAllocations: 1
UsePageAttributeTable: 4294967295
EnableMSI: 1
EnablePCIeGen3: 0
MemoryPoolSize: 0
KMallocHeapMaxSize: 0
VMallocHeapMaxSize: 0
IgnoreMMIOCheck: 0
EnableStreamMemOPs: 0
EnableUserNUMAManagement: 1
NvLinkDisable: 0
RmProfilingAdminOnly: 1
PreserveVideoMemoryAllocations: 0
EnableS0ixPowerManagement: 0
S0ixPowerManagementVideoMemoryThreshold: 256
DynamicPowerManagement: 3
DynamicPowerManagementVideoMemoryThreshold: 200
RegisterPCIDriver: 1
EnablePCIERelaxedOrderingMode: 0
EnableResizableBar: 0
EnableGpuFirmware: 18
EnableGpuFirmwareLogs: 2
EnableDbgBreakpoint: 0
OpenRmEnableUnsupportedGpus: 1
DmaRemapPeerMmio: 1
RegistryDwords: \"\"
RegistryDwordsPerDevice: \"\"
RmMsg: \"\"
GpuBlacklist: \"\"
TemporaryFilePath: \"\"
ExcludedGpus: \"\"
";

/// `/proc/devices` and `/proc/modules`, as far as they concern GPUs.
pub(super) fn kernel(plan: &mut Plan, node: &Node) {
    let mut devices = "Character devices:\n  1 mem\n  5 /dev/tty\n 10 misc\n136 pts\n".to_owned();
    for (major, name) in [
        (NVIDIA_MAJOR, "nvidia"),
        (NVIDIA_MAJOR, "nvidia-modeset"),
        (NVIDIA_MAJOR, "nvidiactl"),
        (DRM_MAJOR, "drm"),
        (CAPS_MAJOR, "nvidia-caps"),
        (UVM_MAJOR, "nvidia-uvm"),
    ] {
        let _infallible = writeln!(devices, "{major:3} {name}");
    }
    devices.push_str("\nBlock devices:\n");
    plan.file("proc/devices", devices);

    let users = node.gpus.len();
    plan.file(
        "proc/modules",
        format!(
            "nvidia_uvm 4026368 0 - Live 0x0000000000000000\n\
             nvidia_drm 139264 0 - Live 0x0000000000000000\n\
             nvidia_modeset 1814528 1 nvidia_drm, Live 0x0000000000000000\n\
             nvidia 104071168 {} nvidia_uvm,nvidia_modeset, Live 0x0000000000000000\n",
            2 + users
        ),
    );
}

/// `/proc/driver/nvidia` and `/proc/driver/nvidia-caps`.
pub(super) fn driver(plan: &mut Plan, node: &Node) {
    plan.file("proc/driver/nvidia/version", version(node));
    plan.file("proc/driver/nvidia/params", PARAMS);
    plan.file("proc/driver/nvidia/registry", "Binary: \"\"\n");
    plan.file("proc/driver/nvidia-caps/mig-minors", mig_minors());
    plan.file("proc/driver/nvidia-caps/sys-minors", "fabric-imex-mgmt 0\n");
    for (name, (minor, mode)) in [("config", CONFIG_CAP), ("monitor", MONITOR_CAP)] {
        plan.file(
            &format!("proc/driver/nvidia/capabilities/mig/{name}"),
            format!("DeviceFileMinor: {minor}\nDeviceFileMode: {mode}\nDeviceFileModify: 1\n"),
        );
    }
    plan.directory("proc/driver/nvidia/gpus");
    for (position, gpu) in node.gpus.iter().enumerate() {
        let information = format!(
            "Model: \t\t {}\nIRQ:   \t\t {}\nGPU UUID: \t {}\nVideo BIOS: \t {}\n\
             Bus Type: \t PCIe\nDMA Size: \t 52 bits\nDMA Mask: \t 0xfffffffffffff\n\
             Bus Location: \t {}\nDevice Minor: \t {}\nGPU Firmware: \t {}\n\
             GPU Excluded:\t No\n",
            gpu.name,
            // Interrupts are numbered as the devices are, whichever others there are.
            64 + node.gpus[position].minor,
            gpu.uuid,
            gpu.model.vbios,
            gpu.pci,
            gpu.minor,
            node.driver_version
        );
        plan.file(
            &format!("proc/driver/nvidia/gpus/{}/information", gpu.pci),
            information,
        );
    }
}

fn version(node: &Node) -> String {
    format!(
        "NVRM version: NVIDIA UNIX Open Kernel Module for {}  {}  Release Build  (mizzen-sim)\n\
         GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n",
        std::env::consts::ARCH,
        node.driver_version
    )
}

/// The minor numbers of all capabilities that MIG can ever have: the table is the same on every
/// machine.
fn mig_minors() -> String {
    let (gpus, instances, inside) = CAPABILITIES;
    let mut table = format!("config {}\nmonitor {}\n", CONFIG_CAP.0, MONITOR_CAP.0);
    for gpu in 0..gpus {
        for instance in 0..instances {
            for compute in [None].into_iter().chain((0..inside).map(Some)) {
                let name = access(gpu, instance, compute, "");
                if let Some(minor) = capability(gpu, instance, compute) {
                    let _infallible = writeln!(table, "{name} {minor}");
                }
            }
        }
    }
    table
}

/// `gpu0/gi1/access` or `gpu0/gi1/ci2/access`, with what stands below the GPU.
fn access(gpu: u32, instance: u32, compute: Option<u32>, below: &str) -> String {
    let compute = compute.map_or_else(String::new, |id| format!("/ci{id}"));
    format!("gpu{gpu}{below}/gi{instance}{compute}/access")
}

/// What procfs says of the capabilities of instances that there are.
pub(super) fn instances(plan: &mut Plan, capabilities: &[Capability]) {
    for capability in capabilities {
        let (gpu, instance) = (capability.gpu, capability.gpu_instance);
        let path = access(gpu, instance, capability.compute_instance, "/mig");
        plan.file(
            &format!("proc/driver/nvidia/capabilities/{path}"),
            format!(
                "DeviceFileMinor: {}\nDeviceFileMode: {INSTANCE_MODE}\nDeviceFileModify: 1\n",
                capability.minor
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capabilities_of_mig_are_numbered_as_the_driver_numbers_them() {
        let table = mig_minors();
        assert!(
            table.starts_with("config 1\nmonitor 2\ngpu0/gi0/access 3\ngpu0/gi0/ci0/access 4\n")
        );
        assert!(table.contains("gpu0/gi1/access 12\n"));
        assert!(table.ends_with("gpu31/gi14/ci7/access 4322\n"));
    }
}
