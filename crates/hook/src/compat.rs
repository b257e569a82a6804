//! `enable-cuda-compat`.

use std::fs::File;

use rustix::fs::FileType;
use serde::Deserialize;

use crate::args::Compat;
use crate::elf::Elf;
use crate::failure::Failure;
use crate::ldcache::{self, names_of};
use crate::root::Root;

/// The file that makes `update-ldcache`, and an `ldconfig` in the container, look into the
/// directory of the compatibility libraries: by its name, before every other.
const CONFIG: &str = "/etc/ld.so.conf.d/00-compat-mizzen.conf";
/// The first line of that file, so that nobody else's is taken for it.
const MARK: &str = "# Written by mizzen-hook.";
const MAX_CONFIG_BYTES: u64 = 8 << 10;
/// Where a compatibility library says for which drivers it is.
const NOTE: &str = ".note.cuda.fwd_compatibility";
/// Sizes of the name and the text, and a type.
const NOTE_HEADER_BYTES: usize = 12;
const NOTE_OWNER: &[u8] = b"NVIDIA Corporation";
/// The most that is read of a note.
const MAX_NOTE_BYTES: u64 = 64 << 10;

/// Makes the container's dynamic linker prefer the compatibility libraries of the image, where they
/// are newer than the host's driver and made for it. Without any, and without versions to compare
/// them with, nothing is changed, but what an earlier start with another driver chose is taken back.
pub(crate) fn enable(root: &Root, wanted: &Compat) -> Vec<Failure> {
    let chosen = is_chosen(root, wanted);
    let folder = matches!(chosen, Ok(true)).then_some(&*wanted.folder);
    let changed = configure(root, folder);
    chosen.err().into_iter().chain(changed.err()).collect()
}

/// Whether the image has such libraries.
fn is_chosen(root: &Root, wanted: &Compat) -> Result<bool, Failure> {
    let Ok(folder) = root.directory(&wanted.folder) else {
        return Ok(false);
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
        [] => return Ok(false),
        [name] => *name,
        [..] => {
            let what = format!("no libcuda.so of {} is preferred", wanted.folder);
            return Err(Failure::new(what, "there are several"));
        }
    };
    let path = format!("{}/{name}", wanted.folder);
    let file = root.file(&path).map_err(Failure::of(&path, "read"))?;
    let version = name.trim_start_matches("libcuda.so.");
    Ok(is_preferred(version, note(&file).as_ref(), wanted))
}

/// Has the dynamic linker look into this directory first, or into none, and forget the one that an
/// earlier start chose.
fn configure(root: &Root, folder: Option<&str>) -> Result<(), Failure> {
    let earlier = earlier(root);
    if earlier.as_deref() == folder {
        return Ok(());
    }
    match folder {
        Some(folder) => {
            let text = format!("{MARK}\n{folder}\n");
            root.replace(CONFIG, text.as_bytes())
                .map_err(Failure::of(CONFIG, "written"))?;
        }
        None => root
            .remove(CONFIG)
            .map_err(Failure::of(CONFIG, "removed"))?,
    }
    earlier.map_or(Ok(()), |earlier| ldcache::forget(root, &earlier))
}

/// The directory that an earlier start chose.
fn earlier(root: &Root) -> Option<String> {
    let text = String::from_utf8(root.read(CONFIG, MAX_CONFIG_BYTES).ok()?).ok()?;
    let folder = text.strip_prefix(MARK)?.strip_prefix('\n')?;
    Some(folder.strip_suffix('\n')?.to_owned())
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
    use std::io::Write as _;

    use super::*;

    /// An ELF file with two sections: the note, and the sections' names.
    fn library(note: &[u8]) -> File {
        const HEADER: usize = 64;
        let names = b"\0.note.cuda.fwd_compatibility\0.shstrtab\0";
        let (note_at, names_at) = (HEADER, HEADER + note.len());
        let table_at = names_at + names.len();
        let mut bytes = vec![0; HEADER];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[40..48].copy_from_slice(&(table_at as u64).to_le_bytes());
        for (at, value) in [(58, 64u16), (60, 3), (62, 2)] {
            bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        bytes.extend(note);
        bytes.extend(names);
        let sections = [
            (0u32, 0, 0),
            (1, note_at, note.len()),
            (30, names_at, names.len()),
        ];
        for (name, at, length) in sections {
            let mut section = [0; 64];
            section[..4].copy_from_slice(&name.to_le_bytes());
            section[24..32].copy_from_slice(&(at as u64).to_le_bytes());
            section[32..40].copy_from_slice(&(length as u64).to_le_bytes());
            bytes.extend(section);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }

    fn section(owner: &[u8], text: &[u8]) -> Vec<u8> {
        let mut section = Vec::new();
        for value in [owner.len(), text.len(), 1] {
            section.extend(u32::try_from(value).unwrap().to_le_bytes());
        }
        section.extend(owner);
        section.resize(section.len().next_multiple_of(4), 0);
        section.extend(text);
        section
    }

    #[test]
    fn the_note_of_a_library_is_read_and_another_owners_is_not() {
        let text = br#"{"Format": 1, "CUDA Version": "12.6", "Driver": [535, 550], "Device": [7]}"#;
        let expected = Note {
            cuda: "12.6".to_owned(),
            drivers: vec![535, 550],
        };
        let read = |section: &[u8]| note(&library(section));
        assert_eq!(
            read(&section(b"NVIDIA Corporation\0", text)),
            Some(expected)
        );
        assert_eq!(read(&section(b"GNU\0", text)), None);
        assert_eq!(read(&section(b"NVIDIA Corporation\0", b"no JSON")), None);
        let whole = section(b"NVIDIA Corporation\0", text);
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), None, "{length}");
        }
    }

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
