//! What is said about a change of state: one line that a person can act on.

use std::fmt;

use crate::gpu::{Gpu, GpuUuid, PciBusId};
use crate::health::{Change, HealthPolicy, Reason, Sign, Tally};
use crate::mig::{MigDevice, MigUuid};

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
    /// The MIG device of that GPU, if it is about one.
    pub mig: Option<MigUuid>,
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
            mig: None,
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

    /// This line about one MIG device of its GPU.
    #[must_use]
    pub(super) fn of_instance(mut self, device: &MigDevice) -> Self {
        self.mig = Some(device.uuid.clone());
        self.message = format!("{}: {}", device.words(), self.message);
        self
    }

    /// The line for a step in a GPU's health.
    pub(super) fn health(gpu: &Gpu, change: &Change, wall: u64, policy: HealthPolicy<'_>) -> Self {
        match change {
            Change::Reported(reason, tally) => Self::reported(gpu, reason, *tally, policy),
            Change::Worse(reason, tally) => Self::unhealthy(gpu, reason, *tally),
            Change::Excused(signs) => Self::excused(gpu, signs),
            Change::Recovered(signs) => Self::recovered(gpu, signs, wall),
        }
    }

    fn reported(
        gpu: &Gpu,
        reason: &Reason,
        tally: Option<Tally>,
        policy: HealthPolicy<'_>,
    ) -> Self {
        let text = match tally {
            Some(tally) if !tally.is_enough() => {
                format!("{reason}; reported, not counted as unhealthy yet: {tally}")
            }
            _ => format!(
                "{reason}; reported only: {}{}",
                policy.authority(reason),
                in_brackets(tally)
            ),
        };
        Self::new(Severity::Warning, "gpu-fault-reported", text)
            .about(gpu)
            .meaning(reason.meaning())
            .advice(reason.advice())
    }

    fn unhealthy(gpu: &Gpu, reason: &Reason, tally: Option<Tally>) -> Self {
        Self::new(
            Severity::Error,
            "gpu-unhealthy",
            format!("unhealthy: {reason}{}", in_brackets(tally)),
        )
        .about(gpu)
        .meaning(reason.meaning())
        .advice(reason.advice())
    }

    fn excused(gpu: &Gpu, signs: &[Sign]) -> Self {
        let text = format!("no longer unhealthy for this: {}", headlines(signs));
        Self::new(Severity::Info, "gpu-excused", text)
            .about(gpu)
            .meaning("the health rules have changed, and the new ones do not count it")
            .advice("nothing needs to be done")
    }

    fn recovered(gpu: &Gpu, signs: &[Sign], wall: u64) -> Self {
        let since = signs.iter().map(|sign| sign.since).min().unwrap_or(wall);
        Self::new(
            Severity::Info,
            "gpu-healthy",
            format!(
                "healthy again after {} s ({})",
                wall.saturating_sub(since),
                headlines(signs)
            ),
        )
        .about(gpu)
        .meaning("it answers, needs no recovery, and the hold-down has passed")
        .advice("nothing needs to be done")
    }
}

/// ` (3 of 3 within 10m)`, or nothing.
fn in_brackets(tally: Option<Tally>) -> String {
    tally.map_or_else(String::new, |tally| format!(" ({tally})"))
}

fn headlines(signs: &[Sign]) -> String {
    let headlines: Vec<String> = signs.iter().map(|sign| sign.reason.headline()).collect();
    headlines.join("; ")
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
