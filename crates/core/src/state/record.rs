//! What is written down of the GPUs, so that a restart does not forget who is sick.

use serde::{Deserialize, Serialize};

use super::KnownGpu;
use crate::gpu::Gpu;
use crate::health::Sign;
use crate::mig::MigUuid;

/// The one layout of [`HealthRecord`] that this version reads and writes.
pub const RECORD_VERSION: u32 = 1;

/// The content of `health.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthRecord {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// The kernel's `/proc/sys/kernel/random/boot_id`. A reboot resets every GPU, so the record
    /// of another boot says nothing.
    pub boot_id: String,
    /// Every GPU that was known, the well ones too: one that cannot tell its UUID any more is
    /// recognised by its place on the bus.
    pub gpus: Vec<GpuRecord>,
}

/// What is written down of one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuRecord {
    /// Its last description.
    pub gpu: Gpu,
    /// Why it is unhealthy; empty if it is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signs: Vec<Sign>,
    /// Those of its MIG devices that are unhealthy by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mig: Vec<MigRecord>,
}

/// What is written down of one MIG device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigRecord {
    /// Which one.
    pub uuid: MigUuid,
    /// Why it is unhealthy.
    pub signs: Vec<Sign>,
}

impl MigRecord {
    /// Those of a GPU.
    pub(super) fn of(known: &KnownGpu) -> Vec<Self> {
        let sick = known
            .instances
            .iter()
            .filter(|(_, health)| !health.is_healthy());
        sick.map(|(uuid, health)| Self {
            uuid: uuid.clone(),
            signs: health.signs().to_vec(),
        })
        .collect()
    }
}

/// Why a record cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it has version {0}, this program knows version {RECORD_VERSION}")]
pub struct UnknownRecordVersion(u32);

impl HealthRecord {
    /// The GPUs of the record, if they are of the boot `boot_id`.
    ///
    /// # Errors
    /// The record is of another version.
    pub fn of_boot(self, boot_id: &str) -> Result<Vec<GpuRecord>, UnknownRecordVersion> {
        if self.version != RECORD_VERSION {
            return Err(UnknownRecordVersion(self.version));
        }
        Ok(if self.boot_id == boot_id {
            self.gpus
        } else {
            Vec::new()
        })
    }
}
