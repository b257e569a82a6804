//! Checking what the caller gave, and writing no more than fits.

use std::ffi::{CStr, c_char, c_uint};
use std::ptr::NonNull;

use crate::engine::Failure;

/// Refuses a null pointer.
pub(super) fn required<T>(pointer: *mut T) -> Result<NonNull<T>, Failure> {
    NonNull::new(pointer).ok_or(Failure::InvalidArgument)
}

/// Writes a value.
///
/// # Safety
/// The pointer is valid for a write of `T`; it need not be aligned.
pub(super) unsafe fn put<T>(pointer: NonNull<T>, value: T) {
    // SAFETY: The caller's promise.
    unsafe { pointer.write_unaligned(value) };
}

/// Writes a value unless the pointer is null, for results that the caller may leave out.
///
/// # Safety
/// The pointer is null or valid for a write of `T`.
pub(super) unsafe fn put_optional<T>(pointer: *mut T, value: T) {
    if let Some(pointer) = NonNull::new(pointer) {
        // SAFETY: The caller's promise.
        unsafe { put(pointer, value) };
    }
}

/// Writes a text with its final zero.
///
/// # Safety
/// The buffer is null or has room for `length` bytes.
pub(super) unsafe fn put_text(
    buffer: *mut c_char,
    length: c_uint,
    text: &str,
) -> Result<(), Failure> {
    let buffer = required(buffer)?;
    if text.len() >= length as usize {
        return Err(Failure::InsufficientSize);
    }
    let start = buffer.as_ptr().cast::<u8>();
    // SAFETY: The text and its zero are at most `length` bytes, for which the caller has room.
    unsafe {
        start.copy_from_nonoverlapping(text.as_ptr(), text.len());
        start.add(text.len()).write(0);
    }
    Ok(())
}

/// Reads a text of the caller's.
///
/// # Safety
/// The pointer is null or points to a text that ends with a zero, and that outlives `'a`.
pub(super) unsafe fn text<'a>(pointer: *const c_char) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(Failure::InvalidArgument);
    }
    // SAFETY: The caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| Failure::InvalidArgument)
}

/// Fills a fixed array of a struct with a text and zeros.
pub(super) fn fill(array: &mut [c_char], text: &str) {
    array.fill(0);
    let room = array.len().saturating_sub(1);
    for (slot, byte) in array.iter_mut().take(room).zip(text.bytes()) {
        *slot = c_char::from_ne_bytes([byte]);
    }
}

/// The version word of a struct: its size, and its version in the highest byte.
pub(super) const fn version_word<T>(version: u32) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "structs are small")]
    let size = size_of::<T>() as u32;
    size | version << 24
}

/// Reads the version word that a struct begins with.
///
/// # Safety
/// The pointer is null or points to at least a version word.
pub(super) unsafe fn version_of<T>(value: *const T) -> Result<u32, Failure> {
    let word = required(value.cast_mut())?.cast::<u32>();
    // SAFETY: The caller's promise.
    Ok(unsafe { word.read_unaligned() })
}

/// Refuses a struct whose version word is not that of `T` in this version.
///
/// # Safety
/// The pointer is null or points to at least a version word.
pub(super) unsafe fn check_version<T>(value: *const T, version: u32) -> Result<(), Failure> {
    // SAFETY: The caller's promise.
    if unsafe { version_of(value)? } == version_word::<T>(version) {
        Ok(())
    } else {
        Err(Failure::ArgumentVersionMismatch)
    }
}

/// Writes a list the way NVML does: `count` holds the room on entry and the length on return.
/// A missing array, or one too small, gets the length alone.
///
/// # Safety
/// `count` is null or valid, and `array` is null or has room for `*count` values.
pub(super) unsafe fn put_list<T>(
    count: *mut c_uint,
    array: *mut T,
    values: Vec<T>,
) -> Result<(), Failure> {
    let count = required(count)?;
    // SAFETY: The caller's promise.
    let room = unsafe { count.read_unaligned() } as usize;
    let length = c_uint::try_from(values.len()).map_err(|_| Failure::Unknown)?;
    if room > 0 && array.is_null() {
        return Err(Failure::InvalidArgument);
    }
    // SAFETY: The caller's promise.
    unsafe { put(count, length) };
    if room < values.len() {
        return Err(Failure::InsufficientSize);
    }
    for (position, value) in values.into_iter().enumerate() {
        // SAFETY: `position` is below `room`, for which the array is valid.
        unsafe { array.add(position).write_unaligned(value) };
    }
    Ok(())
}
