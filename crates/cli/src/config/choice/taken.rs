//! Devices that other containers have, as people name them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use anyhow::{Result, anyhow, bail};
use mizzen_core::device::DeviceId;
use mizzen_core::gpu::Gpu;

use crate::config::node::Node;
use crate::config::offer::Resource;
use crate::words::ranges;

/// A device that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    /// One more device of the GPU of this index.
    Index(u32),
    /// One more device of the GPU of this UUID, or a particular replica of it.
    Device(DeviceId),
}

impl FromStr for Taken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(index) = text.parse() {
            return Ok(Self::Index(index));
        }
        text.parse().map(Self::Device).map_err(|_| {
            format!(
                "{text:?} names no device: give an index (2), a UUID (GPU-…) or a replica \
                 (GPU-…::3), several with commas"
            )
        })
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "GPU {index}"),
            Self::Device(id) => id.fmt(f),
        }
    }
}

impl Taken {
    fn is_of(&self, gpu: &Gpu) -> bool {
        match self {
            Self::Index(index) => gpu.index == *index,
            Self::Device(id) => gpu.uuid.as_str() == id.uuid(),
        }
    }
}

/// The ids of the taken devices of a resource.
///
/// # Errors
/// A device that the node or the resource does not have, or has no more of.
pub(super) fn ids(taken: &[Taken], resource: &Resource, node: &Node) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for device in taken {
        let position = node.gpus().iter().position(|gpu| device.is_of(gpu));
        let position = position.ok_or_else(|| {
            let indices = ranges(node.gpus().iter().map(|gpu| gpu.index));
            anyhow!("--taken: the node has no {device}; it has GPU {indices}")
        })?;
        let Some(backing) = resource.gpus.get(&position) else {
            bail!("--taken: {device} is not offered as {}", resource.name());
        };
        let id = match device {
            Taken::Device(id) if id.replica().is_some() => {
                let found = backing.ids.iter().find(|known| **known == id.as_str());
                found.ok_or_else(|| anyhow!("--taken: {} has no device {id}", resource.name()))?
            }
            _ => {
                let free = backing.ids.iter().find(|id| !ids.contains(*id));
                free.ok_or_else(|| {
                    anyhow!(
                        "--taken: {device} is named more often than the {} devices it has",
                        backing.ids.len()
                    )
                })?
            }
        };
        ids.insert(id.clone());
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_by_index_uuid_or_replica() {
        let uuid = "GPU-4d4d4d4d-0000-4000-8000-0123456789ab";
        for (text, shown) in [
            ("2", "GPU 2".to_owned()),
            (uuid, uuid.to_owned()),
            (&format!("{uuid}::3"), format!("{uuid}::3")),
        ] {
            assert_eq!(text.parse::<Taken>().unwrap().to_string(), shown);
        }
        for text in ["", "two", "GPU-1", "-1"] {
            assert!(
                text.parse::<Taken>().unwrap_err().contains("an index"),
                "{text}"
            );
        }
    }
}
