//! The program itself, carried along by programs that were built with the feature `embedded`.

/// The name of the program's file.
pub const FILE_NAME: &str = "mizzen-hook";

/// The bytes of the static `mizzen-hook`; none if this program was built without the feature
/// `embedded`.
#[cfg(feature = "embedded")]
pub static BYTES: &[u8] = include_bytes!(env!("MIZZEN_HOOK_PROGRAM"));
/// The bytes of the static `mizzen-hook`; none if this program was built without the feature
/// `embedded`.
#[cfg(not(feature = "embedded"))]
pub static BYTES: &[u8] = &[];
