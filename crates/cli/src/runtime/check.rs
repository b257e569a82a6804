//! `mizzen runtime check`: whether the runtime resolves CDI names, and how that is known.

use std::process::ExitCode;

use anyhow::Result;
use mizzen_core::cdi::SPEC_DIRECTORIES;
use mizzen_core::runtime::{CdiState, Place, PrivacyRisk, RiskLevel, RuntimeKind, RuntimeReport};
use serde::Serialize;

use super::args::{AnswerForm, CheckArgs, WhichArgs};
use super::look::{Looked, look};
use super::{MISUNDERSTOOD, NOT_ON, UNKNOWN, ended, print_json};
use crate::terminal::{BAD, BOLD, DIM, GOOD, Line, PLAIN, Terminal, WARN, wrapped};

/// The version of the JSON document's form.
const FORM: u32 = 1;
/// The columns of text that goes to no terminal.
const COLUMNS: usize = 100;

/// What is printed for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    runtime: &'static str,
    distribution: &'static str,
    found_by: String,
    runtime_version: Option<String>,
    version_from: Option<String>,
    config: String,
    files: Vec<String>,
    cdi: Cdi,
    default_runtime: String,
    nvidia_runtimes: Vec<String>,
    remarks: Vec<Placed>,
    risks: Vec<Risk>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cdi {
    /// `on`, `off`, `unsupported` or `unknown`.
    state: &'static str,
    why: String,
    place: Option<String>,
    spec_directories: Vec<String>,
    /// Whether what Mizzen writes lies in one of them.
    reads_mizzens: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Placed {
    text: String,
    place: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Risk {
    /// `warning` or `note`.
    level: &'static str,
    what: String,
    place: Option<String>,
    fix: String,
}

/// Carries the command out.
pub(super) fn run(args: &CheckArgs) -> Result<ExitCode> {
    let looked = match look(&args.which) {
        Ok(Some(looked)) => looked,
        Ok(None) => return Ok(ended(UNKNOWN, NONE_FOUND)),
        Err(error) => return Ok(ended(MISUNDERSTOOD, &format!("{error:#}"))),
    };
    let report = looked.found.report();
    let risks = looked.found.privacy_risks();
    match args.output {
        AnswerForm::Json => print_json(&document(&looked, &report, &risks))?,
        AnswerForm::Table => {
            let terminal = Terminal::stdout();
            let columns = terminal.size().map_or(COLUMNS, |size| size.columns);
            terminal.print(lines(&args.which, &looked, &report, &risks, columns))?;
        }
    }
    Ok(code(&report).into())
}

/// What to say where there is no runtime.
pub(super) const NONE_FOUND: &str = "no container runtime was found: there is no socket or config \
    of containerd, CRI-O or Docker below the root; name one with --runtime";

fn code(report: &RuntimeReport) -> u8 {
    match report.cdi.state {
        CdiState::On if report.spec_directories.hold_ours() => 0,
        CdiState::On | CdiState::Off | CdiState::Unsupported => NOT_ON,
        CdiState::Unknown => UNKNOWN,
    }
}

fn lines(
    which: &WhichArgs,
    looked: &Looked,
    report: &RuntimeReport,
    risks: &[PrivacyRisk],
    columns: usize,
) -> Vec<Line> {
    let fact = |name: &str, line: Line| Line::of(BOLD, format!("{name:9}")).join(line);
    let say = |name: &str, mark: Line, words: &str| wrapped(fact(name, mark), words, columns);
    let found = &looked.found;
    let mut lines = say(
        "runtime",
        Line::default(),
        &format!(
            "{}{}: {}",
            report.name(),
            of_distribution(looked),
            found.why
        ),
    );
    let version = looked.version_from.as_ref();
    let silence = looked.silence.as_ref();
    if let Some(from) = version.filter(|_| silence.is_some()) {
        lines.extend(say(
            "",
            Line::default(),
            &format!("its version is from {from}"),
        ));
    }
    if let Some(silence) = silence {
        let words = format!("the running process was not asked: {silence}");
        lines.extend(say("", Line::default(), &words));
    }
    let files: Vec<&str> = found.files.iter().map(|file| file.path.as_str()).collect();
    let files = if files.is_empty() {
        format!("there is no {}", found.config)
    } else {
        files.join(", ")
    };
    lines.extend(say("config", Line::default(), &files));
    let (mark, word) = match report.cdi.state {
        CdiState::On => (GOOD, "on"),
        CdiState::Off => (BAD, "off"),
        CdiState::Unsupported => (BAD, "unsupported"),
        CdiState::Unknown => (WARN, "unknown"),
    };
    lines.extend(say(
        "CDI",
        Line::of(mark, format!("{word}: ")),
        &report.cdi.why,
    ));
    lines.extend(say("specs", Line::default(), &specs(report)));
    lines.extend(say("default", Line::default(), &default_runtime(report)));
    lines.extend(advice(which, looked, report, risks, columns));
    lines
}

/// What of it needs somebody's attention, and what to do next.
fn advice(
    which: &WhichArgs,
    looked: &Looked,
    report: &RuntimeReport,
    risks: &[PrivacyRisk],
    columns: usize,
) -> Vec<Line> {
    let mut lines = Vec::new();
    for remark in &report.remarks {
        lines.extend(wrapped(
            Line::of(WARN, "note: "),
            &remark.to_string(),
            columns,
        ));
    }
    for risk in risks {
        let style = if risk.level == RiskLevel::Warning {
            WARN
        } else {
            DIM
        };
        let at = at(risk.place.as_ref());
        let words = format!("{}{at}; {}", risk.what, risk.fix);
        lines.extend(wrapped(Line::of(style, "privacy: "), &words, columns));
    }
    if let Some(Next { words, command }) = next(looked, report) {
        lines.extend(wrapped(Line::of(PLAIN, "next: "), &words, columns));
        // Whole, so that it can be copied.
        lines.extend(command.map(|command| {
            let command = format!("mizzen runtime configure{command}{}", which.words());
            Line::of(DIM, "      $ ").and(BOLD, command)
        }));
    }
    lines
}

fn of_distribution(looked: &Looked) -> String {
    let name = looked.found.place.name;
    if name == looked.found.place.kind.to_string() {
        String::new()
    } else {
        format!(" of {name}")
    }
}

fn specs(report: &RuntimeReport) -> String {
    let directories = &report.spec_directories;
    let list = directories.directories.join(", ");
    let ours = SPEC_DIRECTORIES[1];
    let at = at(directories.place.as_ref());
    if directories.hold_ours() {
        format!("read in {list}{at}; Mizzen writes in {ours}")
    } else {
        format!("read in {list}{at}, and not in {ours}, where Mizzen writes")
    }
}

fn default_runtime(report: &RuntimeReport) -> String {
    let at = at(report.default_runtime_place.as_ref());
    format!("containers are run by {}{at}", report.default_runtime)
}

fn at(place: Option<&Place>) -> String {
    place.map_or_else(String::new, |place| format!(" ({place})"))
}

/// What is to be done.
struct Next {
    words: String,
    /// The flag with which `mizzen runtime configure` does it, if it does.
    command: Option<&'static str>,
}

/// What is to be done, if something is.
fn next(looked: &Looked, report: &RuntimeReport) -> Option<Next> {
    let on_in_files = looked.found.report_of_files().cdi.state == CdiState::On;
    let by_hand = |words: String| {
        Some(Next {
            words,
            command: None,
        })
    };
    let by = |command, words: &str| {
        Some(Next {
            words: words.to_owned(),
            command: Some(command),
        })
    };
    match report.cdi.state {
        CdiState::On if report.spec_directories.hold_ours() => None,
        CdiState::On if report.kind == RuntimeKind::Crio => by("", "add the directory"),
        CdiState::On => by_hand(format!(
            "add {} to the list of directories",
            SPEC_DIRECTORIES[1]
        )),
        CdiState::Unknown if let Some(unread) = report.unread() => {
            by_hand(format!("mend or make readable (are you root?): {unread}"))
        }
        CdiState::Off if on_in_files => by_hand(format!("restart {}", report.kind)),
        CdiState::Off | CdiState::Unknown => by(" --dry-run", "look at the edit that turns CDI on"),
        CdiState::Unsupported if report.switched_off.is_some() => by_hand(
            "name the runtime that the kubelet uses with --runtime, or take the plugin out of \
             disabled_plugins"
                .to_owned(),
        ),
        CdiState::Unsupported => by_hand(format!("upgrade {}", report.kind)),
    }
}

fn document(looked: &Looked, report: &RuntimeReport, risks: &[PrivacyRisk]) -> Document {
    let found = &looked.found;
    let text = |place: &Option<Place>| place.as_ref().map(ToString::to_string);
    Document {
        version: FORM,
        runtime: match report.kind {
            RuntimeKind::Containerd => "containerd",
            RuntimeKind::Crio => "crio",
            RuntimeKind::Docker => "docker",
        },
        distribution: found.place.name,
        found_by: found.why.clone(),
        runtime_version: report.version.map(|version| version.to_string()),
        version_from: looked.version_from.clone(),
        config: found.config.clone(),
        files: found.files.iter().map(|file| file.path.clone()).collect(),
        cdi: Cdi {
            state: match report.cdi.state {
                CdiState::On => "on",
                CdiState::Off => "off",
                CdiState::Unsupported => "unsupported",
                CdiState::Unknown => "unknown",
            },
            why: report.cdi.why.clone(),
            place: text(&report.cdi.place),
            spec_directories: report.spec_directories.directories.clone(),
            reads_mizzens: report.spec_directories.hold_ours(),
        },
        default_runtime: report.default_runtime.clone(),
        nvidia_runtimes: report
            .nvidia_runtimes()
            .map(|runtime| runtime.name.clone())
            .collect(),
        remarks: report
            .remarks
            .iter()
            .map(|remark| Placed {
                text: remark.text.clone(),
                place: text(&remark.place),
            })
            .collect(),
        risks: risks
            .iter()
            .map(|risk| Risk {
                level: match risk.level {
                    RiskLevel::Warning => "warning",
                    RiskLevel::Note => "note",
                },
                what: risk.what.clone(),
                place: text(&risk.place),
                fix: risk.fix.clone(),
            })
            .collect(),
    }
}
