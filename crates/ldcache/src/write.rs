//! Writing a cache.

use crate::order::compare;
use crate::{BYTE_ORDER, ENTRY_BYTES, HEADER_BYTES, MAGIC, Machine};

/// One library that the dynamic linker shall find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// What programs ask for, which is a SONAME or the name of a link for developers:
    /// `libcuda.so.1`.
    pub name: String,
    /// Where it is, from the root that the cache is for: `/usr/lib64/libcuda.so.1`.
    pub path: String,
    /// What it is for.
    pub machine: Machine,
}

/// The bytes of an `/etc/ld.so.cache` that knows these libraries. Of two with one name, the
/// earlier one is found.
///
/// The dynamic linker ignores a cache that is longer than 4 GiB; so many libraries are cut off.
pub fn write(libraries: &[Library]) -> Vec<u8> {
    let mut sorted: Vec<&Library> = libraries.iter().collect();
    // Downwards, as the linker expects; equal names stay in the order of their directories.
    sorted.sort_by(|a, b| {
        compare(&b.name, &a.name).then_with(|| b.machine.flags().cmp(&a.machine.flags()))
    });
    let strings_at = HEADER_BYTES + sorted.len() * ENTRY_BYTES;
    let mut strings = Vec::new();
    let mut entries = Vec::with_capacity(sorted.len() * ENTRY_BYTES);
    for library in sorted {
        let mut add = |text: &str| {
            let at = word(strings_at + strings.len());
            strings.extend(text.bytes().chain([0]));
            at
        };
        let (name, path) = (add(&library.name), add(&library.path));
        // The lowest kernel and the processor's features are no condition.
        for value in [library.machine.flags(), name, path, 0, 0, 0] {
            entries.extend(value.to_ne_bytes());
        }
    }
    let mut cache = MAGIC.to_vec();
    cache.extend(word(libraries.len()).to_ne_bytes());
    cache.extend(word(strings.len()).to_ne_bytes());
    cache.push(BYTE_ORDER);
    cache.resize(HEADER_BYTES, 0);
    cache.extend(entries);
    cache.extend(strings);
    cache
}

/// A length or a place; see [`write()`] for what does not fit.
fn word(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::paths_of;

    fn library(name: &str, directory: &str) -> Library {
        Library {
            name: name.to_owned(),
            path: format!("{directory}/{name}"),
            machine: Machine::OURS,
        }
    }

    #[test]
    fn what_was_written_is_read_and_the_first_of_equal_names_comes_first() {
        let cache = write(&[
            library("libcuda.so.1", "/opt/lib"),
            library("libnvidia-ml.so.1", "/usr/lib64"),
            library("libcuda.so.1", "/usr/lib64"),
        ]);
        assert_eq!(
            paths_of(&cache, "libcuda.so.1"),
            ["/opt/lib/libcuda.so.1", "/usr/lib64/libcuda.so.1"]
        );
        assert_eq!(
            paths_of(&cache, "libnvidia-ml.so.1"),
            ["/usr/lib64/libnvidia-ml.so.1"]
        );
        assert!(paths_of(&write(&[]), "libcuda.so.1").is_empty());
    }

    /// `ldconfig -p` reads a cache as the dynamic linker does, and checks its sizes.
    #[test]
    fn ldconfig_reads_what_was_written() {
        let ldconfig = ["/usr/sbin/ldconfig", "/sbin/ldconfig"];
        let Some(ldconfig) = ldconfig.iter().find(|path| Path::new(path).exists()) else {
            return; // a machine without glibc
        };
        let file = std::env::temp_dir().join(format!("mizzen-ldcache-{}", std::process::id()));
        let libraries = [
            "libnvidia-nvvm70.so.4",
            "libcuda.so",
            "libcuda.so.10",
            "libcuda.so.9",
        ]
        .map(|name| library(name, "/usr/lib64"));
        std::fs::write(&file, write(&libraries)).unwrap();
        let output = Command::new(ldconfig)
            .arg("-C")
            .arg(&file)
            .arg("-p")
            .output()
            .unwrap();
        std::fs::remove_file(&file).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let paths: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once(" => ").map(|(_, path)| path))
            .collect();
        assert_eq!(
            paths,
            [
                "/usr/lib64/libnvidia-nvvm70.so.4",
                "/usr/lib64/libcuda.so.10",
                "/usr/lib64/libcuda.so.9",
                "/usr/lib64/libcuda.so",
            ],
            "{text}"
        );
    }
}
