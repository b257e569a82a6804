//! What happened in a run, and when.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// Time since the agent was started.
    #[serde(rename = "atMs", serialize_with = "super::picture::millis")]
    pub(crate) at: Duration,
    /// Who it happened to.
    pub(crate) source: Source,
    /// What it means for the node.
    pub(crate) tone: Tone,
    /// What happened.
    pub(crate) message: String,
}

/// Who an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// The agent, as seen from outside.
    Agent,
    /// The agent's own log.
    Log,
    /// The kubelet and what it knows of the node.
    Kubelet,
    /// A pod.
    Pod,
    /// What the script did.
    Script,
    /// The GPUs, as the driver has them.
    Driver,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Agent => "agent",
            Self::Log => "agent log",
            Self::Kubelet => "kubelet",
            Self::Pod => "pod",
            Self::Script => "script",
            Self::Driver => "driver",
        })
    }
}

/// What an entry means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tone {
    /// Neither good nor bad.
    Neutral,
    /// Something works, or works again.
    Good,
    /// Something to know about.
    Warning,
    /// Something broke.
    Bad,
}

/// The entries by time. News of one moment may come in by several ways, one later than the other.
pub(crate) fn in_order(entries: &[Entry]) -> Vec<&Entry> {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by_key(|entry| entry.at);
    entries
}
