//! The words for what concerns the driver, or how GPUs are watched.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{DriverStatus, Line, Severity};
use crate::driver::DriverError;
use crate::gpu::Gpu;
use crate::mig::MigProfile;
use crate::pool::Remark;

/// The driver answers, and lists this many GPUs.
pub(super) fn driver(status: &DriverStatus, gpus: usize) -> Line {
    let DriverStatus::Running(versions) = status else {
        return Line::new(Severity::Info, "driver", "no driver yet");
    };
    if gpus == 0 {
        return Line::new(
            Severity::Warning,
            "no-gpus",
            format!("the NVIDIA driver {} lists no GPU", versions.driver),
        )
        .meaning("nothing can be offered until it does; the agent goes on looking")
        .advice(
            "check lspci -d 10de: for a GPU, the kernel log (dmesg) for NVRM lines, and that the \
             agent can open /dev/nvidia*",
        );
    }
    let (major, minor) = versions.cuda;
    let plural = if gpus == 1 { "GPU" } else { "GPUs" };
    Line::new(
        Severity::Info,
        "driver-running",
        format!(
            "the NVIDIA driver {} (CUDA {major}.{minor}) has {gpus} {plural}",
            versions.driver
        ),
    )
}

/// There is no driver to ask.
pub(super) fn no_driver(error: &DriverError) -> Line {
    Line::new(
        Severity::Error,
        "no-driver",
        format!("no usable GPU driver: {error}"),
    )
    .meaning("no GPU can be given out until it is there; the agent goes on looking")
    .advice(driver_advice(error))
}

/// Something in the settings does not suit this node.
pub(super) fn unsuitable(remark: &Remark) -> Line {
    Line::new(Severity::Warning, "config-unsuitable", remark.to_string())
        .meaning("the rest of the settings holds; this part does nothing here")
        .advice("if this node should differ from others, give it a config of its own")
}

/// A GPU was partitioned anew.
pub(super) fn partitioned(gpu: &Gpu) -> Line {
    let text = match &gpu.mig {
        None => "it cannot be partitioned any more".to_owned(),
        Some(mig) => {
            let mode = match (mig.mode.current, mig.mode.pending) {
                (true, true) => "MIG is on",
                (false, false) => "MIG is off",
                (true, false) => "MIG is on until the next reset",
                (false, true) => "MIG is off until the next reset",
            };
            let mut counts: BTreeMap<MigProfile, usize> = BTreeMap::new();
            for device in &mig.devices {
                *counts.entry(device.profile).or_default() += 1;
            }
            let each = counts
                .iter()
                .map(|(profile, count)| format!("{count} x {profile}"));
            let each: Vec<String> = each.collect();
            if each.is_empty() {
                format!("{mode}, no MIG devices")
            } else {
                format!("{mode}, {}", each.join(", "))
            }
        }
    };
    Line::new(Severity::Info, "gpu-partitioned", text).about(gpu)
}

/// A GPU cannot be watched for events.
pub(super) fn polled(gpu: &Gpu, error: &DriverError, interval: Duration) -> Line {
    let text = format!(
        "cannot report events ({error}): asked every {} s instead",
        interval.as_secs_f32()
    );
    Line::new(Severity::Warning, "gpu-polled", text)
        .about(gpu)
        .meaning("its faults are noticed later, and an Xid only if it leaves something behind")
        .advice("update the driver if this GPU should report events")
}

/// What to do about a driver that cannot be used.
pub(crate) fn driver_advice(error: &DriverError) -> &'static str {
    match error {
        DriverError::LibraryNotFound { .. } => {
            "install the NVIDIA driver on the host, and mount its files where the agent searches \
             (--driver-root, --nvml-library)"
        }
        DriverError::LibraryUnusable { .. } => {
            "install the driver's libraries anew, in the version of its kernel module and for \
             this machine's architecture"
        }
        DriverError::NotRunning(_) => {
            "load the kernel driver (modprobe nvidia; nvidia-smi must work on the host); after an \
             update of the driver, reboot the node"
        }
        DriverError::NoPermission => {
            "NVML must open /dev/nvidia*: make the agent's container privileged, or give it \
             NVIDIA's runtime class"
        }
        _ => "see the kernel log (dmesg) for NVRM lines; nvidia-smi must work on the host",
    }
}
