//! What the hardware can be cut into, what it is cut into, and the steps between.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::device::MigMode;
use super::profile::MigProfile;

/// Where an instance is: its first slice, and how many it has. GPU instances are counted in
/// memory slices of the GPU, of which there are 8 on most models and 4 on some; compute instances
/// in compute slices of their GPU instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// First slice.
    pub start: u32,
    /// Number of slices.
    pub size: u32,
}

impl Placement {
    /// Whether both have a slice.
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.start + other.size && other.start < self.start + self.size
    }
}

/// As `nvidia-smi` writes it: `4:2`.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.start, self.size)
    }
}

/// Engines beside the multiprocessors (`nvmlGpuInstanceProfileInfo_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Engines {
    /// Copy engines. They are shared out by the slices and limit nothing.
    pub copy: u32,
    /// Video decoders, NVDEC.
    pub decoders: u32,
    /// Video encoders, NVENC.
    pub encoders: u32,
    /// JPEG decoders.
    pub jpeg: u32,
    /// Optical flow accelerators.
    pub ofa: u32,
}

/// One kind of GPU instance that a GPU offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileInfo {
    /// Its name.
    pub profile: MigProfile,
    /// NVML's number, `NVML_GPU_INSTANCE_PROFILE_*`.
    pub number: u32,
    /// `nvmlGpuInstanceProfileInfo_t.id`, what `nvidia-smi mig -cgi` takes.
    pub id: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Its engines.
    pub engines: Engines,
    /// How many fit onto an empty GPU.
    pub most: u32,
    /// Where an instance may be on an empty GPU, by ascending start.
    pub placements: Vec<Placement>,
}

/// What a GPU can be cut into.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MigTable {
    /// The profiles of GPU instances, in the order of `nvidia-smi mig -lgip`.
    pub profiles: Vec<ProfileInfo>,
}

impl MigTable {
    /// The profile of a GPU instance by its name.
    pub fn find(&self, profile: MigProfile) -> Option<&ProfileInfo> {
        self.profiles.iter().find(|info| info.profile == profile)
    }
}

/// One GPU instance that is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GpuInstance {
    /// Its id.
    pub id: u32,
    /// What it is.
    pub profile: MigProfile,
    /// Its memory slices.
    pub placement: Placement,
    /// Its compute instances, by ascending id.
    pub compute: Vec<ComputeInstance>,
}

/// One compute instance that is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ComputeInstance {
    /// Its id in the GPU instance.
    pub id: u32,
    /// How many of the GPU instance's slices it has.
    pub slices: u32,
    /// Those slices, counted in compute slices of the GPU instance
    /// (`nvmlComputeInstanceInfo_t.placement`).
    pub placement: Placement,
}

/// What a GPU is cut into, empty GPU instances included.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Layout {
    /// Whether MIG is on.
    pub mode: MigMode,
    /// The GPU instances, by ascending id.
    pub instances: Vec<GpuInstance>,
}

/// One change of a GPU, which the driver makes whole or not at all, but for the last kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigStep {
    /// Turn MIG on or off. On GPUs before Hopper it is on or off after the next reset.
    SetMode(bool),
    /// Take a compute instance away.
    DestroyComputeInstance {
        /// Id of its GPU instance.
        gpu_instance: u32,
        /// Its own.
        id: u32,
    },
    /// Take a GPU instance away, which has no compute instances any more.
    DestroyGpuInstance {
        /// Its id.
        id: u32,
    },
    /// Make compute instances in a GPU instance that is there, one after the other.
    CreateComputeInstances {
        /// Id of the GPU instance.
        gpu_instance: u32,
        /// The slices of each.
        slices: Vec<u32>,
    },
    /// Make a GPU instance, and in it compute instances one after the other. One that was
    /// interrupted leaves a GPU instance with fewer.
    CreateGpuInstance {
        /// What it is.
        profile: MigProfile,
        /// Where.
        placement: Placement,
        /// The slices of each compute instance.
        slices: Vec<u32>,
    },
}
