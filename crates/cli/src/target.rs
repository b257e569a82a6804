//! How people name simulated GPUs: by index, UUID or PCI bus id, several at once, or all.

use std::fmt;
use std::str::FromStr;

use mizzen_nvml_sim::control::{GpuRef, Gpus};

/// The GPUs somebody means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target(pub(crate) Gpus);

impl Target {
    /// Whether it means the GPU of this index, UUID and PCI bus id.
    pub(crate) fn names(&self, index: u32, uuid: &str, pci: &str) -> bool {
        let Gpus::These(names) = &self.0 else {
            return true;
        };
        names.iter().any(|name| match name {
            GpuRef::Index(this) => *this == index,
            GpuRef::Uuid(this) => this.to_string() == uuid,
            GpuRef::Pci(this) => this.to_string() == pci,
        })
    }
}

/// Why a text names no GPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no GPU: give an index (2), a UUID (GPU-…), a PCI bus id (0000:3b:00.0), \
     several with commas (2,3), or all"
)]
pub(crate) struct InvalidTarget(String);

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" {
            return Ok(Self(Gpus::All));
        }
        text.split(',')
            .map(|name| name.trim().parse::<GpuRef>())
            .collect::<Result<_, _>>()
            .map(|names| Self(Gpus::These(names)))
            .map_err(|_| InvalidTarget(text.to_owned()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Gpus::All => f.write_str("all GPUs"),
            Gpus::These(names) => {
                let names: Vec<_> = names.iter().map(GpuRef::to_string).collect();
                let plural = if names.len() == 1 { "" } else { "s" };
                write!(f, "GPU{plural} {}", names.join(","))
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
            ("0000:3b:00.0", "GPU 0000:3b:00.0"),
            (
                "GPU-4d4d4d4d-0000-4000-8000-0123456789ab",
                "GPU GPU-4d4d4d4d-0000-4000-8000-0123456789ab",
            ),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_names_no_gpu_is_refused_with_the_ways_to_name_one() {
        for text in ["", "two", "2,", "-1", "GPU-123"] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains("an index"), "{text}: {error}");
        }
    }
}
