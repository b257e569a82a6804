//! GPUs and MIG devices as people name them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Gpu, MigDevice};
use crate::words::{mixed_ranges, times};

/// The GPU behind a device id, and the MIG device where it is one: by UUID or the GPU's index, a
/// replica's number left off.
pub(crate) fn unit_of<'a>(
    gpus: &'a [Gpu],
    device: &str,
) -> Option<(&'a Gpu, Option<&'a MigDevice>)> {
    let name = device
        .split_once("::")
        .map_or(device, |(unit, _replica)| unit);
    if name.starts_with("MIG-") {
        return gpus.iter().find_map(|gpu| {
            let mut devices = gpu.mig_devices().iter();
            let found = devices.find(|device| device.uuid == name)?;
            Some((gpu, Some(found)))
        });
    }
    let mut gpus = gpus.iter();
    let found = gpus.find(|gpu| gpu.uuid == name || name.parse() == Ok(gpu.index));
    found.map(|gpu| (gpu, None))
}

/// GPUs and MIG devices of which a container has equally many replicas.
#[derive(Debug, Default)]
struct Alike {
    count: usize,
    gpus: Vec<u32>,
    mig_devices: BTreeMap<u32, Vec<u32>>,
}

/// `GPU 1,2` where the devices are GPUs, `GPU 0-7 ×3, 8 ×2` where they are replicas, `MIG 0:1
/// (1g.10gb)` where they are MIG devices, or the resource and its device ids; with the resource
/// where it is not the usual one.
pub(crate) fn devices_in_words(gpus: &[Gpu], resource: &str, ids: &[String]) -> String {
    let mut counts: BTreeMap<(u32, Option<u32>), usize> = BTreeMap::new();
    let mut profiles: BTreeSet<&str> = BTreeSet::new();
    for id in ids {
        let Some((gpu, device)) = unit_of(gpus, id) else {
            return format!("{resource} {}", ids.join(","));
        };
        let unit = (gpu.index, device.map(|device| device.index));
        *counts.entry(unit).or_default() += 1;
        profiles.extend(device.map(|device| device.profile.as_str()));
    }
    let is_gpu = counts.keys().any(|(_, device)| device.is_none());
    let parts = alike(counts)
        .into_iter()
        .map(|same| times(&mixed_ranges(same.gpus, same.mig_devices), same.count));
    let parts = parts.collect::<Vec<_>>().join(", ");
    let (kind, name) = if is_gpu {
        ("GPU", of_gpu(resource))
    } else {
        ("MIG", of_mig(resource, &profiles))
    };
    format!("{kind} {parts}{name}")
}

fn alike(counts: BTreeMap<(u32, Option<u32>), usize>) -> Vec<Alike> {
    let mut alike: Vec<Alike> = Vec::new();
    for ((gpu, device), count) in counts {
        if alike.last().is_none_or(|last| last.count != count) {
            alike.push(Alike {
                count,
                ..Alike::default()
            });
        }
        let Some(last) = alike.last_mut() else {
            continue;
        };
        match device {
            Some(device) => last.mig_devices.entry(gpu).or_default().push(device),
            None => last.gpus.push(gpu),
        }
    }
    alike
}

fn of_gpu(resource: &str) -> String {
    if resource == "nvidia.com/gpu" {
        String::new()
    } else {
        format!(" as {resource}")
    }
}

/// The profile says it, where the resource has the usual name of it.
fn of_mig(resource: &str, profiles: &BTreeSet<&str>) -> String {
    let usual = |profile: &&str| {
        let name = profile.replace('+', ".");
        resource.strip_prefix("nvidia.com/mig-") == Some(name.as_str())
    };
    let profile = profiles.iter().copied().collect::<Vec<_>>().join(", ");
    if profiles.iter().any(usual) || resource == "nvidia.com/gpu" {
        format!(" ({profile})")
    } else {
        format!(" ({profile}) as {resource}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::picture::sample::{cut, sample};

    #[test]
    fn replicas_are_counted_and_gpus_that_have_as_many_drawn_together() {
        let gpus = sample().gpus;
        let words = |resource: &str, counts: [usize; 3]| {
            let ids = gpus.iter().zip(counts).flat_map(|(gpu, count)| {
                (0..count).map(|replica| format!("{}::{replica}", gpu.uuid))
            });
            devices_in_words(&gpus, resource, &ids.collect::<Vec<_>>())
        };
        assert_eq!(words("nvidia.com/gpu", [1, 1, 1]), "GPU 0-2");
        assert_eq!(words("nvidia.com/gpu", [1, 0, 1]), "GPU 0,2");
        assert_eq!(
            words("nvidia.com/l4", [3, 3, 2]),
            "GPU 0,1 ×3, 2 ×2 as nvidia.com/l4"
        );
        let unknown = ["x".to_owned()];
        assert_eq!(devices_in_words(&gpus, "a/b", &unknown), "a/b x");
    }

    #[test]
    fn mig_devices_are_named_after_their_gpu_and_profile() {
        let mut gpus = sample().gpus;
        cut(
            &mut gpus[0],
            &["1g.10gb+me", "1g.10gb", "1g.10gb", "1g.10gb"],
        );
        cut(&mut gpus[2], &["1g.10gb"]);
        let words = |resource: &str, units: &[(usize, usize)]| {
            let ids = units
                .iter()
                .map(|(gpu, at)| gpus[*gpu].mig_devices()[*at].uuid.clone());
            devices_in_words(&gpus, resource, &ids.collect::<Vec<_>>())
        };
        let small = "nvidia.com/mig-1g.10gb";
        assert_eq!(
            words(small, &[(2, 0), (0, 1), (0, 2), (0, 3)]),
            "MIG 0:1-3 2:0 (1g.10gb)"
        );
        assert_eq!(
            words("nvidia.com/mig-1g.10gb.me", &[(0, 0)]),
            "MIG 0:0 (1g.10gb+me)"
        );
        assert_eq!(words("nvidia.com/gpu", &[(0, 1)]), "MIG 0:1 (1g.10gb)");
        assert_eq!(words("a/tiny", &[(0, 1)]), "MIG 0:1 (1g.10gb) as a/tiny");
        let replicas = [0, 1].map(|number| format!("{}::{number}", gpus[2].mig_devices()[0].uuid));
        assert_eq!(
            devices_in_words(&gpus, small, &replicas),
            "MIG 2:0 ×2 (1g.10gb)"
        );
    }
}
