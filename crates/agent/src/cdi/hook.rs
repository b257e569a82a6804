//! The program that carries out the hooks of CDI specs, put on the host.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use mizzen_core::cdi::SpecOptions;
use mizzen_core::config::{Config, HOOK_PROGRAM};
use mizzen_hook::program;
use mizzen_nvml::HostRoot;
use rustix::fs::{FlockOperation, StatVfs, StatVfsMountFlags, flock, fstatvfs, statvfs};

/// Everybody may run it, and its owner alone may change it.
const MODE: u32 = 0o755;
/// The file that becomes the program once it is whole.
const TEMPORARY: &str = ".mizzen-hook.new";

/// What became of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Where it is, as this process sees it.
    pub path: PathBuf,
    /// Whether it was put there now; otherwise it was there.
    pub is_new: bool,
    /// Whether the file system forbids that it is run.
    pub is_noexec: bool,
}

/// Sees to the program again and again, and reads it only where it may have changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Installer(Arc<Mutex<Option<Seen>>>);

/// What was found the last time.
#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    is_noexec: bool,
}

/// Device, inode, length, and the seconds and nanoseconds of the last change.
type Stamp = (u64, u64, u64, i64, i64);

impl Installer {
    /// See [`install`].
    pub(super) fn install(&self, directory: &Path) -> io::Result<Installed> {
        let path = directory.join(HOOK_PROGRAM);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(seen), Ok(stamp)) = (&*seen, stamp(&path))
            && seen.stamp == stamp
        {
            return Ok(Installed {
                path,
                is_new: false,
                is_noexec: seen.is_noexec,
            });
        }
        *seen = None;
        let installed = install(directory)?;
        *seen = Some(Seen {
            stamp: stamp(&installed.path)?,
            is_noexec: installed.is_noexec,
        });
        Ok(installed)
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let known = fs::symlink_metadata(path)?;
    let changed = (known.ctime(), known.ctime_nsec());
    Ok((known.dev(), known.ino(), known.len(), changed.0, changed.1))
}

/// The directory of the program, as this process sees it: `--hook-dir` below `--host-root`.
pub fn directory(config: &Config) -> PathBuf {
    HostRoot::new(&config.host_root).join(&config.hook_dir)
}

/// Whether specs name the program: they have hooks, and no other program is named for them.
pub(crate) fn is_ours(config: &Config) -> bool {
    config.cdi_hook_path.is_none() && SpecOptions::of_config(config).hooks.path().is_some()
}

/// Puts the program into `directory`, which is made if need be, unless the same is there. It is
/// replaced whole or not at all, so that a container which starts meanwhile finds the old one or
/// the new one, and one that runs goes on.
///
/// # Errors
/// The file system's.
pub fn install(directory: &Path) -> io::Result<Installed> {
    fs::create_dir_all(directory)?;
    let lock = File::open(directory)?;
    // Two agents, or an agent and a person, take turns.
    flock(&lock, FlockOperation::LockExclusive)?;
    let path = directory.join(HOOK_PROGRAM);
    let is_new = !is_there(&path);
    if is_new {
        let temporary = directory.join(TEMPORARY);
        // Of a process that was killed.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        put(&temporary).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })?;
        fs::rename(&temporary, &path)?;
        lock.sync_all()?;
    }
    Ok(Installed {
        path,
        is_new,
        is_noexec: forbids_programs(&fstatvfs(&lock)?),
    })
}

/// Whether no program may be run from `directory`, or from where it would be made.
pub(crate) fn is_noexec(directory: &Path) -> bool {
    let seen = directory.ancestors().find_map(|path| statvfs(path).ok());
    seen.is_some_and(|seen| forbids_programs(&seen))
}

fn forbids_programs(file_system: &StatVfs) -> bool {
    file_system.f_flag.contains(StatVfsMountFlags::NOEXEC)
}

fn put(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(MODE).open(path)?;
    // Whatever the process's mask is.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(program::BYTES)?;
    file.sync_all()
}

/// Whether the program is there, whole, and can be run.
fn is_there(path: &Path) -> bool {
    let Ok(known) = fs::symlink_metadata(path) else {
        return false;
    };
    known.is_file() && known.mode() & 0o7777 == MODE && holds(path, program::BYTES).unwrap_or(false)
}

/// Whether a file holds these bytes, read piece by piece.
fn holds(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if file.metadata()?.len() != length {
        return Ok(false);
    }
    let mut piece = [0; 16 << 10];
    for expected in bytes.chunks(piece.len()) {
        let piece = &mut piece[..expected.len()];
        file.read_exact(piece)?;
        if piece != expected {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_program_is_installed_once_and_runs() {
        assert_eq!(HOOK_PROGRAM, program::FILE_NAME);
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("lib/mizzen/bin");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(TEMPORARY), "half of").unwrap();
        let installed = install(&directory).unwrap();
        assert!(installed.is_new);
        let names: Vec<_> = fs::read_dir(&directory).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let output = Command::new(&installed.path).arg("--version").output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        assert!(text.starts_with("mizzen-hook "), "{text}");
        assert!(!install(&directory).unwrap().is_new);
    }

    #[test]
    fn a_program_that_is_damaged_or_another_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(HOOK_PROGRAM);
        let elsewhere = dir.path().join("elsewhere");
        let is_replaced = |what: &str| {
            assert!(install(dir.path()).unwrap().is_new, "{what}");
            assert!(is_there(&path), "{what}");
        };
        fs::write(&path, "an older one").unwrap();
        is_replaced("another length");
        let mut bytes = program::BYTES.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        is_replaced("another byte");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        is_replaced("not to be run");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        is_replaced("a link");
    }

    #[test]
    fn a_program_that_vanishes_is_installed_again() {
        let dir = tempfile::tempdir().unwrap();
        let installer = Installer::default();
        let path = installer.install(dir.path()).unwrap().path;
        assert!(!installer.install(dir.path()).unwrap().is_new);
        fs::remove_file(&path).unwrap();
        assert!(installer.install(dir.path()).unwrap().is_new);
        fs::write(&path, "another").unwrap();
        assert!(installer.install(dir.path()).unwrap().is_new);
        assert!(is_there(&path));
    }

    #[test]
    fn a_program_that_runs_goes_on_when_it_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = install(dir.path()).unwrap().path;
        let mut command = Command::new(&path);
        command.arg("update-ldcache").stdin(Stdio::piped());
        let mut running = command.stderr(Stdio::piped()).spawn().unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        assert!(install(dir.path()).unwrap().is_new);
        // It waits for the container's state, and ends when there is none.
        drop(running.stdin.take());
        let output = running.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("state cannot be understood"), "{told}");
    }
}
