//! The directory that is written to. Every access goes name by name from its descriptor and
//! follows no symbolic link, so nothing outside can be reached.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, StatVfsMountFlags,
};
use rustix::io::Errno;

use super::HostError;
use super::make::{Made, make, make_node, temporary, unlink};
use super::plan::{Content, Entry, NodeNumbers};

/// `SYSFS_MAGIC` of linux/magic.h.
const SYSFS_MAGIC: FsWord = 0x6265_6572;

/// What is where an entry shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// What shall be there.
    Same,
    /// An empty file in place of a device node.
    EmptyFile,
    /// Another version of it, which can be replaced.
    Different,
    /// A directory in place of something else, or something else in place of a directory.
    InTheWay,
}

/// An open directory, locked against other writers until it is dropped.
#[derive(Debug)]
pub(super) struct Tree {
    root: Rc<OwnedFd>,
    path: PathBuf,
    /// The directories from the root to where the last access was.
    open: RefCell<Vec<(String, Rc<OwnedFd>)>>,
}

impl Tree {
    /// Opens `dir`, and makes it if it is not there.
    pub(super) fn open(dir: &Path) -> Result<Self, HostError> {
        let failed = |action: &'static str| {
            move |error: io::Error| HostError::Io {
                action,
                path: dir.to_owned(),
                error,
            }
        };
        std::fs::create_dir_all(dir).map_err(failed("make"))?;
        let path = std::fs::canonicalize(dir).map_err(failed("find"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || rustix::fs::open(&path, flags, Mode::empty());
        let root = Rc::new(open().map_err(|error| failed("open")(error.into()))?);
        let tree = Self {
            root,
            path,
            open: RefCell::default(),
        };
        if tree
            .is_real()
            .map_err(|error| failed("look at")(error.into()))?
        {
            return Err(HostError::Root {
                path: dir.to_owned(),
            });
        }
        rustix::fs::flock(tree.root.as_fd(), FlockOperation::LockExclusive)
            .map_err(|error| failed("lock")(error.into()))?;
        Ok(tree)
    }

    /// Whether this is the root directory, under whatever name, or that of another real machine:
    /// a container may have its host's root mounted somewhere.
    fn is_real(&self) -> Result<bool, Errno> {
        let here = rustix::fs::fstat(self.root.as_fd())?;
        let root = rustix::fs::stat("/")?;
        if (here.st_dev, here.st_ino) == (root.st_dev, root.st_ino) {
            return Ok(true);
        }
        let mounted = |name: &str, magic: FsWord| {
            let found = enter(self.root.as_fd(), name).and_then(rustix::fs::fstatfs);
            found.is_ok_and(|file_system| file_system.f_type == magic)
        };
        Ok(mounted("proc", PROC_SUPER_MAGIC) || mounted("sys", SYSFS_MAGIC))
    }

    /// The directory's own path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where `path` is for this process, for messages.
    pub(super) fn absolute(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    /// Whether devices cannot be opened in this file system.
    pub(super) fn is_nodev(&self) -> bool {
        rustix::fs::fstatvfs(self.root.as_fd())
            .is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::NODEV))
    }

    /// Why this process may not make character devices here; none if it may.
    pub(super) fn refuses_devices(&self) -> Result<Option<Errno>, HostError> {
        let name = temporary("device");
        let probe = || {
            unlink(&self.root, &name)?;
            let device = make_node(
                &self.root,
                &name,
                NodeNumbers {
                    major: 195,
                    minor: 255,
                    mode: 0,
                },
            )?;
            unlink(&self.root, &name)?;
            Ok(device.refusal)
        };
        probe().map_err(|error| self.error("make", &name, error))
    }

    /// The whole text of a file; none if it is not there.
    pub(super) fn read(&self, path: &str) -> Result<Option<String>, HostError> {
        let bytes = self
            .contents(path)
            .map_err(|error| self.error("read", path, error))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// What is where `entry` shall be.
    pub(super) fn look(&self, entry: &Entry) -> Result<Found, HostError> {
        self.find(entry)
            .map_err(|error| self.error("look at", &entry.path, error))
    }

    fn find(&self, entry: &Entry) -> Result<Found, Errno> {
        let (parent, name) = match self.parent(&entry.path) {
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            found => found?,
        };
        let status = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            status => status?,
        };
        let file_type = FileType::from_raw_mode(status.st_mode);
        if (entry.content == Content::Directory) != (file_type == FileType::Directory) {
            return Ok(Found::InTheWay);
        }
        let same = match (&entry.content, file_type) {
            (Content::Directory, FileType::Directory) => true,
            (Content::Link(target), FileType::Symlink) => {
                rustix::fs::readlinkat(&parent, name, Vec::new())?.as_bytes() == target.as_bytes()
            }
            (Content::File(bytes), FileType::RegularFile) => {
                u64::try_from(status.st_size) == Ok(bytes.len() as u64)
                    && self.contents(&entry.path)?.as_ref() == Some(bytes)
            }
            (Content::Node(wanted), FileType::CharacterDevice) => {
                let number = rustix::fs::makedev(wanted.major, wanted.minor);
                status.st_rdev == number && status.st_mode & 0o777 == wanted.mode
            }
            (Content::Node(_), FileType::RegularFile) if status.st_size == 0 => {
                return Ok(Found::EmptyFile);
            }
            _ => false,
        };
        Ok(if same { Found::Same } else { Found::Different })
    }

    fn contents(&self, path: &str) -> Result<Option<Vec<u8>>, Errno> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            file => File::from(file?),
        };
        let mut bytes = Vec::new();
        let read = (&file).read_to_end(&mut bytes);
        read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(Some(bytes))
    }

    /// Makes a new entry; the directory above it is there. For a device node, says what it became.
    pub(super) fn make(&self, entry: &Entry) -> Result<Option<Made>, HostError> {
        self.put(entry, false)
            .map_err(|error| self.error("make", &entry.path, error))
    }

    /// Puts the entry in the place of what is there, at once.
    pub(super) fn replace(&self, entry: &Entry) -> Result<Option<Made>, HostError> {
        self.put(entry, true)
            .map_err(|error| self.error("change", &entry.path, error))
    }

    fn put(&self, entry: &Entry, replace: bool) -> Result<Option<Made>, Errno> {
        let (parent, name) = self.parent(&entry.path)?;
        let temporary = temporary(name);
        // Contents must be whole when the name appears; the others are whole when they are made.
        let aside = replace || matches!(entry.content, Content::File(_));
        let first = if aside { temporary.as_str() } else { name };
        let attempt = || make(&parent, first, &entry.content);
        let outcome = match attempt() {
            // Left by a writer that was killed.
            Err(Errno::EXIST) if aside => {
                unlink(&parent, first)?;
                attempt()?
            }
            outcome => outcome?,
        };
        if aside {
            rustix::fs::renameat(&parent, first, &parent, name)?;
        }
        Ok(outcome)
    }

    /// Replaces a file of this module's own, or makes it.
    pub(super) fn replace_file(&self, path: &str, bytes: &[u8]) -> Result<(), HostError> {
        let content = Content::File(bytes.to_vec());
        self.replace(&Entry {
            path: path.to_owned(),
            content,
        })
        .map(drop)
    }

    /// Removes what was made at `path`, if it still is what was made and, a directory, is empty.
    /// Whether it was removed.
    pub(super) fn remove(&self, path: &str, letter: char) -> Result<bool, HostError> {
        self.take(path, letter)
            .map_err(|error| self.error("remove", path, error))
    }

    fn take(&self, path: &str, letter: char) -> Result<bool, Errno> {
        let (parent, name) = match self.parent(path) {
            // Somebody else changed what is above: what is there is not ours any more.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            found => found?,
        };
        let status = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            status => status?,
        };
        let flags = match (letter, FileType::from_raw_mode(status.st_mode)) {
            ('d', FileType::Directory) => AtFlags::REMOVEDIR,
            ('f', FileType::RegularFile)
            | ('l', FileType::Symlink)
            | ('n', FileType::CharacterDevice | FileType::RegularFile) => AtFlags::empty(),
            _ => return Ok(false),
        };
        match rustix::fs::unlinkat(&parent, name, flags) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(false),
            removed => removed.map(|()| true),
        }
    }

    /// Removes what a writer left beside `path` when it was killed.
    pub(super) fn sweep(&self, path: &str) -> Result<(), HostError> {
        let swept = match self.parent(path) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(error),
            Ok((parent, name)) => unlink(&parent, &temporary(name)),
        };
        swept.map_err(|error| self.error("clean up beside", path, error))
    }

    /// The directory that `path` is in, and its name there. Directories on the way stay open for
    /// the next path, which is most often near.
    fn parent<'a>(&self, path: &'a str) -> Result<(Rc<OwnedFd>, &'a str), Errno> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let names: Vec<&str> = above.split('/').filter(|part| !part.is_empty()).collect();
        let mut open = self.open.borrow_mut();
        let common = open
            .iter()
            .zip(&names)
            .take_while(|((open, _), name)| open == *name);
        let common = common.count();
        open.truncate(common);
        for name in &names[common..] {
            let from = open.last().map_or(&self.root, |(_, directory)| directory);
            let directory = Rc::new(enter(from.as_fd(), name)?);
            open.push(((*name).to_owned(), directory));
        }
        let directory = open.last().map_or(&self.root, |(_, directory)| directory);
        Ok((Rc::clone(directory), name))
    }

    /// A name above `path` that is no directory is in the way; the rest is the file system's.
    fn error(&self, action: &'static str, path: &str, error: Errno) -> HostError {
        let path = self.absolute(path);
        match error {
            Errno::NOTDIR | Errno::LOOP => {
                let above = path.ancestors().skip(1);
                let blocked = above
                    .filter(|above| above.starts_with(&self.path))
                    .find(|above| {
                        std::fs::symlink_metadata(above).is_ok_and(|found| !found.is_dir())
                    });
                let path = blocked.unwrap_or(&path).to_owned();
                HostError::Occupied {
                    path,
                    wanted: "a directory",
                }
            }
            _ => HostError::Io {
                action,
                path,
                error: error.into(),
            },
        }
    }
}

/// The directory `name` in another one, not followed if it is a link.
fn enter(from: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(from, name, flags, Mode::empty())
}
