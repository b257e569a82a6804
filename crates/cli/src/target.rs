//! How people name GPUs: by index, UUID or PCI bus id, several at once, or all of them.

use std::fmt;
use std::str::FromStr;

use mizzen_core::gpu::{GpuUuid, PciBusId};

/// One GPU, as somebody named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GpuName {
    /// NVML's index, as `nvidia-smi` shows it.
    Index(u32),
    /// `GPU-…`.
    Uuid(GpuUuid),
    /// `0000:3b:00.0`.
    Pci(PciBusId),
}

/// The GPUs somebody means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gpus {
    /// Every GPU of the node.
    All,
    /// These, in the order they were named.
    These(Vec<GpuName>),
}

/// Why a text names no GPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no GPU: give an index (2), a UUID (GPU-…), a PCI bus id (0000:3b:00.0), several with commas (2,3), or all"
)]
pub(crate) struct InvalidGpuName(String);

impl FromStr for GpuName {
    type Err = InvalidGpuName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let as_index = || text.parse().ok().map(Self::Index);
        let as_uuid = || text.parse().ok().map(Self::Uuid);
        let as_pci = || text.parse().ok().map(Self::Pci);
        as_index()
            .or_else(as_uuid)
            .or_else(as_pci)
            .ok_or_else(|| InvalidGpuName(text.to_owned()))
    }
}

impl fmt::Display for GpuName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => index.fmt(f),
            Self::Uuid(uuid) => uuid.fmt(f),
            Self::Pci(pci) => pci.fmt(f),
        }
    }
}

impl FromStr for Gpus {
    type Err = InvalidGpuName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" {
            return Ok(Self::All);
        }
        text.split(',')
            .map(|name| name.trim().parse())
            .collect::<Result<_, _>>()
            .map(Self::These)
    }
}

impl fmt::Display for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all GPUs"),
            Self::These(names) => {
                f.write_str(if names.len() == 1 { "GPU " } else { "GPUs " })?;
                for (position, name) in names.iter().enumerate() {
                    let separator = if position == 0 { "" } else { "," };
                    write!(f, "{separator}{name}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_named_by_index_uuid_bus_id_or_all_together() {
        for (text, shown) in [
            ("2", "GPU 2"),
            ("2,3", "GPUs 2,3"),
            ("all", "all GPUs"),
            ("00000000:3B:00.0", "GPU 0000:3b:00.0"),
            (
                "GPU-4d4d4d4d-0000-0000-0000-0123456789ab",
                "GPU GPU-4d4d4d4d-0000-0000-0000-0123456789ab",
            ),
        ] {
            assert_eq!(text.parse::<Gpus>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_names_no_gpu_is_refused_with_the_ways_to_name_one() {
        for text in ["", "two", "2,", "-1", "GPU-123", "3b:00.0"] {
            let error = text.parse::<Gpus>().unwrap_err().to_string();
            assert!(error.contains("an index"), "{text}: {error}");
        }
    }
}
