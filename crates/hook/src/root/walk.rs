//! Resolving a path inside a root without the kernel's help.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::{Errno, Result, dup};

use super::{FOUND, MAX_DEPTH, StatExt as _};

/// As many links as Linux follows.
const MAX_LINKS: usize = 40;
/// The most names that are looked up for one path, those of links included.
const MAX_STEPS: usize = 4096;

/// What is at `path` below `root`, links followed; it is not open.
///
/// Each step opens one name below a directory that is held, without following it; the text of a
/// link is more names to go, from the root if it is absolute; `..` lets go of the last directory,
/// and at the root it stays. So no step leaves the root, whatever changes meanwhile. The kernel's
/// magic links count as the texts that they show.
pub(super) fn walk(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    let mut names = VecDeque::new();
    let mut above: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    prepend(&mut names, path.as_bytes());
    for _ in 0..MAX_STEPS {
        let Some(name) = names.pop_front() else {
            return above.pop().map_or_else(|| dup(root), Ok);
        };
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                above.pop();
                continue;
            }
            _ => {}
        }
        let here = above.last().map_or(root, |dir| dir.as_fd());
        let next = openat(here, &name, FOUND | OFlags::NOFOLLOW, Mode::empty())?;
        match fstat(&next)?.file_type() {
            FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let text = readlinkat(&next, "", Vec::new())?.into_bytes();
                if text.starts_with(b"/") {
                    above.clear();
                }
                prepend(&mut names, &text);
            }
            FileType::Directory if above.len() < MAX_DEPTH => above.push(next),
            FileType::Directory => return Err(Errno::NAMETOOLONG),
            _ if names.is_empty() => return Ok(next),
            _ => return Err(Errno::NOTDIR),
        }
    }
    Err(Errno::LOOP)
}

/// Puts the names of a path before those that are left to go. One that ends with a slash is a
/// directory's, which an empty name at its end stands for.
fn prepend(names: &mut VecDeque<Vec<u8>>, path: &[u8]) {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    for part in parts.into_iter().rev() {
        names.push_front(part.to_vec());
    }
}
