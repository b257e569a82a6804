//! What an ELF file says of itself, read with a limit on everything: what kind of library it is,
//! its SONAME, and a section by its name.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// The start of a file, in which the headers of nearly every library are.
const START_BYTES: usize = 1024;
/// The most program or section headers that are looked at.
const MAX_HEADERS: usize = 128;
/// The most of a dynamic section that is read.
const MAX_DYNAMIC_BYTES: u64 = 16 << 10;
/// The most of the names of sections that is read.
const MAX_NAMES_BYTES: u64 = 64 << 10;
/// The longest SONAME, which is a file's name.
const MAX_SONAME_BYTES: usize = 255;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_NULL: u64 = 0;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;
/// A shared object.
const ET_DYN: u16 = 3;

const EM_386: u16 = 3;
const EM_ARM: u16 = 40;
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;
const EF_ARM_ABI_FLOAT_HARD: u32 = 0x400;

/// An ELF file.
#[derive(Debug)]
pub(crate) struct Elf<'a> {
    file: &'a File,
    start: Vec<u8>,
    /// Whether its words are of 64 bits.
    is_64: bool,
}

impl<'a> Elf<'a> {
    /// `None` for what is no ELF file of the little-endian kind.
    pub(crate) fn of(file: &'a File) -> Option<Self> {
        let mut start = vec![0; START_BYTES];
        let length = file.read_at(&mut start, 0).ok()?;
        start.truncate(length);
        let is_64 = match start.get(..6)? {
            [0x7f, b'E', b'L', b'F', 1, 1] => false,
            [0x7f, b'E', b'L', b'F', 2, 1] => true,
            _ => return None,
        };
        Some(Self { file, start, is_64 })
    }

    /// The flags of its entry in the dynamic linker's cache: a library for glibc 2, and what it
    /// runs on, as `ldconfig` of each processor writes it. `None` for what is no library that a
    /// processor of ours could load.
    pub(crate) fn cache_flags(&self) -> Option<u32> {
        if half(&self.start, 16)? != ET_DYN {
            return None;
        }
        match (half(&self.start, 18)?, self.is_64) {
            (EM_X86_64, true) if cfg!(target_arch = "x86_64") => Some(0x0303),
            (EM_X86_64, false) if cfg!(target_arch = "x86_64") => Some(0x0803),
            (EM_386, false) if cfg!(target_arch = "x86_64") => Some(0x0003),
            (EM_AARCH64, true) if cfg!(target_arch = "aarch64") => Some(0x0a03),
            (EM_ARM, false) if cfg!(target_arch = "aarch64") => {
                let is_hard = word(&self.start, 36)? & EF_ARM_ABI_FLOAT_HARD != 0;
                Some(if is_hard { 0x0903 } else { 0x0b03 })
            }
            _ => None,
        }
    }

    /// The name under which it wants to be found, if it has one.
    pub(crate) fn soname(&self) -> Option<String> {
        let segments = self.segments()?;
        let dynamic = segments.iter().find(|segment| segment.kind == PT_DYNAMIC)?;
        let table = self.read(dynamic.offset, dynamic.size.min(MAX_DYNAMIC_BYTES))?;
        let (mut strings, mut name) = (None, None);
        for row in table.chunks_exact(2 * self.word_bytes()) {
            match self.long(row, 0)? {
                DT_NULL => break,
                DT_STRTAB => strings = self.long(row, self.word_bytes()),
                DT_SONAME => name = self.long(row, self.word_bytes()),
                _ => {}
            }
        }
        let strings = strings?;
        let load = segments.iter().find(|segment| segment.holds(strings))?;
        let at = (strings - load.address)
            .checked_add(load.offset)?
            .checked_add(name?)?;
        let mut text = [0; MAX_SONAME_BYTES + 1];
        let length = self.file.read_at(&mut text, at).ok()?;
        let text = text.get(..length)?.split(|byte| *byte == 0).next()?;
        let is_name = !matches!(text, b"" | b"." | b"..")
            && text.len() <= MAX_SONAME_BYTES
            && !text
                .iter()
                .any(|byte| *byte == b'/' || byte.is_ascii_control());
        is_name.then(|| String::from_utf8(text.to_vec()).ok())?
    }

    /// What the section of this name holds, as far as it is not longer than `limit`.
    pub(crate) fn section(&self, name: &str, limit: u64) -> Option<Vec<u8>> {
        let (at, size_at, count_at) = if self.is_64 {
            (40, 58, 60)
        } else {
            (32, 46, 48)
        };
        let table = self.long(&self.start, at)?;
        let size = usize::from(half(&self.start, size_at)?);
        let count = usize::from(half(&self.start, count_at)?).min(MAX_HEADERS);
        let names_index = usize::from(half(&self.start, count_at + 2)?);
        if size < if self.is_64 { 64 } else { 40 } {
            return None;
        }
        let headers = self.read(table, u64::try_from(size * count).ok()?)?;
        let place = |header: &[u8]| {
            let (at, size_at) = if self.is_64 { (24, 32) } else { (16, 20) };
            Some((self.long(header, at)?, self.long(header, size_at)?))
        };
        let (names_at, names_size) = place(headers.chunks_exact(size).nth(names_index)?)?;
        let names = self.read(names_at, names_size.min(MAX_NAMES_BYTES))?;
        let is_wanted = |header: &&[u8]| {
            let at = word(header, 0).and_then(|at| names.get(at as usize..));
            let rest = at.and_then(|text| text.strip_prefix(name.as_bytes()));
            rest.is_some_and(|rest| rest.first() == Some(&0))
        };
        let (at, size) = place(headers.chunks_exact(size).find(is_wanted)?)?;
        self.read(at, size.min(limit))
    }

    fn segments(&self) -> Option<Vec<Segment>> {
        let (at, size_at) = if self.is_64 { (32, 54) } else { (28, 42) };
        let table = self.long(&self.start, at)?;
        let size = usize::from(half(&self.start, size_at)?);
        let count = usize::from(half(&self.start, size_at + 2)?).min(MAX_HEADERS);
        if size < if self.is_64 { 56 } else { 32 } {
            return None;
        }
        let bytes = self.read(table, u64::try_from(size * count).ok()?)?;
        let segment = |row: &[u8]| {
            let (offset, address, size) = if self.is_64 { (8, 16, 32) } else { (4, 8, 16) };
            Some(Segment {
                kind: word(row, 0)?,
                offset: self.long(row, offset)?,
                address: self.long(row, address)?,
                size: self.long(row, size)?,
            })
        };
        bytes.chunks_exact(size).map(segment).collect()
    }

    /// Bytes of the file; fewer than asked for where it ends.
    fn read(&self, at: u64, length: u64) -> Option<Vec<u8>> {
        let length = usize::try_from(length).ok()?;
        let start = usize::try_from(at).ok().and_then(|at| {
            let end = at.checked_add(length)?;
            self.start.get(at..end)
        });
        if let Some(bytes) = start {
            return Some(bytes.to_vec());
        }
        let mut bytes = vec![0; length];
        let length = self.file.read_at(&mut bytes, at).ok()?;
        bytes.truncate(length);
        Some(bytes)
    }

    fn word_bytes(&self) -> usize {
        if self.is_64 { 8 } else { 4 }
    }

    /// A word as long as the file's addresses.
    fn long(&self, bytes: &[u8], at: usize) -> Option<u64> {
        if !self.is_64 {
            return word(bytes, at).map(u64::from);
        }
        let bytes = bytes.get(at..at.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }
}

/// A part of a file that is loaded or means something.
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

impl Segment {
    /// Whether what is at this address in memory is in this part of the file.
    fn holds(&self, address: u64) -> bool {
        let end = self.address.saturating_add(self.size);
        self.kind == PT_LOAD && (self.address..end).contains(&address)
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}
