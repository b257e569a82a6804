//! Changes of a GPU in words.

use mizzen_core::driver::DriverError;
use mizzen_core::mig::{Layout, MigProfile, MigStep};

use crate::words::times;

/// What a step does to a GPU that is cut so.
pub(super) fn in_words(step: &MigStep, layout: &Layout) -> String {
    let name = |id: u32| {
        let mut instances = layout.instances.iter();
        let instance = instances.find(|instance| instance.id == id);
        let what =
            instance.map(|instance| format!("{} at {}", instance.profile, instance.placement));
        match what {
            Some(what) => format!("GPU instance {id} ({what})"),
            None => format!("GPU instance {id}"),
        }
    };
    match step {
        MigStep::SetMode(true) => "turn MIG on".to_owned(),
        MigStep::SetMode(false) => "turn MIG off".to_owned(),
        MigStep::DestroyComputeInstance { gpu_instance, id } => {
            format!("destroy compute instance {id} of {}", name(*gpu_instance))
        }
        MigStep::DestroyGpuInstance { id } => format!("destroy {}", name(*id)),
        MigStep::CreateComputeInstances {
            gpu_instance,
            slices,
        } => format!(
            "make compute instances {} in {}",
            sizes(slices),
            name(*gpu_instance)
        ),
        MigStep::CreateGpuInstance {
            profile,
            placement,
            slices,
        } => {
            let split = if *slices == [profile.gpu_slices] {
                String::new()
            } else {
                format!(", in it compute instances {}", sizes(slices))
            };
            format!("make {profile} at {placement}{split}")
        }
    }
}

/// `1c ×2, 2c`.
fn sizes(slices: &[u32]) -> String {
    let mut counts: Vec<(u32, usize)> = Vec::new();
    for size in slices {
        match counts.iter_mut().find(|(known, _)| known == size) {
            Some((_, count)) => *count += 1,
            None => counts.push((*size, 1)),
        }
    }
    let parts: Vec<String> = counts
        .iter()
        .map(|(size, count)| times(&format!("{size}c"), *count))
        .collect();
    parts.join(", ")
}

/// The MIG device of these ids in words.
pub(super) fn device(layout: &Layout, ids: (u32, u32)) -> String {
    profile(layout, ids).map_or_else(
        || format!("{}/{}", ids.0, ids.1),
        |profile| {
            format!(
                "{profile} (GPU instance {}, compute instance {})",
                ids.0, ids.1
            )
        },
    )
}

/// The profile of the MIG device of these ids.
pub(super) fn profile(layout: &Layout, ids: (u32, u32)) -> Option<MigProfile> {
    let mut instances = layout.instances.iter();
    let instance = instances.find(|instance| instance.id == ids.0)?;
    let mut inside = instance.compute.iter();
    let inside = inside.find(|inside| inside.id == ids.1)?;
    Some(instance.profile.with_compute_slices(inside.slices))
}

/// Why the driver refused, with what to do about it.
pub(super) fn refusal(error: &DriverError) -> String {
    let advice = match error {
        DriverError::InUse => "; `nvidia-smi` tells which processes use the GPU",
        DriverError::NoPermission => "; changing how a GPU is partitioned takes root",
        _ => "",
    };
    format!("{error}{advice}")
}

#[cfg(test)]
mod tests {
    use mizzen_core::mig::Placement;

    use super::*;

    #[test]
    fn a_split_gpu_instance_tells_its_parts_and_a_whole_one_does_not() {
        let make = |slices: &[u32]| MigStep::CreateGpuInstance {
            profile: "3g.40gb".parse().unwrap(),
            placement: Placement { start: 4, size: 4 },
            slices: slices.to_vec(),
        };
        let told = |slices: &[u32]| in_words(&make(slices), &Layout::default());
        assert_eq!(told(&[3]), "make 3g.40gb at 4:4");
        assert_eq!(
            told(&[1, 1]),
            "make 3g.40gb at 4:4, in it compute instances 1c ×2"
        );
        assert_eq!(
            told(&[2, 1]),
            "make 3g.40gb at 4:4, in it compute instances 2c, 1c"
        );
    }
}
