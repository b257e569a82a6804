//! The Windows Subsystem for Linux: the driver is Windows's, and its files for Linux are in the
//! driver store that Windows mounts.

use std::path::{Path, PathBuf};

use mizzen_core::cdi::{DriverFiles, HostFile, Library, Link, Platform};

use super::places::Places;

/// The node of all GPUs.
const NODE: &str = "/dev/dxg";
/// Where Windows mounts its driver store; each driver has a directory in it.
const STORE: &str = "usr/lib/wsl/drivers";
/// The library of the driver that tells its directory from those of others.
const LANDMARK: &str = "libcuda.so.1.1";
/// What talks to Windows.
const CORE: &str = "usr/lib/wsl/lib/libdxcore.so";

pub(super) fn is_there(files: &DriverFiles) -> bool {
    files.nodes.contains_key(NODE) && !files.nodes.contains_key("/dev/nvidiactl")
}

pub(super) fn add(places: &Places, files: &mut DriverFiles) {
    files.platform = Platform::Wsl;
    files.own_nodes = vec![NODE.to_owned()];
    let tree = &places.driver;
    let core = tree.file(Path::new(CORE));
    files.libraries.extend(core.map(library));
    let Some(directory) = store(places) else {
        return;
    };
    let mut names: Vec<String> = tree.names(&directory).collect();
    names.sort();
    for name in names {
        let Some(file) = tree.file(&directory.join(&name)) else {
            continue;
        };
        if name == "nvidia-smi" {
            files.links.push(Link {
                target: file.container.clone(),
                path: "/usr/bin/nvidia-smi".to_owned(),
            });
            files.files.push(file);
        } else if name.contains(".so") {
            files.libraries.push(library(file));
        } else if [".bin", ".dll"].iter().any(|end| name.ends_with(end)) {
            files.files.push(file);
        }
    }
}

fn library(file: HostFile) -> Library {
    Library {
        file,
        links: Vec::new(),
    }
}

/// The directory of NVIDIA's driver in the store; of several, the last by name.
fn store(places: &Places) -> Option<PathBuf> {
    let tree = &places.driver;
    let directories = tree
        .names(Path::new(STORE))
        .map(|name| Path::new(STORE).join(name));
    let of_nvidia = directories.filter(|dir| tree.here.join(dir.join(LANDMARK)).exists());
    of_nvidia.max()
}
