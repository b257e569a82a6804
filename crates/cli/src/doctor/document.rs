//! The report for programs. `docs/doctor.md` describes it; names there are a promise.

use mizzen_core::doctor::{Finding, Report, Severity};
use serde::Serialize;

/// The version of the document's form.
const FORM: u32 = 1;

/// The whole document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document<'a> {
    version: u32,
    /// Whether there is no error.
    healthy: bool,
    errors: usize,
    warnings: usize,
    hints: usize,
    findings: Vec<Found<'a>>,
}

/// A finding.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found<'a> {
    area: &'static str,
    id: &'static str,
    severity: &'static str,
    #[serde(rename = "found")]
    what: &'a str,
    meaning: Option<&'a str>,
    advice: Option<&'a str>,
    commands: &'a [String],
}

impl<'a> From<&'a Finding> for Found<'a> {
    fn from(finding: &'a Finding) -> Self {
        Self {
            area: finding.area.word(),
            id: finding.id,
            severity: finding.severity.word(),
            what: &finding.found,
            meaning: finding.meaning.as_deref(),
            advice: finding.advice.as_deref(),
            commands: &finding.commands,
        }
    }
}

/// The document of a report.
pub(super) fn of(report: &Report) -> Document<'_> {
    let errors = report.count(Severity::Error);
    Document {
        version: FORM,
        healthy: errors == 0,
        errors,
        warnings: report.count(Severity::Warning),
        hints: report.count(Severity::Hint),
        findings: report.findings.iter().map(Found::from).collect(),
    }
}
