//! The driver's libraries: in any distribution's directories, and where the dynamic linker's
//! cache says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use mizzen_core::cdi::{HostFile, Library, Link};
use mizzen_ldcache::paths_of;
use mizzen_nvml::{HostRoot, LIBRARY_DIRECTORIES};

use super::Asked;
use super::places::Places;
use super::tree::{Tree, text};

/// The libraries by which a driver is found, as programs ask for them.
const LANDMARKS: [&str; 2] = ["libcuda.so.1", "libnvidia-ml.so.1"];

/// Directories besides those in which NVML is looked for: what Debian's alternatives lead to, and
/// Bottlerocket's.
const MORE_DIRECTORIES: [&str; 8] = [
    "usr/lib/x86_64-linux-gnu/nvidia/current",
    "usr/lib/aarch64-linux-gnu/nvidia/current",
    "lib/x86_64-linux-gnu/nvidia/current",
    "lib/aarch64-linux-gnu/nvidia/current",
    "x86_64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia",
    "aarch64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia",
    "x86_64-bottlerocket-linux-gnu/sys-root/usr/lib",
    "aarch64-bottlerocket-linux-gnu/sys-root/usr/lib",
];

/// Libraries of the driver that have versions of their own.
const OWN_VERSIONS: [&str; 6] = [
    "libnvidia-nvvm70",
    "libnvidia-egl-gbm",
    "libnvidia-egl-wayland",
    "libnvidia-egl-wayland2",
    "libnvidia-egl-xcb",
    "libnvidia-egl-xlib",
];

/// Libraries that are wanted on demand, by the name that programs link with.
const EXPLICIT: [&str; 11] = [
    "libEGL.so",
    "libGL.so",
    "libGLESv1_CM.so",
    "libGLESv2.so",
    "libGLX.so",
    "libGLdispatch.so",
    "libOpenCL.so",
    "libOpenGL.so",
    "libnvidia-api.so",
    "libnvidia-egl-xcb.so",
    "libnvidia-egl-xlib.so",
];

/// Plug-ins of the X server.
const XORG_DIRECTORIES: [&str; 5] = [
    "nvidia/xorg",
    "xorg/modules/drivers",
    "xorg/modules/extensions",
    "xorg/modules/updates/drivers",
    "xorg/modules/updates/extensions",
];

/// What was found of libraries.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) version: Option<String>,
    pub(super) libraries: Vec<Library>,
    /// The directories that they are in, below the root.
    pub(super) directories: BTreeSet<PathBuf>,
}

/// Whether there is a driver below a root.
pub(super) fn has_driver(tree: &Tree) -> bool {
    let mut directories = known_directories().map(|directory| tree.here.join(directory));
    let has = |directory: PathBuf| {
        let mut landmarks = LANDMARKS.iter();
        landmarks.any(|name| fs::symlink_metadata(directory.join(name)).is_ok())
    };
    directories.any(has) || tree.here.join("dev/dxg").exists() || !of_cache(tree).is_empty()
}

/// The libraries of the driver.
pub(super) fn found(places: &Places, asked: &Asked<'_>) -> Found {
    let tree = &places.driver;
    let mut listings = Listings::new(tree);
    let directories = directories(tree);
    for directory in &directories {
        listings.list(directory);
    }
    let version = match asked.version {
        Some(version) => Some(version.to_owned()),
        None => listings
            .version()
            .or_else(|| version_of_kernel(&places.host)),
    };
    let vdpau: Vec<PathBuf> = directories.iter().map(|dir| dir.join("vdpau")).collect();
    let mut files: BTreeSet<PathBuf> = BTreeSet::new();
    for directory in directories.iter().chain(&vdpau) {
        let names = listings.list(directory).names.clone();
        let wanted = names.iter().filter(|(name, _)| {
            is_of_driver(name, version.as_deref())
                || (asked.explicit_libraries && EXPLICIT.contains(&name.as_str()))
        });
        let mut real = wanted.filter_map(|(name, is_link)| {
            let path = directory.join(name);
            if *is_link {
                tree.real(&path)
            } else {
                Some(path)
            }
        });
        let real: Vec<PathBuf> = real.by_ref().collect();
        // A directory holds libraries of one architecture.
        if real.first().is_none_or(|first| is_for_us(tree, first)) {
            files.extend(real);
        }
    }
    let libraries: Vec<Library> = files
        .iter()
        .filter_map(|file| library(&mut listings, file))
        .collect();
    let parents = files.iter().filter_map(|file| file.parent());
    Found {
        directories: parents.map(Path::to_owned).collect(),
        version,
        libraries,
    }
}

/// The plug-ins of the X server, which no program links with.
pub(super) fn xorg_modules(
    places: &Places,
    version: Option<&str>,
    directories: &BTreeSet<PathBuf>,
) -> Vec<Library> {
    let Some(version) = version else {
        return Vec::new();
    };
    let usual = ["usr/lib", "usr/lib64"].map(PathBuf::from);
    let bases: Vec<&PathBuf> = directories.iter().chain(&usual).collect();
    let mut modules = Vec::new();
    for name in [
        "nvidia_drv.so",
        &format!("libglxserver_nvidia.so.{version}"),
    ] {
        let mut paths = bases.iter().flat_map(|base| {
            let below = XORG_DIRECTORIES.iter();
            below.map(|directory| base.join(directory).join(name))
        });
        let file = paths.find_map(|path| places.driver.file(&path));
        modules.extend(file.map(|file| Library {
            file,
            links: Vec::new(),
        }));
    }
    modules
}

fn known_directories() -> impl Iterator<Item = &'static str> {
    LIBRARY_DIRECTORIES.iter().chain(&MORE_DIRECTORIES).copied()
}

/// The directories in which libraries of the driver may be, each once, without links.
fn directories(tree: &Tree) -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = Vec::new();
    let mut add = |directory: PathBuf| {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    };
    for directory in known_directories() {
        let Some(directory) = tree.real(Path::new(directory)) else {
            continue;
        };
        // The files themselves may be elsewhere, as with Debian's alternatives and Nix's store.
        for landmark in LANDMARKS {
            let file = tree.real(&directory.join(landmark));
            let parent = file.as_deref().and_then(Path::parent);
            parent.map(Path::to_owned).into_iter().for_each(&mut add);
        }
        add(directory);
    }
    of_cache(tree).into_iter().for_each(&mut add);
    directories
}

/// The directories of the libraries that the linker's cache knows.
fn of_cache(tree: &Tree) -> Vec<PathBuf> {
    let Ok(cache) = fs::read(tree.here.join("etc/ld.so.cache")) else {
        return Vec::new();
    };
    let paths = LANDMARKS.iter().flat_map(|name| paths_of(&cache, name));
    let files = paths.filter_map(|path| tree.real(Path::new(path)));
    files
        .filter_map(|file| file.parent().map(Path::to_owned))
        .collect()
}

/// Whether a file of this name belongs to a driver of this version.
fn is_of_driver(name: &str, version: Option<&str>) -> bool {
    let Some((base, rest)) = name.split_once(".so.") else {
        return false;
    };
    if OWN_VERSIONS.contains(&base) {
        return rest.contains('.') || base == "libnvidia-nvvm70";
    }
    version == Some(rest)
}

/// The version in `libcuda.so.550.54.15`: the suffix has a dot, that of `libcuda.so.1` has none.
fn version_in(name: &str) -> Option<&str> {
    let rest = name
        .strip_prefix("libcuda.so.")
        .or(name.strip_prefix("libnvidia-ml.so."))?;
    let digits = rest
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    (digits && rest.contains('.')).then_some(rest)
}

/// The version that the kernel's module tells:
/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024`.
pub(crate) fn version_of_kernel(host: &HostRoot) -> Option<String> {
    let text = fs::read_to_string(host.join("proc/driver/nvidia/version")).ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("NVRM version:"))?;
    let is_version = |word: &&str| {
        let digits = word
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        digits && word.contains('.')
    };
    line.split_whitespace().find(is_version).map(str::to_owned)
}

/// Whether the library at `path` is one that this machine's programs can load. What is no library
/// at all, as on a simulated host, is not judged.
fn is_for_us(tree: &Tree, path: &Path) -> bool {
    /// Where an ELF header has the machine.
    const MACHINE: usize = 18;
    #[cfg(target_arch = "x86_64")]
    const OURS: u16 = 62;
    #[cfg(not(target_arch = "x86_64"))]
    const OURS: u16 = 183;
    let mut header = [0; MACHINE + 2];
    let read = File::open(tree.here.join(path)).and_then(|mut file| file.read_exact(&mut header));
    if read.is_err() || !header.starts_with(b"\x7fELF") {
        return true;
    }
    u16::from_ne_bytes([header[MACHINE], header[MACHINE + 1]]) == OURS
}

/// A library with its links, which are looked for in its own directory.
fn library(listings: &mut Listings<'_>, path: &Path) -> Option<Library> {
    let tree = listings.tree;
    let name = path.file_name()?.to_str()?;
    let directory = path.parent()?;
    let base = name.split_once(".so").map_or(name, |(base, _)| base);
    let listing = listings.list(directory);
    let links = listing.links_of(base);
    let inside = |name: &str| text(&Path::new("/").join(directory).join(name));
    let mut targets: BTreeMap<String, String> = BTreeMap::new();
    for link in links {
        let target = fs::read_link(tree.here.join(directory.join(&link)));
        let target = target.ok().and_then(|target| text(&target));
        targets.extend(target.map(|target| (link, target)));
    }
    let leads_here = |link: &String| {
        let mut at = link;
        for _ in 0..targets.len() {
            let target = targets.get(at)?;
            if target == name {
                return Some(());
            }
            at = target;
        }
        None
    };
    let links = targets.iter().filter_map(|(link, target)| {
        leads_here(link)?;
        Some(Link {
            target: target.clone(),
            path: inside(link)?,
        })
    });
    Some(Library {
        links: links.collect(),
        file: HostFile {
            host: text(&tree.on_host.join(path))?,
            container: inside(name)?,
        },
    })
}

/// What is in directories, each read once.
struct Listings<'a> {
    tree: &'a Tree,
    known: BTreeMap<PathBuf, Listing>,
}

/// The libraries in a directory: their names, and which are links.
#[derive(Debug, Default)]
struct Listing {
    names: BTreeMap<String, bool>,
}

impl<'a> Listings<'a> {
    fn new(tree: &'a Tree) -> Self {
        Self {
            tree,
            known: BTreeMap::new(),
        }
    }

    fn list(&mut self, directory: &Path) -> &Listing {
        let tree = self.tree;
        self.known
            .entry(directory.to_owned())
            .or_insert_with(|| Listing::of(&tree.here.join(directory)))
    }

    /// The version that most says what driver this is.
    fn version(&self) -> Option<String> {
        let listings = self.known.values();
        let mut names = listings.flat_map(|listing| listing.names.keys());
        names.find_map(|name| version_in(name)).map(str::to_owned)
    }
}

impl Listing {
    fn of(directory: &Path) -> Self {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            if !name.contains(".so") {
                return None;
            }
            let is_link = entry.file_type().ok()?.is_symlink();
            Some((name, is_link))
        });
        Self {
            names: names.collect(),
        }
    }

    /// The links whose names begin as that of a library does.
    fn links_of(&self, base: &str) -> Vec<String> {
        let from = format!("{base}.so");
        let names = self.names.range(from.clone()..);
        names
            .take_while(|(name, _)| name.starts_with(&from))
            .filter(|(_, is_link)| **is_link)
            .map(|(name, _)| name.clone())
            .collect()
    }
}
