//! The mapping itself, and the words that processes sleep on.
#![allow(
    unsafe_code,
    reason = "memory shared with other processes can be mapped in no other way"
)]

use std::fs::File;
use std::ops::Deref;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::layout::{Layout, SIZE};

/// A mapped state file; it holds nothing but atomics, so that shared references are sound while
/// other processes write.
pub(super) struct Mapping {
    start: NonNull<Layout>,
    writable: bool,
}

// SAFETY: The mapping is plain memory that belongs to no thread, and all of it is atomics.
unsafe impl Send for Mapping {}
// SAFETY: As above: every access through a shared reference is atomic.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a file that is at least [`SIZE`] bytes long.
    pub(super) fn new(file: &File, writable: bool) -> std::io::Result<Self> {
        if file.metadata()?.len() < SIZE as u64 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let mut protection = ProtFlags::READ;
        protection.set(ProtFlags::WRITE, writable);
        // SAFETY: The address is the kernel's choice and the length is within the file. The file
        // is only ever replaced by rename, never cut, so that the pages stay.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                SIZE,
                protection,
                MapFlags::SHARED,
                file,
                0,
            )?
        };
        let start = NonNull::new(start.cast::<Layout>()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, writable })
    }

    pub(super) fn is_writable(&self) -> bool {
        self.writable
    }
}

impl Deref for Mapping {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        // SAFETY: `start` is page-aligned, SIZE bytes long and mapped until drop; every byte
        // pattern is a valid `Layout`, for it consists of integer atomics.
        unsafe { self.start.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: This is the mapping made in `new`; references to it borrow from self. A failed
        // munmap leaves the mapping, which harms nobody.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), SIZE) };
    }
}
