//! Where drivers put their management library.

use std::fs;
use std::path::{Path, PathBuf};

use crate::host::HostRoot;

/// The library's file name; its version is NVML's ABI, not the driver's.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Where `libnvidia-ml.so.1` may be below a driver root, in the order of the search. The first six are those of
/// NVIDIA's own device plugin.
pub const LIBRARY_DIRECTORIES: &[&str] = &[
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    // Arch, SUSE's transactional systems and other layouts without a directory of its own for
    // 64 bits.
    "usr/lib",
    "lib",
    // GKE: Container-Optimized OS on the host and inside a container, Ubuntu nodes.
    "home/kubernetes/bin/nvidia/lib64",
    "usr/local/nvidia/lib64",
    "opt/nvidia/lib64",
    // Talos keeps glibc, and with it the driver, apart (NVIDIA/k8s-device-plugin#1001).
    "usr/local/glibc/usr/lib",
    "usr/local/glibc/lib",
    "glibc/lib",
    // Bottlerocket, which has versions of its own below for old drivers only; its linker cache
    // knows those.
    "x86_64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla",
    "aarch64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla",
    // NixOS.
    "run/opengl-driver/lib",
    // WSL.
    "usr/lib/wsl/lib",
    // A driver root that is the library directory itself (NVIDIA/k8s-device-plugin#1743).
    "",
];

/// A search for a library that can be used, best places first. It ends with the first one that
/// `accept` takes, so that an ordinary start looks at one or two places.
pub(super) struct Search<F> {
    accept: F,
    /// Files that were offered, links resolved.
    offered: Vec<PathBuf>,
    /// Everything that was looked at, in order, for a person to read.
    searched: Vec<String>,
}

impl<F: FnMut(&Path) -> bool> Search<F> {
    pub(super) fn new(accept: F) -> Self {
        Self {
            accept,
            offered: Vec::new(),
            searched: Vec::new(),
        }
    }

    /// What was looked at.
    pub(super) fn into_searched(self) -> Vec<String> {
        self.searched
    }

    /// Tries the one file that was asked for.
    pub(super) fn exactly(&mut self, path: &Path) -> bool {
        self.searched.push(path.display().to_string());
        // A name without a directory would send the dynamic linker on a search.
        path.exists() && std::path::absolute(path).is_ok_and(|file| (self.accept)(&file))
    }

    /// Tries every place below these driver roots.
    pub(super) fn below(&mut self, roots: &[PathBuf]) -> bool {
        let mut roots_in_order = roots.iter();
        if roots_in_order.any(|root| self.root(&HostRoot::new(root))) {
            return true;
        }
        if !roots.iter().any(|root| root == Path::new("/")) {
            return false;
        }
        // No directory: the dynamic linker searches by its own rules, LD_LIBRARY_PATH first.
        let words = format!("{LIBRARY} by the dynamic linker");
        self.searched.push(words);
        (self.accept)(Path::new(LIBRARY))
    }

    fn root(&mut self, root: &HostRoot) -> bool {
        if !root.as_path().is_dir() {
            let words = format!("{} (no such directory)", root.as_path().display());
            self.searched.push(words);
            return false;
        }
        let mut directories = LIBRARY_DIRECTORIES.iter();
        if directories.any(|directory| self.consider(root, &Path::new(directory).join(LIBRARY))) {
            return true;
        }
        let cache = root.join("etc/ld.so.cache");
        self.searched.push(cache.display().to_string());
        let bytes = fs::read(&cache).unwrap_or_default();
        let paths = mizzen_ldcache::paths_of(&bytes, LIBRARY);
        paths
            .iter()
            .any(|path| self.consider(root, Path::new(path)))
    }

    fn consider(&mut self, root: &HostRoot, path: &Path) -> bool {
        let shown = root.join(path).display().to_string();
        if self.searched.contains(&shown) {
            return false;
        }
        self.searched.push(shown);
        match root.resolve(path) {
            Ok(file) if !self.offered.contains(&file) => {
                self.offered.push(file.clone());
                (self.accept)(&file)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// What a search below these roots offers when nothing is taken, and where it looked.
    fn search(roots: &[PathBuf]) -> (Vec<PathBuf>, Vec<String>) {
        let mut offered = Vec::new();
        let mut search = Search::new(|path: &Path| {
            offered.push(path.to_owned());
            false
        });
        assert!(!search.below(roots));
        let searched = search.into_searched();
        (offered, searched)
    }

    fn put_library(root: &Path, directory: &str) -> PathBuf {
        let place = root.join(directory);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(LIBRARY), "").unwrap();
        place.join(LIBRARY)
    }

    #[test]
    fn every_place_is_named_when_the_library_is_nowhere() {
        let root = tempfile::tempdir().unwrap();
        let (offered, searched) = search(&[root.path().to_owned()]);
        assert!(offered.is_empty());
        assert_eq!(searched.len(), LIBRARY_DIRECTORIES.len() + 1);
        for place in [
            "usr/lib64/libnvidia-ml.so.1",
            "home/kubernetes/bin/nvidia/lib64/libnvidia-ml.so.1",
            "etc/ld.so.cache",
        ] {
            let place = root.path().join(place).display().to_string();
            assert!(searched.contains(&place), "{place} is not named");
        }
    }

    #[test]
    fn the_library_is_found_in_each_place_and_through_links_below_the_root() {
        for directory in LIBRARY_DIRECTORIES {
            let root = tempfile::tempdir().unwrap();
            let store = root.path().join("store");
            fs::create_dir_all(&store).unwrap();
            fs::write(store.join("libnvidia-ml.so.550.54.15"), "").unwrap();
            let place = root.path().join(directory);
            fs::create_dir_all(&place).unwrap();
            symlink("/store/libnvidia-ml.so.550.54.15", place.join(LIBRARY)).unwrap();
            let (offered, _) = search(&[root.path().to_owned()]);
            assert_eq!(offered, [store.join("libnvidia-ml.so.550.54.15")]);
        }
    }

    #[test]
    fn the_roots_are_searched_in_their_order() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, b) = (
            put_library(first.path(), "lib64"),
            put_library(second.path(), "lib64"),
        );
        let (offered, _) = search(&[second.path().to_owned(), first.path().to_owned()]);
        assert_eq!(offered, [b, a]);
    }

    #[test]
    fn a_root_that_is_not_there_is_named_once() {
        let root = tempfile::tempdir().unwrap();
        let (_, searched) = search(&[root.path().join("run/nvidia/driver")]);
        assert_eq!(searched.len(), 1, "{searched:?}");
        assert!(searched[0].ends_with("run/nvidia/driver (no such directory)"));
    }

    #[test]
    fn the_search_ends_with_the_first_library_that_can_be_used() {
        let root = tempfile::tempdir().unwrap();
        let unusable = put_library(root.path(), "usr/lib64");
        put_library(root.path(), "usr/lib/x86_64-linux-gnu");
        put_library(root.path(), "run/opengl-driver/lib");
        let mut search = Search::new(|path: &Path| path != unusable);
        assert!(search.below(&[root.path().to_owned()]));
        assert_eq!(search.into_searched().len(), 2);
    }

    #[test]
    fn the_dynamic_linker_is_asked_only_for_the_machine_itself() {
        let (offered, _) = search(&["/".into()]);
        assert_eq!(offered.last(), Some(&PathBuf::from(LIBRARY)));
        let root = tempfile::tempdir().unwrap();
        assert!(search(&[root.path().to_owned()]).0.is_empty());
    }
}
