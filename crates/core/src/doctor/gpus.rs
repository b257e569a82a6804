//! What each GPU answers, how it is partitioned, and what the settings make of it.

use super::finding::Notes;
use super::{Facts, Looked, NvmlFacts, counted, some};
use crate::config::{Config, MigStrategy};
use crate::driver::{DriverError, GpuCondition, RecoveryAction};
use crate::gpu::{Gpu, PciBusId};
use crate::pool::offer;

pub(super) fn judge(facts: &Facts, notes: &mut Notes) {
    let Looked::Seen(Ok(nvml)) = &facts.nvml else {
        return;
    };
    let known = &nvml.inventory;
    lost(facts, nvml, notes);
    for broken in &known.broken {
        let pci = broken
            .pci
            .map_or_else(String::new, |pci| format!(" ({pci})"));
        let name = format!("GPU {}{pci}", broken.index);
        silent(&name, broken.index, &broken.error, notes);
    }
    for (gpu, condition) in known.gpus.iter().zip(&nvml.conditions) {
        condition_of(gpu, condition, notes);
    }
    let config = &facts.settings.config;
    partitions(&known.gpus, config, notes);
    if notes.is_clean() {
        let count = known.gpus.len();
        let answer = if count == 1 { "answers" } else { "answer" };
        notes.ok("gpus", format!("{} {answer}", counted(count, "GPU")));
    }
    offered(nvml, config, notes);
}

/// GPUs that the bus has and NVML does not.
fn lost(facts: &Facts, nvml: &NvmlFacts, notes: &mut Notes) {
    let known = &nvml.inventory;
    let is_simulated = facts.driver.bus.is_empty();
    let seen = |pci: &PciBusId| {
        known.gpus.iter().any(|gpu| gpu.pci == *pci)
            || known.broken.iter().any(|gpu| gpu.pci == Some(*pci))
    };
    // One that tells no place may be any.
    if is_simulated || known.broken.iter().any(|gpu| gpu.pci.is_none()) {
        return;
    }
    let of_driver = facts
        .driver
        .bus
        .iter()
        .filter(|gpu| gpu.driver.as_deref() == Some("nvidia"));
    let lost: Vec<String> = of_driver
        .filter(|gpu| !seen(&gpu.pci))
        .map(|gpu| gpu.pci.to_string())
        .collect();
    for pci in &lost {
        notes
            .error(
                "gpu-lost",
                format!("the GPU at {pci} is on the PCI bus, and NVML does not know it"),
            )
            .means("it has fallen off the bus or failed to start (Xid 79): power, heat, a riser")
            .advise("read the kernel's log; if a reset does not bring it back, restart the machine")
            .run(format!("sudo dmesg | grep -i '{pci}'"))
            .run("sudo reboot");
    }
    let on_bus = |gpu: &&Gpu| facts.driver.bus.iter().any(|known| known.pci == gpu.pci);
    let gone: Vec<String> = known
        .gpus
        .iter()
        .filter(|gpu| !on_bus(gpu))
        .map(|gpu| format!("GPU {} ({})", gpu.index, gpu.pci))
        .collect();
    if !gone.is_empty() {
        notes
            .error(
                "gpu-not-on-bus",
                format!(
                    "NVML lists {}, which the PCI bus does not have",
                    some(&gone)
                ),
            )
            .means("the GPU was removed, or NVML and --host-root are of different machines")
            .run("lspci -nn -d 10de:");
    }
}

fn condition_of(gpu: &Gpu, condition: &Result<GpuCondition, DriverError>, notes: &mut Notes) {
    let name = format!("GPU {} ({}, {})", gpu.index, gpu.name, gpu.pci);
    match condition {
        Err(error) => silent(&name, gpu.index, error, notes),
        Ok(condition) => recovery(gpu, &name, condition, notes),
    }
}

/// A GPU that does not say what it is, or how.
fn silent(name: &str, index: u32, error: &DriverError, notes: &mut Notes) {
    let finding = if let DriverError::Hung { after } = error {
        let after = after.as_millis();
        notes
            .error(
                "gpu-hung",
                format!("{name} gave no answer within {after} ms"),
            )
            .means("its firmware hangs, or it has fallen off the bus; it is given to no pod")
    } else {
        notes
            .error("gpu-broken", format!("{name}: {error}"))
            .means("NVML counts this GPU and gets no answer from it; it is given to no pod")
    };
    finding
        .advise("read the kernel's log; where a reset does not help, restart the machine")
        .run("sudo dmesg | grep -iE 'nvrm|xid'")
        .run(format!("sudo nvidia-smi --gpu-reset -i {index}"));
}

/// What the driver says must be done to a GPU.
fn recovery(gpu: &Gpu, name: &str, condition: &GpuCondition, notes: &mut Notes) {
    let reset = format!("sudo nvidia-smi --gpu-reset -i {}", gpu.index);
    let (wants, command) = match condition.recovery_action {
        None | Some(RecoveryAction::None) => return,
        Some(RecoveryAction::GpuReset) => ("a reset of the GPU", reset),
        Some(RecoveryAction::NodeReboot) => ("a restart of the machine", "sudo reboot".to_owned()),
        Some(RecoveryAction::DrainP2p) => ("peer-to-peer work to end", "nvidia-smi".to_owned()),
        Some(RecoveryAction::DrainAndReset) => ("all work to end, then a reset", reset),
        Some(RecoveryAction::RecoverImexDomain) => (
            "the IMEX domain to be recovered",
            "systemctl status nvidia-imex".to_owned(),
        ),
        Some(RecoveryAction::Unknown(_)) => (
            "an action that is not known here",
            "nvidia-smi -q".to_owned(),
        ),
    };
    notes
        .error(
            "gpu-needs-recovery",
            format!("{name}: the driver asks for {wants}"),
        )
        .means("until then the agent marks it unhealthy, and the kubelet gives it to no new pod")
        .run(command);
}

/// GPUs on which MIG is about to be turned on or off.
fn pending(gpus: &[Gpu], notes: &mut Notes) {
    for gpu in gpus {
        let Some(mode) = gpu.mig.as_ref().map(|mig| mig.mode) else {
            continue;
        };
        if mode.current != mode.pending {
            let turned = if mode.pending { "on" } else { "off" };
            notes
                .warning(
                    "mig-pending",
                    format!(
                        "GPU {}: MIG is turned {turned} at its next reset",
                        gpu.index
                    ),
                )
                .means("until then it is offered as it is now")
                .run(format!("sudo nvidia-smi --gpu-reset -i {}", gpu.index));
        }
    }
}

/// The settings against how the GPUs are cut.
fn partitions(gpus: &[Gpu], config: &Config, notes: &mut Notes) {
    let mig = |gpu: &&Gpu| gpu.mig.as_ref().is_some_and(|mig| mig.mode.current);
    let cut: Vec<String> = gpus
        .iter()
        .filter(mig)
        .map(|gpu| gpu.index.to_string())
        .collect();
    pending(gpus, notes);
    match config.mig_strategy {
        MigStrategy::None if !cut.is_empty() => {
            notes
                .warning(
                    "mig-strategy-none",
                    format!("MIG is on on GPU {}, and --mig-strategy is none", some(&cut)),
                )
                .means("these GPUs are offered whole, and a container sees MIG devices that nobody gave it")
                .advise("offer the MIG devices (MIG_STRATEGY=mixed, or single where all are alike), or turn MIG off")
                .run(format!("sudo mizzen mig apply off --gpu {}", cut.join(",")));
        }
        MigStrategy::Single | MigStrategy::Mixed if cut.is_empty() && !gpus.is_empty() => {
            notes
                .hint(
                    "mig-strategy-idle",
                    "--mig-strategy asks for MIG devices, and no GPU has MIG on",
                )
                .means("whole GPUs are offered")
                .run("mizzen mig profiles");
        }
        _ => {}
    }
    for gpu in gpus.iter().filter(mig) {
        let is_empty = gpu.mig.as_ref().is_some_and(|mig| mig.devices.is_empty());
        if is_empty && config.mig_strategy != MigStrategy::None {
            notes
                .warning(
                    "mig-empty",
                    format!("GPU {}: MIG is on, and there is no MIG device", gpu.index),
                )
                .means("nothing of this GPU is offered")
                .run(format!(
                    "sudo mizzen mig apply all-balanced --gpu {}",
                    gpu.index
                ));
        }
    }
}

/// What a kubelet would be offered.
fn offered(nvml: &NvmlFacts, config: &Config, notes: &mut Notes) {
    let known = &nvml.inventory;
    let offer = offer(&known.gpus, &known.links, config);
    for remark in &offer.remarks {
        notes
            .warning("settings-do-not-suit", remark.to_string())
            .means("this of the settings does not suit the GPUs of this node")
            .run("mizzen config check FILE");
    }
    let resources: Vec<String> = offer
        .pools
        .iter()
        .map(|(name, pool)| format!("{name}: {}", pool.device_count()))
        .collect();
    if resources.is_empty() {
        notes
            .error(
                "nothing-offered",
                "with these settings this node offers no device",
            )
            .means("pods that ask for GPUs stay Pending")
            .advise(
                "look at gpus.include and gpus.exclude, the MIG strategy, and the findings above",
            )
            .run("mizzen config check FILE");
    } else {
        notes.ok("offer", format!("to be offered: {}", some(&resources)));
    }
}
