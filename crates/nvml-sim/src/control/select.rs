//! Naming GPUs: by index, UUID or PCI address.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ControlError;
use crate::identity::{PciAddress, Uuid};
use crate::state::SlotGpu;

/// One GPU, as somebody names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum GpuRef {
    /// NVML's index of a process that starts now and sees every GPU.
    Index(u32),
    /// UUID.
    Uuid(Uuid),
    /// Place on the PCI bus.
    Pci(PciAddress),
}

/// Why a text names no GPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no GPU: expected an index, a UUID (GPU-…) or a PCI address (0000:3b:00.0)")]
pub struct InvalidGpuRef(String);

impl FromStr for GpuRef {
    type Err = InvalidGpuRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let index = text.parse().map(Self::Index).ok();
        let uuid = || text.parse().map(Self::Uuid).ok();
        let pci = || text.parse().map(Self::Pci).ok();
        index
            .or_else(uuid)
            .or_else(pci)
            .ok_or_else(|| InvalidGpuRef(text.to_owned()))
    }
}

impl fmt::Display for GpuRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => index.fmt(f),
            Self::Uuid(uuid) => uuid.fmt(f),
            Self::Pci(pci) => pci.fmt(f),
        }
    }
}

impl TryFrom<String> for GpuRef {
    type Error = InvalidGpuRef;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<GpuRef> for String {
    fn from(name: GpuRef) -> Self {
        name.to_string()
    }
}

/// The GPUs that a change is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpus {
    /// Every GPU.
    All,
    /// These.
    These(Vec<GpuRef>),
}

impl From<GpuRef> for Gpus {
    fn from(name: GpuRef) -> Self {
        Self::These(vec![name])
    }
}

impl Gpus {
    /// The chosen ones with their indices, each once, in the order of the indices.
    pub(super) fn choose<'a>(
        &self,
        gpus: &'a [SlotGpu],
    ) -> Result<Vec<(usize, &'a SlotGpu)>, ControlError> {
        let Self::These(names) = self else {
            return Ok(gpus.iter().enumerate().collect());
        };
        let mut chosen = names
            .iter()
            .map(|name| find(*name, gpus))
            .collect::<Result<Vec<_>, _>>()?;
        chosen.sort_unstable();
        chosen.dedup();
        Ok(chosen
            .into_iter()
            .map(|index| (index, &gpus[index]))
            .collect())
    }
}

fn find(name: GpuRef, gpus: &[SlotGpu]) -> Result<usize, ControlError> {
    let position = match name {
        GpuRef::Index(index) => Some(index as usize).filter(|index| *index < gpus.len()),
        GpuRef::Uuid(uuid) => gpus.iter().position(|entry| entry.gpu.uuid == uuid),
        GpuRef::Pci(pci) => gpus.iter().position(|entry| entry.gpu.pci == pci),
    };
    position.ok_or_else(|| ControlError::NoSuchGpu {
        wanted: name,
        known: match gpus.len() {
            0 => "none".to_owned(),
            1 => "GPU 0 alone".to_owned(),
            count => format!("GPUs 0 to {}", count - 1),
        },
    })
}
