//! `mizzen cdi diff`: what would change if specs were made anew.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;
use mizzen_agent::cdi::read_catalog;
use mizzen_core::cdi::{
    Catalog, CdiKind, CdiSpec, Comparison, HAND_VENDOR, MANAGEMENT_VENDOR, PLUGIN_VENDOR, Wanted,
    compare,
};
use serde::Serialize;

use super::args::{AnswerForm, DiffArgs, MakeArgs};
use super::list::{UnusableFile, unusable_files};
use super::{UNUSABLE, make, misunderstood, print_json};
use crate::terminal::{BOLD, GOOD, Line, PLAIN, Terminal};
use crate::words::counted;

/// The version of the JSON document's form.
const FORM: u32 = 1;

/// What is printed for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    kinds: Vec<KindDifference>,
    /// Files in which any kind may be.
    unusable_files: Vec<UnusableFile>,
}

/// The differences of one kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KindDifference {
    kind: String,
    /// The file that has it now.
    file: Option<String>,
    /// The change of the driver's version, if there is one, which is the first of the differences.
    driver: Option<Driver>,
    differences: Vec<String>,
}

/// Another version of the driver.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    from: String,
    to: String,
    renamed_paths: usize,
}

/// Carries the command out.
pub(super) fn run(args: &DiffArgs) -> Result<ExitCode> {
    let catalog = read_catalog(&args.specs.below(&args.make.host_root));
    let compared = kinds(&args.make, &catalog).and_then(|kinds| {
        let made = make::specs(&args.make, &kinds)?;
        let compare = |kind: &CdiKind| compared(kind, &made.specs, &catalog);
        Ok(kinds.iter().map(compare).collect::<Vec<_>>())
    });
    let kinds = match compared {
        Ok(kinds) => kinds,
        Err(error) => return Ok(misunderstood(&error)),
    };
    let unusable_files = unusable_files(&catalog);
    let is_found = |kind: &KindDifference| kind.file.is_some();
    // What is in a file that cannot be read is of no matter where all that was asked for is found.
    let is_whole =
        unusable_files.is_empty() || (args.make.names_kinds() && kinds.iter().all(is_found));
    let is_same = is_whole && kinds.iter().all(|kind| kind.differences.is_empty());
    match args.output {
        AnswerForm::Json => print_json(&Document {
            version: FORM,
            kinds,
            unusable_files,
        })?,
        AnswerForm::Table => {
            let unusable = unusable_files.iter().map(UnusableFile::line);
            Terminal::stdout().print(kinds.iter().flat_map(lines).chain(unusable))?;
        }
    }
    Ok(if is_same {
        ExitCode::SUCCESS
    } else {
        UNUSABLE.into()
    })
}

/// The kinds that are asked for, or else all of NVIDIA's that there are.
fn kinds(args: &MakeArgs, catalog: &Catalog) -> Result<Vec<CdiKind>> {
    if args.names_kinds() {
        return make::kinds(args);
    }
    let known = |kind: &CdiKind| {
        [HAND_VENDOR, PLUGIN_VENDOR, MANAGEMENT_VENDOR].contains(&kind.vendor())
            && Wanted::CLASSES.contains(&kind.class())
    };
    let specs = catalog
        .files()
        .iter()
        .filter_map(|file| file.spec.as_ref().ok());
    let found: BTreeSet<CdiKind> = specs
        .filter_map(|spec| spec.kind.parse().ok())
        .filter(known)
        .collect();
    if found.is_empty() {
        return make::kinds(args);
    }
    Ok(found.into_iter().collect())
}

fn compared(kind: &CdiKind, made: &[CdiSpec], catalog: &Catalog) -> KindDifference {
    let is_kind = |spec: &CdiSpec| spec.kind == kind.as_str();
    let mut files = catalog.files().iter().rev();
    let now = files.find_map(|file| {
        let spec = file.spec.as_ref().ok().filter(|spec| is_kind(spec))?;
        Some((file.path.clone(), spec))
    });
    let anew = made.iter().find(|spec| is_kind(spec));
    let mut driver = None;
    let differences = match (&now, anew) {
        (Some((_, now)), Some(anew)) => {
            let Comparison {
                driver: change,
                differences,
            } = compare(now, anew);
            let first = change.iter().map(ToString::to_string);
            let all = first.chain(differences.iter().map(ToString::to_string));
            let all = all.collect();
            driver = change;
            all
        }
        (Some(_), None) => vec!["there is no such device any more".to_owned()],
        (None, Some(anew)) => {
            let devices = counted(anew.devices.len(), "device name");
            vec![format!(
                "there is no {}spec, and would be one with {devices}",
                usable(catalog)
            )]
        }
        (None, None) => Vec::new(),
    };
    KindDifference {
        kind: kind.to_string(),
        file: now.map(|(path, _)| path),
        driver: driver.map(|change| Driver {
            from: change.from,
            to: change.to,
            renamed_paths: change.renamed,
        }),
        differences,
    }
}

/// A word where a spec may be in a file that cannot be used.
fn usable(catalog: &Catalog) -> &'static str {
    let mut files = catalog.files().iter();
    if files.any(|file| file.spec.is_err()) {
        "usable "
    } else {
        ""
    }
}

fn lines(kind: &KindDifference) -> Vec<Line> {
    let from = kind.file.as_deref().unwrap_or("no file");
    let heading = Line::of(BOLD, kind.kind.clone()).and(PLAIN, format!(" in {from}: "));
    if kind.differences.is_empty() {
        return vec![heading.and(GOOD, "as it should be")];
    }
    let count = counted(kind.differences.len(), "difference");
    let each = kind.differences.iter();
    let each = each.map(|difference| Line::from(format!("  {difference}")));
    std::iter::once(heading.and(PLAIN, count))
        .chain(each)
        .collect()
}
