//! Settings of what the cluster is told of the GPUs' health.

use super::types::Choice;

/// What the cluster is told of the GPUs' health.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeHealthConfig {
    /// `--node-condition`: a condition of the Node, and Events.
    pub tell: bool,
    /// `--taint-lost-gpus`.
    pub taint: LostTaint,
}

impl NodeHealthConfig {
    /// Whether anything is told, for which the Kubernetes API is needed and the name of the Node.
    pub fn needs_api(&self) -> bool {
        self.tell || self.taint != LostTaint::Off
    }
}

/// What becomes of pods on a node whose GPUs are all lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum LostTaint {
    /// There is no taint.
    #[default]
    Off,
    /// No more of them come.
    NoSchedule,
    /// Those that are there leave, too.
    NoExecute,
}

impl LostTaint {
    /// The effect of the taint, in the API's word.
    pub fn effect(self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::NoSchedule | Self::NoExecute => Some(self.word()),
        }
    }
}

impl Choice for LostTaint {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("off", Self::Off),
        ("NoSchedule", Self::NoSchedule),
        ("NoExecute", Self::NoExecute),
    ];
}
