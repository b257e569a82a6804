//! Reading a cache.

use crate::{ENTRY_BYTES, HEADER_BYTES, MAGIC, Machine};

/// First bytes of the older table.
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
/// The older table: its magic padded to a word, then its count of entries.
const OLD_HEADER_BYTES: usize = 16;
/// Flags and two string offsets.
const OLD_ENTRY_BYTES: usize = 12;

/// The paths under which the cache knows the library `name` for this architecture, in the
/// cache's order. A file of another format, or a damaged one, knows none.
pub fn paths_of<'a>(cache: &'a [u8], name: &str) -> Vec<&'a str> {
    let Some(table) = table(cache) else {
        return Vec::new();
    };
    let count = word(table, MAGIC.len()).unwrap_or(0);
    (0..count)
        .map_while(|entry| entry_at(table, entry))
        .filter(|entry| {
            entry.flags == Machine::OURS.flags() && text(table, entry.key) == Some(name)
        })
        .filter_map(|entry| text(table, entry.value))
        .collect()
}

struct Entry {
    flags: u32,
    key: u32,
    value: u32,
}

/// The bytes from the table's magic on; its string offsets count from there.
pub(crate) fn table(cache: &[u8]) -> Option<&[u8]> {
    if cache.starts_with(MAGIC) {
        return Some(cache);
    }
    if !cache.starts_with(OLD_MAGIC) {
        return None;
    }
    let old_entries = word(cache, OLD_MAGIC.len().next_multiple_of(4))? as usize;
    let end = OLD_HEADER_BYTES.checked_add(old_entries.checked_mul(OLD_ENTRY_BYTES)?)?;
    let table = cache.get(end.checked_next_multiple_of(8)?..)?;
    table.starts_with(MAGIC).then_some(table)
}

fn entry_at(table: &[u8], entry: u32) -> Option<Entry> {
    let start = HEADER_BYTES.checked_add((entry as usize).checked_mul(ENTRY_BYTES)?)?;
    // The whole entry must be there, though its last words say nothing to us.
    table.get(start..start.checked_add(ENTRY_BYTES)?)?;
    Some(Entry {
        flags: word(table, start)?,
        key: word(table, start + 4)?,
        value: word(table, start + 8)?,
    })
}

pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

fn text(table: &[u8], at: u32) -> Option<&str> {
    let rest = table.get(at as usize..)?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&rest[..end]).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "libnvidia-ml.so.1";
    const OUR_FLAGS: u32 = Machine::OURS.flags();

    /// A cache with these entries, as ldconfig writes it.
    fn cache(entries: &[(u32, &str, &str)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let mut table = Vec::new();
        let first_string = HEADER_BYTES + entries.len() * ENTRY_BYTES;
        for (flags, key, value) in entries {
            let mut offset = |text: &str| {
                let at = u32::try_from(first_string + strings.len()).unwrap();
                strings.extend(text.bytes().chain([0]));
                at
            };
            let (key, value) = (offset(key), offset(value));
            for word in [*flags, key, value, 0, 0, 0] {
                table.extend(word.to_ne_bytes());
            }
        }
        let mut bytes = MAGIC.to_vec();
        let counts = [entries.len(), strings.len()].map(|n| u32::try_from(n).unwrap());
        bytes.extend(counts.iter().flat_map(|count| count.to_ne_bytes()));
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend(table);
        bytes.extend(strings);
        bytes
    }

    fn behind_the_older_table(newer: &[u8]) -> Vec<u8> {
        let mut bytes = OLD_MAGIC.to_vec();
        bytes.resize(12, 0);
        bytes.extend(1u32.to_ne_bytes());
        bytes.extend([0; OLD_ENTRY_BYTES]);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(newer);
        bytes
    }

    #[test]
    fn a_library_is_found_for_our_architecture_only() {
        let i386 = 0x0003 | 0x0800;
        let cache = cache(&[
            (OUR_FLAGS, "libc.so.6", "/lib/libc.so.6"),
            (i386, NAME, "/usr/lib/i386-linux-gnu/libnvidia-ml.so.1"),
            (OUR_FLAGS, NAME, "/opt/driver/libnvidia-ml.so.1"),
            (OUR_FLAGS, NAME, "/usr/lib/libnvidia-ml.so.1"),
        ]);
        let expected = [
            "/opt/driver/libnvidia-ml.so.1",
            "/usr/lib/libnvidia-ml.so.1",
        ];
        assert_eq!(paths_of(&cache, NAME), expected);
        assert_eq!(paths_of(&behind_the_older_table(&cache), NAME), expected);
        assert!(paths_of(&cache, "libcuda.so.1").is_empty());
    }

    #[test]
    fn the_cache_of_this_machine_knows_the_c_library() {
        let Ok(cache) = std::fs::read("/etc/ld.so.cache") else {
            return; // a machine without glibc
        };
        let paths = paths_of(&cache, "libc.so.6");
        assert!(!paths.is_empty());
        assert!(paths.iter().all(|path| std::path::Path::new(path).exists()));
    }

    #[test]
    fn what_is_not_a_cache_knows_nothing() {
        for bytes in [
            &b""[..],
            b"ld.so-1.7.0",
            b"glibc-ld.so.cache1.1",
            b"\x7fELF",
        ] {
            assert!(paths_of(bytes, NAME).is_empty());
        }
    }

    proptest! {
        #[test]
        fn any_damage_to_a_cache_is_survived(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..16),
            length in any::<prop::sample::Index>(),
            older in any::<bool>(),
        ) {
            let entries = [(OUR_FLAGS, NAME, "/a"), (OUR_FLAGS, "libc.so.6", "/b")];
            let mut bytes = cache(&entries);
            if older {
                bytes = behind_the_older_table(&bytes);
            }
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(length.index(bytes.len() + 1));
            for path in paths_of(&bytes, NAME) {
                prop_assert!(path.len() < bytes.len());
            }
        }
    }
}
