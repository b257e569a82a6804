//! The root of a container, as a place whose contents may be hostile.
//!
//! Every path is resolved by `openat2` with `RESOLVE_IN_ROOT`: links lead where they would lead a
//! process whose root this is, and nowhere else. On kernels before 5.6, and where a sandbox forbids
//! that call, paths are walked name by name (see `walk`), which has the same outcome. What is
//! found is held by a descriptor that opens nothing (`O_PATH`) until it is known to be a directory
//! or a plain file; what is made is made by its last name below such a descriptor.

mod place;
mod walk;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fchmod, fstat, mkdirat, openat,
    openat2, readlinkat, renameat, stat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::failure::Failure;

use place::Mount;

/// The root of a container.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    /// The mount that it is in.
    mount: Mount,
    /// That of the devices that the runtime makes, where something may be made in it.
    devices: Option<Mount>,
    /// Whether the kernel resolves paths for us.
    by_kernel: Cell<bool>,
}

/// A thing that is found, but not open.
const FOUND: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
/// The longest path, in names.
const MAX_DEPTH: usize = 256;
/// How often the kernel is asked again when a link's way was changed while it went it.
const ATTEMPTS: usize = 16;

impl Root {
    /// The root at this path of the host.
    ///
    /// # Errors
    /// It is no directory, or it is the root of this process itself.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let wrong = |error: &dyn std::fmt::Display| {
            let what = format!("the container's root {} cannot be used", path.display());
            Failure::new(what, error)
        };
        let root = openat(CWD, path, FOUND | OFlags::DIRECTORY, Mode::empty());
        let dir = root.map_err(|error| wrong(&error))?;
        let ours = stat("/").map_err(|error| wrong(&error))?;
        if fstat(&dir).map_err(|error| wrong(&error))?.is(&ours) {
            return Err(wrong(&"it is the host's"));
        }
        let mount = Mount::of(&dir).map_err(|error| wrong(&error))?;
        Ok(Self {
            dir,
            mount,
            devices: None,
            by_kernel: Cell::new(true),
        })
    }

    /// The same, in which things may also be made among the devices, if what is mounted there is
    /// the container's alone. Only for containers whose configuration has the runtime make them.
    #[must_use]
    pub fn with_devices(self) -> Self {
        let devices = place::devices(&self.dir);
        Self { devices, ..self }
    }

    /// The same, without the kernel's help.
    #[cfg(test)]
    pub(crate) fn without_kernel(self) -> Self {
        self.by_kernel.set(false);
        self
    }

    /// Whether a directory is the root itself.
    pub(crate) fn is(&self, dir: &OwnedFd) -> io::Result<bool> {
        Ok(fstat(dir)?.is(&fstat(&self.dir)?))
    }

    /// What is at this path, links followed; it is not open.
    pub(crate) fn find(&self, path: &str) -> io::Result<OwnedFd> {
        if path.contains('\0') {
            return Err(Errno::INVAL.into());
        }
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = if path.is_empty() { "/" } else { path };
        for _ in 0..ATTEMPTS {
            if !self.by_kernel.get() {
                break;
            }
            match openat2(&self.dir, path, FOUND, Mode::empty(), inside) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOSYS | Errno::PERM) => self.by_kernel.set(false),
                found => return Ok(found?),
            }
        }
        Ok(walk::walk(self.dir.as_fd(), path)?)
    }

    /// The directory at this path.
    pub(crate) fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let found = self.find(path)?;
        match fstat(&found)?.file_type() {
            FileType::Directory => Ok(found),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    /// Whether there is anything at this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.find(path).is_ok()
    }

    /// The plain file at this path, open for reading. Nothing else is ever opened.
    pub(crate) fn file(&self, path: &str) -> io::Result<File> {
        open_plain(&self.find(path)?)
    }

    /// What the plain file at this path holds, if that is at most `limit` bytes.
    pub(crate) fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.file(path)?;
        let length = file.metadata()?.len();
        if length > limit {
            return Err(Errno::FBIG.into());
        }
        let mut text = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        file.take(limit).read_to_end(&mut text)?;
        Ok(text)
    }

    /// The directory at this path, made with those above it as far as they are missing.
    pub(crate) fn make_directory(&self, path: &str) -> io::Result<OwnedFd> {
        let names: Vec<&str> = path
            .split('/')
            .filter(|name| !matches!(*name, "" | "."))
            .collect();
        if names.len() > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG.into());
        }
        let mut there = names.len();
        let mut dir = loop {
            match self.directory(&names[..there].join("/")) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && there > 0 => there -= 1,
                found => break found?,
            }
        };
        if names[there..].contains(&"..") {
            return Err(Errno::NOENT.into());
        }
        for name in &names[there..] {
            dir = self.make_below(&dir, name)?;
        }
        Ok(dir)
    }

    /// Puts a plain file at this path, whole or not at all, for everybody to read. Whatever had its
    /// name is gone, unless it is a directory; a link at its name is not followed.
    pub(crate) fn replace(&self, path: &str, text: &[u8]) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        let temporary = temporary(name);
        remove(&dir, &temporary)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o644);
        let file = openat(&dir, &temporary, flags | OFlags::CLOEXEC, mode)?;
        let put = || {
            let mut file = File::from(file);
            // Whatever the mask of the runtime is.
            fchmod(&file, mode)?;
            file.write_all(text)?;
            drop(file);
            Ok(renameat(&dir, &temporary, &dir, name)?)
        };
        put().inspect_err(|_| drop(remove(&dir, &temporary)))
    }

    /// Removes the file or link at this path; a link at its name is not followed.
    pub(crate) fn remove(&self, path: &str) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        remove(&dir, name)
    }

    /// Makes a link, with the directories above it. The same link may be there already; another
    /// one or a plain file makes room.
    pub(crate) fn link(&self, path: &str, target: &str) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        self.link_below(&dir, name, target)
    }

    /// The directory of a path, made if need be, and the last name.
    fn place<'a>(&self, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if matches!(name, "" | "." | "..") || path.contains('\0') {
            return Err(Errno::INVAL.into());
        }
        let dir = self.make_directory(parent)?;
        self.check(&dir)?;
        Ok((dir, name))
    }

    /// The directory below `dir` of this name, made if it is missing.
    fn make_below(&self, dir: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
        self.check(dir)?;
        match mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        // A link of this name leads nowhere, or it would have been followed.
        let flags = FOUND | OFlags::NOFOLLOW | OFlags::DIRECTORY;
        Ok(openat(dir, name, flags, Mode::empty())?)
    }

    /// Makes a link `name` to `target` in `dir`; see [`Root::link`].
    pub(crate) fn link_below(&self, dir: &OwnedFd, name: &str, target: &str) -> io::Result<()> {
        match readlinkat(dir, name, Vec::new()) {
            Ok(held) if held.as_bytes() == target.as_bytes() => return Ok(()),
            Ok(_) => {}
            Err(Errno::NOENT) => {
                self.check(dir)?;
                return Ok(symlinkat(target, dir, name)?);
            }
            Err(Errno::INVAL) => {
                let there = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if there.file_type() != FileType::RegularFile {
                    return Err(Errno::EXIST.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
        self.check(dir)?;
        let temporary = temporary(name);
        remove(dir, &temporary)?;
        symlinkat(target, dir, &temporary)?;
        let put = renameat(dir, &temporary, dir, name);
        Ok(put.inspect_err(|_| drop(remove(dir, &temporary)))?)
    }

    /// Whether anything may be made in a directory: in the container's own file system, and where
    /// wanted among the devices that the runtime makes for it, but not in what else is mounted
    /// there.
    fn check(&self, dir: &OwnedFd) -> io::Result<()> {
        place::check_kind(dir)?;
        let mount = Mount::of(dir)?;
        if mount == self.mount || self.devices.as_ref() == Some(&mount) {
            return Ok(());
        }
        Err(io::Error::other("it would be in what is mounted there"))
    }
}

/// Opens what was found, if it is a plain file.
pub(crate) fn open_plain(found: &OwnedFd) -> io::Result<File> {
    if fstat(found)?.file_type() != FileType::RegularFile {
        return Err(io::Error::other("it is no plain file"));
    }
    // What was looked at, and not what may have its name by now.
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?.into())
}

/// What is below `dir` by this name, itself and no link's target; it is not open.
pub(crate) fn find_below(dir: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = FOUND | OFlags::NOFOLLOW;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

/// A name beside `name` that no other process uses.
fn temporary(name: &str) -> String {
    format!(".{name}.mizzen-{}", std::process::id())
}

/// Removes a file that an earlier process of this number may have left.
fn remove(dir: &OwnedFd, name: &str) -> io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What a file is, and which.
pub(crate) trait StatExt {
    /// What it is.
    fn file_type(&self) -> FileType;
    /// Whether both are the same file.
    fn is(&self, other: &Self) -> bool;
}

impl StatExt for Stat {
    fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.st_mode)
    }

    fn is(&self, other: &Self) -> bool {
        (self.st_dev, self.st_ino) == (other.st_dev, other.st_ino)
    }
}

#[cfg(test)]
mod tests;
