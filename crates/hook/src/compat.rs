//! `enable-cuda-compat`.

use std::fs::File;

use rustix::fs::FileType;
use serde::Deserialize;

use crate::args::Compat;
use crate::elf::Elf;
use crate::failure::Failure;
use crate::ldcache::names_of;
use crate::root::Root;

/// The file that makes `update-ldcache`, and an `ldconfig` in the container, look into the
/// directory of the compatibility libraries: by its name, before every other.
const CONFIG: &str = "/etc/ld.so.conf.d/00-compat-mizzen.conf";
/// Where a compatibility library says for which drivers it is.
const NOTE: &str = ".note.cuda.fwd_compatibility";
/// Sizes of the name and the text, and a type.
const NOTE_HEADER_BYTES: usize = 12;
const NOTE_OWNER: &[u8] = b"NVIDIA Corporation";
/// The most that is read of a note.
const MAX_NOTE_BYTES: u64 = 64 << 10;

/// Makes the container's dynamic linker prefer the compatibility libraries of the image, where they
/// are newer than the host's driver and made for it. Without any, and without versions to compare
/// them with, nothing is changed.
pub(crate) fn enable(root: &Root, wanted: &Compat) -> Result<(), Failure> {
    let Ok(folder) = root.directory(&wanted.folder) else {
        return Ok(());
    };
    let is_library = |name: &str| {
        let version = name.strip_prefix("libcuda.so.");
        version.is_some_and(|version| version.contains('.'))
    };
    let names = names_of(&folder).map_err(Failure::of(&wanted.folder, "read"))?;
    let found: Vec<&str> = names
        .iter()
        .filter(|(name, kind)| *kind == FileType::RegularFile && is_library(name))
        .map(|(name, _)| name.as_str())
        .collect();
    let name = match found.as_slice() {
        [] => return Ok(()),
        [name] => *name,
        [..] => {
            let what = format!("no libcuda.so of {} is preferred", wanted.folder);
            return Err(Failure::new(what, "there are several"));
        }
    };
    let path = format!("{}/{name}", wanted.folder);
    let file = root.file(&path).map_err(Failure::of(&path, "read"))?;
    let version = name.trim_start_matches("libcuda.so.");
    if !is_preferred(version, note(&file).as_ref(), wanted) {
        return Ok(());
    }
    let line = format!("{}\n", wanted.folder);
    root.replace(CONFIG, line.as_bytes())
        .map_err(Failure::of(CONFIG, "written"))
}

/// For which hosts a compatibility library is.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Note {
    /// The version of CUDA that it is of.
    #[serde(rename = "CUDA Version", default)]
    cuda: String,
    /// The first numbers of the drivers that it works on.
    #[serde(rename = "Driver", default)]
    drivers: Vec<u64>,
}

fn note(library: &File) -> Option<Note> {
    let section = Elf::of(library)?.section(NOTE, MAX_NOTE_BYTES)?;
    let size = |at: usize| -> Option<usize> {
        let bytes = section.get(at..at + 4)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let (name_size, text_size) = (size(0)?, size(4)?);
    let name = section.get(NOTE_HEADER_BYTES..NOTE_HEADER_BYTES.checked_add(name_size)?)?;
    if name.strip_suffix(&[0]).unwrap_or(name) != NOTE_OWNER {
        return None;
    }
    let start = NOTE_HEADER_BYTES.checked_add(name_size.checked_next_multiple_of(4)?)?;
    let text = section.get(start..start.checked_add(text_size)?)?;
    let end = text.iter().rposition(|byte| *byte != 0)?;
    serde_json::from_slice(&text[..=end]).ok()
}

/// Whether a library of this version, with this note, is better than what the host has.
fn is_preferred(version: &str, note: Option<&Note>, host: &Compat) -> bool {
    let versions = numbers(version).zip(numbers(&host.driver));
    match (note, versions) {
        (Some(note), Some((version, driver))) => {
            note.drivers.contains(&driver[0]) && version > driver
        }
        (Some(note), None) => {
            let versions = numbers(&note.cuda).zip(numbers(&host.cuda));
            versions.is_some_and(|(ours, hosts)| ours > hosts)
        }
        // One that does not say for which CUDA it is cannot be compared with that.
        (None, Some((version, driver))) => host.cuda.is_empty() && version[0] > driver[0],
        (None, None) => false,
    }
}

/// A version in numbers, at least one: `550.54.15`.
fn numbers(version: &str) -> Option<Vec<u64>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(driver: &str, cuda: &str) -> Compat {
        Compat {
            driver: driver.to_owned(),
            cuda: cuda.to_owned(),
            folder: String::new(),
        }
    }

    #[test]
    fn a_library_without_a_note_must_be_of_a_newer_branch() {
        let preferred = |version, driver| is_preferred(version, None, &host(driver, ""));
        assert!(preferred("560.28.03", "550.54.15"));
        assert!(!preferred("550.90.07", "550.54.15"), "the same branch");
        assert!(!preferred("535.1.2", "550.54.15"));
        assert!(!preferred("560.28.03", "unknown"));
        assert!(!preferred("560.x.03", "550.54.15"));
        assert!(!is_preferred("560.28.03", None, &host("550.54.15", "12.4")));
    }

    #[test]
    fn a_note_says_which_drivers_a_library_is_for() {
        let note = Note {
            cuda: "12.6".to_owned(),
            drivers: vec![535, 550],
        };
        let preferred =
            |version, driver, cuda| is_preferred(version, Some(&note), &host(driver, cuda));
        assert!(preferred("560.28.03", "550.54.15", ""));
        assert!(!preferred("560.28.03", "545.1.2", ""), "not among them");
        assert!(
            preferred("550.90.7", "550.54.15", ""),
            "newer in its branch"
        );
        assert!(!preferred("550.54.14", "550.54.15", ""));
        assert!(preferred("560.28.03", "", "12.4"));
        assert!(!preferred("560.28.03", "", "12.6"));
    }
}
