//! What a GPU is partitioned into, as containers see it.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::layout::{Engines, Placement};
use super::profile::MigProfile;
use crate::gpu::GpuUuid;

/// A MIG device's UUID as NVML prints it: `MIG-` and 8-4-4-4-12 hexadecimal digits, or with
/// drivers before R470 `MIG-GPU-<uuid>/<GPU instance>/<compute instance>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MigUuid(Box<str>);

impl MigUuid {
    /// The text as NVML prints it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a MIG device's UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a MIG UUID: expected MIG- and 8-4-4-4-12 hexadecimal digits, or the old form \
     MIG-GPU-<uuid>/<GPU instance>/<compute instance>"
)]
pub struct InvalidMigUuid(String);

impl FromStr for MigUuid {
    type Err = InvalidMigUuid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_mig_uuid(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidMigUuid(text.to_owned()))
        }
    }
}

fn is_mig_uuid(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("MIG-") else {
        return false;
    };
    let gpu_uuid = |text: &str| text.parse::<GpuUuid>().is_ok();
    let id = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits && text.parse::<u32>().is_ok()
    };
    match rest.split('/').collect::<Vec<_>>()[..] {
        [uuid] => gpu_uuid(&format!("GPU-{uuid}")),
        [gpu, gi, ci] => gpu_uuid(gpu) && id(gi) && id(ci),
        _ => false,
    }
}

impl Borrow<str> for MigUuid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MigUuid {
    type Error = InvalidMigUuid;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MigUuid> for String {
    fn from(uuid: MigUuid) -> Self {
        uuid.0.into()
    }
}

impl fmt::Display for MigUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MigUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a GPU is partitioned, and whether it will be after its next reset
/// (`nvmlDeviceGetMigMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MigMode {
    /// Now.
    pub current: bool,
    /// After the next reset of the GPU.
    pub pending: bool,
}

/// How a GPU that can be partitioned is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GpuMig {
    /// Whether it is.
    pub mode: MigMode,
    /// Its MIG devices, by ascending index.
    pub devices: Vec<MigDevice>,
}

/// One compute instance, which is what a container gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigDevice {
    /// NVML's index among the MIG devices of the GPU; not stable while others come and go.
    pub index: u32,
    /// Its identity. The same instances made again may have the same UUID or another one.
    pub uuid: MigUuid,
    /// Id of its GPU instance.
    pub gpu_instance: u32,
    /// Its id in the GPU instance.
    pub compute_instance: u32,
    /// What it is.
    pub profile: MigProfile,
    /// Memory of its GPU instance in MiB, which it shares with that one's other compute
    /// instances.
    pub memory_mib: u64,
    /// Its streaming multiprocessors.
    pub multiprocessors: u32,
    /// The engines of its GPU instance, which it shares with that one's other compute instances.
    #[serde(default)]
    pub engines: Engines,
    /// The memory slices of its GPU instance; `None` where the driver does not tell.
    pub placement: Option<Placement>,
    /// The nodes without which it cannot be opened.
    pub capabilities: Capabilities,
}

impl MigDevice {
    /// What to call it in words, on its GPU.
    pub fn words(&self) -> String {
        let Self {
            profile,
            gpu_instance,
            compute_instance,
            ..
        } = self;
        format!(
            "MIG device {profile} (GPU instance {gpu_instance}, compute instance \
             {compute_instance})"
        )
    }
}

/// The `<m>` of the `/dev/nvidia-caps/nvidia-cap<m>` of a MIG device, from
/// `/proc/driver/nvidia-caps/mig-minors`; `None` where the host does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// That of its GPU instance (`gpu0/gi1/access`).
    pub gpu_instance: Option<u32>,
    /// That of its compute instance (`gpu0/gi1/ci0/access`).
    pub compute_instance: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mig_uuid_round_trips_in_both_forms_and_rejects_others() {
        let uuid = "4d4d4d4d-0000-0000-0000-0123456789ab";
        for text in [format!("MIG-{uuid}"), format!("MIG-GPU-{uuid}/7/0")] {
            assert_eq!(text.parse::<MigUuid>().unwrap().to_string(), text);
        }
        for bad in [
            String::new(),
            uuid.to_owned(),
            format!("GPU-{uuid}"),
            format!("MIG-GPU-{uuid}"),
            format!("MIG-GPU-{uuid}/7"),
            format!("MIG-GPU-{uuid}/x/0"),
            format!("MIG-GPU-{uuid}/7/"),
            format!("MIG-{uuid}/7/0"),
        ] {
            assert!(bad.parse::<MigUuid>().is_err(), "{bad:?}");
        }
    }
}
