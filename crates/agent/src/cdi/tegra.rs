//! Tegra systems on a chip, whose images list the driver's files for containers.

use std::fs;
use std::path::Path;

use mizzen_core::cdi::{DriverFiles, HostFile, Library, Link, Platform};

use super::nodes::node;
use super::places::Places;
use super::tree::relative;

/// Where the lists are.
const DIRECTORY: &str = "etc/nvidia-container-runtime/host-files-for-container.d";
/// The lists, of which each may be missing.
const LISTS: [&str; 3] = ["devices.csv", "drivers.csv", "l4t.csv"];

/// The lines of all lists; `None` where there is no list, or where there is a GPU on a bus too.
pub(super) fn lists(places: &Places) -> Option<Vec<String>> {
    let is_tegra = places.driver.here.join("etc/nv_tegra_release").exists();
    if !is_tegra || has_bus_gpus(places) {
        return None;
    }
    let mut lines = Vec::new();
    for list in LISTS {
        let path = places.driver.here.join(Path::new(DIRECTORY).join(list));
        let text = fs::read_to_string(path).unwrap_or_default();
        lines.extend(text.lines().map(str::to_owned));
    }
    (!lines.is_empty()).then_some(lines)
}

fn has_bus_gpus(places: &Places) -> bool {
    !places.host.driver_gpus().is_empty()
}

/// Adds what the lines say is there: `dev, /dev/nvhost-ctrl`, `lib, /usr/lib/…/libcuda.so.1.1`,
/// `dir, /lib/firmware/tegra19x`, `sym, /usr/lib/…/libcuda.so`.
pub(super) fn add(places: &Places, lines: &[String], files: &mut DriverFiles) {
    files.platform = Platform::Tegra;
    let tree = &places.driver;
    for line in lines {
        let Some((kind, path)) = line.split_once(',') else {
            continue;
        };
        let path = relative(Path::new(path.trim()));
        match kind.trim() {
            "dev" => {
                if let Some((name, found)) = node(&places.dev, path) {
                    files.own_nodes.push(name.clone());
                    files.nodes.insert(name, found);
                }
            }
            "lib" => files.libraries.extend(tree.file(path).map(library)),
            "dir" => files.files.extend(tree.file(path)),
            "sym" => {
                let target = fs::read_link(tree.here.join(path)).ok();
                files.links.extend(target.and_then(|target| {
                    Some(Link {
                        target: target.to_str()?.to_owned(),
                        path: Path::new("/").join(path).to_str()?.to_owned(),
                    })
                }));
            }
            _ => {}
        }
    }
}

fn library(file: HostFile) -> Library {
    Library {
        file,
        links: Vec::new(),
    }
}
