//! `disable-device-node-modification`.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, fstatfs, openat, readlinkat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use crate::failure::Failure;
use crate::root::{Root, StatExt as _, find_below};

/// The most that is read of the driver's parameters.
const LIMIT: u64 = 1 << 20;
const ALLOWED: &str = "ModifyDeviceFiles: 1";
const FORBIDDEN: &str = "ModifyDeviceFiles: 0";
/// The magic number of a tmpfs (`linux/magic.h`).
const TMPFS: [u8; 4] = 0x0102_1994_u32.to_ne_bytes();
const NAME: &str = "params";

/// Makes the driver's parameters in the container say that its library may make no device nodes.
/// Nothing is changed where there are none, or where they say so already.
///
/// The file cannot be changed, so another one is mounted over it. That one is in a small tmpfs of
/// its own, for which no directory is made in the container: it is mounted over the directory of
/// the parameters, and taken away again once its file is mounted over the parameters, which by
/// then are held. Were this program to end between, the container would see the tmpfs, and in it
/// nothing but the same file.
pub(crate) fn disable(root: &Root, params: &str) -> Result<(), Failure> {
    let text = match read(params) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::of(params, "read")(error)),
    };
    let Some(text) = forbidding(&text) else {
        return Ok(());
    };
    let cannot = Failure::of(params, "replaced in the container");
    let target = match root.find(params) {
        Ok(target) => target,
        // A container without /proc.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot(error)),
    };
    mount_over(root, params, &target, &text).map_err(cannot)
}

/// The host's file, whose path is resolved as everywhere on the host.
fn read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

/// The parameters with the one that matters changed, if it is not as wanted.
fn forbidding(params: &str) -> Option<String> {
    if !params.lines().any(|line| line == ALLOWED) {
        return None;
    }
    let line = |line| match line {
        ALLOWED => FORBIDDEN,
        other => other,
    };
    let lines = params.lines().map(line);
    Some(lines.flat_map(|line| [line, "\n"]).collect())
}

/// Mounts a file with this text over `target`, which `path` of the container leads to.
fn mount_over(root: &Root, path: &str, target: &OwnedFd, text: &str) -> io::Result<()> {
    if fstat(target)?.file_type() != FileType::RegularFile {
        return Err(io::Error::other("it is no plain file"));
    }
    let directory = path
        .rsplit_once('/')
        .map_or("/", |(directory, _)| directory);
    let over = root.directory(directory)?;
    if root.is(&over)? {
        return Err(io::Error::other("it is in the root itself"));
    }
    let (parent, name) = place_of(&over)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", by_fd(&over), "tmpfs", flags, c"size=64k,mode=0555")?;
    // What is there now is what was mounted last. The path may come back to where it begins, and
    // lead nowhere by now.
    let tmpfs = find_below(&parent, &name)?;
    if !is_tmpfs(&tmpfs)? || fstat(&tmpfs)?.is(&fstat(&over)?) {
        return Err(io::Error::other("its directory changed meanwhile"));
    }
    let bound = bind(&tmpfs, target, text);
    unmount(by_fd(&tmpfs), UnmountFlags::DETACH)?;
    bound
}

/// The directory that a directory is in, and its name there.
fn place_of(dir: &OwnedFd) -> io::Result<(OwnedFd, String)> {
    let path = readlinkat(CWD, by_fd(dir), Vec::new())?.into_string();
    let path = path.map_err(|_| Errno::ILSEQ)?;
    let name = path.rsplit('/').next().unwrap_or_default();
    let parent = find_below(dir, "..")?;
    if !fstat(&find_below(&parent, name)?)?.is(&fstat(dir)?) {
        return Err(io::Error::other("its directory is not where it was"));
    }
    Ok((parent, name.to_owned()))
}

/// Puts a file with this text into the tmpfs and mounts it over `target`; then nothing in the
/// tmpfs can be changed any more.
fn bind(tmpfs: &OwnedFd, target: &OwnedFd, text: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(0o444);
    let mut file = File::from(openat(tmpfs, NAME, flags | OFlags::CLOEXEC, mode)?);
    file.write_all(text.as_bytes())?;
    drop(file);
    let source = openat(tmpfs, NAME, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    mount_bind(by_fd(&source), by_fd(target))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount_remount(by_fd(tmpfs), flags, c"")?)
}

fn is_tmpfs(dir: &OwnedFd) -> io::Result<bool> {
    let magic = fstatfs(dir)?.f_type.to_ne_bytes();
    let low = if cfg!(target_endian = "little") {
        &magic[..4]
    } else {
        &magic[magic.len() - 4..]
    };
    Ok(low == TMPFS)
}

/// A path that leads to what a descriptor holds and to nothing else.
fn by_fd(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_parameter_is_changed_and_only_if_it_has_to_be() {
        let params = "Mobile: 4294967295\nModifyDeviceFiles: 1\nDeviceFileMode: 438\n";
        let expected = "Mobile: 4294967295\nModifyDeviceFiles: 0\nDeviceFileMode: 438\n";
        assert_eq!(forbidding(params).as_deref(), Some(expected));
        assert_eq!(forbidding(expected), None);
        assert_eq!(forbidding(""), None);
    }
}
