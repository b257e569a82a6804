//! Rights of the process that the agent has no use for.
//!
//! A privileged container gets every capability, whatever its manifest says to drop; it must be
//! privileged to open devices that were not given to it, which takes no capability.

use std::path::Path;

use rustix::io::{self, Errno};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// What is kept: to open device nodes and directories that belong to another user than root, and
/// to serve the probes on a port below 1024.
const KEPT: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::NET_BIND_SERVICE);
/// What else is kept by an agent that partitions GPUs: the driver lets only its holder do so.
const KEPT_FOR_MIG: CapabilitySet = CapabilitySet::SYS_ADMIN;
/// The program by which NVML loads the kernel driver and makes device nodes, under the one name
/// by which NVML calls it. It needs the rights that are given up here.
const HELPER: &str = "/usr/bin/nvidia-modprobe";

/// Gives up what is not needed, for this thread and those it will start: called before there are
/// others. Where NVML has its helper, nothing is given up.
pub(crate) fn give_up(partitions_gpus: bool) {
    if Path::new(HELPER).exists() {
        tracing::debug!(
            event = "privileges",
            "all are kept: {HELPER} may need them to load the driver"
        );
        return;
    }
    let kept = if partitions_gpus {
        KEPT.union(KEPT_FOR_MIG)
    } else {
        KEPT
    };
    match give_up_all_but(kept) {
        Ok(()) => tracing::debug!(event = "privileges", ?kept, "the others are given up"),
        // A system that forbids even this takes nothing from us.
        Err(error) => tracing::debug!(event = "privileges", %error, "not given up"),
    }
}

fn give_up_all_but(kept: CapabilitySet) -> io::Result<()> {
    set_no_new_privs(true)?;
    match clear_ambient_capability_set() {
        // A kernel without ambient capabilities.
        Err(Errno::INVAL) => {}
        cleared => cleared?,
    }
    let held = capabilities(None)?;
    // First, since it takes a right itself.
    if held.effective.contains(CapabilitySet::SETPCAP) {
        empty_bounding_set(kept)?;
    }
    set_capabilities(
        None,
        CapabilitySets {
            effective: held.effective & kept,
            permitted: held.permitted & kept,
            inheritable: CapabilitySet::empty(),
        },
    )
}

fn empty_bounding_set(kept: CapabilitySet) -> io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // The kernel knows no more of them.
            Err(Errno::INVAL) => break,
            removed => removed?,
        }
    }
    Ok(())
}
