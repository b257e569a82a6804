//! The smallest shared library that the tools of a distribution take for one: a SONAME, and no
//! code. The layout is that of the System V ABI for 64 bits.

use mizzen_ldcache::Machine;

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SECTION_HEADER: usize = 64;
const SYMBOL: usize = 24;
const PAGE: u64 = 4096;

/// Segment types.
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_GNU_STACK: u32 = 0x6474_e551;
/// Segments that are read and written: the linker of older glibc writes into the dynamic section.
const READ_WRITE: u32 = 6;

/// Section types.
const SHT_PROGBITS: u32 = 1;
const SHT_STRTAB: u32 = 3;
const SHT_HASH: u32 = 5;
const SHT_DYNAMIC: u32 = 6;
const SHT_DYNSYM: u32 = 11;
/// A section that is in memory.
const SHF_ALLOC: u64 = 2;

/// One with one bucket, one chain and no symbol.
const HASH: [u32; 4] = [1, 1, 0, 0];
const SECTION_NAMES: &[u8] = b"\0.hash\0.dynsym\0.dynstr\0.dynamic\0.comment\0.shstrtab\0";
const COMMENT: &[u8] = b"stand-in of Mizzen's simulated driver: no code\0";

/// A part of the file, as a section header describes it.
struct Section {
    name: &'static str,
    kind: u32,
    at: usize,
    size: usize,
    /// The section of its strings or symbols.
    link: u32,
    entry: usize,
}

/// A library of this SONAME for this processor that can be loaded and defines nothing.
pub(super) fn library(soname: &str, machine: Machine) -> Vec<u8> {
    let strings = [b"\0", soname.as_bytes(), b"\0"].concat();
    let hash_at = HEADER + 3 * PROGRAM_HEADER;
    let symbols_at = hash_at + HASH.len() * 4;
    let strings_at = symbols_at + SYMBOL;
    let dynamic_at = (strings_at + strings.len()).next_multiple_of(8);
    // Type and value, as <elf.h> numbers them; the symbol table's SONAME is its string 1.
    let dynamic: [(u64, usize); 7] = [
        (14, 1),             // DT_SONAME
        (4, hash_at),        // DT_HASH
        (5, strings_at),     // DT_STRTAB
        (6, symbols_at),     // DT_SYMTAB
        (10, strings.len()), // DT_STRSZ
        (11, SYMBOL),        // DT_SYMENT
        (0, 0),              // DT_NULL
    ];
    let loaded = dynamic_at + dynamic.len() * 16;
    let names_at = loaded + COMMENT.len();
    let sections_at = (names_at + SECTION_NAMES.len()).next_multiple_of(8);
    let section = |name, kind, at, size, link, entry| Section {
        name,
        kind,
        at,
        size,
        link,
        entry,
    };
    let sections = [
        section(".hash", SHT_HASH, hash_at, HASH.len() * 4, 2, 4),
        section(".dynsym", SHT_DYNSYM, symbols_at, SYMBOL, 3, SYMBOL),
        section(".dynstr", SHT_STRTAB, strings_at, strings.len(), 0, 0),
        section(
            ".dynamic",
            SHT_DYNAMIC,
            dynamic_at,
            dynamic.len() * 16,
            3,
            16,
        ),
        section(".comment", SHT_PROGBITS, loaded, COMMENT.len(), 0, 0),
        section(".shstrtab", SHT_STRTAB, names_at, SECTION_NAMES.len(), 0, 0),
    ];

    let mut file = header(machine, sections_at, sections.len() + 1);
    program_header(&mut file, PT_LOAD, 0, loaded, PAGE);
    program_header(&mut file, PT_DYNAMIC, dynamic_at, loaded - dynamic_at, 8);
    program_header(&mut file, PT_GNU_STACK, 0, 0, 16);
    file.extend(HASH.iter().flat_map(|word| word.to_le_bytes()));
    file.resize(strings_at, 0);
    file.extend(&strings);
    file.resize(dynamic_at, 0);
    for (kind, value) in dynamic {
        file.extend(
            [kind, value as u64]
                .iter()
                .flat_map(|word| word.to_le_bytes()),
        );
    }
    file.extend(COMMENT);
    file.extend(SECTION_NAMES);
    file.resize(sections_at + SECTION_HEADER, 0);
    for section in &sections {
        section_header(&mut file, section);
    }
    file
}

/// The first 64 bytes: a shared library whose `sections` headers are at `sections_at`.
fn header(machine: Machine, sections_at: usize, sections: usize) -> Vec<u8> {
    // 64 bits, little-endian, version 1, no particular system.
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let number: u16 = match machine {
        Machine::Aarch64 => 183,
        Machine::X86_64 | Machine::Other => 62,
    };
    half(&mut file, 3); // ET_DYN
    half(&mut file, number.into());
    word(&mut file, 1);
    long(&mut file, 0); // no entry point
    long(&mut file, HEADER);
    long(&mut file, sections_at);
    word(&mut file, 0);
    for value in [
        HEADER,
        PROGRAM_HEADER,
        3,
        SECTION_HEADER,
        sections,
        sections - 1,
    ] {
        half(&mut file, value);
    }
    file
}

fn program_header(file: &mut Vec<u8>, kind: u32, at: usize, size: usize, align: u64) {
    word(file, kind);
    word(file, READ_WRITE);
    // In the file, in memory, in memory once more, and the two sizes.
    for value in [at, at, at, size, size] {
        long(file, value);
    }
    file.extend(align.to_le_bytes());
}

fn section_header(file: &mut Vec<u8>, section: &Section) {
    let name = SECTION_NAMES
        .windows(section.name.len())
        .position(|window| window == section.name.as_bytes());
    let flags = if section.kind == SHT_PROGBITS || section.name == ".shstrtab" {
        0
    } else {
        SHF_ALLOC
    };
    let address = if flags == 0 { 0 } else { section.at };
    word(file, name.and_then(|at| at.try_into().ok()).unwrap_or(0));
    word(file, section.kind);
    file.extend(flags.to_le_bytes());
    for value in [address, section.at, section.size] {
        long(file, value);
    }
    word(file, section.link);
    // Of a symbol table: how many symbols are local.
    word(file, u32::from(section.kind == SHT_DYNSYM));
    let align = if section.entry == 0 {
        1
    } else {
        section.entry.min(8)
    };
    long(file, align);
    long(file, section.entry);
}

/// A size or a count, of which all here are small.
fn half(file: &mut Vec<u8>, value: usize) {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    file.extend(value.to_le_bytes());
}

fn word(file: &mut Vec<u8>, value: u32) {
    file.extend(value.to_le_bytes());
}

fn long(file: &mut Vec<u8>, value: usize) {
    file.extend((value as u64).to_le_bytes());
}
