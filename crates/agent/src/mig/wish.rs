//! What is wanted of the node's GPUs.

use std::collections::{BTreeMap, BTreeSet};

use mizzen_core::gpu::{Gpu, GpuUuid};
use mizzen_core::mig::{MigConfigFile, MigGpu, MigTable, MigTarget, targets};

use crate::cluster::Known;

/// The label of the Node that names a layout, and the one that says what has become of it.
pub(super) const CONFIG_LABEL: &str = "nvidia.com/mig.config";
pub(super) const STATE_LABEL: &str = "nvidia.com/mig.config.state";

/// The labels of the Node that concern MIG.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct NodeLabels {
    /// The value of [`CONFIG_LABEL`].
    pub(super) config: Option<String>,
    /// The value of [`STATE_LABEL`].
    pub(super) state: Option<String>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// The API was not heard yet: wait a little for its word.
    Unheard,
    /// The API does not tell: go on with what was begun.
    Unknown,
    /// Nothing: leave the GPUs as they are.
    Nothing,
    /// The layout of this name.
    Named {
        /// The label's value.
        name: String,
        /// The text of the file of layouts, where there is a file, or why it cannot be read.
        file: Option<Result<String, String>>,
    },
}

impl Wish {
    /// Whether the API has told what is asked for.
    pub(super) fn is_heard(&self) -> bool {
        matches!(self, Self::Nothing | Self::Named { .. })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Named { name, .. } => name,
            Self::Unheard | Self::Unknown | Self::Nothing => "what was begun",
        }
    }

    /// What the label and the file say.
    pub(super) fn of(
        labels: &Known<NodeLabels>,
        file: impl FnOnce() -> Option<Result<String, String>>,
    ) -> Self {
        match labels {
            Known::NotYet => Self::Unheard,
            Known::Away | Known::Refused => Self::Unknown,
            Known::Is(labels) => match &labels.config {
                None => Self::Nothing,
                Some(name) => Self::Named {
                    name: name.clone(),
                    file: file(),
                },
            },
        }
    }
}

/// What is wanted of each GPU, and what is odd about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Goals {
    pub(super) of: BTreeMap<GpuUuid, MigTarget>,
    /// The GPUs that the layout speaks of.
    pub(super) meant: BTreeSet<GpuUuid>,
    pub(super) remarks: Vec<String>,
}

impl Goals {
    /// Whether it matters that this GPU does not tell how it is: the layout speaks of it, and it
    /// could be partitioned when it was last described.
    pub(super) fn miss(&self, gpu: &Gpu) -> bool {
        self.of.contains_key(&gpu.uuid) || (self.meant.contains(&gpu.uuid) && gpu.mig.is_some())
    }
}

/// What the layout of a name wants of these GPUs, each with what it can be cut into.
///
/// # Errors
/// Why it says nothing, with the place and the fix.
pub(super) fn goals(
    name: &str,
    file: Option<&Result<String, String>>,
    gpus: &[(&Gpu, Option<&MigTable>)],
) -> Result<Goals, String> {
    let file = match file {
        None => None,
        Some(Err(why)) => return Err(why.clone()),
        Some(Ok(text)) => Some(MigConfigFile::parse(text).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            format!(
                "the file of MIG layouts cannot be used: {}",
                errors.join("; ")
            )
        })?),
    };
    let choices: Vec<MigGpu<'_>> = gpus
        .iter()
        .map(|(gpu, table)| MigGpu {
            index: gpu.index,
            device_id: gpu.device_id,
            name: &gpu.name,
            table: *table,
        })
        .collect();
    let found = targets(name, file.as_ref(), &choices).map_err(|error| error.to_string())?;
    let both = gpus.iter().zip(found.speaks_of);
    let meant = both.filter(|(_, speaks)| *speaks);
    let meant = meant.map(|((gpu, _), _)| gpu.uuid.clone()).collect();
    let both = gpus.iter().zip(found.of);
    // What cannot be partitioned has nothing to do.
    let able = both.filter(|((_, table), _)| table.is_some());
    let of = able.filter_map(|((gpu, _), target)| Some((gpu.uuid.clone(), target?)));
    Ok(Goals {
        of: of.collect(),
        meant,
        remarks: found.remarks,
    })
}
