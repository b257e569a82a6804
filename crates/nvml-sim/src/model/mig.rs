//! How a model can be partitioned (MIG): its GPU instance profiles and the compute instance
//! profiles of each, as `nvidia-smi mig -lgip` and `-lcip` list them.

use std::fmt;

use serde::Serialize;

/// GPU instance profiles that a model can have, `NVML_GPU_INSTANCE_PROFILE_COUNT`.
pub const GPU_PROFILES: u32 = 17;
/// Compute instance profiles that a GPU instance can have,
/// `NVML_COMPUTE_INSTANCE_PROFILE_COUNT`.
pub const COMPUTE_PROFILES: u32 = 8;

/// GPU instance profiles, numbered as `NVML_GPU_INSTANCE_PROFILE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are NVML's")]
pub enum ProfileKind {
    OneSlice = 0,
    TwoSlice = 1,
    ThreeSlice = 2,
    FourSlice = 3,
    SevenSlice = 4,
    /// With the media extensions, `+me`.
    OneSliceRev1 = 7,
    /// With the media extensions, `+me`.
    TwoSliceRev1 = 8,
    /// With twice the memory.
    OneSliceRev2 = 9,
    OneSliceGfx = 10,
    TwoSliceGfx = 11,
    FourSliceGfx = 12,
    OneSliceNoMe = 13,
    TwoSliceNoMe = 14,
    OneSliceAllMe = 15,
    TwoSliceAllMe = 16,
}

impl ProfileKind {
    /// Compute slices of an instance.
    pub const fn slices(self) -> u32 {
        match self {
            Self::OneSlice
            | Self::OneSliceRev1
            | Self::OneSliceRev2
            | Self::OneSliceGfx
            | Self::OneSliceNoMe
            | Self::OneSliceAllMe => 1,
            Self::TwoSlice
            | Self::TwoSliceRev1
            | Self::TwoSliceGfx
            | Self::TwoSliceNoMe
            | Self::TwoSliceAllMe => 2,
            Self::ThreeSlice => 3,
            Self::FourSlice | Self::FourSliceGfx => 4,
            Self::SevenSlice => 7,
        }
    }

    /// Memory slices of an instance.
    pub const fn memory_slices(self) -> u32 {
        match self {
            Self::OneSliceRev2 => 2,
            Self::ThreeSlice => 4,
            Self::SevenSlice => 8,
            _ => self.slices(),
        }
    }

    /// Whether it can draw.
    pub const fn graphics(self) -> bool {
        matches!(
            self,
            Self::OneSliceGfx | Self::TwoSliceGfx | Self::FourSliceGfx
        )
    }
}

/// Engines beside the multiprocessors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Engines {
    /// Copy engines.
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

impl Engines {
    /// How many times `part` is in this, at most `most`. Copy engines are shared out by the
    /// slices and limit nothing.
    fn times(self, part: Self, most: u32) -> u32 {
        [
            (self.decoders, part.decoders),
            (self.encoders, part.encoders),
            (self.jpeg, part.jpeg),
            (self.ofa, part.ofa),
        ]
        .into_iter()
        .map(|(all, each)| all.checked_div(each).unwrap_or(most))
        .fold(most, u32::min)
    }

    /// What is left when `part` is taken.
    fn without(self, part: Self) -> Self {
        Self {
            copy: self.copy.saturating_sub(part.copy),
            decoders: self.decoders.saturating_sub(part.decoders),
            encoders: self.encoders.saturating_sub(part.encoders),
            jpeg: self.jpeg.saturating_sub(part.jpeg),
            ofa: self.ofa.saturating_sub(part.ofa),
        }
    }
}

/// One kind of GPU instance of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GpuProfile {
    /// Which of NVML's profiles it is.
    pub kind: ProfileKind,
    /// `nvmlGpuInstanceProfileInfo_t.id`, what `nvidia-smi mig -cgi` takes.
    pub id: u32,
    /// `1g.10gb`, `1g.10gb+me`.
    pub name: &'static str,
    /// Framebuffer, MiB.
    pub memory_mib: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Engines.
    pub engines: Engines,
}

/// Where an instance is: its first slice, and how many it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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

/// One kind of compute instance of a GPU instance. Its number and its id are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ComputeProfile {
    /// Number, `NVML_COMPUTE_INSTANCE_PROFILE_*`.
    pub id: u32,
    /// Compute slices.
    pub slices: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// How many fit into an empty GPU instance.
    pub count: u32,
}

/// How a model can be partitioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MigTable {
    /// Compute slices of the GPU: also the most MIG devices.
    pub slices: u32,
    /// Memory slices of the GPU.
    pub memory_slices: u32,
    /// Engines of the GPU.
    pub engines: Engines,
    /// The profiles, in the order of `nvidia-smi mig -lgip`.
    pub profiles: &'static [GpuProfile],
}

impl MigTable {
    /// The profile with NVML's number.
    pub fn by_kind(&self, kind: u32) -> Option<&'static GpuProfile> {
        let mut profiles = self.profiles.iter();
        profiles.find(|profile| profile.kind as u32 == kind)
    }

    /// The profile with this id.
    pub fn by_id(&self, id: u32) -> Option<&'static GpuProfile> {
        self.profiles.iter().find(|profile| profile.id == id)
    }

    /// The profile that `nvidia-smi` calls so.
    pub fn by_name(&self, name: &str) -> Option<&'static GpuProfile> {
        self.profiles.iter().find(|profile| profile.name == name)
    }

    /// The profiles that these names mean.
    ///
    /// # Errors
    /// There is no such profile; the text says which and what there are.
    pub fn named<T: AsRef<str>>(&self, names: &[T]) -> Result<Vec<&'static GpuProfile>, String> {
        let profiles = names.iter().map(|name| {
            let name = name.as_ref();
            self.by_name(name).ok_or_else(|| {
                let known: Vec<&str> = self.profiles.iter().map(|known| known.name).collect();
                let known = known.join(", ");
                format!("there is no profile {name:?}; there are {known}")
            })
        });
        profiles.collect()
    }

    /// Where instances of a profile can be on an empty GPU: a profile of n memory slices begins
    /// at a multiple of n, and ends before the memory slice without a compute slice.
    pub fn placements(&self, profile: &GpuProfile) -> Vec<Placement> {
        let (slices, size) = (profile.kind.slices(), profile.kind.memory_slices());
        (0..self.memory_slices)
            .filter(|start| start % size == 0 && start + slices <= self.slices)
            .map(|start| Placement { start, size })
            .collect()
    }

    /// How many instances of a profile fit onto an empty GPU.
    pub fn count(&self, profile: &GpuProfile) -> u32 {
        self.fitting(profile, &[])
    }

    /// How many instances of a profile fit beside others.
    pub(crate) fn fitting(&self, profile: &GpuProfile, taken: &[(&GpuProfile, Placement)]) -> u32 {
        let free = self.free(profile, taken).len();
        let left = taken
            .iter()
            .fold(self.engines, |left, (taken, _)| left.without(taken.engines));
        left.times(profile.engines, u32::try_from(free).unwrap_or(u32::MAX))
    }

    /// The placements of a profile that overlap with nothing.
    pub(crate) fn free(
        &self,
        profile: &GpuProfile,
        taken: &[(&GpuProfile, Placement)],
    ) -> Vec<Placement> {
        let mut placements = self.placements(profile);
        placements.retain(|place| !taken.iter().any(|(_, other)| place.overlaps(*other)));
        placements
    }

    /// The id of the GPU instance at a place: the GPU is 0, its halves are 1 and 2, its quarters
    /// 3 to 6, its eighths 7 to 14.
    pub(crate) fn instance_id(&self, place: Placement) -> u32 {
        let parts = self.memory_slices / place.size.max(1);
        parts - 1 + place.start / place.size.max(1)
    }

    /// The compute instance profiles of a GPU instance, smallest first.
    pub fn compute_profiles(&self, profile: &GpuProfile) -> Vec<ComputeProfile> {
        let all = profile.kind.slices();
        let each = profile.multiprocessors / all;
        let per_slice = self
            .profiles
            .first()
            .map_or(each, |one| one.multiprocessors);
        // One, two, three, four and seven slices, by NVML's numbers.
        [1, 2, 3, 4, 7]
            .into_iter()
            .zip(0..)
            .filter(|(slices, _)| *slices <= all && (*slices != 3 || all != 4))
            .map(|(slices, id)| ComputeProfile {
                id,
                slices,
                multiprocessors: if slices == all {
                    profile.multiprocessors
                } else {
                    per_slice * slices
                },
                count: u32::try_from(compute_placements(all, slices).len()).unwrap_or(0),
            })
            .collect()
    }
}

/// Where compute instances of so many slices can be in an empty GPU instance of `all` slices.
pub(crate) fn compute_placements(all: u32, size: u32) -> Vec<Placement> {
    // Three slices take the room of four, as in the GPU itself.
    let step = if size == 3 { 4 } else { size };
    (0..all)
        .filter(|start| start % step == 0 && start + size <= all)
        .map(|start| Placement { start, size })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GpuModel, MODELS};

    fn table(key: &str) -> &'static MigTable {
        GpuModel::by_key(key).unwrap().mig.unwrap()
    }

    fn counts(key: &str) -> String {
        let table = table(key);
        let profiles = table.profiles.iter();
        let texts: Vec<String> = profiles
            .map(|profile| format!("{}×{}", profile.name, table.count(profile)))
            .collect();
        texts.join(" ")
    }

    #[test]
    fn the_profiles_fit_as_often_as_nvidia_says() {
        for (key, expected) in [
            (
                "a100-40gb",
                "1g.5gb×7 1g.5gb+me×1 1g.10gb×4 2g.10gb×3 3g.20gb×2 4g.20gb×1 7g.40gb×1",
            ),
            (
                "h100-80gb",
                "1g.10gb×7 1g.10gb+me×1 1g.20gb×4 2g.20gb×3 3g.40gb×2 4g.40gb×1 7g.80gb×1",
            ),
            (
                "b200",
                "1g.23gb×7 1g.23gb+me×1 1g.45gb×4 2g.45gb×3 3g.90gb×2 4g.90gb×1 7g.180gb×1",
            ),
            (
                "a30",
                "1g.6gb×4 1g.6gb+me×1 2g.12gb×2 2g.12gb+me×1 4g.24gb×1",
            ),
            (
                "rtx-pro-6000",
                "1g.24gb×4 1g.24gb+me×1 1g.24gb+gfx×4 1g.24gb+me.all×1 1g.24gb-me×4 2g.48gb×2 \
                 2g.48gb+gfx×2 2g.48gb+me.all×1 2g.48gb-me×2 4g.96gb×1 4g.96gb+gfx×1",
            ),
        ] {
            assert_eq!(counts(key), expected, "{key}");
        }
    }

    #[test]
    fn placements_are_those_of_nvidia_smi() {
        let starts = |key: &str, name: &str| -> Vec<u32> {
            let table = table(key);
            let places = table.placements(table.by_name(name).unwrap());
            places.into_iter().map(|place| place.start).collect()
        };
        assert_eq!(starts("a100-40gb", "1g.5gb"), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(starts("a100-40gb", "1g.10gb"), [0, 2, 4, 6]);
        assert_eq!(starts("h200-141gb", "2g.35gb"), [0, 2, 4]);
        assert_eq!(starts("h100-nvl", "3g.47gb"), [0, 4]);
        assert_eq!(starts("gb200", "4g.93gb"), [0]);
        assert_eq!(starts("b200", "7g.180gb"), [0]);
        assert_eq!(starts("a30", "1g.6gb"), [0, 1, 2, 3]);
        assert_eq!(starts("rtx-pro-6000", "2g.48gb+gfx"), [0, 2]);
    }

    /// The formula by which programs name a profile from what NVML tells of a MIG device.
    fn gigabytes(total_mib: u64, memory_mib: u64) -> u64 {
        let eighths = (memory_mib * 8).div_ceil(total_mib);
        let total = total_mib.div_ceil(1024);
        (eighths * total * 2 + 8) / 16
    }

    #[test]
    fn a_profile_is_named_after_its_slices_and_its_memory() {
        for model in MODELS {
            let Some(table) = model.mig else { continue };
            for profile in table.profiles {
                let named = format!(
                    "{}g.{}gb",
                    profile.kind.slices(),
                    gigabytes(model.memory_mib, profile.memory_mib)
                );
                let rest = profile.name.strip_prefix(&named);
                let rest = rest.unwrap_or_else(|| panic!("{}: {named}", profile.name));
                assert!(["", "+me", "+gfx", "+me.all", "-me"].contains(&rest));
                assert!(profile.multiprocessors <= model.multiprocessors);
            }
        }
    }

    #[test]
    fn every_profile_is_found_by_its_number_its_id_and_its_name() {
        for model in MODELS {
            let Some(table) = model.mig else { continue };
            for profile in table.profiles {
                assert_eq!(table.by_kind(profile.kind as u32), Some(profile));
                assert_eq!(table.by_id(profile.id), Some(profile));
                assert_eq!(table.by_name(profile.name), Some(profile));
            }
        }
    }

    #[test]
    fn compute_instances_share_a_gpu_instance_as_nvidia_smi_lists_them() {
        let listed = |name: &str| -> Vec<(u32, u32, u32)> {
            let table = table("a100-40gb");
            let profiles = table.compute_profiles(table.by_name(name).unwrap());
            let all = profiles.iter();
            all.map(|p| (p.id, p.count, p.multiprocessors)).collect()
        };
        assert_eq!(listed("1g.5gb"), [(0, 1, 14)]);
        assert_eq!(listed("3g.20gb"), [(0, 3, 14), (1, 1, 28), (2, 1, 42)]);
        assert_eq!(listed("4g.20gb"), [(0, 4, 14), (1, 2, 28), (3, 1, 56)]);
        assert_eq!(
            listed("7g.40gb"),
            [(0, 7, 14), (1, 3, 28), (2, 2, 42), (3, 1, 56), (4, 1, 98)]
        );
    }
}
