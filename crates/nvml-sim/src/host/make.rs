//! Making single entries in an open directory.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::NodeKind;
use super::plan::{Content, NodeNumbers};

/// What became of a device node, and why it is no device if it is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) kind: NodeKind,
    pub(super) refusal: Option<Errno>,
}

/// Where a new version of `name` is made.
pub(super) fn temporary(name: &str) -> String {
    format!(".{name}.mizzen-new")
}

pub(super) fn unlink(parent: &OwnedFd, name: &str) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

/// The mode without what the process's umask takes away.
fn set_mode(parent: &OwnedFd, name: &str, mode: u32) -> Result<(), Errno> {
    rustix::fs::chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty())
}

/// Makes something new; for a device node, says what it became.
pub(super) fn make(parent: &OwnedFd, name: &str, content: &Content) -> Result<Option<Made>, Errno> {
    match content {
        Content::Directory => {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
            set_mode(parent, name, 0o755)?;
        }
        Content::File { bytes, mode } => write_file(parent, name, bytes, *mode)?,
        Content::Link(target) => rustix::fs::symlinkat(target.as_str(), parent, name)?,
        Content::Node(numbers) => return make_node(parent, name, *numbers).map(Some),
    }
    Ok(None)
}

fn write_file(parent: &OwnedFd, name: &str, bytes: &[u8], mode: u32) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    let mut file = File::from(rustix::fs::openat(parent, name, flags, mode)?);
    let written = file.write_all(bytes);
    written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    rustix::fs::fchmod(&file, mode)
}

pub(super) fn make_node(parent: &OwnedFd, name: &str, numbers: NodeNumbers) -> Result<Made, Errno> {
    let device = rustix::fs::makedev(numbers.major, numbers.minor);
    let mode = Mode::from_raw_mode(numbers.mode);
    match rustix::fs::mknodat(parent, name, FileType::CharacterDevice, mode, device) {
        Ok(()) => {
            set_mode(parent, name, numbers.mode)?;
            let kind = NodeKind::CharacterDevice;
            Ok(Made {
                kind,
                refusal: None,
            })
        }
        // No privilege, a user namespace, a device cgroup, or a file system without devices.
        Err(error @ (Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS)) => {
            write_file(parent, name, &[], numbers.mode)?;
            let kind = NodeKind::EmptyFile;
            Ok(Made {
                kind,
                refusal: Some(error),
            })
        }
        Err(error) => Err(error),
    }
}
