//! What is in a directory of libraries.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use mizzen_ldcache::compare;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, openat, statat};

use super::Place;
use crate::elf::Elf;
use crate::root::{Root, StatExt as _, find_below, link_below, open_plain};

/// The most names of one directory; the largest known have a tenth.
const MAX_NAMES: usize = 20_000;
/// As many bytes of a directory as are read at once.
const LISTING_BYTES: usize = 32 << 10;

/// What may be spent on one run, so that it ends whatever an image has in it.
pub(super) struct Budget {
    /// Files that may be opened.
    files: usize,
    /// Names that may be read.
    names: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            files: 8_000,
            names: 40_000,
        }
    }
}

/// A library that the dynamic linker shall find.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// What programs ask for.
    pub(super) name: String,
    /// The file or link of the directory that it is.
    pub(super) file: String,
    /// What it is for, as the cache has it.
    pub(super) flags: u32,
}

/// What a directory holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The files of the cache that are still there.
    pub(super) kept: BTreeSet<String>,
    /// What the cache does not know yet.
    pub(super) found: Vec<Found>,
    /// The SONAMEs for which there is no file or link, with the file that has it and its flags.
    unlinked: BTreeMap<String, (String, u32)>,
}

/// Looks at the libraries of a directory that the cache does not name yet; `known` are those that
/// it names. A directory that cannot be read holds nothing.
pub(super) fn scan(
    root: &Root,
    place: &Place,
    known: Option<&BTreeSet<&str>>,
    budget: &mut Budget,
) -> Scan {
    let mut scan = Scan::default();
    let Ok(names) = names_up_to(&place.dir, MAX_NAMES.min(budget.names)) else {
        return scan;
    };
    budget.names -= names.len();
    let is_known = |name: &str| known.is_some_and(|known| known.contains(name));
    for (name, kind) in names.iter().filter(|(name, _)| is_library(name)) {
        if is_known(name) {
            scan.kept.insert(name.clone());
            continue;
        }
        // What a known SONAME is followed by is the file that it leads to.
        let is_behind_link = *kind == FileType::RegularFile
            && name
                .match_indices('.')
                .any(|(end, _)| is_known(&name[..end]));
        if is_behind_link || budget.files == 0 {
            continue;
        }
        budget.files -= 1;
        scan.add(root, place, name, *kind);
    }
    let there: BTreeSet<&str> = scan.found.iter().map(|found| &*found.file).collect();
    let is_there = |name: &str| there.contains(name) || is_known(name);
    scan.unlinked.retain(|name, _| !is_there(name));
    scan
}

impl Scan {
    /// Looks at one file or link.
    fn add(&mut self, root: &Root, place: &Place, name: &str, kind: FileType) {
        let file = match kind {
            FileType::Symlink => root.file(&format!("{}/{name}", place.path)),
            FileType::RegularFile => {
                find_below(&place.dir, name).and_then(|file| open_plain(&file))
            }
            _ => return,
        };
        let Ok(file) = file else {
            return;
        };
        let Some(elf) = Elf::of(&file) else {
            return;
        };
        let Some(flags) = elf.cache_flags() else {
            return;
        };
        let soname = elf.soname();
        let is_link = kind == FileType::Symlink;
        let is_its_name = soname.as_ref().is_none_or(|soname| soname == name);
        if is_its_name && !(is_link && soname.is_none()) || is_link && name.ends_with(".so") {
            self.found.push(Found {
                name: name.to_owned(),
                file: name.to_owned(),
                flags,
            });
        } else if let Some(soname) = soname
            && !is_link
        {
            self.offer(soname, name, flags);
        }
    }

    /// Of several files with one SONAME, the highest version has it.
    fn offer(&mut self, soname: String, file: &str, flags: u32) {
        let (best, its_flags) = self
            .unlinked
            .entry(soname)
            .or_insert_with(|| (file.to_owned(), flags));
        if compare(file, best).is_gt() {
            (*best, *its_flags) = (file.to_owned(), flags);
        }
    }

    /// Makes a link for each SONAME that has none. Where that cannot be, the cache leads to the
    /// file itself.
    pub(super) fn link_sonames(&mut self, dir: &OwnedFd) {
        for (soname, (file, flags)) in std::mem::take(&mut self.unlinked) {
            let is_linked = link_below(dir, &soname, &file).is_ok();
            self.found.push(Found {
                file: if is_linked { soname.clone() } else { file },
                name: soname,
                flags,
            });
        }
    }
}

/// Whether the dynamic linker could be asked for a file of this name.
fn is_library(name: &str) -> bool {
    let is_named_so = name.starts_with("lib") || name.starts_with("ld-");
    is_named_so && name.contains(".so")
}

/// The names in a directory and what they are, in the order of the names; those that are no text
/// are left out.
pub(crate) fn names_of(dir: &OwnedFd) -> io::Result<Vec<(String, FileType)>> {
    names_up_to(dir, MAX_NAMES)
}

fn names_up_to(dir: &OwnedFd, limit: usize) -> io::Result<Vec<(String, FileType)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = openat(dir, ".", flags, Mode::empty())?;
    let mut buffer = vec![MaybeUninit::uninit(); LISTING_BYTES];
    let mut entries = RawDir::new(open, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if names.len() >= limit {
            break;
        }
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        let kind = match entry.file_type() {
            // Some file systems do not say it here.
            FileType::Unknown => statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.file_type(),
            kind => kind,
        };
        names.push((name.to_owned(), kind));
    }
    names.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(names)
}
