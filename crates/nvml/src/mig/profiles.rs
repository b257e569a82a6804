//! The profiles that a GPU offers, and what they are called.

use mizzen_core::driver::DriverError;
use mizzen_core::mig::{Engines, MigProfile, ProfileExtra, ProfileInfo};

use nvml_wrapper_sys::bindings::{
    NVML_COMPUTE_INSTANCE_PROFILE_COUNT, NVML_GPU_INSTANCE_PROFILE_COUNT,
};

use super::calls::{Attributes, GpuInstanceHandle, Size};
use crate::device::Device;
use crate::library::Library;

/// What sets the profile of NVML's number (`NVML_GPU_INSTANCE_PROFILE_*`) apart from others of
/// its size.
fn extra(number: u32) -> ProfileExtra {
    match number {
        7 | 8 => ProfileExtra::Media,
        10..=12 => ProfileExtra::Graphics,
        13 | 14 => ProfileExtra::NoMedia,
        15 | 16 => ProfileExtra::AllMedia,
        _ => ProfileExtra::None,
    }
}

/// A profile of compute instances.
#[derive(Debug, Clone, Copy)]
pub(super) struct ComputeProfile {
    pub(super) id: u32,
    pub(super) slices: u32,
}

impl Library {
    /// The profiles of GPU instances that a GPU of `total_mib` offers, in the order of
    /// `nvidia-smi mig -lgip`, without their placements. Some drivers tell none while MIG is off.
    pub(super) fn gpu_profiles(
        &self,
        device: Device,
        total_mib: u64,
    ) -> Result<Vec<ProfileInfo>, DriverError> {
        let mut profiles = Vec::new();
        for number in 0..NVML_GPU_INSTANCE_PROFILE_COUNT {
            let Some(info) = self.gpu_profile(device, number)? else {
                continue;
            };
            let gigabytes = MigProfile::gigabytes(total_mib, info.memorySizeMB);
            profiles.push(ProfileInfo {
                profile: MigProfile::of_gpu_instance(info.sliceCount, gigabytes, extra(number)),
                number,
                id: info.id,
                memory_mib: info.memorySizeMB,
                multiprocessors: info.multiprocessorCount,
                engines: Engines {
                    copy: info.copyEngineCount,
                    decoders: info.decoderCount,
                    encoders: info.encoderCount,
                    jpeg: info.jpegCount,
                    ofa: info.ofaCount,
                },
                most: info.instanceCount,
                placements: Vec::new(),
            });
        }
        profiles.sort_by_key(|info| (info.profile.gpu_slices, info.profile.memory_gb, info.id));
        Ok(profiles)
    }

    /// The profiles of compute instances that a GPU instance offers.
    pub(super) fn compute_profiles(
        &self,
        instance: GpuInstanceHandle,
    ) -> Result<Vec<ComputeProfile>, DriverError> {
        let mut profiles = Vec::new();
        for number in 0..NVML_COMPUTE_INSTANCE_PROFILE_COUNT {
            if let Some(info) = self.compute_profile(instance, number)? {
                profiles.push(ComputeProfile {
                    id: info.id,
                    slices: info.sliceCount,
                });
            }
        }
        Ok(profiles)
    }
}

/// The profile in the name of a MIG device, `NVIDIA A100-SXM4-40GB MIG 1g.5gb`.
pub(super) fn named(name: &str) -> Option<MigProfile> {
    name.rsplit_once("MIG ")?.1.trim().parse().ok()
}

/// What a MIG device is beyond its size, where its GPU instance may not be asked: as its name has
/// it, or else as the first profile of the same size with the same engines.
pub(super) fn guessed_extra(
    size: Size,
    attributes: &Attributes,
    named: Option<MigProfile>,
    profiles: &[ProfileInfo],
) -> ProfileExtra {
    if let Some(named) = named.filter(|named| named.gpu_slices == size.gpu_slices) {
        return named.extra;
    }
    let alike = |info: &&ProfileInfo| {
        // Copy engines are shared out by the slices and tell nothing.
        let engines = Engines {
            copy: attributes.engines.copy,
            ..info.engines
        };
        info.profile.gpu_slices == size.gpu_slices
            && info.memory_mib == size.memory_mib
            && engines == attributes.engines
    };
    let found = profiles.iter().find(alike);
    found.map_or(ProfileExtra::None, |info| info.profile.extra)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, ofa: u32) -> ProfileInfo {
        ProfileInfo {
            profile: name.parse().unwrap(),
            number: 0,
            id: 0,
            memory_mib: 4864,
            multiprocessors: 14,
            engines: Engines {
                ofa,
                ..Engines::default()
            },
            most: 1,
            placements: Vec::new(),
        }
    }

    #[test]
    fn a_device_is_named_by_the_last_words_of_its_name() {
        let text = |name| named(name).map(|profile| profile.to_string());
        assert_eq!(
            text("NVIDIA A100-SXM4-40GB MIG 1c.3g.20gb").as_deref(),
            Some("1c.3g.20gb")
        );
        assert_eq!(text("NVIDIA A100-SXM4-40GB"), None);
        assert_eq!(text("NVIDIA A100 MIG "), None);
    }

    #[test]
    fn an_instance_that_may_not_be_asked_is_what_its_name_or_its_engines_say() {
        let size = Size {
            gpu_slices: 1,
            compute_slices: 1,
            memory_mib: 4864,
        };
        let attributes = |ofa| Attributes {
            multiprocessors: 14,
            engines: Engines {
                copy: 1,
                ofa,
                ..Engines::default()
            },
            size: Some(size),
        };
        let table = [info("1g.5gb", 0), info("1g.5gb+me", 1)];
        let guess = |ofa, name: Option<&str>| {
            let named = name.and_then(named);
            guessed_extra(size, &attributes(ofa), named, &table)
        };
        assert_eq!(guess(0, None), ProfileExtra::None);
        assert_eq!(guess(1, None), ProfileExtra::Media);
        assert_eq!(guess(2, None), ProfileExtra::None);
        assert_eq!(guess(0, Some("A100 MIG 1g.5gb+me")), ProfileExtra::Media);
        // A name that says another size says nothing.
        assert_eq!(guess(0, Some("A100 MIG 2g.10gb+me")), ProfileExtra::None);
    }
}
