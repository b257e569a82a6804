//! The device nodes of NVIDIA and of what goes with it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use mizzen_core::cdi::{FoundNode, NodeNumbers};

use super::places::Places;
use super::tree::{Tree, text};

const CHANNELS: &str = "dev/nvidia-caps-imex-channels";

/// Directories, and how the names of the nodes in them begin that are of interest.
const NODES: [(&str, &[&str]); 5] = [
    ("dev", &["nvidia", "dxg", "gdrdrv"]),
    ("dev/nvidia-caps", &["nvidia-cap"]),
    (CHANNELS, &["channel"]),
    ("dev/infiniband", &["uverbs", "rdma_cm"]),
    ("dev/dri", &["card", "renderD"]),
];

/// The nodes by their paths in a container.
pub(super) fn found(places: &Places, imex_channels: bool) -> BTreeMap<String, FoundNode> {
    let mut nodes = BTreeMap::new();
    let wanted = NODES
        .iter()
        .filter(|(directory, _)| imex_channels || *directory != CHANNELS);
    for (directory, beginnings) in wanted {
        let names = places.dev.names(Path::new(directory));
        for name in names.filter(|name| beginnings.iter().any(|word| name.starts_with(word))) {
            let path = Path::new(directory).join(name);
            nodes.extend(node(&places.dev, &path));
        }
    }
    nodes
}

/// The node at `path` below the root, if there is anything but a directory.
pub(super) fn node(tree: &Tree, path: &Path) -> Option<(String, FoundNode)> {
    let known = fs::metadata(tree.here.join(path)).ok()?;
    if known.is_dir() {
        return None;
    }
    let numbers = known.file_type().is_char_device().then(|| NodeNumbers {
        major: rustix::fs::major(known.rdev()),
        minor: rustix::fs::minor(known.rdev()),
        mode: known.mode() & 0o7777,
        gid: known.gid(),
    });
    let host = text(&tree.on_host.join(path))?;
    Some((
        text(&Path::new("/").join(path))?,
        FoundNode { host, numbers },
    ))
}
