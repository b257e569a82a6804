//! Where drivers put their management library.

use std::fs;
use std::path::{Path, PathBuf};

use super::ldcache;
use crate::host::HostRoot;

/// The library's file name; its version is NVML's ABI, not the driver's.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Directories below a driver root, in the order of the search. The first six are those of
/// NVIDIA's own device plugin.
const DIRECTORIES: &[&str] = &[
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
    // NixOS.
    "run/opengl-driver/lib",
    // WSL.
    "usr/lib/wsl/lib",
    // A driver root that is the library directory itself (NVIDIA/k8s-device-plugin#1743).
    "",
];

/// What a search came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Candidates {
    /// Files that are there, best first, links resolved.
    pub(super) present: Vec<PathBuf>,
    /// Everything that was looked at, in order, for a person to read.
    pub(super) searched: Vec<String>,
}

/// The one file that was asked for.
pub(super) fn exactly(path: &Path) -> Candidates {
    Candidates {
        present: path.exists().then(|| path.to_owned()).into_iter().collect(),
        searched: vec![path.display().to_string()],
    }
}

/// Every place below these driver roots.
pub(super) fn below(roots: &[PathBuf]) -> Candidates {
    let mut candidates = Candidates::default();
    for root in roots {
        candidates.search(&HostRoot::new(root));
    }
    if roots.iter().any(|root| root == Path::new("/")) {
        // No directory: the dynamic linker searches by its own rules, LD_LIBRARY_PATH first.
        candidates.present.push(LIBRARY.into());
        let words = format!("{LIBRARY} by the dynamic linker");
        candidates.searched.push(words);
    }
    candidates
}

impl Candidates {
    fn search(&mut self, root: &HostRoot) {
        for directory in DIRECTORIES {
            self.consider(root, &Path::new(directory).join(LIBRARY));
        }
        let cache = root.join("etc/ld.so.cache");
        self.searched.push(cache.display().to_string());
        let Ok(bytes) = fs::read(&cache) else {
            return;
        };
        for path in ldcache::paths_of(&bytes, LIBRARY) {
            self.consider(root, Path::new(path));
        }
    }

    fn consider(&mut self, root: &HostRoot, path: &Path) {
        let shown = root.join(path).display().to_string();
        if self.searched.contains(&shown) {
            return;
        }
        self.searched.push(shown);
        if let Ok(file) = root.resolve(path)
            && !self.present.contains(&file)
        {
            self.present.push(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_place_is_named_when_the_library_is_nowhere() {
        let root = tempfile::tempdir().unwrap();
        let found = below(&[root.path().to_owned()]);
        assert!(found.present.is_empty());
        assert_eq!(found.searched.len(), DIRECTORIES.len() + 1);
        for place in [
            "usr/lib64/libnvidia-ml.so.1",
            "home/kubernetes/bin/nvidia/lib64/libnvidia-ml.so.1",
            "etc/ld.so.cache",
        ] {
            let place = root.path().join(place).display().to_string();
            assert!(found.searched.contains(&place), "{place} is not named");
        }
    }

    #[test]
    fn the_library_is_found_in_each_place_and_through_links_below_the_root() {
        for directory in DIRECTORIES {
            let root = tempfile::tempdir().unwrap();
            let store = root.path().join("store");
            fs::create_dir_all(&store).unwrap();
            fs::write(store.join("libnvidia-ml.so.550.54.15"), "").unwrap();
            let place = root.path().join(directory);
            fs::create_dir_all(&place).unwrap();
            symlink("/store/libnvidia-ml.so.550.54.15", place.join(LIBRARY)).unwrap();
            let found = below(&[root.path().to_owned()]);
            assert_eq!(found.present, [store.join("libnvidia-ml.so.550.54.15")]);
        }
    }

    #[test]
    fn the_roots_are_searched_in_their_order() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for root in [&first, &second] {
            fs::create_dir_all(root.path().join("lib64")).unwrap();
            fs::write(root.path().join("lib64").join(LIBRARY), "").unwrap();
        }
        let found = below(&[second.path().to_owned(), first.path().to_owned()]);
        let expected = [&second, &first].map(|root| root.path().join("lib64").join(LIBRARY));
        assert_eq!(found.present, expected);
    }

    #[test]
    fn the_dynamic_linker_is_asked_only_for_the_machine_itself() {
        let found = below(&["/".into()]);
        assert_eq!(found.present.last(), Some(&PathBuf::from(LIBRARY)));
        let root = tempfile::tempdir().unwrap();
        assert!(below(&[root.path().to_owned()]).present.is_empty());
    }
}
