//! `mizzen cdi validate`: what is wrong with specs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use mizzen_agent::cdi::read_catalog;
use mizzen_core::cdi::{Catalog, HostPath, Mistake, Resolution, SpecText, host_paths};
use mizzen_nvml::HostRoot;
use serde::Serialize;

use super::args::{AnswerForm, ValidateArgs};
use super::{UNUSABLE, print_json};
use crate::terminal::{Line, Terminal};
use crate::words::counted;

/// The version of the JSON document's form.
const FORM: u32 = 1;

/// What is printed for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    valid: bool,
    files: Vec<Checked>,
}

/// One file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    path: String,
    mistakes: Vec<Finding>,
}

/// A mistake.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    line: Option<u64>,
    column: Option<u64>,
    message: String,
}

impl From<Mistake> for Finding {
    fn from(mistake: Mistake) -> Self {
        Self {
            line: mistake.location.map(|place| place.line),
            column: mistake.location.map(|place| place.column),
            message: mistake.message,
        }
    }
}

impl Finding {
    /// The mistake as compilers write it.
    fn in_file(&self, file: &str) -> String {
        match (self.line, self.column) {
            (Some(line), Some(column)) => format!("{file}:{line}:{column}: {}", self.message),
            _ => format!("{file}: {}", self.message),
        }
    }
}

/// Carries the command out.
pub(super) fn run(args: &ValidateArgs) -> Result<ExitCode> {
    let catalog = args
        .files
        .is_empty()
        .then(|| read_catalog(&args.specs.below(&args.host_root)));
    let paths = catalog.as_ref().map_or_else(|| args.files.clone(), paths);
    let mut files: Vec<Checked> = paths.iter().map(|path| checked(path, args)).collect();
    if let Some(catalog) = catalog.filter(|_| !args.form_only) {
        note_conflicts(&catalog, &mut files);
    }
    let count: usize = files.iter().map(|file| file.mistakes.len()).sum();
    match args.output {
        AnswerForm::Json => print_json(&Document {
            version: FORM,
            valid: count == 0,
            files,
        })?,
        AnswerForm::Table => {
            for file in &files {
                for finding in &file.mistakes {
                    eprintln!("{}", finding.in_file(&file.path));
                }
            }
            let found = match count {
                0 => "nothing is wrong".to_owned(),
                count => counted(count, "mistake"),
            };
            let line = format!("{}: {found}", counted(files.len(), "file"));
            Terminal::stdout().print([Line::from(line)])?;
        }
    }
    Ok(if count == 0 {
        ExitCode::SUCCESS
    } else {
        UNUSABLE.into()
    })
}

fn paths(catalog: &Catalog) -> Vec<PathBuf> {
    let files = catalog.files().iter();
    files.map(|file| PathBuf::from(&file.path)).collect()
}

/// Adds to each file the names that no runtime finds since another file of equal rank has them, too.
fn note_conflicts(catalog: &Catalog, files: &mut [Checked]) {
    let mut shared: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
    for name in catalog.names() {
        if let Resolution::Conflict(several) = catalog.resolve(name) {
            let mut paths: Vec<&str> = several.iter().map(|file| file.path.as_str()).collect();
            // A name that one file has twice is a mistake of its form.
            paths.dedup();
            shared.entry(paths).or_default().push(name);
        }
    }
    for (paths, names) in shared.into_iter().filter(|(paths, _)| paths.len() > 1) {
        for file in files.iter_mut() {
            if paths.contains(&file.path.as_str()) {
                file.mistakes.push(conflict(&file.path, &paths, &names));
            }
        }
    }
}

/// What is wrong with a file whose names are in the others, too.
fn conflict(path: &str, paths: &[&str], names: &[&str]) -> Finding {
    let others: Vec<&str> = paths
        .iter()
        .copied()
        .filter(|other| *other != path)
        .collect();
    let (what, verb) = match names {
        [name] => ((*name).to_owned(), "is"),
        [name, more @ ..] => {
            let more = counted(more.len(), "more name");
            (format!("{name} and {more}"), "are")
        }
        [] => (String::new(), "is"),
    };
    Finding {
        line: None,
        column: None,
        message: format!(
            "{what} {verb} also in {}, and runtimes find neither",
            others.join(" and ")
        ),
    }
}

fn checked(path: &Path, args: &ValidateArgs) -> Checked {
    let mistakes = match read(path) {
        Err(error) => vec![Mistake {
            location: None,
            message: format!("it cannot be read: {error}"),
        }],
        Ok(text) => match SpecText::parse(&text) {
            Err(mistakes) => mistakes,
            Ok(read) => {
                let mut mistakes = read.mistakes();
                if !args.form_only {
                    mistakes.extend(missing(&read, &HostRoot::new(&args.host_root)));
                }
                mistakes.sort_by_key(|mistake| {
                    mistake.location.map(|place| (place.line, place.column))
                });
                mistakes
            }
        },
    };
    Checked {
        path: path.display().to_string(),
        mistakes: mistakes.into_iter().map(Finding::from).collect(),
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    if path != Path::new("-") {
        return fs::read_to_string(path);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// What the spec counts on and the machine does not have.
fn missing(read: &SpecText, host: &HostRoot) -> Vec<Mistake> {
    let paths = host_paths(&read.spec).into_iter();
    let lacks = paths.filter_map(|counted_on| {
        let message = complaint(&counted_on, host)?;
        Some(Mistake {
            location: read.locate(&counted_on.place),
            message: format!("{}: {message}", counted_on.place),
        })
    });
    lacks.collect()
}

fn complaint(counted_on: &HostPath<'_>, host: &HostRoot) -> Option<String> {
    let path = counted_on.path;
    match host.resolve(path).and_then(fs::metadata) {
        Err(_) => Some(format!("{path} is not on this machine")),
        Ok(known) => {
            let kind = known.file_type();
            let is_device = kind.is_char_device() || kind.is_block_device() || kind.is_fifo();
            (counted_on.is_node && !is_device).then(|| format!("{path} is no device node"))
        }
    }
}
