//! Why a GPU cannot be cut as it is wanted.

use std::fmt;

use super::search::Group;
use crate::mig::layout::Placement;
use crate::mig::plan::compute::{self, Bin};
use crate::mig::plan::places::Hardware;
use crate::mig::profile::MigProfile;
use crate::mig::target::MigTarget;

/// Why a GPU cannot be cut as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// MIG devices without MIG.
    #[error("with MIG off there can be no MIG devices, but {0} are wanted")]
    DevicesWithoutMig(MigTarget),
    /// The GPU has no such profile.
    #[error("the GPU has no profile {profile}; it has {}", list(.known))]
    NoSuchProfile {
        /// The profile.
        profile: MigProfile,
        /// Those that there are; of compute instances, if only their size is wrong.
        known: Vec<MigProfile>,
    },
    /// More of one profile than fit onto an empty GPU.
    #[error("{wanted} × {profile} do not fit, at most {most} do")]
    TooMany {
        /// The profile.
        profile: MigProfile,
        /// How many are wanted.
        wanted: u32,
        /// How many fit.
        most: u32,
    },
    /// Each profile fits, but not all of them together.
    #[error("{target} do not fit together: {shortage}")]
    NotTogether {
        /// What is wanted.
        target: MigTarget,
        /// What runs out.
        shortage: Shortage,
    },
    /// It would fit onto an empty GPU, but not beside what must be kept.
    #[error("{target} is not possible while these are in use: {}", list(.by))]
    Held {
        /// What is wanted.
        target: MigTarget,
        /// What stands in the way by itself: none of these can be left out of it.
        by: Vec<HeldInstance>,
    },
}

impl Unreachable {
    /// Whether it could be made if nothing were held; else no GPU of this kind can be cut so.
    pub fn is_for_now(&self) -> bool {
        matches!(self, Self::Held { .. })
    }
}

/// What runs out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shortage {
    /// Compute or memory slices, or a kind of engines.
    Of {
        /// What, in the plural.
        what: &'static str,
        /// How much they take.
        wanted: u32,
        /// How much there is.
        there: u32,
    },
    /// GPU instances that split ones share.
    GpuInstances {
        /// The profile of the GPU instances.
        profile: MigProfile,
        /// How many fit.
        most: u32,
    },
    /// There is enough of everything, but no way to place them so that none overlap.
    Places,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of {
                what,
                wanted,
                there,
            } => write!(f, "they take {wanted} {what} and the GPU has {there}"),
            Self::GpuInstances { profile, most } => {
                write!(
                    f,
                    "they do not fit into {most} GPU instances {profile}, and no more can be"
                )
            }
            Self::Places => f.write_str("there are not enough places that do not overlap"),
        }
    }
}

/// A MIG device that must be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldInstance {
    /// Id of its GPU instance.
    pub gpu_instance: u32,
    /// Its id in the GPU instance.
    pub compute_instance: u32,
    /// What it is.
    pub profile: MigProfile,
    /// The memory slices of its GPU instance.
    pub placement: Placement,
}

/// `3g.40gb at 0:4 (GPU instance 2, compute instance 0)`.
impl fmt::Display for HeldInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at {} (GPU instance {}, compute instance {})",
            self.profile, self.placement, self.gpu_instance, self.compute_instance
        )
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() {
        return "none".to_owned();
    }
    items.join(", ")
}

/// What runs out when these are put onto an empty GPU, where not all of them fit.
pub(super) fn shortage(hardware: &Hardware<'_>, groups: &[Group<'_>]) -> Shortage {
    let mut counts = Vec::new();
    for group in groups {
        match gpu_instances(group) {
            Some(count) if count <= group.info.most => counts.push(count),
            _ => {
                return Shortage::GpuInstances {
                    profile: group.info.profile,
                    most: group.info.most,
                };
            }
        }
    }
    let sum = |each: &dyn Fn(&Group<'_>) -> u32| {
        let groups = groups.iter().zip(&counts);
        groups.fold(0_u32, |sum, (group, count)| {
            sum.saturating_add(each(group).saturating_mul(*count))
        })
    };
    let memory = |group: &Group<'_>| {
        let place = group.info.placements.first();
        place.map_or(0, |place| place.size)
    };
    let all = hardware.engines;
    let checks: [(&'static str, u32, u32); 6] = [
        (
            "compute slices",
            sum(&|group| group.info.profile.gpu_slices),
            hardware.slices,
        ),
        ("memory slices", sum(&memory), hardware.memory_slices),
        (
            "decoders (NVDEC)",
            sum(&|group| group.info.engines.decoders),
            all.decoders,
        ),
        (
            "encoders (NVENC)",
            sum(&|group| group.info.engines.encoders),
            all.encoders,
        ),
        (
            "JPEG decoders",
            sum(&|group| group.info.engines.jpeg),
            all.jpeg,
        ),
        (
            "optical flow accelerators (OFA)",
            sum(&|group| group.info.engines.ofa),
            all.ofa,
        ),
    ];
    let short = checks.into_iter().find(|(_, wanted, there)| wanted > there);
    short.map_or(Shortage::Places, |(what, wanted, there)| Shortage::Of {
        what,
        wanted,
        there,
    })
}

/// How many GPU instances a group takes at least, however many there can be.
fn gpu_instances(group: &Group<'_>) -> Option<u32> {
    let all = group.info.profile.gpu_slices;
    (1..=group.wanted.total()).find(|count| {
        let empty = Bin {
            compute: &[],
            held: 0,
        };
        compute::fill(all, &vec![empty; *count as usize], group.wanted).is_some()
    })
}
