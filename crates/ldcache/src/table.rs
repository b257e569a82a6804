//! A cache as a whole: what was read can be changed and written again, with all that newer versions
//! of glibc have put into it.

use std::cmp::Ordering;

use crate::order::compare;
use crate::read::{table, word};
use crate::{BYTE_ORDER, ENTRY_BYTES, HEADER_BYTES, MAGIC};

/// Where the header says at which byte the extensions begin.
const EXTENSION_AT: usize = 32;
/// First word of the extensions (`cache_extension_magic`).
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
/// Magic and count.
const EXTENSION_HEADER_BYTES: usize = 8;
/// Tag, flags, offset and size.
const SECTION_BYTES: usize = 16;
/// The section that names the subdirectories of `glibc-hwcaps`
/// (`cache_extension_tag_glibc_hwcaps`).
const HWCAPS_TAG: u32 = 1;
/// The bit of an entry's capabilities that says that the rest is an index of such a name
/// (`DL_CACHE_HWCAP_EXTENSION`).
const HWCAP_EXTENSION: u64 = 1 << 62;
/// The longest path that Linux knows.
const LONGEST_TEXT: usize = 4096;
/// How many times longer than the cache its texts may be together. Texts share their ends, so
/// that a few bytes can stand for as many texts as there are entries.
const SHARING: usize = 8;

/// One line of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What the library is for: `0x0303` on x86-64, `0x0a03` on aarch64.
    pub flags: u32,
    /// What programs ask for.
    pub name: &'a str,
    /// Where it is.
    pub path: &'a str,
    /// The oldest kernel; nothing to today's glibc.
    pub os_version: u32,
    /// What the processor must be able to do.
    pub hwcap: u64,
}

impl<'a> Entry<'a> {
    /// A library that every processor of its kind can use.
    pub fn new(flags: u32, name: &'a str, path: &'a str) -> Self {
        Self {
            flags,
            name,
            path,
            os_version: 0,
            hwcap: 0,
        }
    }

    /// Whether it is for some processors only, by the name of a subdirectory of `glibc-hwcaps`.
    pub fn is_of_hwcaps(&self) -> bool {
        self.hwcap & HWCAP_EXTENSION != 0
    }

    /// The order in which the dynamic linker searches: names downwards, and those for some
    /// processors before those for all.
    fn place(&self, other: &Self) -> Ordering {
        compare(other.name, self.name)
            .then_with(|| other.flags.cmp(&self.flags))
            .then_with(|| other.is_of_hwcaps().cmp(&self.is_of_hwcaps()))
    }
}

/// A whole cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table<'a> {
    /// The libraries; of two that are equal in name and flags, the earlier one is found.
    pub entries: Vec<Entry<'a>>,
    /// The names of the subdirectories of `glibc-hwcaps` that entries count on, by their index.
    pub hwcaps: Vec<&'a str>,
}

impl<'a> Table<'a> {
    /// Reads a cache; `None` for what is none, or not whole, or made to be unreasonably long when
    /// it is written again.
    pub fn read(cache: &'a [u8]) -> Option<Self> {
        let table = table(cache)?;
        let count = word(table, MAGIC.len())? as usize;
        let end = HEADER_BYTES.checked_add(count.checked_mul(ENTRY_BYTES)?)?;
        let rows = table.get(HEADER_BYTES..end)?.chunks_exact(ENTRY_BYTES);
        let mut texts = Texts {
            table,
            left: table.len().saturating_mul(SHARING),
        };
        let entries = rows
            .map(|row| entry(&mut texts, row))
            .collect::<Option<_>>()?;
        Some(Self {
            entries,
            hwcaps: hwcaps(&mut texts).unwrap_or_default(),
        })
    }

    /// The bytes of the cache, its entries in the dynamic linker's order.
    ///
    /// Text that does not fit into 4 GiB is cut off.
    pub fn write(&self) -> Vec<u8> {
        let mut sorted: Vec<&Entry<'_>> = self.entries.iter().collect();
        sorted.sort_by(|a, b| a.place(b));
        let mut strings = Strings::new(HEADER_BYTES + sorted.len() * ENTRY_BYTES);
        let mut rows = Vec::with_capacity(sorted.len() * ENTRY_BYTES);
        for entry in sorted {
            let (name, path) = (strings.add(entry.name), strings.add(entry.path));
            for value in [entry.flags, name, path, entry.os_version] {
                rows.extend(value.to_ne_bytes());
            }
            rows.extend(entry.hwcap.to_ne_bytes());
        }
        let names: Vec<u32> = self.hwcaps.iter().map(|name| strings.add(name)).collect();
        let text_bytes = strings.bytes.len();
        let extension = (!names.is_empty()).then(|| strings.end().next_multiple_of(4));

        let mut cache = MAGIC.to_vec();
        cache.extend(low(self.entries.len()).to_ne_bytes());
        cache.extend(low(text_bytes).to_ne_bytes());
        cache.push(BYTE_ORDER);
        cache.resize(EXTENSION_AT, 0);
        cache.extend(low(extension.unwrap_or(0)).to_ne_bytes());
        cache.resize(HEADER_BYTES, 0);
        cache.extend(rows);
        cache.extend(strings.bytes);
        if let Some(at) = extension {
            cache.resize(at, 0);
            let names_at = at + EXTENSION_HEADER_BYTES + SECTION_BYTES;
            let size = low(names.len() * 4);
            for value in [EXTENSION_MAGIC, 1, HWCAPS_TAG, 0, low(names_at), size] {
                cache.extend(value.to_ne_bytes());
            }
            for name in names {
                cache.extend(name.to_ne_bytes());
            }
        }
        cache
    }
}

/// The texts of a cache, each with its zero.
struct Strings {
    start: usize,
    bytes: Vec<u8>,
}

impl Strings {
    fn new(start: usize) -> Self {
        let bytes = Vec::new();
        Self { start, bytes }
    }

    fn end(&self) -> usize {
        self.start + self.bytes.len()
    }

    /// Puts a text in, and says where it is.
    fn add(&mut self, text: &str) -> u32 {
        let at = low(self.end());
        self.bytes.extend(text.bytes().chain([0]));
        at
    }
}

/// The texts of a cache that is read, as many as are reasonable.
struct Texts<'a> {
    table: &'a [u8],
    /// How many bytes more.
    left: usize,
}

impl<'a> Texts<'a> {
    fn at(&mut self, place: u32) -> Option<&'a str> {
        let rest = self.table.get(place as usize..)?;
        let rest = &rest[..rest.len().min(LONGEST_TEXT)];
        let end = rest.iter().position(|&byte| byte == 0)?;
        self.left = self.left.checked_sub(end)?;
        std::str::from_utf8(&rest[..end]).ok()
    }
}

fn entry<'a>(texts: &mut Texts<'a>, row: &[u8]) -> Option<Entry<'a>> {
    Some(Entry {
        flags: word(row, 0)?,
        name: texts.at(word(row, 4)?)?,
        path: texts.at(word(row, 8)?)?,
        os_version: word(row, 12)?,
        hwcap: u64::from_ne_bytes(row.get(16..24)?.try_into().ok()?),
    })
}

/// The names of `glibc-hwcaps` that a cache has in its extensions, if it has any.
fn hwcaps<'a>(texts: &mut Texts<'a>) -> Option<Vec<&'a str>> {
    let table = texts.table;
    let start = word(table, EXTENSION_AT)? as usize;
    if start == 0 || word(table, start)? != EXTENSION_MAGIC {
        return None;
    }
    let count = word(table, start.checked_add(4)?)? as usize;
    let sections = table.get(start.checked_add(EXTENSION_HEADER_BYTES)?..)?;
    let mut sections = sections.chunks_exact(SECTION_BYTES).take(count);
    let section = sections.find(|section| word(section, 0) == Some(HWCAPS_TAG))?;
    let (at, size) = (word(section, 8)? as usize, word(section, 12)? as usize);
    let places = table.get(at..at.checked_add(size)?)?;
    let names = places.chunks_exact(4);
    names.map(|place| texts.at(word(place, 0)?)).collect()
}

/// A length or a place, as far as it can be told.
fn low(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_cache_of_this_machine_is_written_as_it_was_read() {
        let Ok(cache) = std::fs::read("/etc/ld.so.cache") else {
            return; // a machine without glibc
        };
        let read = Table::read(&cache).unwrap();
        assert!(read.entries.iter().any(|entry| entry.name == "libc.so.6"));
        let written = read.write();
        assert_eq!(Table::read(&written).unwrap(), read);
    }

    #[test]
    fn libraries_for_some_processors_keep_their_names_and_come_first() {
        let plain = Entry::new(0x0303, "liba.so.1", "/lib/liba.so.1");
        let tuned = Entry {
            hwcap: HWCAP_EXTENSION | 1,
            path: "/lib/glibc-hwcaps/x86-64-v3/liba.so.1",
            ..plain
        };
        let table = Table {
            entries: vec![plain, tuned],
            hwcaps: vec!["x86-64-v2", "x86-64-v3"],
        };
        let bytes = table.write();
        let read = Table::read(&bytes).unwrap();
        assert_eq!(read.entries, [tuned, plain]);
        assert_eq!(read.hwcaps, table.hwcaps);
    }

    #[test]
    fn a_cache_that_is_cut_off_is_none() {
        let entries = vec![Entry::new(0x0303, "liba.so.1", "/lib/liba.so.1")];
        let bytes = Table {
            entries,
            hwcaps: Vec::new(),
        }
        .write();
        for length in 0..bytes.len() {
            assert_eq!(Table::read(&bytes[..length]), None, "{length}");
        }
        assert!(Table::read(&bytes).is_some());
    }

    #[test]
    fn a_cache_that_would_grow_without_measure_is_none() {
        let long = "a".repeat(4000);
        let entries = vec![Entry::new(0x0303, &long, &long)];
        let mut bytes = Table {
            entries,
            hwcaps: Vec::new(),
        }
        .write();
        let row = bytes[HEADER_BYTES..HEADER_BYTES + ENTRY_BYTES].to_vec();
        // A thousand entries that all mean the same text, which is where the strings were.
        bytes.truncate(HEADER_BYTES);
        bytes[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&1000u32.to_ne_bytes());
        let text_at = low(HEADER_BYTES + 1000 * ENTRY_BYTES).to_ne_bytes();
        for _ in 0..1000 {
            bytes.extend(&row[..4]);
            bytes.extend(text_at);
            bytes.extend(text_at);
            bytes.extend(&row[12..]);
        }
        bytes.extend(long.bytes().chain([0]));
        assert_eq!(Table::read(&bytes), None);
    }

    proptest! {
        #[test]
        fn any_damage_is_survived(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..16),
        ) {
            let hwcaps = vec!["x86-64-v2"];
            let entries = vec![Entry::new(0x0303, "liba.so.1", "/lib/liba.so.1"); 3];
            let mut bytes = Table { entries, hwcaps }.write();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(table) = Table::read(&bytes) {
                prop_assert!(table.entries.len() <= bytes.len());
            }
        }
    }
}
