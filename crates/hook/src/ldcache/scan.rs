//! What is in a directory of libraries.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
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

impl Budget {
    /// Whether one more file may be opened.
    fn spend(&mut self) -> bool {
        let left = self.files.checked_sub(1);
        self.files = left.unwrap_or(0);
        left.is_some()
    }
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
}

/// Looks at the libraries of a directory that the cache does not name yet; `known` are those that
/// it names. Where `links` says so, links are made for SONAMEs that have none. A directory that
/// cannot be read holds nothing.
pub(super) fn scan(
    root: &Root,
    place: &Place,
    known: Option<&BTreeSet<&str>>,
    links: bool,
    budget: &mut Budget,
) -> Scan {
    let mut scan = Scan::default();
    let Ok(names) = names_up_to(&place.dir, MAX_NAMES.min(budget.names)) else {
        return scan;
    };
    budget.names -= names.len();
    let there: BTreeSet<&str> = names.iter().map(|(name, _)| &**name).collect();
    let is_kept =
        |name: &str| known.is_some_and(|known| known.contains(name)) && there.contains(name);
    let libraries = || names.iter().filter(|(name, _)| is_library(name));
    let kept = libraries().filter(|(name, _)| is_kept(name));
    scan.kept = kept.map(|(name, _)| name.clone()).collect();
    // The SONAMEs of files that are called otherwise, with the file and its flags.
    let mut sonames = BTreeMap::new();
    for (name, kind) in libraries().filter(|(name, _)| !is_kept(name)) {
        // What a known SONAME is followed by is the file that it leads to.
        let is_behind_link = name
            .match_indices('.')
            .any(|(end, _)| is_kept(&name[..end]));
        if *kind == FileType::RegularFile && !is_behind_link && budget.spend() {
            let file = find_below(&place.dir, name).and_then(|found| open_plain(&found));
            scan.file(name, file, &mut sonames);
        }
    }
    let leads_somewhere = |name: &str| root.has(&format!("{}/{name}", place.path));
    sonames.retain(|name, _| !(there.contains(&**name) && leads_somewhere(name)));
    if links {
        scan.link(&place.dir, sonames);
    }
    let found = scan.found.iter().map(|found| found.file.clone());
    let found: BTreeSet<String> = found.collect();
    for (name, kind) in libraries().filter(|(name, _)| !is_kept(name)) {
        if *kind == FileType::Symlink && !found.contains(name) && budget.spend() {
            scan.symlink(name, root.file(&format!("{}/{name}", place.path)));
        }
    }
    scan
}

/// By SONAME, the best file that has it, and its flags.
type Sonames = BTreeMap<String, (String, u32)>;

impl Scan {
    /// Takes in a file, under its own name or for the link that its SONAME wants.
    fn file(&mut self, name: &str, file: io::Result<File>, sonames: &mut Sonames) {
        let Some((flags, soname)) = library(file) else {
            return;
        };
        match soname {
            Some(soname) if soname != name => {
                let (best, its_flags) = sonames
                    .entry(soname)
                    .or_insert_with(|| (name.to_owned(), flags));
                // Of several versions, the highest.
                if compare(name, best).is_gt() {
                    (*best, *its_flags) = (name.to_owned(), flags);
                }
            }
            _ => self.add(name, name, flags),
        }
    }

    /// Takes in a link, if it is what a SONAME wants, or the same without a version, for those who
    /// build programs.
    fn symlink(&mut self, name: &str, file: io::Result<File>) {
        let Some((flags, Some(soname))) = library(file) else {
            return;
        };
        let has_no_version = name
            .split_once(".so")
            .is_some_and(|(_, version)| version.is_empty());
        if soname == name || has_no_version && soname.starts_with(name) {
            self.add(name, name, flags);
        }
    }

    /// Makes links for SONAMEs that have none. Where that cannot be, the cache leads to the file
    /// itself.
    fn link(&mut self, dir: &OwnedFd, sonames: Sonames) {
        for (soname, (file, flags)) in sonames {
            if link_below(dir, &soname, &file).is_ok() {
                self.add(&soname, &soname, flags);
            } else {
                self.add(&soname, &file, flags);
            }
        }
    }

    fn add(&mut self, name: &str, file: &str, flags: u32) {
        self.found.push(Found {
            name: name.to_owned(),
            file: file.to_owned(),
            flags,
        });
    }
}

/// What the cache has to know of a library: its flags, and its SONAME.
fn library(file: io::Result<File>) -> Option<(u32, Option<String>)> {
    let file = file.ok()?;
    let elf = Elf::of(&file)?;
    Some((elf.cache_flags()?, elf.soname()))
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
