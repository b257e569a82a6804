//! What a named config wants of each GPU.

use std::collections::BTreeSet;

use super::builtin::{self, builtin_names};
use super::file::MigConfigFile;
use crate::config::error::{did_you_mean, nearest};
use crate::mig::layout::MigTable;
use crate::mig::target::MigTarget;

/// A GPU as configs choose it.
#[derive(Debug, Clone, Copy)]
pub struct MigGpu<'a> {
    /// NVML's index.
    pub index: u32,
    /// PCI device id in the upper half, vendor id in the lower: `0x233010DE`
    /// (`nvmlPciInfo_t.pciDeviceId`).
    pub device_id: u32,
    /// The product's name.
    pub name: &'a str,
    /// What it can be cut into; `None` if it cannot be partitioned.
    pub table: Option<&'a MigTable>,
}

/// An item of a config: some GPUs and what is wanted of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// Device ids of the models that are meant; all if `None`.
    pub(super) filter: Option<Vec<u32>>,
    /// Indices of the GPUs that are meant; all if `None`.
    pub(super) devices: Option<Vec<u32>>,
    pub(super) target: MigTarget,
}

impl Choice {
    fn holds_for(&self, gpu: &MigGpu<'_>) -> bool {
        let filter = self.filter.as_ref();
        let devices = self.devices.as_ref();
        filter.is_none_or(|filter| filter.contains(&gpu.device_id))
            && devices.is_none_or(|devices| devices.contains(&gpu.index))
    }
}

/// What is wanted of each GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MigTargets {
    /// In the order of the GPUs; `None` where a GPU is left as it is.
    pub of: Vec<Option<MigTarget>>,
    /// In the same order, whether the config says anything of a GPU, be it that it cannot have it.
    pub speaks_of: Vec<bool>,
    /// What may not be as its giver expects.
    pub remarks: Vec<String>,
}

/// Why a name says nothing about the GPUs of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MigConfigError {
    /// Neither the file nor the built-in names have it.
    #[error("there is no MIG config {name:?}{}; there are {}", did_you_mean(.suggestion.as_deref()), .known.join(", "))]
    UnknownName {
        /// The name.
        name: String,
        /// The name that was probably meant.
        suggestion: Option<String>,
        /// The names that there are.
        known: Vec<String>,
    },
    /// A built-in name that says nothing about any of the GPUs.
    #[error("no GPU of this node can be partitioned as {name:?} says; there are {}", .known.join(", "))]
    NoGpuFor {
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
}

/// What the config of a name wants of each GPU: that of the file, or else a built-in one (see
/// [`builtin_names`]). In the file's, later items outrank earlier ones.
///
/// # Errors
/// There is no config of that name, or it is a built-in one that none of the GPUs can have.
pub fn targets(
    name: &str,
    file: Option<&MigConfigFile>,
    gpus: &[MigGpu<'_>],
) -> Result<MigTargets, MigConfigError> {
    if let Some(choices) = file.and_then(|file| file.find(name)) {
        return Ok(chosen(name, choices, gpus));
    }
    let of_file = file.into_iter().flat_map(MigConfigFile::names);
    let mut known: Vec<String> = of_file.map(str::to_owned).collect();
    for name in builtin_names(gpus) {
        if !known.contains(&name) {
            known.push(name);
        }
    }
    let Some(builtin) = builtin::parse(name) else {
        let words: Vec<&str> = known.iter().map(String::as_str).collect();
        return Err(MigConfigError::UnknownName {
            name: name.to_owned(),
            suggestion: nearest(name, &words),
            known,
        });
    };
    let targets = builtin::targets(builtin, gpus);
    targets.ok_or_else(|| MigConfigError::NoGpuFor {
        name: name.to_owned(),
        known,
    })
}

fn chosen(name: &str, choices: &[Choice], gpus: &[MigGpu<'_>]) -> MigTargets {
    let last = |gpu| choices.iter().rev().find(|choice| choice.holds_for(gpu));
    let mut targets = MigTargets::default();
    let indices = choices.iter().filter_map(|choice| choice.devices.as_ref());
    let missing: BTreeSet<u32> = indices
        .flatten()
        .copied()
        .filter(|index| gpus.iter().all(|gpu| gpu.index != *index))
        .collect();
    if !missing.is_empty() {
        let missing: Vec<String> = missing.iter().map(u32::to_string).collect();
        let missing = missing.join(", ");
        let remark = format!("{name} names GPUs that this node does not have: {missing}");
        targets.remarks.push(remark);
    }
    if gpus.iter().all(|gpu| last(gpu).is_none()) {
        let remark = format!("{name} says nothing about any GPU of this node");
        targets.remarks.push(remark);
    }
    for gpu in gpus {
        let target = last(gpu).map(|choice| &choice.target);
        targets.speaks_of.push(target.is_some());
        if let (Some(target), None) = (target, gpu.table) {
            // Without MIG it is as a GPU that cannot have it is.
            if target.enabled {
                targets.remarks.push(left(gpu, "cannot be partitioned"));
            }
            let off = (!target.enabled).then(|| target.clone());
            targets.of.push(off);
        } else {
            targets.of.push(target.cloned());
        }
    }
    targets
}

/// That a GPU is left as it is, and why.
pub(super) fn left(gpu: &MigGpu<'_>, why: &str) -> String {
    format!(
        "GPU {} ({}) {why} and is left as it is",
        gpu.index, gpu.name
    )
}
