//! Devices that other containers have, as people name them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use anyhow::{Result, anyhow, bail};
use mizzen_core::device::DeviceId;
use mizzen_core::gpu::Gpu;
use mizzen_core::mig::MigDevice;

use crate::config::node::Node;
use crate::config::offer::{Resource, Unit};
use crate::words::{counted, ranges};

/// A device that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    /// One more device of the GPU of this index, or of its MIG devices.
    Index(u32),
    /// One more device of the MIG device of this index, on the GPU of that one.
    MigIndex(u32, u32),
    /// One more device of the GPU or MIG device of this UUID, or a particular replica of it.
    Device(DeviceId),
}

impl FromStr for Taken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(index) = text.parse() {
            return Ok(Self::Index(index));
        }
        if let Some((gpu, device)) = text.split_once(':')
            && let (Ok(gpu), Ok(device)) = (gpu.parse(), device.parse())
        {
            return Ok(Self::MigIndex(gpu, device));
        }
        text.parse().map(Self::Device).map_err(|_| {
            format!(
                "{text:?} names no device: give an index (2, or 2:0 for a MIG device), a UUID \
                 (GPU-…, MIG-…) or a replica (GPU-…::3), several with commas"
            )
        })
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "GPU {index}"),
            Self::MigIndex(gpu, device) => write!(f, "MIG device {gpu}:{device}"),
            Self::Device(id) => id.fmt(f),
        }
    }
}

impl Taken {
    /// Whether it means a MIG device.
    fn is_mig(&self) -> bool {
        match self {
            Self::Index(_) => false,
            Self::MigIndex(..) => true,
            Self::Device(id) => id.uuid().starts_with("MIG-"),
        }
    }

    fn is_of_gpu(&self, gpu: &Gpu) -> bool {
        match self {
            Self::Index(index) => gpu.index == *index,
            Self::MigIndex(..) => false,
            Self::Device(id) => gpu.uuid.as_str() == id.uuid(),
        }
    }

    fn is_of_mig(&self, gpu: &Gpu, device: &MigDevice) -> bool {
        match self {
            Self::Index(_) => false,
            Self::MigIndex(of, index) => gpu.index == *of && device.index == *index,
            Self::Device(id) => device.uuid.as_str() == id.uuid(),
        }
    }

    /// What of the node it means: a GPU with its MIG devices, or one of those.
    fn unit(&self, node: &Node) -> Option<Unit> {
        node.gpus().iter().enumerate().find_map(|(position, gpu)| {
            let devices = gpu.mig.as_ref().map_or(&[][..], |mig| &mig.devices);
            let mig = devices
                .iter()
                .position(|device| self.is_of_mig(gpu, device));
            (mig.is_some() || self.is_of_gpu(gpu)).then_some(Unit { gpu: position, mig })
        })
    }
}

/// The ids of the taken devices of a resource.
///
/// # Errors
/// A device that the node or the resource does not have, or has no more of.
pub(super) fn ids(taken: &[Taken], resource: &Resource, node: &Node) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for device in taken {
        let unit = device.unit(node);
        let unit = unit.ok_or_else(|| anyhow!("--taken: {}", unknown(device, node)))?;
        let known: Vec<&String> = resource.ids_of(unit).collect();
        if known.is_empty() {
            bail!("--taken: {device} is not offered as {}", resource.name());
        }
        let id = match device {
            Taken::Device(id) if id.replica().is_some() => {
                let found = known.iter().find(|known| **known == id.as_str());
                found.ok_or_else(|| anyhow!("--taken: {} has no device {id}", resource.name()))?
            }
            _ => {
                let free = known.iter().find(|id| !ids.contains(**id));
                free.ok_or_else(|| {
                    anyhow!(
                        "--taken: {device} is named more often than the {} it has",
                        counted(known.len(), "device")
                    )
                })?
            }
        };
        ids.insert((*id).clone());
    }
    Ok(ids)
}

/// That the node has no such device, and what it has.
fn unknown(device: &Taken, node: &Node) -> String {
    let devices = |(gpu, of): (usize, &Gpu)| {
        let count = of.mig.as_ref().map_or(0, |mig| mig.devices.len());
        (0..count).map(move |at| Unit { gpu, mig: Some(at) })
    };
    let all = node.gpus().iter().enumerate().flat_map(devices);
    let there = match (device.is_mig(), node.indices(all)) {
        (true, indices) if indices.is_empty() => "no MIG device".to_owned(),
        (true, indices) => format!("MIG {indices}"),
        (false, _) => format!("GPU {}", ranges(node.gpus().iter().map(|gpu| gpu.index))),
    };
    format!("the node has no {device}; it has {there}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_by_index_uuid_or_replica() {
        let uuid = "GPU-4d4d4d4d-0000-4000-8000-0123456789ab";
        let mig = "MIG-4d4d4d4d-0000-4000-8000-0123456789ab";
        for (text, shown) in [
            ("2", "GPU 2".to_owned()),
            ("2:0", "MIG device 2:0".to_owned()),
            (mig, mig.to_owned()),
            (&format!("{mig}::3"), format!("{mig}::3")),
            (uuid, uuid.to_owned()),
            (&format!("{uuid}::3"), format!("{uuid}::3")),
        ] {
            assert_eq!(text.parse::<Taken>().unwrap().to_string(), shown);
        }
        for text in ["", "two", "GPU-1", "-1", "1:", "1:x", "MIG-1"] {
            assert!(
                text.parse::<Taken>().unwrap_err().contains("an index"),
                "{text}"
            );
        }
    }
}
