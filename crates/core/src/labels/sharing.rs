//! What labels say of sharing.

use crate::config::{Config, SharedResource};
use crate::resource::ResourceName;

/// How the devices of a resource are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shared {
    /// Replicas of each device; 0 where the resource has no devices of its own.
    pub(super) replicas: u32,
    mps: bool,
    /// Whether the replicas have another name than the devices.
    renamed: bool,
}

impl Shared {
    /// GPUs of which only MIG devices are given, if anything.
    pub(super) const NOT_GIVEN_WHOLE: Self = Self {
        replicas: 0,
        mps: false,
        renamed: false,
    };

    /// What the config says of a resource. An entry that shares some of the devices counts for
    /// all: a label cannot tell them apart.
    pub(super) fn of(config: &Config, resource: &ResourceName) -> Self {
        let entry = |list: &[SharedResource], mps| {
            let mut entries = list.iter();
            let entry = entries.find(|entry| entry.name == *resource)?;
            Some(Self {
                replicas: entry.replicas.max(1),
                mps,
                renamed: entry.shared_name != entry.name,
            })
        };
        let sharing = &config.sharing;
        let mps = sharing.mps.as_ref().and_then(|list| entry(list, true));
        mps.or_else(|| entry(&sharing.time_slicing, false))
            .unwrap_or(Self {
                replicas: 1,
                mps: false,
                renamed: false,
            })
    }

    /// Whether `SHARED` is part of the product's name: not where another resource's name says it.
    pub(super) fn is_told_by_the_product(self) -> bool {
        self.replicas > 1 && !self.renamed
    }

    /// The value of `sharing-strategy`.
    pub(super) fn strategy(self) -> &'static str {
        match (self.replicas > 1, self.mps) {
            (false, _) => "none",
            (true, true) => "mps",
            (true, false) => "time-slicing",
        }
    }
}

/// Whether anything is shared by MPS.
pub(super) fn mps_is_configured(config: &Config) -> bool {
    let entries = config.sharing.mps.iter().flatten();
    entries.into_iter().any(|entry| entry.replicas > 1)
}
