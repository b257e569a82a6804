//! The GPUs on the bus and the kernel's module for them.

use super::finding::Notes;
use super::{DriverFacts, counted, some};
use crate::cdi::Platform;

pub(super) const NO_GPU: &str = "this machine has no NVIDIA GPU";
const NO_MODULE: &str = "the kernel driver is not loaded";
/// The module that NVIDIA's driver binds GPUs to.
const NVIDIA: &str = "nvidia";
/// Where to read on.
const INSTALL: &str = "https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/";

/// Why nothing that needs the driver can work.
pub(super) fn obstacle(facts: &DriverFacts) -> Option<&'static str> {
    if facts.platform != Platform::Linux || facts.module.is_some() {
        None
    } else if facts.bus.is_empty() {
        Some(NO_GPU)
    } else {
        Some(NO_MODULE)
    }
}

/// Whether there is no GPU at all.
pub(super) fn has_no_gpu(facts: &DriverFacts) -> bool {
    obstacle(facts) == Some(NO_GPU)
}

pub(super) fn judge(facts: &DriverFacts, notes: &mut Notes) {
    match facts.platform {
        Platform::Wsl => return notes.ok("driver", "WSL: the driver is that of Windows, /dev/dxg"),
        Platform::Tegra => return notes.ok("driver", "Tegra: the driver is part of the system"),
        Platform::Linux => {}
    }
    if has_no_gpu(facts) {
        return no_gpu(notes);
    }
    let Some(module) = &facts.module else {
        return not_loaded(facts, notes);
    };
    if facts.bus.is_empty() {
        notes
            .error(
                "no-gpu-on-bus",
                format!("driver {module} is loaded, and no NVIDIA GPU is on the PCI bus"),
            )
            .means("the GPU is not plugged in, was removed, or is not passed on to this machine")
            .run("lspci -nn -d 10de:")
            .run("sudo sh -c 'echo 1 > /sys/bus/pci/rescan'");
    }
    bound(facts, notes);
    match &facts.libraries {
        Some(libraries) if libraries != module => {
            notes
                .error(
                    "driver-versions-differ",
                    format!("the kernel has driver {module}, the libraries are of {libraries}"),
                )
                .means(
                    "the driver was upgraded under running programs: NVML answers \
                     \"Driver/library version mismatch\", and no new container gets a GPU",
                )
                .advise(
                    "end what uses the GPUs and load the module anew, or restart the machine",
                )
                .run("sudo modprobe -r nvidia_drm nvidia_modeset nvidia_uvm nvidia && sudo modprobe nvidia")
                .run("sudo reboot");
        }
        _ => {}
    }
    if notes.is_clean() {
        let gpus = counted(facts.bus.len(), "GPU");
        notes.ok(
            "driver",
            format!("driver {module} is loaded; {gpus} on the bus"),
        );
    }
}

fn no_gpu(notes: &mut Notes) {
    notes
        .error(
            "no-gpu",
            "no NVIDIA GPU is on the PCI bus, and no driver of NVIDIA's is loaded",
        )
        .means("there is nothing here to give to pods; an agent on such a node idles and waits")
        .advise(
            "on a machine that has a GPU: is it plugged in, switched on in the firmware, passed \
             through to this virtual machine? To try Mizzen without one:",
        )
        .run("lspci -nn -d 10de:")
        .run("mizzen simulate");
}

fn not_loaded(facts: &DriverFacts, notes: &mut Notes) {
    let gpus = counted(facts.bus.len(), "GPU");
    let elsewhere: Vec<&str> = drivers(facts).filter(|name| *name != NVIDIA).collect();
    if let Some(rival) = &facts.rival {
        notes
            .error("nouveau", format!("{gpus} on the bus, but the kernel uses {rival} for NVIDIA hardware"))
            .means(format!("NVIDIA's driver cannot load while {rival} holds the GPUs"))
            .advise(format!("keep {rival} from loading, and restart the machine"))
            .run(format!(
                "printf 'blacklist {rival}\\noptions {rival} modeset=0\\n' | sudo tee /etc/modprobe.d/{rival}-off.conf"
            ))
            .run("sudo update-initramfs -u || sudo dracut --force")
            .run("sudo reboot");
        return;
    }
    if elsewhere.len() == facts.bus.len() && !elsewhere.is_empty() {
        taken(&elsewhere, &gpus, notes);
        return;
    }
    let kernel = facts.kernel.as_deref().unwrap_or("this kernel");
    match (facts.is_built, facts.secure_boot) {
        (Some(false), _) => notes
            .error(
                "driver-not-installed",
                format!("{gpus} on the bus, and no NVIDIA module for the running kernel {kernel}"),
            )
            .means("the driver is not installed, or was not built again after a kernel upgrade")
            .advise(format!("install the driver ({INSTALL}), or build its module for this kernel"))
            .run("sudo dkms autoinstall && sudo modprobe nvidia"),
        (Some(true), Some(true)) => notes
            .error(
                "driver-unsigned",
                format!("{gpus} on the bus; the NVIDIA module for {kernel} is there and not loaded, and secure boot is on"),
            )
            .means("with secure boot the kernel refuses modules whose key the firmware does not know")
            .advise("if the log says `Key was rejected by service`: enrol the key that signs the module, or turn secure boot off")
            .run("sudo modprobe nvidia; sudo dmesg | tail")
            .run("sudo mokutil --import /var/lib/dkms/mok.pub && sudo reboot"),
        _ => notes
            .error(
                "driver-not-loaded",
                format!("{gpus} on the bus, and the kernel driver of NVIDIA's is not loaded"),
            )
            .means("NVML cannot start, so the agent waits, and pods that ask for GPUs stay Pending")
            .advise(format!("load the module; if there is none, install the driver ({INSTALL})"))
            .run("sudo modprobe nvidia && sudo dmesg | grep -i nvrm"),
    };
}

fn taken(drivers: &[&str], gpus: &str, notes: &mut Notes) {
    notes
        .error(
            "gpus-bound-elsewhere",
            format!(
                "{gpus} on the bus, held by the kernel driver {}",
                drivers[0]
            ),
        )
        .means("GPUs bound to vfio-pci are for virtual machines; containers cannot use them")
        .advise("bind them to nvidia, or keep this node for virtual machines")
        .run("lspci -nnk -d 10de:");
}

/// GPUs that are not in the hands of NVIDIA's driver, although it is loaded.
fn bound(facts: &DriverFacts, notes: &mut Notes) {
    let is_foreign = |driver: &Option<String>| driver.as_deref() != Some(NVIDIA);
    let others: Vec<String> = facts
        .bus
        .iter()
        .filter(|gpu| is_foreign(&gpu.driver))
        .map(|gpu| match &gpu.driver {
            Some(driver) => format!("{} (held by {driver})", gpu.pci),
            None => format!("{} (held by no driver)", gpu.pci),
        })
        .collect();
    if others.is_empty() {
        return;
    }
    notes
        .warning(
            "gpus-unbound",
            format!("not in the hands of NVIDIA's driver: {}", some(&others)),
        )
        .means("these GPUs are not offered to pods: they failed to start, or belong to vfio-pci")
        .run("sudo dmesg | grep -iE 'nvrm|vfio'")
        .run("lspci -nnk -d 10de:");
}

fn drivers(facts: &DriverFacts) -> impl Iterator<Item = &str> {
    facts.bus.iter().filter_map(|gpu| gpu.driver.as_deref())
}
