//! `update-ldcache`: lets the container's dynamic linker find libraries.
//!
//! The cache of the image is read, what it says of the folders is brought up to date, and it is
//! written again: the hundreds of other libraries of an image are not looked at. Only where an
//! image has no cache that can be read are all directories of its configuration read. In either
//! case, of two libraries with one name that one is found which `ldconfig` would put first.

mod config;
mod musl;
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;

use mizzen_ldcache::{Entry, Table};
use rustix::fs::fstat;

use crate::failure::Failure;
use crate::root::Root;

pub(crate) use scan::names_of;

use scan::{Budget, Scan};

const CACHE: &str = "/etc/ld.so.cache";
/// The most that is read of a cache; a whole desktop's is a quarter of that.
const MAX_CACHE_BYTES: u64 = 1 << 20;
/// The most directories that are told apart.
const MAX_PLACES: usize = 256;

/// Which directory it is, by whatever name: device and inode.
type Identity = (u64, u64);

/// A directory in which the dynamic linker looks.
struct Place {
    path: String,
    dir: OwnedFd,
    identity: Identity,
}

impl Place {
    fn at(root: &Root, path: &str) -> io::Result<Self> {
        let dir = root.directory(path)?;
        let known = fstat(&dir)?;
        let path = path.trim_end_matches('/').to_owned();
        Ok(Self {
            path,
            dir,
            identity: (known.st_dev, known.st_ino),
        })
    }
}

/// Makes the libraries in `folders` known in the container, and says what could not be done.
pub(crate) fn update(root: &Root, folders: &[String]) -> Vec<Failure> {
    let mut failures = Vec::new();
    let folders: BTreeMap<Identity, Place> = folders
        .iter()
        .filter_map(|folder| Place::at(root, folder).ok())
        .map(|place| (place.identity, place))
        .collect();
    if folders.is_empty() {
        return failures;
    }
    if musl::is_used(root) {
        failures.extend(musl::update(root, folders.values().map(|place| &*place.path)).err());
        if !config::is_glibc(root) && !root.has(CACHE) {
            return failures;
        }
    }
    let mut budget = Budget::default();
    let configured = config::directories(root, &mut budget);
    let mut order = places(root, &configured);
    let known: BTreeSet<Identity> = order.iter().map(|place| place.identity).collect();
    let new: Vec<&str> = folders
        .values()
        .filter(|place| !known.contains(&place.identity))
        .map(|place| &*place.path)
        .collect();
    if !new.is_empty() {
        failures.extend(config::add(root, &new).err());
        order = places(root, &config::directories(root, &mut budget));
    }
    // Those that the configuration does not name although it should: it is as good as first.
    let known: BTreeSet<Identity> = order.iter().map(|place| place.identity).collect();
    let missing = folders
        .iter()
        .filter(|(identity, _)| !known.contains(identity));
    let missing: Vec<Place> = missing
        .filter_map(|(_, place)| Place::at(root, &place.path).ok())
        .collect();
    order.splice(0..0, missing);
    let wanted = folders.keys().copied().collect();
    failures.extend(rewrite(root, &order, &wanted, &mut budget).err());
    failures
}

/// Makes what the cache says of a directory unsaid, which is no more configured. Where it is, after
/// all, `update` finds that the cache lacks it.
pub(crate) fn forget(root: &Root, folder: &str) -> Result<(), Failure> {
    let before = root.read(CACHE, MAX_CACHE_BYTES).unwrap_or_default();
    let Some(mut table) = Table::read(&before) else {
        return Ok(());
    };
    let folder = folder.trim_end_matches('/');
    let is_in = |path: &str| path.rsplit_once('/').is_some_and(|(dir, _)| dir == folder);
    let count = table.entries.len();
    table.entries.retain(|entry| !is_in(entry.path));
    if table.entries.len() == count {
        return Ok(());
    }
    root.replace(CACHE, &table.write())
        .map_err(Failure::of(CACHE, "written"))
}

/// The directories that there are, each once, by the first of its names.
fn places(root: &Root, paths: &[String]) -> Vec<Place> {
    let mut seen = BTreeSet::new();
    let each = paths.iter().take(MAX_PLACES);
    let found = each.filter_map(|path| Place::at(root, path).ok());
    found.filter(|place| seen.insert(place.identity)).collect()
}

/// Writes the cache anew, if it is not what it should be. `order` is that of the directories, and
/// `folders` are those whose libraries shall be known.
fn rewrite(
    root: &Root,
    order: &[Place],
    folders: &BTreeSet<Identity>,
    budget: &mut Budget,
) -> Result<(), Failure> {
    let before = root.read(CACHE, MAX_CACHE_BYTES).unwrap_or_default();
    let table = Table::read(&before).unwrap_or_default();
    let cached = Cached::of(root, &table);
    let mut scans = BTreeMap::new();
    for place in order {
        let is_cached = cached.files.contains_key(&place.identity);
        if folders.contains(&place.identity) || !is_cached {
            let known = cached.files.get(&place.identity);
            let links = folders.contains(&place.identity);
            let scan = scan::scan(root, place, known, links, budget);
            scans.insert(place.identity, scan);
        }
    }
    let ranks: BTreeMap<Identity, usize> = order
        .iter()
        .enumerate()
        .map(|(rank, place)| (place.identity, rank))
        .collect();
    let paths = paths(order, &scans);
    let mut entries: Vec<(usize, Entry<'_>)> = table
        .entries
        .iter()
        .filter(|entry| cached.is_there(entry, &scans))
        .map(|entry| (cached.rank(entry, &ranks), *entry))
        .collect();
    entries.extend(
        paths
            .iter()
            .map(|(rank, flags, name, path)| (*rank, Entry::new(*flags, name, path))),
    );
    entries.sort_by_key(|(rank, _)| *rank);
    let after = Table {
        entries: entries.into_iter().map(|(_, entry)| entry).collect(),
        hwcaps: table.hwcaps,
    };
    let text = after.write();
    if text == before {
        return Ok(());
    }
    root.replace(CACHE, &text)
        .map_err(Failure::of(CACHE, "written"))
}

/// What was found, with the rank of its directory: flags, name and path.
fn paths<'a>(
    order: &[Place],
    scans: &'a BTreeMap<Identity, Scan>,
) -> Vec<(usize, u32, &'a str, String)> {
    let mut paths = Vec::new();
    for (rank, place) in order.iter().enumerate() {
        let found = scans.get(&place.identity).map(|scan| &scan.found);
        paths.extend(found.into_iter().flatten().map(|library| {
            let path = format!("{}/{}", place.path, library.file);
            (rank, library.flags, &*library.name, path)
        }));
    }
    paths
}

/// What the cache of the image says.
struct Cached<'a> {
    /// The directories that it names.
    directories: BTreeMap<&'a str, Identity>,
    /// The files that it names in each.
    files: BTreeMap<Identity, BTreeSet<&'a str>>,
}

impl<'a> Cached<'a> {
    fn of(root: &Root, table: &Table<'a>) -> Self {
        let mut cached = Self {
            directories: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        for entry in &table.entries {
            let Some((directory, file)) = entry.path.rsplit_once('/') else {
                continue;
            };
            let known = cached.directories.get(directory).copied();
            let identity = known.or_else(|| {
                if cached.directories.len() >= MAX_PLACES {
                    return None;
                }
                Place::at(root, directory).ok().map(|place| place.identity)
            });
            if let Some(identity) = identity {
                cached.directories.insert(directory, identity);
                cached.files.entry(identity).or_default().insert(file);
            }
        }
        cached
    }

    /// The directory of an entry, if it is there.
    fn identity(&self, entry: &Entry<'_>) -> Option<Identity> {
        let (directory, _) = entry.path.rsplit_once('/')?;
        self.directories.get(directory).copied()
    }

    /// Whether an entry is still true: of the directories that were read, the file must be there.
    fn is_there(&self, entry: &Entry<'_>, scans: &BTreeMap<Identity, Scan>) -> bool {
        let Some(identity) = self.identity(entry) else {
            return true;
        };
        let file = entry.path.rsplit('/').next().unwrap_or_default();
        scans
            .get(&identity)
            .is_none_or(|scan| scan.kept.contains(file))
    }

    /// The place of an entry's directory in the order; behind all where it has none.
    fn rank(&self, entry: &Entry<'_>, ranks: &BTreeMap<Identity, usize>) -> usize {
        let rank = self
            .identity(entry)
            .and_then(|identity| ranks.get(&identity));
        rank.copied().unwrap_or(usize::MAX)
    }
}
