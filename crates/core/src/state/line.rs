//! What is said about a change of state: one line that a person can act on.

use std::fmt;

use crate::gpu::{Gpu, GpuUuid, PciBusId};
use crate::health::{Change, Reason, Sign};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Something does not work as it should; the rest goes on.
    Warning,
    /// Something is lost until somebody acts.
    Error,
}

/// Which GPU a line is about, by every name somebody may know it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuName {
    /// NVML's index.
    pub index: u32,
    /// Its UUID.
    pub uuid: GpuUuid,
    /// Its place on the bus.
    pub pci: PciBusId,
}

impl From<&Gpu> for GpuName {
    fn from(gpu: &Gpu) -> Self {
        Self {
            index: gpu.index,
            uuid: gpu.uuid.clone(),
            pci: gpu.pci,
        }
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How much it matters.
    pub severity: Severity,
    /// A name for the kind of line, for machines: `gpu-unhealthy`.
    pub event: &'static str,
    /// The GPU, if it is about one.
    pub gpu: Option<GpuName>,
    /// What happened.
    pub message: String,
    /// What it means.
    pub meaning: Option<String>,
    /// What to do.
    pub advice: Option<String>,
}

impl Line {
    /// A line without a GPU, meaning or advice.
    pub fn new(severity: Severity, event: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity,
            event,
            gpu: None,
            message: message.into(),
            meaning: None,
            advice: None,
        }
    }

    /// This line about `gpu`.
    #[must_use]
    pub fn about(mut self, gpu: &Gpu) -> Self {
        self.gpu = Some(gpu.into());
        self
    }

    /// This line with what it means.
    #[must_use]
    pub fn meaning(mut self, text: impl Into<String>) -> Self {
        self.meaning = Some(text.into());
        self
    }

    /// This line with what to do.
    #[must_use]
    pub fn advice(mut self, text: impl Into<String>) -> Self {
        self.advice = Some(text.into());
        self
    }

    /// The line for a step in a GPU's health.
    pub(super) fn health(gpu: &Gpu, change: &Change, wall: u64) -> Self {
        match change {
            Change::Worse(reason) => Self::unhealthy(gpu, reason),
            Change::Recovered(signs) => Self::recovered(gpu, signs, wall),
        }
    }

    fn unhealthy(gpu: &Gpu, reason: &Reason) -> Self {
        Self::new(
            Severity::Error,
            "gpu-unhealthy",
            format!("unhealthy: {reason}"),
        )
        .about(gpu)
        .meaning(reason.meaning())
        .advice(reason.advice())
    }

    fn recovered(gpu: &Gpu, signs: &[Sign], wall: u64) -> Self {
        let reasons: Vec<String> = signs.iter().map(|sign| sign.reason.headline()).collect();
        let since = signs.iter().map(|sign| sign.since).min().unwrap_or(wall);
        Self::new(
            Severity::Info,
            "gpu-healthy",
            format!(
                "healthy again after {} s ({})",
                wall.saturating_sub(since),
                reasons.join("; ")
            ),
        )
        .about(gpu)
        .meaning("it answers, needs no recovery, and the hold-down has passed")
        .advice("nothing needs to be done")
    }
}

/// Writes the line as a person reads it.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(gpu) = &self.gpu {
            write!(f, " [{} at {}]", gpu.uuid, gpu.pci)?;
        }
        if let Some(meaning) = &self.meaning {
            write!(f, " | meaning: {meaning}")?;
        }
        if let Some(advice) = &self.advice {
            write!(f, " | to do: {advice}")?;
        }
        Ok(())
    }
}
