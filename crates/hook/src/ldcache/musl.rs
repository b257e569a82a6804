//! Images with musl, whose dynamic linker has no cache but a list of directories.

use crate::failure::Failure;
use crate::root::Root;

const LINKER: &str = if cfg!(target_arch = "aarch64") {
    "/lib/ld-musl-aarch64.so.1"
} else {
    "/lib/ld-musl-x86_64.so.1"
};
const PATHS: &str = if cfg!(target_arch = "aarch64") {
    "/etc/ld-musl-aarch64.path"
} else {
    "/etc/ld-musl-x86_64.path"
};
/// Where musl looks if there is no list (its manual, "Dynamic linker").
const USUAL: &str = "/lib\n/usr/local/lib\n/usr/lib\n";
/// The most that is read of a list.
const LIMIT: u64 = 64 << 10;

/// Whether the container has musl's dynamic linker.
pub(super) fn is_used(root: &Root) -> bool {
    root.has(LINKER)
}

/// Adds these directories to the list, behind those that are in it.
pub(super) fn update<'a>(
    root: &Root,
    folders: impl Iterator<Item = &'a str>,
) -> Result<(), Failure> {
    let text = match root.read(PATHS, LIMIT) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => USUAL.to_owned(),
        Err(error) => return Err(Failure::of(PATHS, "read")(error)),
    };
    let is_known = |folder: &&str| {
        let mut known = text.split(['\n', ':']);
        known.any(|known| known.trim_end_matches('/') == *folder)
    };
    let new: Vec<&str> = folders.filter(|folder| !is_known(folder)).collect();
    if new.is_empty() {
        return Ok(());
    }
    let mut list = text.trim_end_matches('\n').to_owned();
    for folder in new {
        list.push('\n');
        list.push_str(folder);
    }
    list.push('\n');
    root.replace(PATHS, list.as_bytes())
        .map_err(Failure::of(PATHS, "written"))
}
