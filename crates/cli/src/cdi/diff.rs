//! `mizzen cdi diff`: what would change if specs were made anew.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;
use mizzen_agent::cdi::read_catalog;
use mizzen_core::cdi::{
    Catalog, CdiKind, CdiSpec, HAND_VENDOR, MANAGEMENT_VENDOR, PLUGIN_VENDOR, Wanted, differences,
};
use serde::Serialize;

use super::args::{AnswerForm, DiffArgs, MakeArgs};
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
}

/// The differences of one kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KindDifference {
    kind: String,
    /// The file that has it now.
    file: Option<String>,
    differences: Vec<String>,
}

/// Carries the command out.
pub(super) fn run(args: &DiffArgs) -> Result<ExitCode> {
    let catalog = read_catalog(&args.specs.below(&args.make.host_root));
    let compared = kinds(&args.make, &catalog).and_then(|kinds| {
        let made = make::specs(&args.make, &kinds)?;
        let compare = |kind: &CdiKind| compare(kind, &made.specs, &catalog);
        Ok(kinds.iter().map(compare).collect::<Vec<_>>())
    });
    let kinds = match compared {
        Ok(kinds) => kinds,
        Err(error) => return Ok(misunderstood(&error)),
    };
    let is_same = kinds.iter().all(|kind| kind.differences.is_empty());
    match args.output {
        AnswerForm::Json => print_json(&Document {
            version: FORM,
            kinds,
        })?,
        AnswerForm::Table => Terminal::stdout().print(kinds.iter().flat_map(lines))?,
    }
    Ok(if is_same {
        ExitCode::SUCCESS
    } else {
        UNUSABLE.into()
    })
}

/// The kinds that are asked for, or else all of NVIDIA's that there are.
fn kinds(args: &MakeArgs, catalog: &Catalog) -> Result<Vec<CdiKind>> {
    if !args.kinds.is_empty() || args.vendor.is_some() || args.class.is_some() {
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

fn compare(kind: &CdiKind, made: &[CdiSpec], catalog: &Catalog) -> KindDifference {
    let is_kind = |spec: &CdiSpec| spec.kind == kind.as_str();
    let mut files = catalog.files().iter().rev();
    let now = files.find_map(|file| {
        let spec = file.spec.as_ref().ok().filter(|spec| is_kind(spec))?;
        Some((file.path.clone(), spec))
    });
    let anew = made.iter().find(|spec| is_kind(spec));
    let differences = match (&now, anew) {
        (Some((_, now)), Some(anew)) => {
            let each = differences(now, anew);
            each.iter().map(ToString::to_string).collect()
        }
        (Some(_), None) => vec!["there is no such device any more".to_owned()],
        (None, Some(anew)) => {
            let devices = counted(anew.devices.len(), "device name");
            vec![format!("there is no spec, and would be one with {devices}")]
        }
        (None, None) => Vec::new(),
    };
    KindDifference {
        kind: kind.to_string(),
        file: now.map(|(path, _)| path),
        differences,
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
