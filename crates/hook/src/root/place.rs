//! Where in a container something may be made.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, fstat, fstatfs, major, minor, openat, statx};

use super::FOUND;

/// The magic number of a tmpfs (`linux/magic.h`).
const TMPFS: u32 = 0x0102_1994;

/// File systems of the kernel's own, by their magic numbers (`linux/magic.h`): what is made in them
/// is no file, but an order to the kernel.
const KERNEL_FILE_SYSTEMS: [u32; 13] = [
    0x0000_9fa0, // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0x0000_1cd1, // devpts
    0x0765_5821, // resctrl
    0xf97c_ff8c, // selinuxfs
    0x6165_676c, // pstore
];

/// A mount, as far as the kernel tells mounts apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mount {
    /// Its number, since Linux 5.8.
    Number(u64),
    /// Its device, which other mounts may have too.
    Device(u64),
}

impl Mount {
    /// The one that a directory is in.
    pub(super) fn of(dir: &OwnedFd) -> io::Result<Self> {
        let wanted = StatxFlags::MNT_ID;
        match statx(dir, "", AtFlags::EMPTY_PATH, wanted) {
            Ok(known) if known.stx_mask & wanted.bits() != 0 => Ok(Self::Number(known.stx_mnt_id)),
            // Also where a sandbox forbids it.
            _ => Ok(Self::Device(fstat(dir)?.st_dev)),
        }
    }
}

/// The mount of the devices that a runtime makes for a container: a tmpfs at `/dev` itself, of
/// which nothing is mounted anywhere else. One that a pod has mounted there is the host's too, which
/// the hooks still see; where that cannot be known, it is no such mount.
pub(super) fn devices(root: &OwnedFd) -> Option<Mount> {
    let flags = FOUND | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    let dir = openat(root, "dev", flags, Mode::empty()).ok()?;
    if magic(&dir).ok()? != TMPFS {
        return None;
    }
    let device = fstat(&dir).ok()?.st_dev;
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    is_mounted_once(&String::from_utf8_lossy(&mounts), device).then(|| Mount::of(&dir).ok())?
}

/// Whether of a device's file system all is mounted, and that in one place; `mounts` is of the form
/// of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
fn is_mounted_once(mounts: &str, device: u64) -> bool {
    let device = format!("{}:{}", major(device), minor(device));
    let mut roots = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(2);
        (fields.next()? == device).then(|| fields.next())
    });
    roots.next() == Some(Some("/")) && roots.next().is_none()
}

/// Whether a directory's file system is one for files.
pub(super) fn check_kind(dir: &OwnedFd) -> io::Result<()> {
    if KERNEL_FILE_SYSTEMS.contains(&magic(dir)?) {
        return Err(io::Error::other(
            "it would be in a file system of the kernel's",
        ));
    }
    Ok(())
}

/// What kind of file system a directory is in.
fn magic(dir: &OwnedFd) -> io::Result<u32> {
    // The magic numbers are words of 32 bits, whatever the field's width and sign.
    let magic = fstatfs(dir)?.f_type.to_ne_bytes();
    let low = if cfg!(target_endian = "little") {
        0
    } else {
        magic.len() - 4
    };
    Ok(u32::from_ne_bytes([
        magic[low],
        magic[low + 1],
        magic[low + 2],
        magic[low + 3],
    ]))
}

#[cfg(test)]
mod tests {
    use rustix::fs::makedev;

    use super::*;

    #[test]
    fn what_is_mounted_in_two_places_or_in_part_is_not_the_containers_alone() {
        let line = |id, device, root| format!("{id} 1 {device} {root} /x rw - tmpfs tmpfs rw\n");
        let once = |lines: &[String]| is_mounted_once(&lines.concat(), makedev(0, 57));
        let (ours, other) = (line(90, "0:57", "/"), line(91, "0:5", "/"));
        assert!(once(&[other.clone(), ours.clone()]));
        assert!(!once(&[ours.clone(), other.clone(), ours]));
        assert!(!once(&[line(90, "0:57", "/sub")]));
        assert!(!once(&[other]) && !once(&[]));
    }
}
