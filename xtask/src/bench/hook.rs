//! What the hooks of CDI specs cost in each start of a container.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mizzen_hook::program;
use mizzen_nvml_sim::library;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::samples::Samples;

/// As many libraries as an ordinary image has.
const OF_IMAGE: usize = 300;
/// As many as a driver has.
const OF_DRIVER: usize = 40;
/// Where both are, as in an image of Debian's.
const FOLDER: &str = "usr/lib/x86_64-linux-gnu";
/// How long a measured process may take to come to its end.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was measured.
pub(super) struct Cost {
    /// From the start of the process to its end.
    pub(super) times: Samples,
    /// The most memory that was resident at a time, in KiB.
    pub(super) peak_kib: u64,
    /// The length of the program.
    pub(super) program_bytes: usize,
}

/// Measures `update-ldcache`, the slowest of the hooks, on a container made below `work`.
pub(super) fn run(work: &Path, runs: usize) -> Result<Cost> {
    let container = Container::new(work.join("hook"))?;
    // An image's files have long been on the disk: what is written now is the hook's alone.
    rustix::fs::sync();
    let mut times = Vec::new();
    for _ in 0..runs {
        container.reset()?;
        let start = Instant::now();
        let mut child = container.start(Stdio::null(), &[])?;
        ensure!(child.wait()?.success(), "the hook failed");
        times.push(start.elapsed());
    }
    Ok(Cost {
        times: Samples::new(times),
        peak_kib: container.peak_kib()?,
        program_bytes: program::BYTES.len(),
    })
}

/// A container with an image's libraries, which its cache knows, and a driver's, which it does not.
struct Container {
    dir: PathBuf,
    /// The cache before the hook.
    cache: Vec<u8>,
}

impl Container {
    fn new(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(dir.join("rootfs").join(FOLDER))?;
        fs::create_dir_all(dir.join("rootfs/opt/other"))?;
        fs::create_dir_all(dir.join("rootfs/etc"))?;
        fs::write(dir.join("rootfs/etc/debian_version"), "13\n")?;
        fs::write(dir.join("config.json"), r#"{"root": {"path": "rootfs"}}"#)?;
        let hook = dir.join(program::FILE_NAME);
        fs::write(&hook, program::BYTES)?;
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
        let mut container = Self {
            dir,
            cache: Vec::new(),
        };
        let mut libraries = Vec::new();
        for number in 0..OF_IMAGE {
            let name = format!("libimage-{number}.so.1");
            fs::write(container.folder().join(&name), "")?;
            libraries.push(mizzen_ldcache::Library {
                path: format!("/{FOLDER}/{name}"),
                name,
                machine: mizzen_ldcache::Machine::OURS,
            });
        }
        container.cache = mizzen_ldcache::write(&libraries);
        for number in 0..OF_DRIVER {
            let path = container
                .folder()
                .join(format!("libnvidia-{number:02}.so.550.54.15"));
            fs::write(path, named(number))?;
        }
        Ok(container)
    }

    fn folder(&self) -> PathBuf {
        self.dir.join("rootfs").join(FOLDER)
    }

    /// As it was before the hook.
    fn reset(&self) -> Result<()> {
        for number in 0..OF_DRIVER {
            let link = self.folder().join(format!("libnvidia-{number:02}.so.1"));
            if link.is_symlink() {
                fs::remove_file(link)?;
            }
        }
        Ok(fs::write(
            self.dir.join("rootfs/etc/ld.so.cache"),
            &self.cache,
        )?)
    }

    /// Starts the hook and tells it its container.
    fn start(&self, notes: Stdio, more: &[&str]) -> Result<Child> {
        let mut child = Command::new(self.dir.join(program::FILE_NAME))
            .args(["update-ldcache", "--folder", &format!("/{FOLDER}")])
            .args(more)
            .stdin(Stdio::piped())
            .stderr(notes)
            .spawn()?;
        let state = format!(r#"{{"bundle": "{}"}}"#, self.dir.display());
        let mut input = child.stdin.take().context("its standard input")?;
        input.write_all(state.as_bytes())?;
        Ok(child)
    }

    /// The most that is resident. The kernel tells it of a process that is there, so this one is
    /// given something to complain of, which it does last, and nobody listens.
    fn peak_kib(&self) -> Result<u64> {
        self.reset()?;
        fs::create_dir_all(self.dir.join("rootfs/etc/ld.so.conf.d/00-mizzen.conf"))?;
        let (_listener, notes) = full_pipe()?;
        let mut child = self.start(notes, &["--folder", "/opt/other"])?;
        let status = PathBuf::from(format!("/proc/{}/status", child.id()));
        let wchan = status.with_file_name("wchan");
        let start = Instant::now();
        while !fs::read_to_string(&wchan)?.contains("pipe_write") {
            ensure!(
                start.elapsed() < PATIENCE,
                "the hook does not come to its end"
            );
            std::thread::yield_now();
        }
        let text = fs::read_to_string(&status)?;
        child.kill()?;
        child.wait()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.context("no VmHWM in its status")?.parse()?)
    }
}

/// The end of a pipe that takes nothing more, and the other end.
fn full_pipe() -> Result<(std::io::PipeReader, Stdio)> {
    let (reader, writer) = std::io::pipe()?;
    let flags = fcntl_getfl(&writer)?;
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK)?;
    loop {
        match rustix::io::write(&writer, &[b'x'; 4096]) {
            Ok(_) => {}
            Err(Errno::AGAIN) => break,
            Err(error) => return Err(error.into()),
        }
    }
    fcntl_setfl(&writer, flags)?;
    Ok((reader, writer.into()))
}

/// The simulated library with another SONAME.
fn named(number: usize) -> Vec<u8> {
    const SONAME: &[u8] = b"libnvidia-ml.so.1\0";
    let mut bytes = library::BYTES.to_vec();
    let places: Vec<usize> = bytes
        .windows(SONAME.len())
        .enumerate()
        .filter(|(_, window)| *window == SONAME)
        .map(|(at, _)| at)
        .collect();
    let name = format!("libnvidia-{number:02}.so.1\0");
    for at in places {
        bytes[at..at + SONAME.len()].copy_from_slice(name.as_bytes());
    }
    bytes
}
