//! `mizzen cdi list`: the names that a runtime finds.

use std::process::ExitCode;

use anyhow::Result;
use mizzen_agent::cdi::read_catalog;
use mizzen_core::cdi::{Catalog, Resolution};
use serde::Serialize;

use super::args::{AnswerForm, ListArgs};
use super::{UNUSABLE, print_json};
use crate::terminal::{BAD, BOLD, DIM, Line, Table, Terminal};
use crate::words::counted;

/// The version of the JSON document's form.
const FORM: u32 = 1;

/// What is printed for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    version: u32,
    devices: Vec<Device<'a>>,
    unusable_files: Vec<UnusableFile>,
}

/// A name.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Device<'a> {
    name: &'a str,
    resolves: bool,
    /// The file that it is from, or those that contradict each other.
    files: Vec<&'a str>,
}

/// A file that no runtime takes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UnusableFile {
    path: String,
    reason: String,
}

impl UnusableFile {
    /// What is said of it.
    pub(super) fn line(&self) -> Line {
        Line::of(BAD, format!("{}: {}", self.path, self.reason))
    }
}

/// The files that no runtime takes.
pub(super) fn unusable_files(catalog: &Catalog) -> Vec<UnusableFile> {
    let unusable = catalog.files().iter().filter_map(|file| {
        Some(UnusableFile {
            path: file.path.clone(),
            reason: file.spec.as_ref().err()?.clone(),
        })
    });
    unusable.collect()
}

/// Carries the command out.
pub(super) fn run(args: &ListArgs) -> Result<ExitCode> {
    let catalog = read_catalog(&args.specs.below(&args.host_root));
    let document = Document::new(&catalog);
    let is_well =
        document.unusable_files.is_empty() && document.devices.iter().all(|device| device.resolves);
    match args.output {
        AnswerForm::Json => print_json(&document)?,
        AnswerForm::Table => Terminal::stdout().print(document.lines(&catalog, args))?,
    }
    Ok(if is_well {
        ExitCode::SUCCESS
    } else {
        UNUSABLE.into()
    })
}

impl<'a> Document<'a> {
    fn new(catalog: &'a Catalog) -> Self {
        let device = |name: &'a str| {
            let (resolves, files) = match catalog.resolve(name) {
                Resolution::Device(file, _) => (true, vec![file.path.as_str()]),
                Resolution::Conflict(files) => {
                    let paths = files.iter().map(|file| file.path.as_str());
                    (false, paths.collect())
                }
                Resolution::Unknown => (false, Vec::new()),
            };
            Device {
                name,
                resolves,
                files,
            }
        };
        Self {
            version: FORM,
            devices: catalog.names().map(device).collect(),
            unusable_files: unusable_files(catalog),
        }
    }

    fn lines(&self, catalog: &Catalog, args: &ListArgs) -> Vec<Line> {
        let directories: Vec<String> = args
            .specs
            .below(&args.host_root)
            .iter()
            .map(|directory| directory.display().to_string())
            .collect();
        let mut lines = vec![Line::of(
            DIM,
            format!(
                "{} in {} of {}",
                counted(self.devices.len(), "name"),
                counted(catalog.files().len(), "file"),
                directories.join(", ")
            ),
        )];
        if !self.devices.is_empty() {
            let mut table = Table::new(&["NAME", "FROM"]);
            for device in &self.devices {
                let from = if device.resolves {
                    Line::of(DIM, device.files.join(", "))
                } else {
                    let files = device.files.join(" and ");
                    Line::of(BAD, format!("does not resolve: it is in {files}"))
                };
                table.row(vec![Line::of(BOLD, device.name), from]);
            }
            lines.extend(table.lines(0));
        }
        lines.extend(self.unusable_files.iter().map(UnusableFile::line));
        lines
    }
}
