//! `nvidia-smi -L`: a line for each GPU and for each of its MIG devices.

use std::fmt::Write as _;

use mizzen_nvml::direct::Device;

use crate::gpus::Gpus;
use crate::outcome::Outcome;

pub(crate) fn print(gpus: &Gpus<'_>) -> Outcome {
    let mut text = gpus.complaints();
    for gpu in &gpus.found {
        let name = gpu
            .device
            .name()
            .unwrap_or_else(|_| "Unknown Error".to_owned());
        let uuid = gpu
            .device
            .uuid()
            .unwrap_or_else(|_| "Unknown Error".to_owned());
        let _infallible = writeln!(text, "GPU {}: {name} (UUID: {uuid})", gpu.index);
        if !matches!(gpu.device.mig_mode(), Ok((1, _))) {
            continue;
        }
        for (number, device) in gpu.device.mig_devices().unwrap_or_default() {
            let profile = profile(device);
            let uuid = device.uuid().unwrap_or_else(|_| "Unknown Error".to_owned());
            let _infallible = writeln!(
                text,
                "  MIG {profile:<12}Device {number:>2}: (UUID: {uuid})"
            );
        }
    }
    Outcome {
        text,
        code: gpus.exit_code(),
    }
}

/// The profile of a MIG device, which is the end of its name.
fn profile(device: Device<'_>) -> String {
    let name = device.name().unwrap_or_default();
    let profile = name.rsplit_once("MIG ").map(|(_, profile)| profile);
    profile.unwrap_or("Unknown").to_owned()
}
