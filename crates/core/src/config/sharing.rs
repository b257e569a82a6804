//! How GPUs are shared between containers, as the config says it.

use std::fmt;
use std::str::FromStr;

use super::types::{AllocationPolicy, Choice};
use crate::gpu::GpuUuid;
use crate::mig::MigUuid;
use crate::resource::ResourceName;

/// The most replicas of one GPU: more than anybody can use, and few enough that several GPUs with
/// so many fit into the one message in which a kubelet takes a device list.
pub const MOST_REPLICAS: u32 = 10_000;

/// Which devices are shared, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SharingConfig {
    /// By time-slicing: `sharing.timeSlicing.resources`. The first entry that holds for a device
    /// counts.
    pub time_slicing: Vec<SharedResource>,
    /// By MPS: `sharing.mps.resources`; `None` where the section is not there. Where both name a
    /// GPU it outranks time-slicing; in the reference it does so for the whole node.
    pub mps: Option<Vec<SharedResource>>,
}

/// Devices of one resource that are offered several times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedResource {
    /// The resource whose devices are shared.
    pub name: ResourceName,
    /// The resource their replicas are offered as: `rename`, or `<name>.shared` with
    /// `renameByDefault`, or the same name.
    pub shared_name: ResourceName,
    /// Which of the devices.
    pub devices: SharedDevices,
    /// How often each is offered, 1 to [`MOST_REPLICAS`].
    pub replicas: u32,
    /// Whether a container that asks for more than one replica is refused.
    pub fail_requests_greater_than_one: bool,
    /// Where the replicas of one container may lie.
    pub placement: ReplicaPlacement,
    /// The order in which replicas are given out, where it is not that of
    /// `sharedDevicesAllocationPolicy`.
    pub policy: Option<AllocationPolicy>,
}

/// Which devices of a resource are shared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SharedDevices {
    /// All of them.
    #[default]
    All,
    /// The first so many, by index.
    Count(u32),
    /// These.
    These(Vec<DeviceRef>),
}

/// One device, as a config names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceRef {
    /// A GPU by NVML's index.
    Index(u32),
    /// A MIG device by its GPU's index and its own.
    MigIndex(u32, u32),
    /// A GPU by its UUID.
    Uuid(GpuUuid),
    /// A MIG device by its UUID, in the new or the old form.
    MigUuid(MigUuid),
}

/// Why a text names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no device: expected {DEVICE_REF}")]
pub struct InvalidDeviceRef(String);

/// What a [`DeviceRef`] is written as.
pub(super) const DEVICE_REF: &str =
    "a GPU's index (0), a MIG device's (0:1), or a UUID (GPU-..., MIG-...)";

impl FromStr for DeviceRef {
    type Err = InvalidDeviceRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDeviceRef(text.to_owned());
        if text.starts_with("GPU-") {
            text.parse().map(Self::Uuid).map_err(|_| invalid())
        } else if text.starts_with("MIG-") {
            text.parse().map(Self::MigUuid).map_err(|_| invalid())
        } else if let Some((gpu, mig)) = text.split_once(':') {
            let both = number(gpu).zip(number(mig));
            both.map(|(gpu, mig)| Self::MigIndex(gpu, mig))
                .ok_or_else(invalid)
        } else {
            number(text).map(Self::Index).ok_or_else(invalid)
        }
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

impl fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => index.fmt(f),
            Self::MigIndex(gpu, mig) => write!(f, "{gpu}:{mig}"),
            Self::Uuid(uuid) => uuid.fmt(f),
            Self::MigUuid(uuid) => uuid.fmt(f),
        }
    }
}

/// Where the replicas that one container gets may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplicaPlacement {
    /// Anywhere, as the allocation policy says.
    #[default]
    Any,
    /// Each on a GPU of its own.
    DistinctGpus,
    /// All on one GPU.
    OneGpu,
}

impl Choice for ReplicaPlacement {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("any", Self::Any),
        ("distinct-gpus", Self::DistinctGpus),
        ("one-gpu", Self::OneGpu),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_in_every_form_of_the_reference() {
        let uuid = "4d4d4d4d-0000-0000-0000-0123456789ab";
        for text in [
            "0".to_owned(),
            "12:3".to_owned(),
            format!("GPU-{uuid}"),
            format!("MIG-{uuid}"),
            format!("MIG-GPU-{uuid}/3/0"),
        ] {
            let named: DeviceRef = text.parse().unwrap();
            assert_eq!(named.to_string(), text);
        }
        for bad in ["", "x", "-1", "+1", "0:", "0:1:2", "GPU-1", "MIG-1", "all"] {
            assert!(bad.parse::<DeviceRef>().is_err(), "{bad:?}");
        }
        assert!(format!("MIG-GPU-{uuid}/3").parse::<DeviceRef>().is_err());
    }
}
