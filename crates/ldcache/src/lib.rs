//! Reads and writes `ld.so.cache`, the dynamic linker's list of where libraries are.
//!
//! Only the format that glibc has written since 2.2 (`glibc-ld.so.cache1.1`) is known; it is read
//! alone or behind the older table that some distributions still put before it. The layout is
//! glibc's `elf/dl-cache.h` and `sysdeps/generic/dl-cache.h`. Everything here is about bytes:
//! nothing opens a file.

mod order;
mod read;
mod table;
mod write;

pub use order::compare;
pub use read::paths_of;
pub use table::{Entry, Table};
pub use write::{Library, write};

/// First bytes of the table: magic and version.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// Magic, two counts, flags, extension offset and reserved words.
const HEADER_BYTES: usize = 48;
/// Flags, two string offsets, OS version and hardware capabilities.
const ENTRY_BYTES: usize = 24;
/// The byte order that the header names: little-endian, that of both processors the driver is
/// made for, or big-endian.
const BYTE_ORDER: u8 = if cfg!(target_endian = "little") { 2 } else { 3 };

/// The processor that a library is for, as far as the cache tells processors apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// `x86_64`
    X86_64,
    /// `aarch64`
    Aarch64,
    /// One without a flag of its own.
    Other,
}

impl Machine {
    /// The one that this program was built for.
    pub const OURS: Self = if cfg!(target_arch = "x86_64") {
        Self::X86_64
    } else if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else {
        Self::Other
    };

    /// What glibc puts into the flags of an entry: an ELF library for glibc 2 (3), and the
    /// processor in the second byte.
    const fn flags(self) -> u32 {
        match self {
            Self::X86_64 => 0x0303,
            Self::Aarch64 => 0x0a03,
            Self::Other => 0x0003,
        }
    }
}
