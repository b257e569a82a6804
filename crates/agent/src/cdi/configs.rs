//! The driver's programs, firmware, settings and sockets.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use mizzen_core::cdi::HostFile;

use super::places::Places;
use super::tree::{Tree, relative};

/// Programs of the driver that containers use.
const PROGRAMS: [&str; 8] = [
    "nvidia-smi",
    "nvidia-debugdump",
    "nvidia-persistenced",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
    "nvidia-imex",
    "nvidia-imex-ctl",
    "nvidia-xconfig",
];

/// Where a container's shell looks for programs.
const PROGRAM_DIRECTORIES: [&str; 6] = [
    "usr/local/sbin",
    "usr/local/bin",
    "usr/sbin",
    "usr/bin",
    "sbin",
    "bin",
];

/// Where programs may be besides; a container sees them in `/usr/bin`.
const OTHER_PROGRAM_DIRECTORIES: [&str; 9] = [
    // NixOS.
    "run/current-system/sw/bin",
    "run/opengl-driver/bin",
    // GKE.
    "home/kubernetes/bin/nvidia/bin",
    "usr/local/nvidia/bin",
    "opt/nvidia/bin",
    // Bottlerocket.
    "x86_64-bottlerocket-linux-gnu/sys-root/usr/libexec/nvidia/tesla/bin",
    "aarch64-bottlerocket-linux-gnu/sys-root/usr/libexec/nvidia/tesla/bin",
    "usr/libexec/nvidia/tesla/bin",
    // A driver root that has its programs at its top.
    "nvidia/bin",
];

/// Where settings may be.
const SETTINGS_DIRECTORIES: [&str; 4] = [
    "etc",
    "usr/local/share",
    "usr/share",
    "run/opengl-driver/share",
];

/// Settings that a container sees below `/usr/share`.
const SHARED: [&str; 9] = [
    "glvnd/egl_vendor.d/10_nvidia.json",
    "egl/egl_external_platform.d/15_nvidia_gbm.json",
    "egl/egl_external_platform.d/10_nvidia_wayland.json",
    "egl/egl_external_platform.d/09_nvidia_wayland2.json",
    "egl/egl_external_platform.d/20_nvidia_xcb.json",
    "egl/egl_external_platform.d/20_nvidia_xlib.json",
    "nvidia/nvoptix.bin",
    "X11/xorg.conf.d/10-nvidia.conf",
    "X11/xorg.conf.d/nvidia-drm-outputclass.conf",
];

/// Settings that a container sees below `/etc`.
const SYSTEM: [&str; 6] = [
    "OpenCL/vendors/nvidia.icd",
    "vulkan/icd.d/nvidia_icd.json",
    "vulkan/icd.d/nvidia_icd.x86_64.json",
    "vulkan/icd.d/nvidia_icd.aarch64.json",
    "vulkan/icd.d/nvidia_layers.json",
    "vulkan/implicit_layer.d/nvidia_layers.json",
];

/// Sockets of daemons below `/run`.
const SOCKETS: [&str; 2] = ["nvidia-persistenced/socket", "nvidia-fabricmanager/socket"];

/// Programs, firmware and settings.
pub(super) fn found(places: &Places, version: Option<&str>) -> Vec<HostFile> {
    let tree = &places.driver;
    let mut files: Vec<HostFile> = PROGRAMS
        .iter()
        .filter_map(|name| program(tree, name))
        .collect();
    if let Some(version) = version {
        files.extend(firmware(places, version));
    }
    files.extend(
        SHARED
            .iter()
            .filter_map(|name| settings(tree, "usr/share", name)),
    );
    files.extend(SYSTEM.iter().filter_map(|name| settings(tree, "etc", name)));
    files
}

fn program(tree: &Tree, name: &str) -> Option<HostFile> {
    let find = |directories: &[&str]| {
        let paths = directories.iter().map(|dir| Path::new(dir).join(name));
        paths.into_iter().find(|path| is_program(tree, path))
    };
    if let Some(path) = find(&PROGRAM_DIRECTORIES) {
        return tree.file(&path);
    }
    let path = find(&OTHER_PROGRAM_DIRECTORIES)?;
    tree.file_as(&path, &Path::new("usr/bin").join(name))
}

fn is_program(tree: &Tree, path: &Path) -> bool {
    let known = tree.here.resolve(path).and_then(fs::metadata);
    known.is_ok_and(|known| known.is_file() && known.permissions().mode() & 0o111 != 0)
}

/// A file of settings, at its usual place in a container wherever it is on the host.
fn settings(tree: &Tree, container: &str, name: &str) -> Option<HostFile> {
    // Some installations have them at the top of the driver's root.
    let directories = SETTINGS_DIRECTORIES.iter().chain(&[""]);
    let mut paths = directories.map(|directory| Path::new(directory).join(name));
    let is_file = |path: &PathBuf| {
        let found = tree.here.resolve(path);
        found.is_ok_and(|found| found.is_file())
    };
    let path = paths.find(is_file)?;
    tree.file_as(&path, &Path::new(container).join(name))
}

/// The firmware of the GPUs' system processors, where the kernel looks for it.
fn firmware(places: &Places, version: &str) -> Vec<HostFile> {
    let tree = &places.driver;
    for directory in firmware_directories(places) {
        let directory = directory.join("nvidia").join(version);
        let names = tree.names(&directory);
        let mut names: Vec<String> = names
            .filter(|name| {
                let extension = Path::new(name).extension();
                name.starts_with("gsp") && extension.is_some_and(|end| end == "bin")
            })
            .collect();
        if names.is_empty() {
            continue;
        }
        names.sort();
        let file = |name: &String| tree.file(&directory.join(name));
        return names.iter().filter_map(file).collect();
    }
    Vec::new()
}

fn firmware_directories(places: &Places) -> Vec<PathBuf> {
    let read = |path: &str| {
        let text = fs::read_to_string(places.host.join(path)).unwrap_or_default();
        text.trim().to_owned()
    };
    let custom = read("sys/module/firmware_class/parameters/path");
    let mut directories = Vec::new();
    if !custom.is_empty() {
        // The kernel has the host's path, which may lead into the driver's own root.
        let custom = Path::new(&custom);
        let inside = custom.strip_prefix(&places.driver.on_host);
        directories.push(relative(inside.unwrap_or(custom)).to_owned());
    }
    let release = read("proc/sys/kernel/osrelease");
    for base in ["lib/firmware/updates", "lib/firmware"] {
        if !release.is_empty() {
            directories.push(Path::new(base).join(&release));
        }
        directories.push(base.into());
    }
    directories
}

/// The sockets of the driver's daemons, and the directory of MPS's.
pub(super) fn sockets(places: &Places) -> Vec<HostFile> {
    let tree = &places.driver;
    let socket = |name: &&str| {
        let mut paths = ["run", "var/run"]
            .into_iter()
            .map(|dir| Path::new(dir).join(name));
        paths.find_map(|path| tree.file(&path))
    };
    let sockets = SOCKETS.iter().filter_map(socket);
    sockets
        .chain(tree.file(Path::new("tmp/nvidia-mps")))
        .collect()
}

/// What `GPUDirect` Storage reads.
pub(super) fn storage(places: &Places) -> Vec<HostFile> {
    let paths = ["run/udev", "etc/cufile.json"].into_iter();
    paths
        .filter_map(|path| places.driver.file(Path::new(path)))
        .collect()
}
